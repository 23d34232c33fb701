"""The host stays what it was: outputs, keys, weights, modes; and comes back by `remove`."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from insertion_hosts import build
from torch import Tensor, nn

from convattn import create_model, find, insert, rebuild, remove
from convattn.core.errors import ArgumentError
from convattn.insertion import insertions

WHERE = {
    "resnet18": "before_add",
    "mobilenet_v2": "after_depthwise",
    "efficientnet_b0": "before_project",
    "shufflenet_v2": "after_depthwise",
    "regnet_y_400mf": "before_add",
    "densenet121": "stage_end",
    "convnext_tiny": "after_add",
    "timm/resnet18": "after_conv2",
    "ours/mobilenet_v2": "after_expand",
    "plain": ["shared", "merge"],
    "sequential": "stage_end",
}
BLOCKS: dict[str, dict[str, Any]] = {
    "se": {"reduction": 8},
    "eca": {},
    "cbam": {"reduction": 8},
    "ca": {},
    "gc": {"reduction": 8},
    "triplet": {},
}
BATCH = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def run(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(BATCH)


def facts(model: nn.Module) -> list[Any]:
    """All that an insertion must leave alone, or removal restore."""
    modules = [(p, type(m), m.training, sorted(vars(m))) for p, m in model.named_modules()]
    hooks = [list(m._forward_hooks) for m in model.modules()]
    flags = [(name, p.requires_grad) for name, p in model.named_parameters()]
    return [modules, hooks, flags, list(model.state_dict())]


@pytest.mark.parametrize("host", WHERE)
def test_identity_start_and_removal(host: str) -> None:
    model = build(host)
    expected, before = run(model), facts(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for block, arguments in BLOCKS.items():
        assert insert(model, block, at=WHERE[host], **arguments) is model
        if block == "triplet":
            assert (run(model) - expected).abs().max() <= 1e-6 * expected.abs().max()
        else:
            assert torch.equal(run(model), expected), block
        assert set(state) < set(model.state_dict())
        new = {f"{f.path}." for f in find(model)}
        missing = model.load_state_dict(state, strict=False).missing_keys
        assert all(any(key.startswith(path) for path in new) for key in missing)
        spoil(model)
        assert not torch.equal(run(model), expected), f"{block} is not applied"
        assert remove(model) is model
        assert facts(model) == before, block
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(run(model), expected)


def spoil(model: nn.Module) -> None:
    """Give the blocks weights with which they do something."""
    with torch.no_grad():
        for found in find(model):
            for parameter in model.get_submodule(found.path).parameters():
                parameter.normal_(0, 0.3)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("host", ["resnet18", "sequential"])
def test_gradients_within_two_steps(host: str, block: str) -> None:
    model = insert(build(host), block, at=WHERE[host], **BLOCKS[block]).train()
    blocks = [model.get_submodule(found.path) for found in find(model)]
    # GC's softmax over positions does not see a bias before it
    new = [p for b in blocks for name, p in b.named_parameters() if name != "mask.bias"]
    optimizer = torch.optim.SGD(new, lr=0.1)
    reached: set[int] = set()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(BATCH), torch.arange(2)).backward()
        optimizer.step()
        reached |= {i for i, p in enumerate(new) if p.grad is not None and p.grad.any()}
    assert reached == set(range(len(new)))


def trained(host: str, block: str = "se") -> nn.Module:
    """With blocks that do something."""
    model = insert(build(host), block, at=WHERE[host], **BLOCKS[block])
    spoil(model)
    return model


LIFE = ["resnet18", "mobilenet_v2", "densenet121", "plain"]


@pytest.mark.parametrize("host", LIFE)
def test_copies(host: str) -> None:
    model = trained(host)
    expected = run(model)
    twin = copy.deepcopy(model)
    assert torch.equal(run(twin), expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(run(loaded), expected)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
    )
    averaged.update_parameters(model)
    assert torch.equal(run(averaged), expected)
    assert [f.path for f in find(averaged)] == [f"module.{f.path}" for f in find(model)]
    for other in (twin, loaded):
        assert facts(remove(other)) == facts(build(host))
    assert torch.equal(run(model), expected), "copies share nothing"


@pytest.mark.parametrize("host", LIFE)
def test_rebuild_from_its_own_record(host: str) -> None:
    model = trained(host)
    file = io.BytesIO()
    record = json.dumps(insertions(model))
    torch.save({"state_dict": model.state_dict(), "insertions": json.loads(record)}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    again = rebuild(build(host), checkpoint["insertions"])
    again.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(run(again), run(model))
    assert insertions(again) == insertions(model)
    assert facts(remove(again)) == facts(build(host))


@pytest.mark.parametrize("host", ["resnet18", "mobilenet_v2", "sequential"])
def test_compile_and_fx(host: str) -> None:
    model = trained(host)
    expected = run(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(run(compiled), expected)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(run(traced), expected)
    # fusing a convolution with its batch norm must not lose a block behind that norm
    from torch.fx.experimental.optimization import fuse

    torch.testing.assert_close(run(fuse(model)), expected, rtol=1e-4, atol=1e-4)


def test_data_parallel_reduces_the_blocks(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = insert(build("resnet18"), "se", at="before_add").train()
        wrapped = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):  # an unused parameter would be reported at the second step
            wrapped(BATCH).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        with pytest.raises(ArgumentError, match="then wrap it"):
            insert(wrapped, "eca", at="stage_end")
    finally:
        torch.distributed.destroy_process_group()


def test_export_keeps_the_blocks() -> None:
    model, batch = trained("resnet18").double(), BATCH.double()  # float32 rounds as its operators
    exported = torch.export.export(model, (batch,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(batch), model(batch))


def test_synchronised_batch_norm_keeps_the_blocks() -> None:
    model = trained("resnet18")
    expected = run(model)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(converted.layer1[0].bn2, nn.SyncBatchNorm)
    assert torch.equal(run(converted), expected)
    assert all(f.live for f in find(converted))
    remove(converted)
    assert torch.equal(run(converted), run(build("resnet18")))


def test_a_rebuilt_module_is_told() -> None:
    model = trained("resnet18")
    attended = model.layer1[0].bn2
    model.layer1[0].bn2 = nn.Identity()
    model.layer1[0].bn2.add_module("attention", attended.attention)
    assert [f.path for f in find(model) if not f.live] == ["layer1.0.bn2.attention"]


def test_attributes_hooks_and_types_survive() -> None:
    model = build("resnet18")
    seen: list[tuple[int, ...]] = []
    model.layer1[0].bn2.register_forward_hook(lambda m, a, y: seen.append(tuple(y.shape)))
    model.layer1[0].bn2.f, model.layer1[0].bn2.i = -1, 7  # as ultralytics marks its layers
    insert(model, "se", at="before_add")
    assert seen == [], "hooks of the user do not see the trial run"
    run(model)
    assert seen == [(2, 64, 16, 16)]
    norm = model.layer1[0].bn2
    assert (norm.f, norm.i) == (-1, 7)
    assert isinstance(norm, nn.BatchNorm2d)
    assert repr(norm).startswith("BatchNorm2d(")
    remove(model)
    assert type(norm) is nn.BatchNorm2d
    assert (norm.f, norm.i, len(norm._forward_hooks)) == (-1, 7, 1)


def test_two_blocks_at_one_place_run_in_turn() -> None:
    model = build("resnet18")
    expected = run(model)
    insert(insert(model, "se", at="layer1.0.bn2"), "eca", at="layer1.0.bn2")
    assert [(f.path, f.block) for f in find(model)] == [
        ("layer1.0.bn2.attention", "se"),
        ("layer1.0.bn2.attention_2", "eca"),
    ]
    assert torch.equal(run(model), expected)
    insert(model, "ca", at="after_add")
    assert len(find(model)) == 10
    assert torch.equal(run(remove(model)), expected)
    assert find(model) == []


def test_two_blocks_at_one_place_are_rebuilt() -> None:
    model = insert(insert(build("resnet18"), "ca", at="before_add"), "eca", at="before_add")
    again = rebuild(build("resnet18"), insertions(model))
    assert find(again) == find(model)
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("baked", [True, False])
def test_parametrised_layers(first: bool, baked: bool) -> None:
    model, x = build("resnet18"), torch.randn(1, 3, 64, 64)
    conv = model.layer1[0].conv2
    if first:
        nn.utils.parametrizations.weight_norm(conv)
    insert(model, "ca", at="after_conv2")
    if not first:
        nn.utils.parametrizations.weight_norm(conv)
    before = model(x)
    if baked:
        nn.utils.parametrize.remove_parametrizations(conv, "weight")
        torch.testing.assert_close(model(x), before)
        assert len(find(model)) == 8
    torch.testing.assert_close(remove(model)(x), before)
    if not baked:
        nn.utils.parametrize.remove_parametrizations(conv, "weight")
    assert type(conv) is nn.Conv2d


def test_inputs_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)

        def forward(self, *, image: Tensor) -> Tensor:
            return self.conv(image)

    model = insert(Named(), "se", at="conv", inputs={"image": torch.zeros(1, 3, 8, 8)})
    assert len(find(model)) == 1


def test_modes_and_flags_are_inherited() -> None:
    model = build("mobilenet_v2").requires_grad_(False)
    model.features[2].train()
    insert(model, "cbam", at="after_depthwise")
    modes = {f.path: model.get_submodule(f.path).training for f in find(model)}
    assert [path for path, mode in modes.items() if mode] == ["features.2.conv.1.attention"]
    assert {p.requires_grad for name, p in model.named_parameters() if "attention" in name} == {
        True
    }
    assert {p.requires_grad for n, p in model.named_parameters() if "attention" not in n} == {False}


def test_blocks_that_a_model_was_built_with_stay() -> None:
    model = create_model("mobilenet_v2", attention="eca", width_mult=0.1)
    insert(model, "ca", at="stage_end")
    assert [f.inserted for f in find(model)].count(True) == 5
    remove(model)
    assert {(f.block, f.inserted) for f in find(model)} == {("eca", False)}


def test_authors_start() -> None:
    model = build("mobilenet_v2")
    expected = run(model)
    assert not torch.equal(run(insert(model, "ca", init="authors")), expected)
