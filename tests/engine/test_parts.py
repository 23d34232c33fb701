"""A mean over boxes, of which each process has a part."""

from __future__ import annotations

import pytest
import torch

from convattn.core.protocols import LossParts
from convattn.engine.parts import over_processes, parts_of

SUMS = torch.tensor([6.0, 1.0, 5.0])  # of each process's boxes


@pytest.mark.parametrize("boxes", [[3, 1, 2], [4, 0, 1], [0, 0, 0]])
@pytest.mark.parametrize("samples", [[2, 2, 2], [2, 1, 1], [1, 1, 0]])
def test_the_mean_over_processes_is_that_of_all_boxes(boxes: list[int], samples: list[int]) -> None:
    """What an idle process has counts neither as samples nor as boxes."""
    means = SUMS / torch.tensor(boxes).clamp_min(1)
    counted = torch.tensor(samples).gt(0)
    asked = torch.tensor([samples, boxes]) * counted

    def add(*values: float) -> list[float]:
        assert [*values] in asked.T.tolist()
        return asked.sum(1).tolist()

    whole = 0.0
    for mean, count, number in zip(means, boxes, samples, strict=True):
        found = over_processes(LossParts({"box": mean, "x": mean}, {"box": count}), number, add)
        assert found["x"] == mean  # a mean over samples
        whole += float(parts_of({"box": found["box"]})["loss"]) * number / sum(samples)
    expected = float((SUMS * counted).sum()) / max(1, int(asked[1].sum()))
    assert whole == pytest.approx(expected)


def test_one_process_keeps_every_bit() -> None:
    loss = LossParts({"box": torch.tensor(0.1), "x": torch.tensor(0.3)}, {"box": 7})
    found = over_processes(loss, 3, lambda *values: list(values))
    assert {name: part.item() for name, part in found.items()} == {
        name: part.item() for name, part in loss.items()
    }
    plain = {"x": torch.tensor(0.3)}
    assert over_processes(plain, 3, lambda *values: [0.0]) is plain
