"""The worked example of CONTRIBUTING.md: one file more, nothing else edited, everything finds it.

The file is put into a folder of its own that is searched behind `convattn/blocks`, as if it were
there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import convattn
from convattn import blocks, models
from convattn.blocks import block_names
from convattn.cost import cost

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAME = "contrast"
OVERLAY = "import convattn.blocks\nconvattn.blocks.__path__.append({!r})\n"


def example() -> str:
    found = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that `convattn.blocks` looks into, with the example as its one file."""
    assert f"`src/convattn/blocks/{NAME}.py`" in TEXT
    assert NAME not in block_names()
    added = tmp_path / "blocks"
    added.mkdir()
    (added / f"{NAME}.py").write_text(example(), encoding="utf-8")
    monkeypatch.setattr(blocks, "__path__", [*blocks.__path__, str(added)])
    yield added
    sys.modules.pop(f"convattn.blocks.{NAME}", None)
    vars(blocks).pop(NAME, None)


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTEST_ADDOPTS": ""}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_test_of_the_matrix_holds_for_the_example(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, where the folder is searched before the tests are collected."""
    (tmp_path / "overlay.py").write_text(OVERLAY.format(str(folder)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    matrix = "tests/matrix/test_block_matrix.py"
    out = run(
        "-m", "pytest", matrix, "-k", NAME, "-q", "-p", "overlay", "-p", "no:xdist", PYTHONPATH=path
    )  # fmt: skip
    counted = re.search(r"^(\d+) passed, \d+ deselected in", out, re.MULTILINE)
    assert counted, out  # none failed, none was skipped
    told = re.search(r"about (\d+) tests", TEXT)
    assert told
    assert abs(int(counted[1]) - int(told[1])) <= 15
    assert [path.name for path in folder.iterdir() if path.is_file()] == [f"{NAME}.py"]


def test_everything_finds_the_example(folder: Path) -> None:
    assert NAME in block_names()
    assert convattn.list_blocks(family="gate")[NAME] == convattn.block_info(NAME).summary
    block = convattn.create_block("contrast-gate", channels=8)
    assert type(block).__name__ == "Contrast"
    assert cost(block, (1, 8, 6, 5)).parameters == 2 * 8
    x = torch.randn(2, 8, 6, 5)
    gate = torch.sigmoid(x.amax((2, 3)) - x.mean((2, 3)))[:, :, None, None]
    torch.testing.assert_close(block(x), x * gate)

    small = {"width_mult": 0.1, "num_classes": 3}
    plain = models.create_model("mobilenet_v2", **small)
    net = models.create_model("mobilenet_v2", attention=NAME, attention_init="identity", **small)
    assert cost(net).parameters > cost(plain).parameters
    assert len(convattn.gate_maps(net, torch.randn(1, 3, 32, 32))) == 16


def test_the_page_of_the_example_is_written(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = generate.page(NAME)
    assert page.startswith("# Contrast gate: `contrast`\n")
    assert "g = sigmoid(w c + b)" in page
    assert "| default | 128 | 0 | 512 | 0 |" in page
    assert "| can start as the identity | yes |" in page
    assert f"[`{NAME}`]({NAME}.md)" in generate.index()


def test_the_command_line_lists_the_example(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "overlay.py").write_text(OVERLAY.format(str(folder)))
    code = "import overlay; from convattn.cli import main; raise SystemExit(main(['list']))"
    out = run("-c", code, PYTHONPATH=str(tmp_path))
    assert re.search(rf"^\s*{NAME}\s+gate", out, re.MULTILINE)


def test_the_example_keeps_the_style(folder: Path) -> None:
    pytest.importorskip("ruff")
    for command in (("check",), ("format", "--check")):
        run("-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(folder))


def test_the_commands_are_those_of_the_readme_and_ci() -> None:
    """The setup names the tests' command of the README, and .ci/run runs what is said of it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install -q --target .tools uv", "uv run --extra dev pytest -n 2"):
        assert command in TEXT
        assert command in readme
    for tool in ("ruff check .", "ruff format --check .", "mypy"):
        assert tool in TEXT
        assert tool in ci
