"""The wheel, with nothing but PyTorch beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.long  # all of them: they share the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
        env={**os.environ, "CXXFLAGS": "-O0"},  # what is in it counts here, not how fast it is
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def needed_by(name: str, found: set[str]) -> set[str]:
    """A distribution and what it needs without extras, as far as it is installed."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return found
    if name not in found:
        found.add(name)
        for text in requirements:
            if "extra ==" not in text:
                match = re.match(r"[\w.-]+", text)
                assert match is not None
                needed_by(match[0].lower().replace("_", "-"), found)
    return found


def test_a_block_and_a_network_run_with_torch_alone(wheel: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in needed_by("torch", set()):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (bare / top).exists():
                source = Path(str(metadata.distribution(name).locate_file(top)))
                (bare / top).symlink_to(source)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(bare)
    code = (
        f"import sys; sys.path.insert(0, {str(bare)!r})\n"
        "import convattn, torch\n"
        "assert convattn.__file__.startswith(sys.path[0])\n"
        "for name in ('rich', 'yaml', 'jsonargparse', 'lightning', 'scipy', 'timm', 'sklearn'):\n"
        "    try: __import__(name)\n"
        "    except ModuleNotFoundError: continue\n"
        "    raise SystemExit(name + ' is here: the environment is not bare')\n"
        "for name in convattn.list_blocks():\n"
        "    convattn.create_block(name, 128)(torch.zeros(2, 128, 8, 8))\n"
        "net = convattn.create_model('mobilenet_v2', attention='ca', num_classes=3)\n"
        "print(tuple(net.eval()(torch.zeros(1, 3, 64, 64)).shape))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 3)"


def test_the_wheel_holds_what_the_command_line_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "convattn/py.typed" in names
    assert {"convattn/recipes/demo.yaml", "convattn/recipes/ca_imagenet.yaml"} <= names
    assert "convattn/compare/report.css" in names
    assert not [n for n in names if n.startswith("tests/")]
