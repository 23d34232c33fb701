"""Blocks in timm's form: timm's own state dict loads strictly, and the outputs agree."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import nn

from convattn import authors
from convattn.authors import timm as authors_timm
from convattn.blocks import create_block
from convattn.core.errors import StateDictError
from convattn.cost import cost

attention = pytest.importorskip("timm.layers.create_attn")

LAYERS = "huggingface/pytorch-image-models:timm/layers"
# timm's name, the source, our block and its arguments
FORMS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("coord", "coord_attn.py:CoordAttn", "ca", {"variant": "timm"}),
    ("scoord", "coord_attn.py:SimpleCoordAttn", "simple_ca", {"variant": "timm"}),
    ("ela", "coord_attn.py:EfficientLocalAttn", "ela", {"variant": "timm"}),
    ("strip", "coord_attn.py:StripAttn", "strip", {"variant": "timm"}),
    ("se", "squeeze_excite.py:SEModule", "se", {"variant": "timm"}),
    ("eca", "eca.py:EcaModule", "eca", {"variant": "timm"}),
    ("ceca", "eca.py:CecaModule", "eca", {"variant": "timm", "circular": True}),
    ("cbam", "cbam.py:CbamModule", "cbam", {"variant": "timm"}),
    ("lcbam", "cbam.py:LightCbamModule", "cbam", {"variant": "timm_light"}),
    ("sk", "selective_kernel.py:SelectiveKernel", "sk", {"variant": "timm"}),
    ("ese", "squeeze_excite.py:EffectiveSEModule", "ese", {}),
    ("gc", "global_context.py:GlobalContext", "gc", {"variant": "timm"}),
    ("nl", "non_local_attn.py:NonLocalAttn", "non_local", {"variant": "timm"}),
]
FIRST = {"nl": "in_channels", "sk": "in_channels"}  # what theirs calls the channels
ELSEWHERE = {"gca", "ecam"}  # forms of gc and eca, tested below
ABSENT = {"ge", "splat", "lambda", "bottleneck", "halo", "bat"}  # authors/timm.py says why
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])


def theirs(name: str, channels: int, **arguments: Any) -> nn.Module:
    layer: nn.Module = attention.create_attn(name, channels, **arguments)
    for p in layer.parameters():  # some of their layers start at zero
        nn.init.normal_(p, std=0.3)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return layer


@each_form
@pytest.mark.parametrize("channels", [4, 64, 96, 384])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_loads_and_agrees(
    form: tuple[str, str, str, dict[str, Any]], channels: int, mode: str
) -> None:
    name, file, block, arguments = form
    layer, source = theirs(name, channels).double(), f"{LAYERS}/{file}"
    built = authors.create(source, **{FIRST.get(name, "channels"): channels})
    named = create_block(block, channels, **arguments)
    x = torch.randn(2, channels, 7, 5, dtype=torch.float64)
    for ours in (built.double(), named.double()):
        authors.load_authors(ours, layer.state_dict(), source=source)
        back = authors.to_authors(ours, source=source)
        assert list(back) == list(layer.state_dict())
        assert all(torch.equal(back[k], v) for k, v in layer.state_dict().items())
        ours.train(mode == "train")
        expected = layer.train(mode == "train")(x)
        torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)
        if mode == "train":  # buffers too, the momentum is part of the form
            after = authors.to_authors(ours, source=source)
            for key, value in layer.state_dict().items():
                torch.testing.assert_close(after[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "file", "arguments"),
    [
        ("coord", "coord_attn.py:CoordAttn", {"rd_channels": 8, "bias": True}),
        ("strip", "coord_attn.py:StripAttn", {"use_conv": False}),
        ("strip", "coord_attn.py:StripAttn", {"kernel_size": 5, "bias": True}),
        ("ela", "coord_attn.py:EfficientLocalAttn", {"kernel_size": 3}),
        ("scoord", "coord_attn.py:SimpleCoordAttn", {"bias": False}),
        ("se", "squeeze_excite.py:SEModule", {"rd_ratio": 0.25, "bias": False}),
        ("cbam", "cbam.py:CbamModule", {"rd_ratio": 0.125, "spatial_kernel_size": 3}),
        ("lcbam", "cbam.py:LightCbamModule", {"rd_ratio": 0.125, "spatial_kernel_size": 3}),
        ("sk", "selective_kernel.py:SelectiveKernel", {"split_input": False, "groups": 32}),
        ("sk", "selective_kernel.py:SelectiveKernel", {"rd_channels": 5, "rd_ratio": 0.25}),
        ("sk", "selective_kernel.py:SelectiveKernel", {"out_channels": 24, "stride": 2}),
        ("eca", "eca.py:EcaModule", {"gamma": 1}),
        ("ceca", "eca.py:CecaModule", {"gamma": 1}),
        ("gc", "global_context.py:GlobalContext", {"fuse_add": True, "rd_ratio": 0.25}),
        ("gc", "global_context.py:GlobalContext", {"fuse_add": True, "fuse_scale": False}),
        ("gc", "global_context.py:GlobalContext", {"use_attn": False, "rd_channels": 5}),
        ("nl", "non_local_attn.py:NonLocalAttn", {"use_scale": False, "rd_ratio": 0.5}),
        ("nl", "non_local_attn.py:NonLocalAttn", {"rd_channels": 5}),
    ],
)
def test_their_arguments(name: str, file: str, arguments: dict[str, Any]) -> None:
    layer, source = theirs(name, 64, **arguments), f"{LAYERS}/{file}"
    ours = authors.create(source, **{FIRST.get(name, "channels"): 64}, **arguments)
    authors.load_authors(ours, layer.state_dict(), source=source)
    x = torch.randn(2, 64, 7, 5)
    torch.testing.assert_close(ours.eval()(x), layer.eval()(x), rtol=1e-6, atol=1e-6)


def test_every_name_of_theirs_is_here_or_has_a_reason() -> None:
    code = inspect.getsource(attention.get_attn)
    names = set(re.findall(r"attn_type == '(\w+)'", code))
    assert names == {form[0] for form in FORMS} | ELSEWHERE | ABSENT
    stated = authors_timm.__doc__ or ""
    assert set(re.findall(r'"(\w+)"', stated)) == ABSENT


def test_the_authors_weights_are_not_timms() -> None:
    """What timm's default cannot load either: their biases, and their width at 384 channels."""
    ours = create_block("ca", 384)
    with pytest.raises(StateDictError, match=r"conv1\.bias"):
        authors.load_authors(
            ours,
            theirs("coord", 384).state_dict(),
            source="houqb/CoordAttention:coordatt.py:CoordAtt",
        )


def test_the_ratio_must_be_one_over_a_whole_number() -> None:
    with pytest.raises(authors.ArgumentError, match="rd_ratio"):
        authors.create(f"{LAYERS}/squeeze_excite.py:SEModule", channels=64, rd_ratio=0.3)


def test_gca_is_gc_that_adds() -> None:
    layer, source = theirs("gca", 64), f"{LAYERS}/global_context.py:GlobalContext"
    ours = create_block("gc", 64, variant="timm", fusion="add")
    authors.load_authors(ours, layer.state_dict(), source=source)
    x = torch.randn(2, 64, 7, 5)
    torch.testing.assert_close(ours(x), layer(x), rtol=1e-6, atol=1e-6)


def test_hidden_channels() -> None:
    for channels in range(1, 200):
        for name, block in (("nl", "non_local"), ("gc", "gc"), ("sk", "sk")):
            if name == "sk" and channels % 2:
                continue  # theirs refuses it too
            ours = create_block(block, channels, variant="timm")
            count = sum(p.numel() for p in ours.parameters())
            assert count == sum(p.numel() for p in theirs(name, channels).parameters())


def test_global_context_must_fuse() -> None:
    source = f"{LAYERS}/global_context.py:GlobalContext"
    with pytest.raises(authors.ArgumentError, match="fuse_add"):
        authors.create(source, channels=64, fuse_scale=False)


def test_circular_eca_follows_a_cyclic_shift_of_the_channels() -> None:
    block, x = create_block("eca", 8, kernel_size=5, circular=True), torch.randn(2, 8, 4, 3)
    torch.testing.assert_close(block(x.roll(3, 1)), block(x).roll(3, 1), rtol=1e-6, atol=1e-6)
    assert create_block("eca", 2, kernel_size=5, circular=True)(x[:, :2]).isfinite().all()
    with pytest.raises(
        authors.ArgumentError, match="kernel_size must be at most 5 with 2 channels, got 7"
    ):
        create_block("eca", 2, kernel_size=7, circular=True)


@pytest.mark.parametrize("channels", [4, 64, 88, 96, 384])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_ecam_is_eca_with_a_layer_in_front(channels: int, mode: str) -> None:
    layer, source = theirs("ecam", channels), f"{LAYERS}/eca.py:EcaModule"
    built = authors.create(source, channels=channels, use_mlp=True)
    x = torch.randn(2, channels, 7, 5)
    for ours in (built, create_block("eca", channels, variant="timm_mlp")):
        authors.load_authors(ours, layer.state_dict(), source=source)
        assert list(authors.to_authors(ours, source=source)) == list(layer.state_dict())
        expected = layer.train(mode == "train")(x)
        torch.testing.assert_close(ours.train(mode == "train")(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("channels", "m", "k"), [(64, 8, 3), (96, 16, 3), (384, 48, 5)])
def test_cost_of_ecam(channels: int, m: int, k: int) -> None:
    counted = cost(create_block("eca", channels, variant="timm_mlp"), (1, channels, 6, 5))
    assert counted.parameters == 2 * m + k * m + 1
    assert counted.macs == (k + 1) * m * channels
