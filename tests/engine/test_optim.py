"""Learning rates against closed formulas, optimisers against the configuration."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import cos, pi, sqrt

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
)

from convattn.core.config import TrainConfig
from convattn.engine.optim import learning_rate, make_optimizer


def rates(config: TrainConfig, per_epoch: int) -> list[float]:
    return [learning_rate(step, config, per_epoch) for step in range(config.epochs * per_epoch)]


def test_cosine_at_known_angles() -> None:
    config = TrainConfig(epochs=4, lr=0.4)
    found = rates(config, 3)
    assert len(found) == 12
    assert found[0] == pytest.approx(0.4, abs=1e-15)
    assert found[2] == pytest.approx(0.4 * (1 + sqrt(3) / 2) / 2, abs=1e-15)  # 30 degrees
    assert found[3] == pytest.approx(0.4 * (1 + sqrt(2) / 2) / 2, abs=1e-15)  # 45
    assert found[4] == pytest.approx(0.3, abs=1e-15)  # 60
    assert found[6] == pytest.approx(0.2, abs=1e-15)
    assert found[8] == pytest.approx(0.1, abs=1e-15)
    assert learning_rate(12, config, 3) == pytest.approx(0, abs=1e-15)
    assert all(a > b > 0 for a, b in pairwise(found))


def test_cosine_sum_is_that_of_its_integral() -> None:
    """The steps of a half cosine, first one whole, add up to lr * (T + 1) / 2."""
    config = TrainConfig(epochs=7, lr=0.2)
    assert sum(rates(config, 11)) == pytest.approx(0.2 * (77 + 1) / 2, rel=1e-12)


def test_warm_up_rises_linearly_to_the_peak_and_the_cosine_follows() -> None:
    config = TrainConfig(epochs=5, lr=0.3, warmup_epochs=2)
    found = rates(config, 4)
    assert found[:8] == pytest.approx([0.3 * k / 8 for k in range(1, 9)], abs=1e-15)
    assert found[8:] == pytest.approx([0.15 * (1 + cos(pi * k / 12)) for k in range(12)], abs=1e-15)
    assert max(found) == pytest.approx(0.3)


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 2), (0.1, 0), (0.3, 1), (3, 12)])
def test_parts_of_an_epoch_warm_up_whole_steps(epochs: float, steps: int) -> None:
    config = TrainConfig(epochs=3, lr=1.0, warmup_epochs=epochs, schedule="constant")
    expected = [float(Fraction(k, steps)) for k in range(1, steps + 1)]
    assert rates(config, 4) == pytest.approx(expected + [1.0] * (12 - steps))


def test_steps_drop_at_the_epoch() -> None:
    config = TrainConfig(epochs=7, lr=0.8, schedule="step", step_epochs=3, step_factor=0.5)
    assert rates(config, 2) == pytest.approx([0.8] * 6 + [0.4] * 6 + [0.2] * 2)


def test_constant() -> None:
    assert rates(TrainConfig(epochs=3, lr=0.7, schedule="constant"), 2) == [0.7] * 6


def pytorchs(build: Callable[[Optimizer], LRScheduler], lr: float, steps: int) -> list[float]:
    """The rates that a scheduler of PyTorch's sets, step by step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    scheduler, found = build(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_poly_is_pytorchs() -> None:
    config = TrainConfig(epochs=5, lr=0.3, schedule="poly", poly_power=0.9)
    theirs = pytorchs(lambda o: PolynomialLR(o, 35, 0.9), 0.3, 35)
    assert rates(config, 7) == pytest.approx(theirs, rel=1e-12)
    assert learning_rate(35, config, 7) == 0
    straight = TrainConfig(epochs=2, lr=0.5, schedule="poly", poly_power=1.0, warmup_steps=2)
    assert rates(straight, 5)[2:] == pytest.approx([0.5 * (1 - k / 8) for k in range(8)])


def test_milestones_with_a_warm_up_are_pytorchs() -> None:
    """The 1x schedule: drops after epochs 8 and 11, behind steps that rise from a third."""
    config = TrainConfig(
        epochs=12, lr=0.02, schedule="step", milestones=[8, 11], warmup_steps=5, warmup_start=1 / 3
    )

    def theirs(optimizer: Optimizer) -> LRScheduler:
        parts = [LinearLR(optimizer, 1 / 3, 1.0, 5), MultiStepLR(optimizer, [8 * 6, 11 * 6], 0.1)]
        return ChainedScheduler(parts)

    assert rates(config, 6) == pytest.approx(pytorchs(theirs, 0.02, 72), rel=1e-12)


def test_milestones_may_lie_within_an_epoch() -> None:
    config = TrainConfig(
        epochs=3, lr=1.0, schedule="step", milestones=[0.5, 1.75], step_factor=0.5, step_epochs=1
    )
    assert rates(config, 4) == [1.0] * 2 + [0.5] * 5 + [0.25] * 5


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    return model


def test_sgd_is_the_papers_formula() -> None:
    """v = m v + g + d w; w = w - lr v, in float64, over all parameters that are trained."""
    model = net().double()
    config = TrainConfig(lr=0.1, momentum=0.9, weight_decay=0.01)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer([{"params": trained}], config)
    expected = [p.detach().clone() for p in trained]
    velocity = [torch.zeros_like(p) for p in trained]
    frozen = model[2].weight.clone()  # type: ignore[union-attr,operator]
    for step in range(4):
        for p, w, v in zip(trained, expected, velocity, strict=True):
            p.grad = torch.full_like(p, step + 1.0)
            v.mul_(0.9).add_(step + 1.0 + 0.01 * w)
            w -= 0.1 * v
        optimizer.step()
    for p, w in zip(trained, expected, strict=True):
        assert torch.allclose(p, w, rtol=1e-13, atol=1e-13)
    assert torch.equal(model[2].weight, frozen)  # type: ignore[arg-type]


def test_adamw_decays_apart_from_the_gradient() -> None:
    """The first step moves each weight by lr, after the decay of lr * weight_decay * w."""
    model = net().double()
    config = TrainConfig(optimizer="adamw", lr=0.1, weight_decay=0.5)
    optimizer = make_optimizer([{"params": model.parameters()}], config)
    weight = model[0].weight  # type: ignore[union-attr]
    before = weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    optimizer.step()
    assert torch.allclose(weight, before * 0.95 - 0.1, atol=1e-8)
