"""Options of the engine with boxes and label maps: precision, determinism, pieces of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.files import load_checkpoint
from convattn.engine.launch import launch
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.models.dense.features import freeze_norms
from convattn.tasks.dense_networks import build_dense
from convattn.tasks.segmentation import Segmentation
from convattn.tasks.train import train

FEW = {
    "width": 32, "box_batch_size_per_image": 8, "rpn_post_nms_top_n_train": 20,
    "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 3,
}  # fmt: skip


def config_of(task: str, model: str, **more: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "backbone": "mobilenet_v2", "backbone_args": {"width_mult": 0.1}, "attention": "ca",
        "imgsz": 48, "data_args": {"train_count": 6, "test_count": 2, "size": 48}, "epochs": 1,
        "batch": 3, "lr": 1e-3, "tensorboard": False, "device": "cpu",
    }  # fmt: skip
    return TrainConfig(task=task, model=model, **{**values, **more})  # type: ignore[arg-type]


def trained(config: TrainConfig, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    summary = train(config, RunFolder(folder), SilentReporter())
    return summary, load_checkpoint(folder / "weights" / "last.pt")["model"]


@pytest.mark.parametrize("name", ["mixup", "cutmix", "label_smoothing"])
@pytest.mark.parametrize(
    ("task", "model"),
    [("detection", "ssdlite320"), ("instance", "mask_rcnn"), ("segmentation", "lraspp")],
)
def test_what_is_of_classification_is_refused(task: str, model: str, name: str) -> None:
    with pytest.raises(ArgumentError, match=rf"{name} is of classification.*{task}.*0\.1"):
        build_dense(config_of(task, model, **{name: 0.1}), 2, 0, {})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_does_not_round_boxes(precision: str) -> None:
    """777.3 is 776 in bfloat16; a detector would be trained on boxes that nobody drew."""
    fabric = launch(config_of("detection", "retinanet", precision=precision))
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, boxes: list[dict[str, Tensor]]) -> Tensor:
            seen.append(boxes[0]["boxes"])
            out = self.layer(boxes[0]["boxes"])
            seen.append(out)
            return out

    spy = Spy()
    model, _ = fabric.setup(spy, torch.optim.SGD(spy.parameters()))
    box = torch.tensor([[777.3, 1.1, 799.9, 3.3]])
    model([{"boxes": box}])
    assert torch.equal(seen[0], box)
    assert seen[1].dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@pytest.mark.parametrize(
    ("task", "model", "arguments"),
    [("detection", "retinanet", {"width": 32}), ("instance", "mask_rcnn", FEW)],
)
def test_a_detector_trains_in_bf16_as_in_fp32(
    task: str, model: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        # on maps of 1x1 PyTorch 2.15's gradient of a bf16 convolution reads unwritten memory
        config = config_of(task, model, model_args=arguments, precision=precision, imgsz=96)
        summary, _ = trained(config, tmp_path / precision)
        losses.append(summary["history"][-1]["train_loss"])
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_two_deterministic_runs_are_equal_to_the_bit(tmp_path: Path) -> None:
    """Of Mask R-CNN, which samples its regions at random."""
    config = config_of("instance", "mask_rcnn", model_args=FEW, deterministic=True)
    try:
        (one, ours), (other, theirs) = (trained(config, tmp_path / name) for name in "ab")
    finally:
        torch.use_deterministic_algorithms(False)
    assert one["metrics"] == other["metrics"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_segmenters_batch_in_pieces_is_the_whole_batch(tmp_path: Path) -> None:
    """Crops have ignored borders of different sizes, and the pieces 2 and 1 images."""

    class Exact(Segmentation):
        def _images(self, images: Tensor) -> Tensor:
            return super()._images(images).double()

    weights = []
    for pieces in (1, 2):
        config = config_of("segmentation", "lraspp", accumulate=pieces, augment="flip", epochs=2)
        task = Exact(config, Exact.open_data(config))
        freeze_norms(task.model)
        task.model.double()
        task.parameters = [{"params": list(task.model.parameters()), "scale": 1.0}]
        fit(task, config, RunFolder(tmp_path / str(pieces)), SilentReporter())
        weights.append({name: p.detach() for name, p in task.model.named_parameters()})
    start = Exact(config, task.data).model
    assert any(not torch.equal(p.double(), weights[0][n]) for n, p in start.named_parameters()
               if n in weights[0])  # fmt: skip
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-12, atol=1e-14)


def test_pictures_are_of_the_averaged_weights_that_were_evaluated(tmp_path: Path) -> None:
    config = config_of("segmentation", "lraspp", ema=0.5, lr=0.5)
    train(config, RunFolder(tmp_path / "r"), SilentReporter())
    model = Segmentation(config, Segmentation.open_data(config)).rebuild(
        (saved := load_checkpoint(tmp_path / "r" / "weights" / "last.pt"))["facts"]
    )
    model.load_state_dict(saved["model"])
    task = Segmentation(config, Segmentation.open_data(config), model=model.eval())
    with torch.no_grad():
        task.evaluate(model, [task.collate([task.test_set[i] for i in range(2)])])
    task.write_pictures(tmp_path)
    for name in ("predictions.png", "classes.csv"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "r" / name).read_bytes()
