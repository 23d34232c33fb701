"""Requests that elsewhere do nothing, or harm, are errors here, and an error changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from insertion_hosts import Plain, build
from torch import Tensor, nn

from convattn import find, freeze_host, insert, plan, rebuild, remove, replace
from convattn.core.errors import ArgumentError, InputError, UnknownNameError
from convattn.insertion import insertions


@pytest.mark.parametrize(
    ("host", "error", "text", "arguments"),
    [
        ("resnet18", UnknownNameError, "did you mean 'before_add'", {"at": "before_ad"}),
        ("resnet18", UnknownNameError, r"before_add \(8\)", {"at": "after_depthwise"}),
        ("resnet18", UnknownNameError, "such as .*layer1.0.bn2", {"at": "layer1.0.bn5"}),
        ("resnet18", UnknownNameError, "matches nothing", {"at": "layer9.*"}),
        ("resnet18", UnknownNameError, "matches nothing", {"at": r"re:layer\d"[:-2] + "x"}),
        ("resnet18", UnknownNameError, "the predicate", {"at": lambda path, module: False}),
        ("resnet18", ArgumentError, "no regular expression", {"at": "re:("}),
        ("resnet18", ArgumentError, "position, a path or a predicate", {"at": ""}),
        ("resnet18", InputError, r"fc \(Linear\) returns float32 \(1, 1000\)", {"at": "fc"}),
        ("resnet50", InputError, r"relu \(ReLU\) is shared: its 3 calls", {"at": "layer1.0.relu"}),
        ("resnet18", ArgumentError, "stages 1 to 4", {"at": "stage_end", "stages": [5]}),
        ("resnet18", ArgumentError, "none of the 8 places", {"where": lambda p: False}),
        ("resnet18", ArgumentError, "no argument 'reducton'.*reduction", {"reducton": 8}),
        ("resnet18", ArgumentError, r"layer1.0.bn2 \(64 channels\).*hidden", {"reduction": 128}),
        ("resnet18", ArgumentError, "one of 'identity', 'authors'", {"init": "zero"}),
        ("resnet18", ArgumentError, "2 entries, one per stage", {"args": [{}, {}]}),
        ("resnet18", ArgumentError, "expected a dict", {"args": lambda place: 3}),
        ("resnet18", ArgumentError, "N, C, H, W", {"input_size": (3, 224, 224)}),
        ("resnet18", InputError, "fails on input size", {"input_size": (1, 4, 64, 64)}),
        ("resnet18", ArgumentError, "N, C, H, W", {"input_size": 32}),
        ("resnet18", ArgumentError, "N, C, H, W", {"input_size": (1, 3, -4, 32)}),
        ("resnet18", ArgumentError, "list of these; got 3", {"at": 3}),
        ("resnet18", ArgumentError, "list of these", {"at": []}),
        ("resnet18", ArgumentError, "the string 're:conv1'", {"at": re.compile("conv1")}),
        ("resnet18", ArgumentError, r"isinstance\(module, Conv2d\)", {"at": nn.Conv2d}),
        ("resnet18", ArgumentError, "1.0 is none", {"stages": 1.0}),
        ("resnet18", ArgumentError, "function of a Place", {"where": 3}),
        ("resnet18", ArgumentError, "as reduction=4", {"args": {"reduction": 4}}),
        ("resnet18", ArgumentError, "a dict for each stage", {"args": 3}),
        ("resnet18", ArgumentError, "takes the channels of its map, here 64", {"channels": 8}),
        ("resnet18", UnknownNameError, "no block named", {"block": "see"}),
        ("resnet18", ArgumentError, "stands in for a convolution.*replace", {"block": "scconv"}),
        ("plain", ArgumentError, r"unused \(Conv2d\) is not called", {"at": "unused"}),
        ("densenet121", UnknownNameError, "choose with at=", {}),
    ],
)  # fmt: skip
def test_refusals(host: str, error: type, text: str, arguments: dict[str, Any]) -> None:
    model = build(host)
    block = arguments.get("block", "se")
    arguments = {name: value for name, value in arguments.items() if name != "block"}
    before = (repr(model), list(model.state_dict()))
    state = torch.get_rng_state()
    for call in (insert, plan):
        with pytest.raises(error, match=text):
            call(model, block, **arguments)
    assert (repr(model), list(model.state_dict())) == before
    assert all(not m._forward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_channels_last_maps_are_refused() -> None:
    import torchvision

    with pytest.raises(InputError, match="channels last"):
        insert(torchvision.models.swin_t(), "eca", at="features.1")


def test_a_map_that_no_module_outputs() -> None:
    class Inline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.body = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return (x + self.body(x)).mean()

    assert [row.place.path for row in plan(Inline(), "eca", at="before_add")] == ["body"]
    with pytest.raises(ArgumentError, match="no module of its own outputs"):
        insert(Inline(), "eca", at="after_add")


def test_hosts_that_would_ignore_new_blocks() -> None:
    plain = Plain()
    with pytest.raises(ArgumentError, match=r"then torch.compile it"):
        insert(torch.compile(plain), "eca", at="merge")
    in_place = Plain()
    in_place.compile()
    with pytest.raises(ArgumentError, match=r"then torch.compile it"):
        insert(in_place, "eca", at="merge")
    with pytest.raises(ArgumentError, match=r"pass its \.model"):
        insert(type("YOLO", (), {"model": plain})(), "eca", at="merge")  # type: ignore[type-var]


def test_wrapped_parts_are_seen() -> None:
    inner = type("DistributedDataParallel", (nn.Sequential,), {})(nn.Conv2d(3, 4, 1))
    with pytest.raises(ArgumentError, match=r"0 is DistributedDataParallel.*then wrap it"):
        insert(nn.Sequential(inner), "eca", at="0.0")


@pytest.mark.parametrize("look", [find, insertions, freeze_host])
def test_what_is_no_model(look: Callable[[Any], Any]) -> None:
    with pytest.raises(ArgumentError, match=r"must be a torch\.nn\.Module, got NoneType"):
        look(None)


def test_a_module_is_named_by_its_path() -> None:
    model = build("resnet18")
    with pytest.raises(ArgumentError, match=r"that module's path is 'layer1\.0\.bn2'"):
        insert(model, "se", at=model.layer1[0].bn2)


def test_a_failing_size_is_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"input_size=\(1, 3, H, W\)"):
        insert(nn.Linear(3, 3), "se", at="before_add")
    assert capfd.readouterr().err == ""


def test_hooks_that_were_left_out_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(16, 4, 3))
    model[0].register_forward_hook(lambda module, given, made: torch.cat([made, made], 1))
    with pytest.raises(InputError, match="without the forward hooks of 0, which may be why"):
        insert(model, "se", at="0", input_size=(1, 3, 32, 32))


def test_a_host_that_breaks_on_new_children_is_restored() -> None:
    class Walks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            for child in self.children():
                x = child(x)
            return x

    model = nn.Sequential(Walks())
    with pytest.raises(ArgumentError, match="a block there 2 times"):
        insert(model, "eca", at=lambda path, module: isinstance(module, Walks))
    assert find(model) == []
    assert len(find(insert(model, "eca", at="0.second"))) == 1


def test_nothing_to_remove_or_replace() -> None:
    with pytest.raises(ArgumentError, match="no block that was inserted"):
        remove(build("resnet18"))
    with pytest.raises(UnknownNameError, match=r"no squeeze-and-excitation to replace.*Bottleneck"):
        replace(build("resnet50"), old="se", new="ca")
    with pytest.raises(UnknownNameError, match="no block 'cbam' of convattn"):
        replace(build("resnet18"), old="cbam", new="ca")
    with pytest.raises(ArgumentError, match="keeps the shape"):
        replace(build("resnet18"), old="conv1", new="eca")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record[-1].pop("way"),
        lambda record: record[-1].update(way="bogus"),
        lambda record: record[-1].update(way="hook"),
        lambda record: record[-1].update(init="bogus"),
        lambda record: record[-1].update(way="swap", path=""),
        lambda record: record[-1].update(path="layer7"),
        lambda record: record[-1].update(arguments={"reduction": 0}),
        lambda record: record.append(3),
    ],
)
def test_records_that_do_not_fit(spoil: Callable[[list[Any]], Any]) -> None:
    record = insertions(insert(build("resnet18"), "se", at="stage_end"))
    spoil(record)
    model = build("resnet18")
    with pytest.raises(ArgumentError):
        rebuild(model, record)
    assert find(model) == []
    assert all(not m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("records", [None, 3, "[]", {}])
def test_what_is_no_list_of_records(records: Any) -> None:
    with pytest.raises(ArgumentError, match="the list of records"):
        rebuild(build("plain"), records)
