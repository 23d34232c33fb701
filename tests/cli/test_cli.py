"""The command line in one process: what it prints, what it leaves on the disk, what it returns."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import convattn
from convattn.cli import main
from convattn.core.config import TrainConfig, config_from_dict
from convattn.core.files import load_checkpoint
from convattn.ops import reference_only

TINY = [
    "train", "--model_args.width_mult", "0.1", "--batch", "8", "--epochs", "1", "--threads", "1",
    "--device", "cpu", "--tensorboard", "false",
]  # fmt: skip
SCENES = ["--data_args", "{train_count: 24, test_count: 20, size: 32}"]


class Shell:
    """Runs lines of the command, and knows what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *line: str) -> int:
        try:
            code = main(line)
        except SystemExit as left:
            code = int(left.code or 0)
        self.out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.err
        return code

    def refuses(self, *line: str, code: int = 2) -> str:
        """The one sentence that a wrong line is answered with."""
        assert self(*line) == code, self.err
        assert self.out == ""
        text = re.sub(r"^usage:.*\n(tip:.*\n)?", "", self.err)
        assert "Error" not in text
        return text


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(capsys)


def photos(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 5) -> Path:
    torch.manual_seed(1)
    for name in names:
        (root / name).mkdir(parents=True)
        for k in range(count):
            pixels = torch.randint(0, 256, (30 + k, 40, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


def nothing_written(folder: Path, besides: Collection[str] = ()) -> bool:
    return {p.name for p in folder.iterdir()} <= set(besides)


# --- what there is ------------------------------------------------------------------------------


def test_list(shell: Shell) -> None:
    assert shell("list") == 0
    for word in ("ca", "se", "cbam", "eca", "triplet", "none", "2021"):
        assert re.search(rf"\b{word}\b", shell.out), word
    assert shell("list", "blocks") == 0
    assert shell("list", "models") == 0
    assert "mobilenet_v2" in shell.out.split()
    assert shell("list", "sources") == 0
    assert re.search(r"coordattention.*:CoordAtt$", shell.out, re.M | re.I)
    assert shell("list", "hosts") == 0
    assert {"timm/resnet18", "torchvision/resnet18"} <= set(shell.out.split())
    assert "'blocks', 'models', 'hosts', 'sources'" in shell.refuses("list", "nets")


def test_cost_prints_the_papers_number(shell: Shell) -> None:
    assert shell("cost", "mobilenet_v2", "--attention", "ca") == 0
    assert "3,950,648" in shell.out
    assert shell("cost", "mobilenet_v2") == 0
    assert "3,504,872" in shell.out  # torchvision's and the paper's 3.5 M
    assert shell("cost", "mobilenet_v2", "--attention", "ca", "--per_layer") == 0
    assert "3,950,648" in shell.out
    assert len(shell.out.splitlines()) > 100


def test_version_and_help(shell: Shell) -> None:
    from convattn import __version__

    assert shell("--version") == 0
    assert shell.out.strip() == f"convattn {__version__}"
    for verb in ("demo", "train", "eval", "compare", "cost", "list"):
        assert shell(verb, "--help") == 0
        assert "examples:" in shell.out


# --- work ---------------------------------------------------------------------------------------


def test_train_eval_and_resume(shell: Shell, tmp_path: Path) -> None:
    assert shell(*TINY, *SCENES, "--attention", "ca", "--name", "a") == 0
    found = re.search(r"best top-1 ([\d.]+) % in epoch 1: runs/a", shell.out)
    assert found
    run = tmp_path / "runs" / "a"
    summary = json.loads((run / "summary.json").read_text())
    assert 100 * summary["best"]["top1"] == pytest.approx(float(found[1]), abs=0.01)
    assert summary["config"]["attention"] == "ca"
    assert summary["data"]["train"] == 24
    with (run / "results.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    expected = {
        "args.yaml", "environment.json", "results.csv", "summary.json", "weights", "checkpoints",
        "results.png", "confusion_matrix.png", ".lock",
    }  # fmt: skip
    assert {p.name for p in run.iterdir()} == expected

    assert shell("eval", "runs/a", "--device", "cpu") == 0
    assert f"top-1 {found[1]} %" in shell.out
    assert "20 images" in shell.out
    assert shell("eval", "runs/a/weights/last.pt", "--device", "cpu", "--batch", "3") == 0
    assert f"top-1 {found[1]} %" in shell.out

    before = load_checkpoint(run / "weights" / "last.pt")["model"]
    assert shell("train", "--resume", "runs/a") == 0
    assert found[0] in shell.out
    after = load_checkpoint(run / "weights" / "last.pt")["model"]
    assert all(torch.equal(before[k], after[k]) for k in before)

    text = shell.refuses(*TINY, *SCENES, "--name", "a")
    assert "runs/a holds a run already" in text
    assert "--resume runs/a" in text

    text = shell.refuses("train", "--resume", "runs/a", "--lr", "0.5", "--batch", "64")
    assert "lr was 0.05, now 0.5" in text
    assert "batch was 8, now 64" in text  # though 64 is the default
    text = shell.refuses("train", "--resume", "runs/a", "--name", "b")
    assert "name was 'a', now 'b'" in text
    again = ["--lr", "0.05", "--workers", "1", "--keep", "3"]
    assert shell("train", "--resume", "runs/a", *again) == 0
    written = yaml.safe_load((run / "args.yaml").read_text())
    assert (written["workers"], written["keep"], written["batch"]) == (1, 3, 8)


def test_train_and_eval_on_a_folder_of_photographs(shell: Shell, tmp_path: Path) -> None:
    photos(tmp_path / "data")
    line = [*TINY, "--data", "data", "--imgsz", "32", "--attention", "se"]
    assert shell(*line) == 0
    assert "became it" in shell.err  # the share that is test
    assert (tmp_path / "runs" / "mobilenet_v2_se" / "summary.json").is_file()
    assert shell(*line) == 0
    assert (tmp_path / "runs" / "mobilenet_v2_se_2" / "summary.json").is_file()
    photos(tmp_path / "other", count=10)
    assert shell("eval", "runs/mobilenet_v2_se", "--data", "other", "--device", "cpu") == 0
    assert "other, 4 images: top-1" in shell.out
    photos(tmp_path / "wolves", ("cat", "wolf"))
    text = shell.refuses("eval", "runs/mobilenet_v2_se", "--data", "wolves", code=1)
    assert "cat, wolf" in text
    assert "cat, dog" in text
    # the same images elsewhere
    (tmp_path / "data").rename(tmp_path / "moved")
    for again in (["eval", "runs/mobilenet_v2_se"], ["train", "--resume", "runs/mobilenet_v2_se"]):
        text = shell.refuses(*again)
        assert "no data at 'data'" in text
        assert "what the run has recorded; if the data lie elsewhere now, give --data" in text
        assert shell(*again, "--data", "moved") == 0
    text = shell.refuses(*again, "--data", "other", code=1)
    assert "the data are not those of the checkpoint" in text
    shutil.rmtree(tmp_path / "runs" / "mobilenet_v2_se" / "checkpoints")
    text = shell.refuses(*again, "--data", "other")
    assert "data was 'moved', now 'other'" in text


def test_unreadable_images_stop_or_are_left_out_and_counted(shell: Shell, tmp_path: Path) -> None:
    photos(tmp_path / "data")
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"no picture")
    (tmp_path / "data" / "dog" / "3.png").write_bytes(b"")
    line = [*TINY, "--data", "data", "--imgsz", "32", "--name", "a"]
    text = shell.refuses(*line, code=1)
    assert "2 of 10 images" in text
    assert "cat/1.png: not an image" in text
    assert "dog/3.png: " in text
    assert "--on_bad skip" in text
    assert not (tmp_path / "runs").exists()
    assert shell(*line, "--on_bad", "skip") == 0
    assert "left out cat/1.png" in shell.err
    assert "left out dog/3.png" in shell.err
    summary = json.loads((tmp_path / "runs" / "a" / "summary.json").read_text())
    assert summary["data"]["skipped"] == 2
    assert summary["data"]["train"] + summary["data"]["test"] == 8


def test_a_file_gives_values_and_the_line_overrides_them(shell: Shell, tmp_path: Path) -> None:
    values = {"epochs": 5, "lr": 0.2, "attention": "eca", "model_args": {"width_mult": 0.1},
              "data_args": {"train_count": 16, "test_count": 10, "size": 32}}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    line = ["train", "--config", "mine.yaml", "--epochs", "1", "--name", "a", "--device", "cpu",
            "--tensorboard", "false", "--batch", "8", "--threads", "1"]  # fmt: skip
    assert shell(*line) == 0
    written = yaml.safe_load((tmp_path / "runs" / "a" / "args.yaml").read_text())
    assert written["epochs"] == 1
    assert {k: written[k] for k in values if k != "epochs"} == {
        k: v for k, v in values.items() if k != "epochs"
    }
    assert written["momentum"] == TrainConfig().momentum
    # args.yaml is such a file
    assert shell("train", "--config", "runs/a/args.yaml", "--name", "b") == 0
    again = yaml.safe_load((tmp_path / "runs" / "b" / "args.yaml").read_text())
    assert again == written | {"name": "b"}
    weights = [
        load_checkpoint(tmp_path / "runs" / n / "weights" / "last.pt")["model"] for n in "ab"
    ]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_the_printed_configuration_reads_back(shell: Shell, tmp_path: Path) -> None:
    line = ["--attention", "ca", "--attention_args.reduction", "16", "--lr", "1e-3", "--name", "x"]
    assert shell("train", *line, "--print_config") == 0
    values = yaml.safe_load(shell.out)
    values.pop("resume", None)
    config = config_from_dict(values)
    assert config == TrainConfig(
        attention="ca", attention_args={"reduction": 16}, lr=1e-3, name="x"
    )
    (tmp_path / "printed.yaml").write_text(shell.out)
    assert shell("train", "--config", "printed.yaml", "--print_config") == 0
    assert yaml.safe_load(shell.out) == yaml.safe_load((tmp_path / "printed.yaml").read_text())
    assert nothing_written(tmp_path, {"printed.yaml"})


HOST = ["--host", "timm/test_resnet", "--insert", "ca@after_conv2"]


def test_a_host_of_another_library_with_a_local_file(shell: Shell, tmp_path: Path) -> None:
    torch.manual_seed(0)
    host = timm.create_model("test_resnet")
    torch.save({"state_dict": host.state_dict()}, tmp_path / "host.pth")
    line = ["train", *HOST, *TINY[3:], *SCENES, "--checkpoint", "host.pth"]
    assert shell(*line) == 0
    assert "initialised anew: fc.weight, fc.bias" in shell.err
    found = re.search(r"best top-1 ([\d.]+) % in epoch 1: (runs/\S+)", shell.out)
    assert found
    assert found[2] == "runs/timm_test_resnet_ca_after_conv2"
    (tmp_path / "host.pth").unlink()  # the run's folder is all that the other verbs need
    assert shell("eval", found[2], "--device", "cpu") == 0
    assert f"top-1 {found[1]} %" in shell.out
    assert shell("train", "--resume", found[2]) == 0
    assert found[0] in shell.out
    assert shell("explain", found[2], "--count", "2") == 0
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    code = shell("doctor", found[2], "--input_size", "[2, 3, 64, 64]")
    assert "ResNet on noise 2 x 3 x 64 x 64" in shell.out, code
    shell("doctor", found[2], "--images", "3")  # untrained: what it finds does not matter here
    assert "ResNet on images 3 x 3 x" in shell.out
    # the other names of the options are the same options
    same = ["--model", "timm/test_resnet", "--attention", "ca", "--at", "after_conv2"]
    widths = [m.out_channels for path, m in host.named_modules() if path.endswith(".conv2")]
    blocks = [convattn.create_block("ca", width) for width in widths]
    count = sum(p.numel() for module in (host, *blocks) for p in module.parameters())
    for options in (HOST, same):
        assert shell("cost", options[1], *options[2:], "--input_size", "[1, 3, 64, 64]") == 0
        assert f"{count:,}" in shell.out


def test_doctor_alone_says_what_the_blocks_run_on(shell: Shell) -> None:
    assert shell("doctor") == 0
    assert f"torch: {metadata.version('torch')}" in shell.out
    assert f"threads: {torch.get_num_threads()}" in shell.out
    with reference_only():
        assert shell("doctor") == 0
    assert "operators: PyTorch's own operators: reference_only() is in force" in shell.out
    assert shell("doctor", "--attention", "ca") == 2
    assert "convattn doctor MODEL" in shell.err


# --- wrong lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--epoch", "3"], ["--epoch", "did you mean --epochs"]),
        (["--epochs", "x"], ["epochs", "int", "x"]),
        (["--epochs", "0"], ["epochs must be greater than 0, got 0"]),
        (["--lr", "fast"], ["lr", "float", "fast"]),
        (["--lr", "nan"], ["lr", "nan"]),
        (
            ["--augment", "flop"],
            ["augment", "'none', 'mirror', 'light'", "flop"],
        ),
        (["--seed", str(2**63)], ["seed must lie in 0..2**63-1", str(2**63)]),
        (["--batch", "4", "--accumulate", "8"], ["accumulate (8)", "batch (4)"]),
        (["--attention", "caa"], ["'caa'", "did you mean 'ca'"]),
        (["--model", "mobilenetv2"], ["'mobilenetv2'", "did you mean 'mobilenet_v2'"]),
        (["--attention", "ca", "--attention_args.reducton", "8"], ["reducton", "reduction"]),
        (["--attention", "ca", "--attention_args.reduction", "x"], ["reduction", "'x'"]),
        (["--attention_args.reduction", "8"], ["reduction", "without a block"]),
        (["--host", "timm/resnet_18"], ["'resnet_18'", "did you mean timm/resnet18"]),
        ([*HOST, "--at", "before_add"], ["position is given twice", "'before_add'"]),
        ([*HOST, "--checkpoint", "gone.pth"], ["no weights at gone.pth"]),
        ([*HOST, "--host_args.pretrained", "true"], ["pretrained=True", "--checkpoint FILE"]),
        (["--attention", "ca", "--at", "nowhere"], ["'nowhere'", "positions there: after_expand"]),
        (["--model_args.widthmult", "0.5"], ["widthmult", "did you mean 'width_mult'"]),
        (["--model_args.width_mult", "x"], ["width_mult", "'x'"]),
        (["--model_args.width_mult", "-1"], ["width_mult", "-1"]),
        (["--data", "gone"], ["'gone'", "no such folder", "Accepted: 'scenes'"]),
        (["--data", "scene"], ["Did you mean 'scenes'"]),
        (["--data", "empty"], ["empty", "holds nothing", "Accepted"]),
        (["--data", "file.txt"], ["file.txt", "expected a folder"]),
        (["--data", "flat"], ["flat", "x.png", "Accepted"]),
        (["--data_args.size", "5"], ["size must be 24 to 1024, got 5"]),
        (["--data_args.sise", "32"], ["'sise'", "did you mean 'size'"]),
        (["--data_args.digits", "3"], ["data_args", "digits"]),
        (["--data", "photos", "--data_args.test_share", "x"], ["data_args", "test_share"]),
        (["--data_args.on_bad", "skip"], ["data_args", "on_bad"]),
        (["--config", "gone.yaml"], ["gone.yaml", "not exist"]),
        (["--config", "wrong.yaml"], ["epochz"]),
        (["--resume", "gone"], ["gone", "not a run's folder"]),
        (["extra"], ["extra"]),
        (["--warmup_epochs", "30"], ["warmup_epochs (30)", "epochs (20)"]),
    ],
    ids=lambda value: " ".join(value)[:40] if value and value[0].startswith("--") else "",
)
def test_a_wrong_line_is_answered_in_a_sentence_and_leaves_nothing(
    line: list[str], words: list[str], shell: Shell, tmp_path: Path
) -> None:
    photos(tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "flat" / "x.png")
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "wrong.yaml").write_text("epochz: 3\n")
    before = {p.name for p in tmp_path.iterdir()}
    text = shell.refuses("train", *line)
    for word in words:
        assert word in text, text
    assert nothing_written(tmp_path, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_said_before_anything_is_written(shell: Shell, tmp_path: Path) -> None:
    text = shell.refuses("train", "--device", "cuda", *SCENES, "--name", "a")
    assert "device is 'cuda'" in text
    assert "'cpu' or 'auto'" in text
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    "missing", ["lightning.fabric", "tensorboard", "torchvision.transforms.v2"]
)
def test_a_missing_library_names_the_extra(
    missing: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    text = shell.refuses("train", *SCENES, "--imgsz", "40", "--model_args.width_mult", "0.1")
    assert missing.split(".")[0] in text
    assert "convattn[train]" in text
    assert nothing_written(tmp_path)


def test_an_empty_class_is_named(shell: Shell, tmp_path: Path) -> None:
    photos(tmp_path / "data")
    (tmp_path / "data" / "wolf").mkdir()
    text = shell.refuses(*TINY, "--data", "data", code=1)
    assert "1 of 3 class folders hold no image: 'wolf'" in text
    assert nothing_written(tmp_path, {"data"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["cost", "mobilenetv2"], ["'mobilenetv2'", "did you mean 'mobilenet_v2'"]),
        (["cost", "mobilenet_v2", "--attention", "caa"], ["'caa'", "did you mean 'ca'"]),
        (["cost", "mobilenet_v2", "--convention", "x"], ["convention", "'conv+linear', 'all-ops'"]),
        (["cost", "mobilenet_v2", "--model_args.width_mult", "x"], ["width_mult", "'x'"]),
        (["cost"], ["model", "required"]),
        (["eval", "gone"], ["gone", "Accepted: a weights file of a run"]),
        (["eval", "."], ["weights/best.pt", "no checkpoint"]),
        (["eval"], ["checkpoint", "required"]),
        (["eval", "gone", "--batch", "x"], ["batch", "int", "x"]),
        (["eval", "gone", "--batch", "0"], ["batch", "at least 1, got 0"]),
        (["eval", "gone", "--device", "tpu"], ["device", "'auto', 'cpu', 'cuda'", "tpu"]),
        (["train", "--on_bad", "x"], ["on_bad", "'stop', 'skip'"]),
        (["nope"], ["'nope'", "'train'"]),
        ([], ["verb"]),
    ],
    ids=lambda value: " ".join(value)[:40] if value and value[0] in ("cost", "eval") else "",
)
def test_other_verbs_refuse_as_clearly(
    line: list[str], words: list[str], shell: Shell, tmp_path: Path
) -> None:
    text = shell.refuses(*line)
    for word in words:
        assert word in text, text
    assert nothing_written(tmp_path)


def test_a_damaged_weights_file_is_failing_work(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"no weights")
    text = shell.refuses("eval", "a.pt", code=1)
    assert "a.pt (10 bytes) is incomplete or not a convattn checkpoint" in text


@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_weights_that_no_run_wrote_are_told_from_a_damaged_file(
    kind: str, shell: Shell, tmp_path: Path
) -> None:
    weights = {"weight": torch.zeros(3)}
    if kind == "safetensors":
        save_file(weights, "a.pth")
    else:
        torch.save(weights, "a.pth", _use_new_zipfile_serialization=kind == "zip")
    text = shell.refuses("eval", "a.pth", code=1)
    assert "a.pth is not a file of a run" in text
    assert "train --checkpoint a.pth" in text
    assert "incomplete" not in text


def test_a_run_that_fails_leaves_whole_files_and_can_be_resumed(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image goes bad between the check and its turn in the second epoch."""
    from convattn.data.image_files import ImageFiles

    photos(tmp_path / "data")
    real, calls = ImageFiles.image, []

    def failing(self: Any, index: int) -> torch.Tensor:
        calls.append(index)
        if len(calls) == 10 + 8 + 2 + 3:
            (self.root / self.names[index]).write_bytes(b"gone bad")
        return real(self, index)

    line = [*TINY, "--epochs", "3", "--data", "data", "--imgsz", "32", "--name", "a"]
    monkeypatch.setattr(ImageFiles, "image", failing)
    text = shell.refuses(*line, code=1)
    assert re.search(r"(cat|dog)/\d\.png", text)
    monkeypatch.setattr(ImageFiles, "image", real)
    run = tmp_path / "runs" / "a"
    assert not list(run.rglob("*.partial"))
    assert not (run / "summary.json").exists()
    with (run / "results.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    bad = next(p for p in (tmp_path / "data").rglob("*.png") if p.read_bytes() == b"gone bad")
    # the data are others now: that is said, and nothing is mixed
    Image.new("RGB", (30, 40)).save(bad)
    text = shell.refuses("train", "--resume", "runs/a", code=1)
    assert "the data are not those of the checkpoint" in text
    # the same data again
    names = sorted((tmp_path / "data").rglob("*.png"))
    for path in names:
        path.unlink()
    for folder in ("cat", "dog"):
        (tmp_path / "data" / folder).rmdir()
    photos(tmp_path / "data")
    assert shell("train", "--resume", "runs/a") == 0
    assert "resumed at step 1 of 3" in shell.err
    assert json.loads((run / "summary.json").read_text())["metrics"]


def test_a_last_batch_of_one_image_is_refused_where_it_cannot_train(
    shell: Shell, tmp_path: Path
) -> None:
    line = ["--data_args", "{train_count: 17, test_count: 10, size: 32}", "--name", "a"]
    text = shell.refuses(*TINY, *line)
    assert "batch 8" in text
    assert "17 training images" in text
    assert nothing_written(tmp_path)
    assert "Use another --batch" in text
    text = shell.refuses(*TINY, *line, "--batch", "9", "--accumulate", "9")
    assert "in a piece of a step" in text
    assert "Use a lower --accumulate" in text
    assert nothing_written(tmp_path)
    assert shell(*TINY, *line, "--batch", "9") == 0
    # where the map has more than one position, one image will do
    assert shell(*TINY, *line, "--imgsz", "64", "--name", "b") == 0


def test_a_read_only_place_is_named(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    text = shell.refuses(*TINY, *SCENES, "--name", "a", code=1)
    assert "runs/a" in text
    assert nothing_written(tmp_path, {"runs"})
