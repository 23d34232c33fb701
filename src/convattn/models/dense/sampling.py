"""What a detector's losses are means over, and what it draws from: told and set from outside.

SSD and the R-CNNs divide by the number of boxes that they chose in the batch that they see. A
process that sees a part of the batch must know those numbers to get the whole batch's loss. And the
R-CNNs choose at random: here by image, so that it does not matter who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from convattn.core.names import require
from convattn.core.seeds import derive, draw_from

__all__ = ["draw_by_image", "loss_counts", "sample_by_image"]


def sample_by_image(model: nn.Module) -> nn.Module:
    """Let an R-CNN's two samplers draw for each image from the seeds of `draw_by_image`."""
    utils: Any = require("torchvision.models.detection._utils", "train")

    class Sampler(utils.BalancedPositiveNegativeSampler):
        """torchvision's for each image; remembers how many boxes and objects it chose."""

        def __init__(self, old: Any, stream: str) -> None:
            super().__init__(old.batch_size_per_image, old.positive_fraction)
            self.stream = stream
            self.seeds: Sequence[int] | None = None
            self.chosen = self.positive = 0

        def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            chosen = []
            for number, matched in enumerate(matched_idxs):
                if self.seeds is not None:
                    draw_from(derive(self.seeds[number], self.stream))
                chosen.append(super().__call__([matched]))
            positive = [mask for (mask,), _ in chosen]
            negative = [mask for _, (mask,) in chosen]
            self.positive = sum(int(mask.sum()) for mask in positive)
            self.chosen = self.positive + sum(int(mask.sum()) for mask in negative)
            return positive, negative

    parts: Any = model
    parts.rpn.fg_bg_sampler = Sampler(parts.rpn.fg_bg_sampler, "rpn")
    parts.roi_heads.fg_bg_sampler = Sampler(parts.roi_heads.fg_bg_sampler, "roi")
    return model


def draw_by_image(model: nn.Module, seeds: Sequence[int]) -> None:
    """Set the seeds of the images of the next batch."""
    for part in (getattr(model, "rpn", None), getattr(model, "roi_heads", None)):
        if part is not None:
            part.fg_bg_sampler.seeds = seeds


def loss_counts(model: nn.Module) -> dict[str, int]:
    """Over how many boxes each part of the last loss is a mean, where it is not over images.

    RetinaNet's losses are means over images.
    """
    parts: Any = model
    if hasattr(model, "positives"):  # SSD
        return dict.fromkeys(("bbox_regression", "classification"), parts.positives)
    if not hasattr(model, "roi_heads"):
        return {}
    regions, boxes = parts.rpn.fg_bg_sampler, parts.roi_heads.fg_bg_sampler
    counts = {
        "loss_objectness": regions.chosen,
        "loss_rpn_box_reg": regions.chosen,
        "loss_classifier": boxes.chosen,
        "loss_box_reg": boxes.chosen,
    }
    return counts | ({"loss_mask": boxes.positive} if parts.roi_heads.has_mask() else {})
