"""The grid: what it holds, and that a killed comparison ends in the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from convattn.cli import main
from convattn.compare.compare import _at_one_position, compare
from convattn.compare.grid import cells_of
from convattn.core.config import CompareConfig, TrainConfig
from convattn.core.errors import ArgumentError

TINY = [
    "compare", "--blocks", "[none, ca]", "--seeds", "2", "--epochs", "3", "--batch", "16",
    "--data_args", "{train_count: 96, test_count: 40, size: 32}", "--model_args.width_mult", "0.1",
    "--tensorboard", "false", "--name", "study", "--threads", "1",  # as of the tests' own process
]  # fmt: skip


def command(project: Path, *more: str) -> list[str]:
    return [*TINY, "--project", str(project), *more]


def results(project: Path) -> dict[str, Any]:
    """Metrics, history and data of each run, without times."""
    found = {}
    for path in sorted((project / "study" / "results").glob("*.json")):
        record = json.loads(path.read_text())
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in record["history"]]
        cost = {k: record["cost"][k] for k in ("parameters", "macs")}
        found[path.stem] = (record["metrics"], history, record["data"], cost)
    return found


def test_every_block_with_every_seed_all_else_equal(tmp_path: Path) -> None:
    grid = CompareConfig(blocks=["none", "se"], seeds=3, grid={"lr": [0.1, 0.05]})
    base = TrainConfig(seed=5, epochs=2)
    cells = cells_of(base, grid, tmp_path)
    assert len(cells) == len({c.config.name for c in cells}) == 2 * 3 * 2
    assert [c.config.seed for c in cells] == [5] * 4 + [6] * 4 + [7] * 4
    assert {c.label for c in cells} == {
        "none, lr=0.1", "none, lr=0.05", "se, lr=0.1", "se, lr=0.05"
    }  # fmt: skip
    for cell in cells:
        assert cell.config.attention == cell.varied["attention"]
        assert cell.config.lr == cell.varied["lr"]
        assert cell.config.epochs == 2


@pytest.mark.parametrize(
    ("model", "usual"), [("mobilenet_v2", "after_depthwise"), ("resnet18", "before_add")]
)
def test_all_blocks_at_one_position(model: str, usual: str) -> None:
    # BAM's own authors put it elsewhere in ResNets; in a comparison that would be unfair
    assert _at_one_position(TrainConfig(model=model)).at == usual
    assert _at_one_position(TrainConfig(model=model, at="after_add")).at == "after_add"


def test_a_block_with_a_position_keeps_it() -> None:
    own = TrainConfig(model="timm/test_resnet", attention="ca@after_conv2")
    assert _at_one_position(own) == own
    assert _at_one_position(replace(own, attention="se")).at == "before_add"


def test_hosts_and_positions_are_compared(tmp_path: Path, capsys: Any) -> None:
    """none, and a block named by --insert; the host's weights are a local file's."""
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "host.pth")
    line = [
        "compare", "--host", "timm/test_resnet", "--insert", "ca@after_conv2", "--seeds", "1",
        "--checkpoint", str(tmp_path / "host.pth"), "--epochs", "1", "--batch", "16",
        "--data_args", "{train_count: 32, test_count: 40, size: 32}", "--tensorboard", "false",
        "--project", str(tmp_path), "--name", "study",
    ]  # fmt: skip
    assert main(line) == 0, capsys.readouterr().err
    assert set(results(tmp_path)) == {"none-seed0", "ca_after_conv2-seed0"}
    with pytest.raises(SystemExit, match="2"):
        main([*line, "--blocks", "[none, ca]"])
    assert "--insert and --blocks both name the blocks" in capsys.readouterr().err


class Nobody:
    """Fails where a run is begun."""

    def tell(self, event: tuple[str, str, Any]) -> None:
        raise AssertionError(event)


SSD = {
    "task": "detection", "model": "ssdlite320", "backbone": "mobilenet_v2",
    "backbone_args": {"width_mult": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("network", [{}, SSD, {"model": "timm/test_resnet"}], ids=str)
@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("no block named 'nope'", {"blocks": ["none", "nope"]}),
        ("at='nowhere' matches nothing", {"blocks": ["none", "se@nowhere"]}),
        ("'reducton'", {"blocks": ["se"], "grid": {"attention_args": [{}, {"reducton": 8}]}}),
    ],
)
def test_every_block_is_checked_before_the_first_run(
    text: str, values: dict[str, Any], network: dict[str, Any], tmp_path: Path
) -> None:
    base = TrainConfig(project=str(tmp_path), name="study", **network)
    with pytest.raises(ArgumentError, match=text):
        compare(base, CompareConfig(**values), Nobody())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "held"), [("args.yaml", "a training run"), ("report.html", "files")]
)
def test_a_folder_of_something_else_is_not_written_to(file: str, held: str, tmp_path: Path) -> None:
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / file).touch()
    with pytest.raises(ArgumentError, match=rf"a1 holds {held} and no comparison.*--name"):
        compare(TrainConfig(project=str(tmp_path), name="a1"), CompareConfig(), Nobody())


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("did you mean 'lr'", {"grid": {"lrr": [1]}}),
        ("cannot vary 'seed'", {"grid": {"seed": [1]}}),
        ("list of values", {"grid": {"lr": 0.1}}),
        ("distinct names", {"blocks": ["ca", "ca"]}),
        ("seeds must be 1 or more", {"seeds": 0}),
    ],
)
def test_wrong_grids_are_named(text: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=text):
        CompareConfig(**arguments)


@pytest.mark.long
def test_killed_and_restarted_ends_in_the_same_table(tmp_path: Path, capsys: Any) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(command(whole)) == 0
    assert "winner" in capsys.readouterr().out
    assert (whole / "study" / "report.html").stat().st_size > 50_000

    process = subprocess.Popen(
        [sys.executable, "-m", "convattn", *command(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    runs = killed / "study" / "runs"
    deadline = time.monotonic() + 240
    while not list(runs.glob("*/summary.json")):  # one run is finished, others are not
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must not live on
    process.wait()
    finished = {p: p.stat().st_mtime_ns for p in runs.glob("*/summary.json")}
    assert main(command(killed)) == 0
    assert results(killed) == results(whole)
    assert len(results(whole)) == 4
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert not list(killed.rglob(".*.partial"))

    assert main(command(killed, "--lr", "0.2")) == 2
    assert "lr was 0.05, now 0.2" in capsys.readouterr().err


@pytest.mark.long
def test_a_failing_run_is_named_and_the_others_are_compared(tmp_path: Path, capsys: Any) -> None:
    line = command(tmp_path, "--seeds", "1", "--epochs", "1", "--grid", "{lr: [0.01, 1.0e+30]}")
    assert main(line) == 1
    printed = capsys.readouterr()
    assert "failed: none, lr=1e+30, seed 0: " in printed.err
    assert "none, lr=0.01" in printed.out
