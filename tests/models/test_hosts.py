"""Networks of timm and torchvision by name, with blocks."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import timm
import torch
import torchvision

from convattn import create_model, find
from convattn.core.errors import ArgumentError, MissingExtraError, UnknownNameError
from convattn.models import list_hosts, list_models
from convattn.models._blocks import usual_position


def test_the_network_is_the_librarys() -> None:
    """Same class, and from one random state the same weights."""
    theirs: dict[str, Any] = {
        "timm/test_resnet": lambda: timm.create_model("test_resnet", num_classes=7),
        "timm/test_resnet.r160_in1k": lambda: timm.create_model("test_resnet", num_classes=7),
        "torchvision/shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(
            num_classes=7
        ),
    }
    for name, build in theirs.items():
        torch.manual_seed(3)
        expected = build()
        for attention in ("none", "ca@stage_end"):
            torch.manual_seed(3)
            ours = create_model(name, num_classes=7, attention=attention)
            assert type(ours) is type(expected)
            state = ours.state_dict()
            assert all(torch.equal(v, state[k]) for k, v in expected.state_dict().items()), name


@pytest.mark.parametrize(
    ("name", "attention", "at", "paths"),
    [
        # basic blocks of two convolutions, so the second is the last before the sum
        ("torchvision/resnet18", "simam@after_conv2", None, "layer{}.{}.conv2.attention"),
        ("torchvision/resnet18", "eca", None, "layer{}.{}.bn2.attention"),  # before_add
        ("torchvision/resnet18", "ca", None, "layer{}.{}.bn2.attention"),  # no depthwise
        ("torchvision/resnet18", "se", "re:layer\\d\\.\\d\\.bn1", "layer{}.{}.bn1.attention"),
        ("torchvision/resnet18", "scconv", "layer*.conv2", "layer{}.{}.conv2"),
    ],
)  # fmt: skip
def test_blocks_go_where_they_are_told(
    name: str, attention: str, at: str | None, paths: str
) -> None:
    model = create_model(name, attention=attention, at=at)
    expected = [paths.format(stage, block) for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert [found.path for found in find(model)] == expected


def test_several_blocks_and_their_arguments() -> None:
    model = create_model(
        "timm/test_resnet",
        attention="se@stage_end,eca@after_conv1",
        attention_args={"eca": {"kernel_size": 5}},
    )
    found = {type(model.get_submodule(f.path)).__name__: f.path for f in find(model)}
    assert set(found) == {"SE", "ECA"}
    sizes = {f.block for f in find(model) if f.block == "eca"}
    assert sizes == {"eca"}
    kernels = [p.numel() for n, p in model.named_parameters() if n.startswith(found["ECA"])]
    assert kernels == [5]
    # ours take several too, and positions that are no slots of theirs
    ours = create_model("resnet18", attention="se@stage_end,ca@layer1.0.conv1")
    assert [f.block for f in find(ours)].count("ca") == 1
    assert [f.block for f in find(ours)].count("se") == 4


def test_the_usual_position() -> None:
    assert usual_position(create_model("mobilenet_v2", width_mult=0.1)) == "after_depthwise"
    assert usual_position(create_model("timm/test_resnet")) == "before_add"
    assert usual_position(torchvision.models.mobilenet_v2(width_mult=0.1)) == "after_depthwise"
    assert usual_position(create_model("torchvision/squeezenet1_1")) == "stage_end"


def test_listed_are_those_that_can_be_built() -> None:
    hosts = list_hosts()
    assert {"timm/resnet18", "torchvision/resnet18"} <= set(hosts)
    assert "torchvision/fasterrcnn_resnet50_fpn" not in hosts  # no classifier
    assert not set(hosts) & set(list_models())


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("timm/resnet_18", {}, UnknownNameError, r"'resnet_18'; did you mean timm/resnet18"),
    ("torchvision/mobilenetv2", {}, UnknownNameError, "did you mean torchvision/mobilenet_v2"),
    ("torchvision/resnet18.tv_in1k", {}, UnknownNameError, "has no network 'resnet18.tv_in1k'"),
    ("torchvison/resnet18", {}, UnknownNameError, "'torchvison'.*did you mean 'torchvision'"),
    ("timm/test_resnet", {"pretrained": True}, ArgumentError, "--checkpoint FILE"),
    ("torchvision/resnet18", {"weights": "DEFAULT"}, ArgumentError, "weights='DEFAULT'"),
    ("timm/test_resnet", {"widht": 3}, ArgumentError, r"cannot be built with.*'widht'"),
    ("torchvision/resnet18", {"widht": 3}, ArgumentError, r"cannot be built with.*'widht'"),
    ("timm/test_resnet", {"attention": "caa"}, UnknownNameError, "did you mean 'ca'"),
    ("timm/test_resnet", {"attention": "ca@after_con2"}, UnknownNameError,
     "did you mean 'after_conv2'"),
    ("timm/test_resnet", {"attention": "ca", "attention_args": {"reducton": 4}}, ArgumentError,
     "reducton"),
    ("timm/test_resnet", {"attention_args": {"reduction": 4}}, ArgumentError, "without a block"),
    ("timm/test_resnet", {"attention": "scconv@before_add"}, ArgumentError,
     r"stands in for convolutions, and at 'before_add' layer1\.0\.\w+ is a"),
    ("timm/test_resnet", {"attention": "scconv"}, ArgumentError, "stands in for a convolution"),
    ("timm/test_resnet", {"attention": "ca@stage_end,se@after_conv1",
                          "attention_args": {"reduction": 4}},
     ArgumentError, "by block.*'reduction'"),
    ("resnet18", {"attention": "coordat"}, UnknownNameError, "did you mean 'coordatt'"),
    ("resnet18", {"attention": "ca", "attention_stages": 3}, ArgumentError,
     r"attention_stages must be numbers of stages, such as \(2, 3\); got 3"),
    ("resnet18", {"attention": "ca", "attention_stages": ["3"]}, ArgumentError,
     "each of attention_stages must be an integer"),
    ("resnet18", {"attention": "ca", "attention_args": [1]}, ArgumentError,
     r"attention_args must be a mapping.*got \[1\]"),
    ("resnet18", {"attention": "ca", "attention_per_stage": [1]}, ArgumentError,
     "attention_per_stage must be a mapping"),
    ("resnet18", {"attention": "ca", "attention_init": "x"}, ArgumentError,
     "attention_init must be one of 'authors', 'identity'; got 'x'"),
    ("resnet18", {"attention": None}, ArgumentError, "attention must be a text, got None"),
    ("resnet18", {"attention": "ca", "at": 3}, ArgumentError, "at must be a text, got 3"),
    (None, {}, UnknownNameError, "no model named None; there are efficientnet_b0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "error", "text"), WRONG)
def test_what_cannot_be_is_refused(
    name: Any, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        create_model(name, **arguments)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"'timm'.*convattn\[timm\]"):
        create_model("timm/resnet18")
    assert all(name.startswith("torchvision/") for name in list_hosts())
