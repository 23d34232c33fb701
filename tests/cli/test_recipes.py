"""The papers' recipes: every value has a source, and is what the reference lists."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from convattn.blocks.eca import ECA
from convattn.cli import main
from convattn.cli.parser import parse, train_config
from convattn.cli.recipes import described, recipe_path, recipes
from convattn.core.config import TrainConfig, config_from_dict
from convattn.engine.optim import learning_rate
from convattn.tables import published
from convattn.tasks.dense_networks import build_dense
from convattn.tasks.kinds import restore
from convattn.tasks.networks import build_network

SCENES = [name for name in recipes() if name.startswith("scenes_")]
PAPERS = [name for name in recipes() if name not in ("demo", *SCENES)]
ECA_1X = {
    "epochs": 12, "batch": 8, "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "imgsz": 800,
    "schedule": "step", "milestones": [8, 11], "step_factor": 0.1, "augment": "mirror",
}  # fmt: skip
LIGHT = {
    "epochs": 400, "batch": 96, "lr": 0.045, "momentum": 0.9, "weight_decay": 4e-5,
    "schedule": "step", "step_epochs": 1, "step_factor": 0.98, "augment": "imagenet",
}  # fmt: skip
DEEP = {
    "epochs": 100, "batch": 256, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4,
    "schedule": "step", "step_epochs": 30, "step_factor": 0.1, "augment": "imagenet",
}  # fmt: skip
POLY = {"schedule": "poly", "poly_power": 0.9, "momentum": 0.9, "weight_decay": 1e-4}

# what the authors' files and papers say, written down apart from the recipes
FACTS: dict[str, dict[str, Any]] = {
    "ca_imagenet": {
        "epochs": 200, "batch": 256, "lr": 0.05, "momentum": 0.9, "weight_decay": 4e-5,
        "schedule": "cosine", "label_smoothing": 0, "mixup": 0, "augment": "imagenet",
    },
    "ca_coco_ssdlite320": {
        "batch": 256, "lr": 0.01, "weight_decay": 4e-5, "schedule": "cosine", "imgsz": 320,
        "warmup_steps": 500,
    },
    "ca_voc_ssdlite320": {
        "batch": 24, "lr": 0.001, "weight_decay": 5e-4, "schedule": "step", "imgsz": 320,
        "step_factor": 0.1,
    },
    "ca_voc2012_deeplabv3": POLY,
    "ca_cityscapes_deeplabv3": {**POLY, "imgsz": 768, "batch": 8, "lr": 0.005, "epochs": 180},
    "eca_imagenet_resnet50": DEEP,
    "eca_imagenet_mobilenet_v2": LIGHT,
    "eca_coco_faster_rcnn": ECA_1X,
    "eca_coco_mask_rcnn": {**ECA_1X, "task": "instance"},
    "eca_coco_retinanet": ECA_1X,
    "triplet_imagenet_resnet50": {**DEEP, "seed": 1234},
    "triplet_imagenet_mobilenet_v2": {**LIGHT, "seed": 1234},
    "triplet_coco_faster_rcnn": {"batch": 16, "lr": 0.02, "weight_decay": 1e-4},
}  # fmt: skip

# classes, and parameters: of the authors' code, or added up from closed formulas
TRIPLET = 16 * 3 * 2 * 49  # its norms are frozen with the others
SIZES = {
    "ca_imagenet": (1000, 3_950_648),
    # the detector without blocks, CA in its backbone, and in the four extra blocks: 26 C + 24 each
    "ca_coco_ssdlite320": (80, 4_304_138 + 445_776 + 2 * (26 * 256 + 24) + 2 * (26 * 128 + 24)),
    "ca_voc_ssdlite320": (20, 3_425_988 + 445_776 + 2 * (26 * 256 + 24) + 2 * (26 * 128 + 24)),
    "ca_voc2012_deeplabv3": (21, 4_523_541 + 445_776),
    "ca_cityscapes_deeplabv3": (19, 4_523_541 - 2 * 257 + 445_776),
    "eca_imagenet_resnet50": (1000, 25_557_032 + 80),
    "eca_imagenet_mobilenet_v2": (1000, 3_504_903),
    "triplet_imagenet_resnet50": (1000, 25_561_832),
    "triplet_imagenet_mobilenet_v2": (1000, 3_509_972),
    # torchvision's for 91 classes, less ten
    "triplet_coco_faster_rcnn": (80, 41_755_286 - 10 * 5 * 1025 + TRIPLET),
}
# BangguWu/ECANet README: millions of trained parameters, 80 classes
TRAINED = {
    "eca_coco_faster_rcnn": 41.53, "eca_coco_mask_rcnn": 44.18, "eca_coco_retinanet": 37.74,
}  # fmt: skip


def config_of(name: str) -> TrainConfig:
    return config_from_dict(yaml.safe_load(recipe_path(name).read_text("utf-8")), name)


def network_of(config: TrainConfig, classes: int) -> nn.Module:
    config = replace(config, backbone_weights=None)
    with torch.device("meta"):
        if config.task == "classification":
            return build_network(config, classes, 0)[0]
        return build_dense(config, classes, 0, config.model_args)[0]


@pytest.mark.parametrize("name", PAPERS)
def test_every_value_has_a_source(name: str) -> None:
    text = recipe_path(name).read_text("utf-8")
    listed = re.findall(r"^#   \[([\w-]+)\] \S", text, re.M)
    tags = r"\[([a-z][\w-]*)\]"
    for key in yaml.safe_load(text):
        (line,) = re.findall(rf"^{key}:.*", text, re.M)
        cited = re.findall(tags, line.partition(" # ")[2])
        assert cited, f"{key} has no source"
        assert set(cited) <= set(listed), key
    mentioned = re.findall(tags, text)
    assert all(mentioned.count(source) > 1 for source in listed)  # each is used
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_leaves_nothing_of_the_optimiser_to_defaults(name: str) -> None:
    values = yaml.safe_load(recipe_path(name).read_text("utf-8"))
    needed = {"task", "model", "attention", "attention_init", "data", "augment", "epochs", "batch",
              "optimizer", "lr", "momentum", "weight_decay", "schedule"}  # fmt: skip
    assert needed <= values.keys()
    assert config_of(name).optimizer == "sgd"
    assert config_of(name).data.startswith("path/to/")  # never the scenes by oversight


@pytest.mark.parametrize("name", PAPERS)
def test_the_values_are_those_of_the_reference(name: str) -> None:
    config = config_of(name)
    assert {key: getattr(config, key) for key in FACTS[name]} == FACTS[name]


def test_steps_and_epochs_are_the_same_lengths() -> None:
    """The authors count steps; COCO's train2017 has 118,287 images, VOC's two trainvals 16,551."""
    coco, voc = config_of("ca_coco_ssdlite320"), config_of("ca_voc_ssdlite320")
    assert coco.epochs * 118_287 / 256 == pytest.approx(1_600_000 / 8, rel=1e-3)
    steps = [epochs * 16_551 / 24 for epochs in (*(voc.milestones or ()), voc.epochs)]
    assert steps == pytest.approx([160_000, 200_000, 240_000], rel=1e-3)
    triplet = config_of("triplet_coco_faster_rcnn").milestones or ()
    assert [e * 118_287 / 16 for e in triplet] == pytest.approx([60_000, 80_000], rel=1e-3)


def test_the_published_settings_say_the_same() -> None:
    """Rows of the papers' tables carry their settings as text."""
    settings = {row.setting for paper in ("ca", "eca", "triplet") for row in published(paper)}
    (one_x,) = (s for s in settings if "short side" in s)
    found = re.findall(r"\d+(?:\.\d+)?(?:e-\d)?", one_x.partition("short side")[2])
    config = config_of("eca_coco_faster_rcnn")
    first, second = config.milestones or ()
    wanted = [config.imgsz, config.lr, config.batch, 4, 2, config.weight_decay,
              config.step_factor, first, second, config.epochs]  # fmt: skip
    assert [float(text) for text in found] == wanted
    for name, epochs, of in (
        ("ca_imagenet", "200 epochs, SGD cosine", "ca"),
        ("eca_imagenet_resnet50", "100 epochs step schedule (ResNets)", "eca"),
        ("eca_imagenet_mobilenet_v2", "400 epochs (MobileNetV2)", "eca"),
        ("triplet_imagenet_resnet50", "100 epochs step schedule (ResNet)", "triplet"),
        ("triplet_imagenet_mobilenet_v2", "400 epochs (MobileNetV2)", "triplet"),
    ):
        assert any(epochs in row.setting for row in published(of))
        assert config_of(name).epochs == int(epochs.split()[0])
    assert any(f"batch {config_of('ca_coco_ssdlite320').batch}, " in s for s in settings)


@pytest.mark.parametrize("name", SIZES)
def test_the_network_has_its_published_size(name: str) -> None:
    classes, expected = SIZES[name]
    model = network_of(config_of(name), classes)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("name", TRAINED)
def test_the_trained_parameters_are_ecas(name: str) -> None:
    model = network_of(config_of(name), 80)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert round(trained / 1e6, 2) == TRAINED[name]


def test_every_recipe_has_a_size() -> None:
    assert {*SIZES, *TRAINED} == set(PAPERS) == FACTS.keys()


@pytest.mark.parametrize(
    ("attention", "printed"), [("none", "4.5"), ("se", "4.9"), ("cbam", "4.9"), ("ca", "5.0")]
)
def test_deeplab_has_the_sizes_of_cas_tables_8_and_9(attention: str, printed: str) -> None:
    reduction: dict[str, Any] = {"se": {"reduction": 24}, "cbam": {"reduction": 24}}
    for name, classes in (("ca_voc2012_deeplabv3", 21), ("ca_cityscapes_deeplabv3", 19)):
        config = replace(
            config_of(name), attention=attention, attention_args=reduction.get(attention, {})
        )
        model = network_of(config, classes)
        assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}" == printed


def test_rates_on_the_way() -> None:
    voc = config_of("ca_voc_ssdlite320")
    steps = [0, 250, 500, 232 * 689, 290 * 689]
    expected = [1e-3 / 3, 1e-3 * 2 / 3, 1e-3, 1e-4, 1e-5]
    assert [learning_rate(s, voc, 689) for s in steps] == pytest.approx(expected, rel=1e-6)
    light = config_of("eca_imagenet_mobilenet_v2")
    assert learning_rate(10 * 100 + 50, light, 100) == pytest.approx(0.045 * 0.98**10)
    poly = config_of("ca_cityscapes_deeplabv3")
    assert learning_rate(90 * 372, poly, 372) == pytest.approx(0.005 * 0.5**0.9)


# --- by name ------------------------------------------------------------------------------------


def options_of(*line: str) -> TrainConfig:
    return train_config(parse(["train", *line])[1])


@pytest.mark.parametrize("name", PAPERS)
def test_a_name_is_the_file(name: str) -> None:
    expected = config_of(name)
    assert options_of("--config", name) == expected
    assert options_of(f"--config=recipes/{name}.yaml") == expected
    assert options_of("--config", str(recipe_path(name))) == expected
    changed = options_of("--config", name, "--lr", "0.7")
    assert changed == replace(expected, lr=0.7)


def test_a_file_of_ones_own_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ca_imagenet").write_text("lr: 0.3\n")
    assert options_of("--config", "ca_imagenet") == TrainConfig(lr=0.3)


def test_an_unknown_name_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["train", "--config", "ca_imagnet"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "does not exist" in error
    assert "did you mean 'ca_imagenet'" in error


def test_the_list_says_what_each_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes())
    assert all(len(text) > 20 and text.endswith(".") for _, text in described())
    assert any("Coordinate Attention on ImageNet-1k: 74.3 %" in line for line in lines)


def test_recipes_run_on_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small data in place of ImageNet and VOC, and nothing else changed but the sizes."""
    monkeypatch.chdir(tmp_path)
    small = ["--data", "scenes", "--data_args", "{train_count: 16, test_count: 4, size: 64}",
             "--imgsz", "64", "--epochs", "1", "--batch", "8", "--device", "cpu",
             "--tensorboard", "false"]  # fmt: skip
    name = "eca_imagenet_mobilenet_v2"
    assert main(["train", "--config", name, *small, "--name", "a"]) == 0
    model, _ = restore(Path("runs/a"))
    kernels = [m.conv.kernel_size[0] for m in model.modules() if isinstance(m, ECA)]
    assert kernels == [1] * 10 + [3] * 7  # "k13"
    more = ["--backbone_weights", "null", "--backbone_args", "{width_mult: 0.35}"]
    assert main(["train", "--config", "ca_voc2012_deeplabv3", *small, *more, "--name", "b"]) == 0
    assert Path("runs/b/summary.json").is_file()


@pytest.mark.parametrize("name", SCENES)
def test_the_recipes_for_scenes_run(name: str, tmp_path: Path) -> None:
    code = main([
        "train", "--config", name, "--data_args", "{train_count: 4, test_count: 2, size: 64}",
        "--epochs", "1", "--batch", "2", "--imgsz", "64", "--device", "cpu", "--tensorboard",
        "false", "--project", str(tmp_path), "--name", "r",
    ])  # fmt: skip
    assert code == 0
    run = tmp_path / "r"
    saved = restore(run)[1]
    assert saved["facts"]["task"] == name.removeprefix("scenes_")
    assert (run / "predictions.png").is_file()
