"""ResNets: torchvision's networks and weights, blocks at their authors' places, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convattn import authors, create_model
from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.insertion.slots import slot_positions

SMALL: dict[str, Any] = {"stem": "cifar", "num_classes": 5}  # for 32x32


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(
    ("output_stride", "dilate"), [(32, [0, 0, 0]), (16, [0, 0, 1]), (8, [0, 1, 1])]
)
def test_equals_torchvision(depth: int, output_stride: int, dilate: list[int]) -> None:
    torchvision = pytest.importorskip("torchvision")
    if depth == 18 and output_stride < 32:
        pytest.skip("torchvision's basic blocks have no dilation")
    build = getattr(torchvision.models, f"resnet{depth}")
    theirs = build(num_classes=7, replace_stride_with_dilation=dilate).eval()
    source = f"pytorch/vision:torchvision/models/resnet.py:resnet{depth}"
    net = create_model(f"resnet{depth}", num_classes=7, output_stride=output_stride).eval()
    authors.load_authors(net, theirs.state_dict(), source=source)
    assert list(authors.to_authors(net, source=source)) == list(theirs.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x), rtol=0, atol=1e-5)


def test_positions() -> None:
    positions = slot_positions(create_model("resnet50"))
    assert {k: len(v) for k, v in positions.items()} == {
        "after_conv1": 16, "after_conv2": 16, "before_project": 16, "before_add": 16,
        "after_add": 16, "stage_end": 4,
    }  # fmt: skip


# reference/blocks.md, placements of section 1; the numbers of the stages' blocks are 3, 4, 6, 3
PLACES = {
    "se": [f"layer{s}.{b}.before_add" for s, n in enumerate((3, 4, 6, 3), 1) for b in range(n)],
    "bam": ["stage_end.0", "stage_end.1", "stage_end.2"],
    "gala": [f"layer{s}.0.before_add" for s in (1, 2, 3, 4)],
    "gc": [f"layer{s}.{b}.before_add" for s, n in ((2, 4), (3, 6), (4, 3)) for b in range(n)],
    "gsop": ["layer1.2.before_add", "layer2.3.before_add", "layer3.5.before_add",
             "layer4.2.before_add"],
    "non_local": ["layer2.1.after_add", "layer2.3.after_add", "layer3.1.after_add",
                  "layer3.3.after_add", "layer3.5.after_add"],
    "simam": [f"layer{s}.{b}.after_conv2"
              for s, n in enumerate((3, 4, 6, 3), 1) for b in range(n)],
    "spm": ["layer1.2.before_project", "layer2.3.before_project", "layer3.5.before_project",
            *(f"layer4.{b}.before_project" for b in range(3))],
    "psa": [f"layer{s}.{b}.conv2" for s, n in enumerate((3, 4, 6, 3), 1) for b in range(n)],
}  # fmt: skip


@pytest.mark.parametrize("attention", sorted(PLACES))
def test_blocks_go_where_their_authors_put_them(attention: str) -> None:
    from convattn.blocks import block_class

    with torch.device("meta"):
        net = create_model("resnet50", attention=attention)
    kind = block_class(attention)
    assert [path for path, m in net.named_modules() if type(m) is kind] == PLACES[attention]


def test_arguments_per_stage() -> None:
    net = create_model(
        "resnet18",
        attention="eca",
        attention_stages=(2, 4),
        attention_per_stage={"kernel_size": [3, 5, 7, 9]},
    )
    kernels = {k: v.shape[-1] for k, v in net.named_parameters() if "before_add" in k}
    assert kernels == {
        "layer2.0.before_add.conv.weight": 5, "layer2.1.before_add.conv.weight": 5,
        "layer4.0.before_add.conv.weight": 9, "layer4.1.before_add.conv.weight": 9,
    }  # fmt: skip


@pytest.mark.parametrize("attention", ["psa", "scconv", "sk", "aa"])
@pytest.mark.parametrize("output_stride", [32, 16])
def test_convolutions_are_replaced(attention: str, output_stride: int) -> None:
    arguments = {"num_classes": 5, "output_stride": output_stride}
    if output_stride == 16 and attention != "scconv":  # the others have no dilation
        with pytest.raises(ArgumentError, match="no argument 'dilation'"):
            create_model("resnet50", attention=attention, **arguments)
        return
    net = create_model("resnet50", attention=attention, **arguments).eval()
    with torch.no_grad():
        assert net(torch.randn(1, 3, 32, 32)).shape == (1, 5)


def test_options() -> None:
    x = torch.randn(2, 4, 64, 64)
    net = create_model("resnet18", in_channels=4, num_classes=0).eval()
    with torch.no_grad():
        assert net(x).shape == (2, 512)
    maps = create_model("resnet18", in_channels=4, features_only=True, output_stride=16).eval()
    with torch.no_grad():
        assert [tuple(m.shape[1:]) for m in maps(x)] == [
            (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 4, 4),
        ]  # fmt: skip
    net = create_model("resnet50", zero_init_residual=True)
    assert not any(v.any() for k, v in net.state_dict().items() if k.endswith("bn3.weight"))


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (ArgumentError, "has 4 stages", {"attention_per_stage": {"kernel_size": [3, 5]}}),
        (ArgumentError, "leaves no slot", {"attention_stages": (5,)}),
        (ArgumentError, "keep one of them", {
            "attention_args": {"kernel_size": 3}, "attention_per_stage": {"kernel_size": [3] * 4},
        }),
        (UnknownNameError, "at='conv3x3' matches nothing", {"at": "conv3x3"}),
        (UnknownNameError, "did you mean 'before_add'", {"at": "before_ad"}),
        (ArgumentError, "output_stride must be one of", {"output_stride": 4}),
        (ArgumentError, "4 values of 1 or 2", {"strides": (1, 2)}),
        (ArgumentError, "stem must be one of", {"stem": "small"}),
        (ArgumentError, "num_classes", {"num_classes": -1}),
        (ArgumentError, "num_classes", {"num_classes": True}),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(error: type, text: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=text):
        create_model("resnet18", attention="eca", **arguments)


@pytest.mark.parametrize("attention", ["eca", "bam", "gc", "spm", "simam"])
def test_identity_start_is_bit_equal(attention: str) -> None:
    if attention == "simam":
        with pytest.raises(ArgumentError, match="cannot start as the identity"):
            create_model("resnet18", attention=attention, attention_init="identity")
        return
    name = "resnet50" if attention == "spm" else "resnet18"
    torch.manual_seed(3)
    plain = create_model(name, **SMALL).eval()
    torch.manual_seed(3)
    net = create_model(name, attention=attention, attention_init="identity", **SMALL).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x), plain(x))
