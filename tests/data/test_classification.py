"""The scenes as classification data, the chance level and the linear baseline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convattn.core.errors import ArgumentError, DataError
from convattn.data.classification import (
    ClassificationData,
    ImageSet,
    chance_level,
    linear_baseline,
    open_classification,
)


class Painted:
    """Images in memory, for the baseline."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        return self.images[index]

    def sample_id(self, index: int) -> str:
        return str(index)


def data_of(train: ImageSet, test: ImageSet) -> ClassificationData:
    return ClassificationData("painted", train, test, ("a", "b", "c"), "0")


def test_scenes() -> None:
    data = open_classification("scenes", train_count=40, test_count=20, size=32)
    assert data.classes == tuple("0123456789")
    assert (len(data.train), len(data.test), data.image_size) == (40, 20, 32)
    assert data.train.image(3).shape == (3, 32, 32)
    assert data.test.sample_id(19) == "scenes/test/19"
    assert chance_level(data) == 0.1
    assert data.skipped == data.notes == ()


def test_the_defaults_are_2000_and_500_at_64() -> None:
    data = open_classification("scenes")
    assert (len(data.train), len(data.test), data.image_size) == (2000, 500, 64)


def test_the_scenes_fingerprint_follows_the_options() -> None:
    def mark(**options: int) -> str:
        return open_classification(
            "scenes", **{"train_count": 20, "test_count": 10, **options}
        ).fingerprint

    every = [mark(), mark(seed=1), mark(size=48), mark(train_count=30), mark(test_count=20)]
    assert len(set(every)) == len(every)
    assert mark() == every[0]


def test_scene_options_are_checked() -> None:
    with pytest.raises(ArgumentError, match=r"no option 'sizes' for scenes: did you mean 'size'"):
        open_classification("scenes", sizes=32)
    with pytest.raises(DataError, match="have no training image"):
        open_classification("scenes", train_count=3, test_count=10)


def test_chance_is_the_share_of_the_commonest_test_class() -> None:
    images = torch.zeros(10, 3, 4, 4, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 1, 1, 1, 1, 1, 2, 2, 0])
    assert chance_level(data_of(Painted(images, labels), Painted(images, labels))) == 0.6


def test_the_baseline_learns_what_a_line_separates_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 60, (400, 3, 20, 24), generator=generator).to(torch.uint8)
    labels = torch.arange(400) % 3
    marked = noise.clone()
    for k in range(400):
        column = 8 * int(labels[k])
        marked[k, :, :, column : column + 8] += 40
    split = slice(0, 300), slice(300, 400)
    easy = data_of(*(Painted(marked[s], labels[s]) for s in split))
    hard = data_of(*(Painted(noise[s], labels[s]) for s in split))
    assert linear_baseline(easy, side=6) == 1.0
    poor = linear_baseline(hard, side=6)
    assert poor < 0.5
    assert linear_baseline(hard, side=6) == poor


def test_a_line_is_poor_on_the_scenes() -> None:
    data = open_classification("scenes", train_count=1000, test_count=300, size=32)
    assert 0.1 < linear_baseline(data) < 0.35
