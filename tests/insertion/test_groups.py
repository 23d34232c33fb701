"""Host and blocks apart."""

from __future__ import annotations

import pytest
import torch
from insertion_hosts import build

from convattn import create_model, freeze_host, insert, param_groups
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize("host", ["resnet18", "densenet121", "plain", "ours/mobilenet_v2"])
def test_groups_hold_each_parameter_once(host: str) -> None:
    at = {"plain": "merge"}.get(host, "stage_end")
    model = build(host)
    before = {id(p) for p in model.parameters()}
    groups = param_groups(insert(model, "ca", at=at), lr=0.01, block_lr=0.1, weight_decay=1e-4)
    assert {id(p) for p in groups[0]["params"]} == before
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    optimizer = torch.optim.SGD(groups, lr=1.0)
    rates = [(g["name"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert rates == [("host", 0.01, 1e-4), ("blocks", 0.1, 1e-4)]


def test_freeze_host() -> None:
    model = create_model("mobilenet_v2", attention="ca", width_mult=0.1, num_classes=3).train()
    assert freeze_host(model) is model
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert names == {name for name, _ in model.named_parameters() if "after_depthwise" in name}


def test_without_blocks_there_is_nothing_to_tell_apart() -> None:
    with pytest.raises(ArgumentError, match="insert one first"):
        param_groups(build("resnet18"), lr=0.1, block_lr=1.0)
    with pytest.raises(ArgumentError, match="insert one first"):
        freeze_host(build("resnet18"))
