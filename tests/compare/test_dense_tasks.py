"""Comparisons of detection, instance and semantic segmentation, from start to end."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from pages import Page

from convattn import cost, create_model
from convattn.blocks.ca import CA
from convattn.cli import main
from convattn.compare.compare import _at_one_position
from convattn.core.config import TrainConfig
from convattn.data.samples import DetectionData, DetectionSample
from convattn.engine.run import RunFolder
from convattn.models.dense import assemble, full_load
from convattn.tasks.detection import Detection, InstanceSegmentation
from convattn.tasks.kinds import restore
from convattn.tasks.segmentation import Segmentation
from convattn.tasks.train import train

SCENES = "{train_count: 8, test_count: 4, size: 48, digits: [1, 2]}"
KINDS = {
    "detection": ("ssdlite320", "map", "mAP", "mean boxes", "AP of each class, %"),
    "instance": ("mask_rcnn", "mask_map", "mask mAP", "mean boxes", "mask AP of each class, %"),
    "segmentation": ("lraspp", "miou", "mIoU", "commonest class", "IoU of each class, %"),
}
FEW = (
    "{box_batch_size_per_image: 8, rpn_post_nms_top_n_train: 20, rpn_post_nms_top_n_test: 20, "
    "box_detections_per_img: 3}"
)


def line(task: str, project: Path, *more: str) -> list[str]:
    arguments = FEW if task == "instance" else "{}"
    return [
        "compare", "--task", task, "--model", KINDS[task][0], "--model_args", arguments,
        "--backbone", "mobilenet_v2", "--backbone_args", "{width_mult: 0.1}", "--blocks", "none,ca",
        "--seeds", "1", "--epochs", "1" if task == "instance" else "2", "--batch", "4",
        "--lr", "0.001", "--imgsz", "48", "--data_args", SCENES, "--tensorboard", "false",
        "--jobs", "1", "--device", "cpu", "--threads", "1",  # as of the tests' own process
        "--project", str(project), "--name", "study", *more,
    ]  # fmt: skip


def results(folder: Path) -> dict[str, Any]:
    """Metrics and history of each run, without times."""
    found = {}
    for path in sorted((folder / "results").glob("*.json")):
        record = json.loads(path.read_text())
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in record["history"]]
        found[path.stem] = (record["metrics"], record["by_class"], history)
    return found


class Study:
    """A comparison that was made, what it printed, and its page."""

    def __init__(self, task: str, folder: Path, printed: str) -> None:
        self.task, self.folder, self.printed = task, folder, printed
        self.page = (folder / "report.html").read_text()
        self.records = {p.stem: json.loads(p.read_text()) for p in folder.glob("results/*.json")}


@pytest.fixture(scope="module", params=KINDS)
def study(request: Any, tmp_path_factory: Any) -> Study:
    project = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr("sys.stdout", out)
        assert main(line(request.param, project)) == 0
    return Study(request.param, project / "study", out.getvalue())


def test_the_metric_the_references_and_the_classes_are_named(study: Study) -> None:
    _, metric, name, reference, classes = KINDS[study.task]
    assert set(study.records) == {"none-seed0", "ca-seed0"}
    assert all(0 <= record["metrics"][metric] <= 1 for record in study.records.values())
    assert re.search(rf"variant +{name}, %", study.printed)
    assert set(json.loads((study.folder / "references.json").read_text())) == {reference}
    plain = re.sub(r"<[^>]+>", "", study.page)
    heading = name.replace("mask", "Mask")
    for words in (f"{heading}, every seed", f"{heading} against cost", reference, classes):
        assert words in plain, words
    axes = re.findall(r'aria-label="([^"]*)" viewBox', study.page)
    assert sum(text.startswith(f"{name}, % ") for text in axes) == 5
    assert axes[-1].startswith(f"Test {name}, % per epoch")
    assert f">{study.task} · scenes · 8 training images" in study.page


def test_the_page_needs_nothing_else_and_shows_predictions(study: Study) -> None:
    page = Page(study.page)
    assert page.open == []
    assert {link.split(",")[0] for link in page.loads} == {"data:", "data:image/png;base64"}
    assert page.tags.count("img") == 1
    shared = 2 if study.task == "segmentation" else 1  # columns before those of the variants
    ours = imread(study.folder / "runs" / "ca-seed0" / "predictions.png")
    assert ours.shape[1] == (shared + 1) * 326 - 6
    png = re.search(r'src="data:image/png;base64,([^"]+)"', study.page)
    assert png is not None
    shown = imread(io.BytesIO(base64.b64decode(png[1])))
    assert shown.shape[1] == (shared + 2) * 326 - 6
    assert (shown[-ours.shape[0] :, -320:, :3] == ours[:, -320:, :3]).all()  # CA is the last


def test_the_blocks_are_in_the_backbone_behind_each_depthwise_convolution(study: Study) -> None:
    with_ca, saved = restore(study.folder / "runs" / "ca-seed0")
    without, _ = restore(study.folder / "runs" / "none-seed0")
    assert saved["config"]["at"] == "after_depthwise"
    places = [path for path, module in with_ca.named_modules() if isinstance(module, CA)]
    # 16 of MobileNetV2's 17 building blocks expand and so have the position; SSD adds 4
    assert len(places) == (20 if study.task == "detection" else 16)
    assert all(".host." in path and "after_depthwise" in path for path in places)
    assert not any(isinstance(module, CA) for module in without.modules())
    ours, theirs = (
        study.records[name]["cost"]["parameters"] for name in ("ca-seed0", "none-seed0")
    )
    blocks = [module for module in with_ca.modules() if isinstance(module, CA)]
    assert ours - theirs == sum(p.numel() for block in blocks for p in block.parameters()) > 0


def test_the_cost_is_of_an_image_of_the_runs_size(study: Study) -> None:
    for record in study.records.values():
        assert record["cost"]["input_size"] == [1, 3, 48, 48]
        assert record["cost"]["latency_ms"]["median"] > 0
    assert "Costs are of one image of 48x48 pixels" in study.page
    assert ("(20 and 3)" in study.page) == (study.task == "instance")


@pytest.mark.parametrize("study", ["detection", "segmentation"], indirect=True)
def test_more_seeds_and_a_lost_epoch_repeat_nothing_else(study: Study, tmp_path: Path) -> None:
    """The grid grows by a seed, and one run has lost its end: both give what they gave."""
    before = results(study.folder)
    lost = study.folder / "runs" / "ca-seed0"
    (lost / "summary.json").unlink()
    max((lost / "checkpoints").iterdir()).unlink()  # that of the last epoch
    kept = (study.folder / "runs" / "none-seed0" / "summary.json").stat().st_mtime_ns
    assert main(line(study.task, study.folder.parent, "--seeds", "2")) == 0
    after = results(study.folder)
    assert {name: after[name] for name in before} == before
    assert set(after) == {*before, "none-seed1", "ca-seed1"}
    assert (study.folder / "runs" / "none-seed0" / "summary.json").stat().st_mtime_ns == kept

    alone = RunFolder(tmp_path / "alone")
    config = RunFolder(lost).config()

    class Quiet:
        def __getattr__(self, _: str) -> Any:
            return lambda *_: None

    summary = train(config, alone, Quiet())  # type: ignore[arg-type]
    assert summary["metrics"] == before["ca-seed0"][0]
    ours, theirs = (restore(folder / "weights" / "last.pt")[0] for folder in (alone.path, lost))
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize(
    ("backbone", "usual"), [("mobilenet_v2", "after_depthwise"), ("resnet18", "before_add")]
)
def test_all_blocks_go_to_the_backbones_usual_position(backbone: str, usual: str) -> None:
    config = TrainConfig(task="detection", model="retinanet", backbone=backbone)
    assert _at_one_position(config).at == usual


def test_a_two_stage_detector_costs_more_by_what_its_blocks_cost() -> None:
    """Whatever it proposes: the proposals differ from network to network."""
    macs = []
    for block in ("none", "ca"):
        torch.manual_seed(0)
        host = create_model("resnet18", attention=block, features_only=True)
        before = cost(host, (1, 3, 64, 64)).macs
        sizes = {"min_size": 64, "max_size": 64, "rpn_post_nms_top_n_test": 100}
        net = assemble("faster_rcnn", host, 3, **sizes).eval()
        torch.nn.init.normal_(net.rpn.head.cls_logits.weight, std=1.0)
        words = full_load(net)
        macs.append(cost(net, (1, 3, 64, 64)).macs - before)
    assert macs[0] == macs[1]
    # 100 boxes of 7x7x256 values through 1,024, 1,024, and classes and boxes of 3 and background
    assert macs[0] > 100 * (7 * 7 * 256 * 1024 + 1024 * 1024 + 1024 * (4 + 16))
    assert "(100 and 100)" in words
    assert full_load(host) == ""


class Scene:
    """One image with one object: a box, and a mask that fills the share `rows` of it."""

    def __init__(self, rows: int) -> None:
        mask = torch.zeros(1, 12, 12, dtype=torch.bool)
        mask[0, 2 : 2 + rows, 3:9] = True
        self.one = DetectionSample(
            image=torch.zeros(3, 12, 12, dtype=torch.uint8),
            boxes=torch.tensor([[3.0, 2.0, 9.0, 10.0]]),
            labels=torch.tensor([0]),
            masks=mask,
            crowd=torch.tensor([False]),
            difficult=torch.tensor([False]),
            areas=torch.tensor([48.0]),
            ids=torch.tensor([1]),
            image_id=1,
            name="one",
        )

    def __len__(self) -> int:
        return 1

    def sample_id(self, index: int) -> str:
        return "one"

    def sample(self, index: int) -> DetectionSample:
        return self.one


@pytest.mark.parametrize(("rows", "expected"), [(8, 1.0), (4, 0.1), (3, 0.0)])
def test_mean_boxes_are_scored_as_masks_where_masks_are(rows: int, expected: float) -> None:
    """Overlaps of 1, 1/2 (the first of COCO's ten thresholds alone) and 3/8."""
    scene = Scene(rows)
    data = DetectionData("x", "coco", scene, scene, ("thing",), "0", True)
    assert Detection.references(data) == {"mean boxes": pytest.approx(1.0)}
    assert InstanceSegmentation.references(data) == {"mean boxes": pytest.approx(expected)}


def test_scores_of_the_classes_are_those_of_the_confusion_matrix() -> None:
    config = TrainConfig(
        task="segmentation", model="lraspp", backbone="mobilenet_v2",
        backbone_args={"width_mult": 0.1},
        data_args={"train_count": 2, "test_count": 2, "size": 32, "digits": [1, 2]},
    )  # fmt: skip
    task = Segmentation(config, Segmentation.open_data(config))
    assert not task.evaluated
    task.confusion[:2, :2] = torch.tensor([[6, 2], [1, 3]])
    found = task.by_class
    assert found["background"] == pytest.approx({"iou": 6 / 9, "recall": 6 / 8, "precision": 6 / 7})
    assert found["0"] == pytest.approx({"iou": 3 / 6, "recall": 3 / 4, "precision": 3 / 5})
    assert found["5"] == {}
