"""MobileNetV2: positions, one host whatever the block, start as the identity."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convattn import authors, create_model, find
from convattn.core.errors import ArgumentError, UnknownNameError


def test_same_host_weights_whatever_the_block() -> None:
    states = []
    for attention in ("none", "ca", "cbam"):
        torch.manual_seed(3)
        states.append(
            create_model("mobilenet_v2", attention=attention, width_mult=0.1).state_dict()
        )
    for other in states[1:]:
        assert set(states[0]) < set(other)
        assert all(torch.equal(v, other[k]) for k, v in states[0].items())


def test_positions() -> None:
    from convattn.insertion.slots import slot_positions

    counts = {k: len(v) for k, v in slot_positions(create_model("mobilenet_v2")).items()}
    assert counts == {"after_expand": 16, "after_depthwise": 16, "before_add": 17, "after_add": 17,
                      "before_norm": 17}  # fmt: skip


# reference/blocks.md, placements of section 1: all 17 blocks, or the 16 that expand
@pytest.mark.parametrize(
    ("attention", "at", "blocks", "parameters"),
    [
        ("ca", "after_depthwise", 16, 3_950_648),
        ("eca", "before_add", 17, None),
        ("triplet", "before_add", 17, 3_509_972),
        ("simam", "depthwise.before_norm", 17, 3_504_872),
    ],
)
def test_blocks_go_where_their_authors_put_them(
    attention: str, at: str, blocks: int, parameters: int | None
) -> None:
    with torch.device("meta"):
        net = create_model("mobilenet_v2", attention=attention)
        maps = create_model("mobilenet_v2", attention=attention, features_only=True)
    expected = [f"blocks.{i}.{at}" for i in range(17 - blocks, 17)]
    assert [f.path for f in find(net)] == [f.path for f in find(maps)] == expected
    assert parameters in (None, sum(p.numel() for p in net.parameters()))


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (UnknownNameError, "did you mean 'ca'", {"attention": "caa"}),
        (
            UnknownNameError,
            "did you mean 'after_depthwise'",
            {"attention": "ca", "at": "after_depth"},
        ),
        (ArgumentError, "did you mean 'width_mult'", {"width_mul": 1}),
        (
            ArgumentError,
            "did you mean 'reduction'",
            {"attention": "ca", "attention_args": {"reducton": 8}},
        ),
        (ArgumentError, "without a block", {"attention_args": {"reduction": 8}}),
        (ArgumentError, "width_mult must be a positive number", {"width_mult": -1}),
        (ArgumentError, "8 values", {"strides": (1, 2)}),
    ],
)
def test_wrong_arguments_are_named(error: type, text: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=text):
        create_model("mobilenet_v2", **arguments)
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenet_v2'"):
        create_model("mobilenet_v3")


@pytest.mark.parametrize("attention", ["se", "cbam", "eca", "ca", "triplet"])
def test_identity_start_is_bit_equal_and_learns(attention: str) -> None:
    x = torch.randn(4, 3, 32, 32)
    torch.manual_seed(3)
    plain = create_model("mobilenet_v2", width_mult=1.0, num_classes=5).eval()
    torch.manual_seed(3)
    net = create_model(
        "mobilenet_v2", width_mult=1.0, num_classes=5, attention=attention,
        attention_init="identity",
    ).eval()  # fmt: skip
    with torch.no_grad():
        assert torch.equal(net(x), plain(x))
    new = set(net.state_dict()) - set(plain.state_dict())
    optimizer = torch.optim.SGD(net.train().parameters(), lr=0.1)
    reached: set[str] = set()
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), torch.arange(4)).backward()
        optimizer.step()
        reached |= {k for k, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert {k for k, _ in net.named_parameters()} & new <= reached


@pytest.mark.parametrize("width", [1.0, 0.35])
def test_equals_torchvision(width: float) -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.mobilenet_v2(width_mult=width, num_classes=7).eval()
    source = "pytorch/vision:torchvision/models/mobilenetv2.py:mobilenet_v2"
    net = authors.create(source, width_mult=width, num_classes=7).eval()
    authors.load_authors(net, theirs.state_dict(), source=source)
    assert list(authors.to_authors(net, source=source)) == list(theirs.state_dict())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x), rtol=0, atol=1e-5)


def test_plain_keys_of_d_li14() -> None:
    net = create_model("mobilenet_v2", width_mult=0.1)
    source = "d-li14/mobilenetv2.pytorch:models/imagenet/mobilenetv2.py:mobilenetv2"
    theirs = authors.to_authors(net, source=source)
    assert theirs["features.2.conv.6.weight"].shape == net.blocks[1].project.conv.weight.shape
    assert {"features.1.conv.3.weight", "conv.0.weight", "classifier.bias"} < set(theirs)
    authors.load_authors(create_model("mobilenet_v2", width_mult=0.1), theirs, source=source)


@pytest.mark.parametrize(
    ("output_stride", "sides"), [(32, (32, 16, 8, 4, 2)), (16, (32, 16, 8, 4, 4)),
                                 (8, (32, 16, 8, 8, 8))],
)  # fmt: skip
def test_maps_and_output_strides(output_stride: int, sides: tuple[int, ...]) -> None:
    net = create_model(
        "mobilenet_v2", attention="ca", features_only=True, output_stride=output_stride,
        in_channels=4,
    ).eval()  # fmt: skip
    with torch.no_grad():
        maps = net(torch.randn(1, 4, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, side, side) for channels, side in zip((16, 24, 32, 96, 320), sides, strict=True)
    ]


def test_detection_backbone() -> None:
    net = create_model("mobilenet_v2_ssd", attention="ca", width_mult=0.35).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 96, 96))
    assert [(m.shape[1], m.shape[2]) for m in maps] == [
        (32, 6), (1280, 3), (512, 2), (256, 1), (256, 1), (64, 1),
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match="4 positive numbers"):
        create_model("mobilenet_v2_ssd", expansions=(1, 2))
