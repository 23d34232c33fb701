"""Named positions against the counts that papers, authors' code and layer tables give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from insertion_hosts import Plain, build
from torch import nn

from convattn import cost, create_model, find, insert, plan
from convattn.insertion import Place, positions

# blocks per network as in its layer table; 15 of EfficientNet-B0's 16 expand
COUNTS: dict[str, dict[str, int]] = {
    "resnet18": {"before_add": 8, "after_add": 8, "stage_end": 4, "after_conv2": 8},
    "resnet50": {"before_add": 16, "after_add": 16, "stage_end": 4, "after_conv3": 16},
    "mobilenet_v2": {
        "after_expand": 16, "after_depthwise": 16, "before_project": 16,
        "before_add": 17, "after_add": 17, "stage_end": 5,
    },
    "mobilenet_v3_large": {"after_depthwise": 14, "before_project": 14, "before_add": 15},
    "efficientnet_b0": {"after_expand": 15, "after_depthwise": 15, "before_add": 16},
    "shufflenet_v2": {"after_depthwise": 19, "stage_end": 3},
    "regnet_y_400mf": {"before_add": 16, "after_add": 16, "stage_end": 4, "after_conv2": 16},
    "densenet121": {"stage_end": 4},
    "convnext_tiny": {"after_depthwise": 18, "before_add": 18, "after_add": 18, "stage_end": 4},
    "timm/resnet18": {"before_add": 8, "after_add": 8, "stage_end": 4, "after_conv2": 8},
    "timm/mobilenetv2": {
        "after_expand": 16, "after_depthwise": 16, "before_project": 16, "stage_end": 5,
    },
    "timm/efficientnet_b0": {"after_expand": 15, "after_depthwise": 15, "stage_end": 5},
    "timm/convnext_atto": {"after_depthwise": 12, "before_add": 12, "after_add": 12},
    "ours/mobilenet_v2": {
        "after_expand": 16, "after_depthwise": 16, "before_add": 17, "after_add": 17,
        "stage_end": 5,
    },
    "sequential": {"stage_end": 2},
}  # fmt: skip


@pytest.mark.parametrize("host", COUNTS)
def test_counts(host: str) -> None:
    model = build(host)
    have = positions(model)
    assert {name: have.get(name) for name in COUNTS[host]} == COUNTS[host]
    for position in ("stage_end", "after_conv1"):
        if position in have:
            paths = {row.place.path for row in plan(model, "eca", at=position)}
            assert len(paths) == have[position]


def test_maps_of_one_position() -> None:
    """At 32x32 the last blocks of MobileNetV2 have maps of 1x1; they are blocks as the others."""
    have = positions(build("mobilenet_v2"), input_size=(1, 3, 32, 32))
    names = ("after_depthwise", "before_add", "after_conv1", "after_conv2", "after_conv3")
    assert [have.get(name) for name in (*names, "after_conv4")] == [16, 17, 17, 17, 16, None]


@pytest.mark.parametrize("host", ["mobilenet_v2", "timm/mobilenetv2", "ours/mobilenet_v2"])
def test_ca_authors_mobilenet_v2(host: str) -> None:
    model = build(host)
    table = plan(model, "ca", at="after_depthwise")
    insert(model, "ca", at="after_depthwise")
    assert len(find(model)) == 16
    assert sum(p.numel() for p in model.parameters()) == 3_950_648
    assert (table.parameters, table.macs) == (445_776, 5_892_096)  # reference/blocks.md 2.2


def test_eca_authors_resnet50() -> None:
    model = build("resnet50")
    kernels = [{"kernel_size": k} for k in (3, 5, 5, 7)]
    table = plan(model, "eca", at="before_add", args=kernels)
    assert (len(table), table.parameters, table.macs) == (16, 80, 86_272)
    assert [row.place.path for row in table][:2] == ["layer1.0.bn3", "layer1.1.bn3"]
    insert(model, "eca", at="before_add", args=kernels)
    assert sum(p.numel() for p in model.parameters()) == 25_557_032 + 80


def test_eca_authors_mobilenet_v2() -> None:
    def kernel(place: Place) -> dict[str, int]:
        return {"kernel_size": 1 if place.channels < 96 else 3}

    table = plan(build("mobilenet_v2"), "eca", at="before_add", args=kernel)
    assert (len(table), table.parameters) == (17, 31)


def test_authors_position_is_the_default() -> None:
    assert plan(build("mobilenet_v2"), "ca") == plan(build("mobilenet_v2"), "ca", "after_depthwise")
    assert {r.place.position for r in plan(build("resnet18"), "se")} == {"before_add"}


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("layer1.0.conv2", ["layer1.0.conv2"]),
        ("layer[34].*.bn2", [f"layer{s}.{b}.bn2" for s in (3, 4) for b in (0, 1)]),
        (r"re:layer4\.\d", ["layer4.0", "layer4.1"]),
        (["layer4", "layer1"], ["layer1", "layer4"]),
        (lambda path, module: isinstance(module, nn.MaxPool2d), ["maxpool"]),
    ],
)
def test_paths_and_predicates(at: Any, expected: list[str]) -> None:
    assert [row.place.path for row in plan(build("resnet18"), "eca", at=at)] == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"stages": [3, 4]}, ["layer3", "layer4"]),
        ({"stages": -1}, ["layer4"]),
        ({"where": lambda place: place.channels < 200}, ["layer1", "layer2"]),
        ({"stages": [1, 2], "where": lambda place: place.sizes[0][0] < 56}, ["layer2"]),
    ],
)
def test_filters(filters: dict[str, Any], expected: list[str]) -> None:
    table = plan(build("resnet18"), "eca", at="stage_end", **filters)
    assert [row.place.path for row in table] == expected


@pytest.mark.parametrize(
    ("host", "block", "at", "size"),
    [
        ("resnet18", "se", "before_add", (2, 3, 96, 64)),
        ("mobilenet_v2", "ca", "after_expand", (1, 3, 64, 64)),
        ("efficientnet_b0", "cbam", "before_project", (1, 3, 64, 64)),
        ("densenet121", "eca", "stage_end", (1, 3, 64, 96)),
        ("plain", "se", ["merge", "shared"], (1, 3, 64, 64)),
    ],
)
def test_plan_adds_up_to_a_recount(host: str, block: str, at: Any, size: tuple[int, ...]) -> None:
    model = build(host)
    before = cost(model, size)
    table = plan(
        model, block, at=at, input_size=size, **({"reduction": 4} if host == "plain" else {})
    )
    assert cost(model, size) == before
    insert(model, block, at=at, input_size=size, **({"reduction": 4} if host == "plain" else {}))
    after = cost(model, size)
    assert table.parameters == after.parameters - before.parameters
    assert table.macs == after.macs - before.macs
    text = str(table)
    assert f"{table.parameters:,}" in text
    assert all(row.place.path in text for row in table)


def test_channels_behind_a_concatenation_and_of_a_shared_module() -> None:
    table = plan(Plain(), "eca", at=["merge", "shared"])
    facts = [(row.place.path, row.place.channels, len(row.place.sizes)) for row in table]
    assert facts == [("shared", 8, 2), ("merge", 24, 1)]
    model = insert(Plain().eval(), "eca", at="shared")
    (block,) = [m for m in model.modules() if type(m).__name__ == "ECA"]
    calls: list[int] = []
    block.register_forward_hook(lambda *_: calls.append(1))
    model(torch.zeros(1, 3, 16, 16))
    assert len(calls) == 2


def test_own_inputs_and_own_sizes() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 4, 1), nn.Conv2d(2, 4, 1)

        def forward(self, a: torch.Tensor, both: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.left(a) + self.right(both["b"])

    inputs = (torch.zeros(1, 1, 6, 5), {"b": torch.zeros(1, 2, 6, 5)})
    (row,) = plan(Two(), "eca", at="right", inputs=inputs)
    assert row.place.sizes == ((6, 5),)
    # a classifier that flattens accepts 32 x 32 alone; nobody has to say so
    small = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4 * 16 * 16, 2))
    assert plan(small, "eca", at="0").input_size == (1, 3, 32, 32)


def test_half_precision_and_random_state() -> None:
    model = build("sequential").to(torch.bfloat16)
    state = torch.get_rng_state()
    plan(model, "se", at="stage_end", reduction=4)
    assert torch.equal(torch.get_rng_state(), state)
    insert(model, "se", at="stage_end", reduction=4)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_slots_stay_compatible_with_create_model() -> None:
    built = create_model("mobilenet_v2", attention="ca", width_mult=0.1)
    model = insert(create_model("mobilenet_v2", width_mult=0.1), "ca", at="after_depthwise")
    assert list(model.state_dict()) == list(built.state_dict())


class UNet(nn.Module):
    """As users write it: four levels, so three merges."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()

        def double(inputs: int, outputs: int) -> nn.Sequential:
            convs = [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)]
            layers = [(c, nn.BatchNorm2d(outputs), nn.ReLU(True)) for c in convs]
            return nn.Sequential(*layers[0], *layers[1])

        def up(inputs: int, outputs: int) -> nn.Module:
            if transposed:
                return nn.ConvTranspose2d(inputs, outputs, 2, 2)
            return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 1))

        widths = (8, 16, 32, 64)
        self.down = nn.ModuleList(map(double, (3, *widths), widths))
        self.up = nn.ModuleList(map(up, widths[:0:-1], widths[-2::-1]))
        self.merged = nn.ModuleList(double(2 * width, width) for width in widths[-2::-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = []
        for down in self.down:
            x = down(nn.functional.max_pool2d(x, 2) if maps else x)
            maps.append(x)
        for up, merged, skip in zip(self.up, self.merged, maps[-2::-1], strict=True):
            x = merged(torch.cat((skip, up(x)), 1))
        return x


@pytest.mark.parametrize("transposed", [True, False])
def test_merges_of_a_decoder(transposed: bool) -> None:
    table = plan(UNet(transposed), "eca", at="after_merge")
    facts = [(row.place.path, row.place.channels, row.place.sizes[0][0]) for row in table]
    assert facts == [("merged.0.2", 32, 56), ("merged.1.2", 16, 112), ("merged.2.2", 8, 224)]


@pytest.mark.parametrize("host", ["resnet50", "densenet121", "efficientnet_b0", "shufflenet_v2"])
def test_classifiers_merge_nothing(host: str) -> None:
    assert "after_merge" not in positions(build(host))


def test_a_position_that_is_listed_takes_blocks() -> None:
    """timm's dense blocks run their children in code of their own, inside another such module."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model("densenet121", features_only=True)
    size = (1, 3, 64, 64)
    assert [len(plan(model, "eca", at, input_size=size)) for at in positions(model)] == [
        *positions(model, input_size=size).values()
    ]
