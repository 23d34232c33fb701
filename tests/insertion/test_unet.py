"""Blocks in the encoder and the decoder of segmentation-models-pytorch's U-Nets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from convattn import find, insert, plan, remove
from convattn.insertion import positions

smp: Any = pytest.importorskip(
    "segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed"
)
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
# where the library's own scSE goes; the last decoder block has no skip and calls its first not
SCSE = ["decoder.blocks.[0-3].attention1", "decoder.blocks.*.attention2"]


def unet(encoder: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    net = smp.Unet(encoder, encoder_weights=None, classes=3, **arguments).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


# as in the encoders' layer tables; stage_end has the decoder's five blocks too, of which four have
# a skip to merge. The library's own
# EfficientNet calls one activation module twice in a block, so no module ends its depthwise part.
@pytest.mark.parametrize(
    ("encoder", "counts"),
    [
        ("resnet18", {"before_add": 8, "stage_end": 4 + 5, "after_merge": 4}),
        (
            "mobilenet_v2",
            {"after_depthwise": 16, "before_add": 17, "stage_end": 5 + 5, "after_merge": 4},
        ),
        ("efficientnet-b0", {"before_add": 16, "stage_end": 5 + 5, "after_merge": 4}),
        (
            "tu-mobilenetv3_small_100",
            {"after_depthwise": 10, "before_add": 10, "stage_end": 4 + 5, "after_merge": 4},
        ),
    ],
)
def test_positions_and_identity(encoder: str, counts: dict[str, int]) -> None:
    net = unet(encoder)
    have = positions(net, input_size=tuple(IMAGE.shape))
    assert {name: have.get(name) for name in counts} == counts
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        expected = net(IMAGE)
        for at, count in have.items():
            insert(net, "ca", at=at, input_size=tuple(IMAGE.shape))
            assert len(find(net)) == count, at
            assert torch.equal(net(IMAGE), expected), at
            remove(net)
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_stages_choose_the_decoder() -> None:
    table = plan(unet("resnet18"), "ca", at="stage_end", stages=range(5, 10))
    facts = [(row.place.path, row.place.channels) for row in table]
    assert facts == [(f"decoder.blocks.{i}", 256 >> i) for i in range(5)]


def test_inserted_scse_equals_the_librarys_own() -> None:
    """The library builds scSE into the decoder; inserted into a plain decoder it is the same."""
    theirs = unet("resnet18", decoder_attention_type="scse")
    ours = insert(unet("resnet18"), "scse", SCSE, init="authors", variant="paper", reduction=16)
    idle = sum(p.numel() for p in theirs.get_submodule("decoder.blocks.4.attention1").parameters())
    assert parameters(ours) == parameters(theirs) - idle
    host = {k: v for k, v in theirs.state_dict().items() if ".attention." not in k}
    assert not ours.load_state_dict(host, strict=False).unexpected_keys
    for place in plan(unet("resnet18"), "eca", SCSE):
        path = place.place.path
        own, block = theirs.get_submodule(f"{path}.attention"), ours.get_submodule(path)._modules
        new: Any = block["attention_2"]  # "attention" is the library's own, empty child
        for layer, other in ((new.fc1, own.cSE[1]), (new.fc2, own.cSE[3]), (new.conv, own.sSE[0])):
            layer.weight.data.copy_(other.weight.data.view_as(layer.weight))
            layer.bias.data.copy_(other.bias.data)
    image = IMAGE.double()
    with torch.no_grad():
        expected = theirs.double()(image)
        torch.testing.assert_close(ours.double()(image), expected, rtol=1e-10, atol=1e-10)
        assert (expected - remove(ours)(image)).abs().max() > 1e-2


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_a_step_reaches_the_decoders_blocks() -> None:
    net = insert(unet("resnet18"), "ca", at="stage_end", stages=range(5, 10)).train()
    new = [p for found in find(net) for p in net.get_submodule(found.path).parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    reached: set[int] = set()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(IMAGE), (IMAGE[:, 0] > 0.5).long()).backward()
        optimizer.step()
        reached |= {i for i, p in enumerate(new) if p.grad is not None and p.grad.any()}
    assert reached == set(range(len(new)))
