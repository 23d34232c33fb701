"""Weight files of other programs: wrappers, prefixes, formats, and what is refused."""

from __future__ import annotations

import argparse
import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convattn.core.errors import CheckpointError, CheckpointNotFoundError, MissingExtraError
from convattn.core.files import save_checkpoint
from convattn.core.weights import plain_state_dict, read_weights

NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
WEIGHTS = NET.state_dict()
OPTIMIZER = torch.optim.SGD(NET.parameters(), 0.1, momentum=0.9).state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in WEIGHTS.items()}


WRAPPED: dict[str, Any] = {
    "plain": WEIGHTS,
    "state_dict": {"epoch": 3, "state_dict": WEIGHTS, "optimizer": OPTIMIZER, "best_acc1": 46.6},
    "model": {"optimizer": OPTIMIZER, "model": WEIGHTS},
    "net": {"net": WEIGHTS, "acc": 93.0},
    "nested": {"state_dict": {"net": WEIGHTS, "optimizer": OPTIMIZER}, "epoch": 1},
    "data parallel": {"state_dict": prefixed("module.")},
    "compiled in data parallel": prefixed("module._orig_mod."),
    "data parallel, compiled": prefixed("_orig_mod.module."),
}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", WRAPPED)
def test_the_state_dict_is_found_in_what_scripts_save(name: str, tmp_path: Path) -> None:
    assert same(plain_state_dict(WRAPPED[name]), WEIGHTS)
    for zipped in (True, False):
        torch.save(WRAPPED[name], tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        assert same(read_weights(tmp_path / "w.pth"), WEIGHTS)


def test_a_prefix_that_not_all_keys_have_is_part_of_the_names() -> None:
    half = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert same(plain_state_dict(half), half)


def test_a_block_without_parameters_has_an_empty_state_dict() -> None:
    assert plain_state_dict({}) == plain_state_dict({"state_dict": {}}) == {}


def test_safetensors_and_weights_of_a_run(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(prefixed("module."), tmp_path / "no_suffix_needed")
    assert same(read_weights(tmp_path / "no_suffix_needed"), WEIGHTS)
    save_checkpoint(tmp_path / "best.pt", {"model": dict(WEIGHTS), "classes": ["a"]})
    assert same(read_weights(str(tmp_path / "best.pt")), WEIGHTS)
    data = bytearray((tmp_path / "best.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "best.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match="corrupt: checksum"):
        read_weights(tmp_path / "best.pt")


def test_safetensors_without_the_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    save_file(dict(WEIGHTS), tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"convattn\[hub\]"):
        read_weights(tmp_path / "w.safetensors")


class Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_more_is_refused_with_what_it_wanted(
    zipped: bool, tmp_path: Path
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    wants: dict[str, Any] = {
        "argparse.Namespace": {"state_dict": WEIGHTS, "args": argparse.Namespace(lr=0.1)},
        "torch.nn.modules.container.Sequential": {"model": NET},
        f"{os.mkdir.__module__}.mkdir": {"state_dict": WEIGHTS, "x": Runs(marker)},
    }
    for wanted, content in wants.items():
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError) as caught:
            read_weights(path)
        text = str(caught.value)
        assert wanted in text
        assert str(path) in text
        assert "torch.save(model.state_dict(), file)" in text
        assert not marker.exists()


def test_files_without_a_state_dict(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"gone\.pth"):
        read_weights(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="directory"):
        read_weights(tmp_path)
    contents: list[tuple[Any, str]] = [
        ({"epoch": 3, "optimizer": OPTIMIZER}, "'epoch': int, 'optimizer': dict"),
        ({3: torch.ones(1)}, "3: Tensor"),
        (OrderedDict(state_dict={"fc.weight": [1.0]}), "'fc.weight': list"),
        ([WEIGHTS], "holds a list"),
    ]
    for content, reason in contents:
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=reason):
            read_weights(tmp_path / "w.pth")
    for damaged in (b"", b"no weights", b"PK\x03\x04 cut", b"\x40" + bytes(7) + b'{"a": cut'):
        (tmp_path / "w.pth").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"w\.pth"):
            read_weights(tmp_path / "w.pth")
