"""Floors: an import points down, siblings do not import each other, `import convattn` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "convattn"

# docs/architecture.md: what each floor may import besides itself
DOWN = {
    "core": set(),
    "data": {"core"},
    "ops": {"core"},
    "blocks": {"core", "ops"},
    "insertion": {"core", "ops", "blocks"},
    "models": {"core", "ops", "blocks", "insertion"},
    "authors": {"core", "ops", "blocks", "insertion", "models"},
    "cost": {"core", "ops", "blocks", "insertion", "models"},
    "hub": {"core", "blocks", "insertion", "models"},
    "tables": {"core", "blocks", "models", "authors", "cost"},
    "explain": {"core", "ops", "blocks", "insertion", "models"},
    "doctor": {"core", "ops", "blocks", "insertion", "models", "authors"},
    "engine": {"core"},
    "tasks": {"core", "data", "blocks", "insertion", "models", "authors", "explain", "engine"},
    "compare": {
        "core", "data", "insertion", "cost", "explain", "engine", "tasks", "models", "blocks",
    },
    "cli": {
        "core", "data", "blocks", "models", "authors", "cost", "explain", "engine", "tasks",
        "compare", "doctor", "tables",
    },
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Floors that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
            if node.module == "convattn":
                names = [f"convattn.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("convattn.")}
    return found


@pytest.mark.parametrize("floor", sorted(DOWN))
def test_imports_point_down(floor: str) -> None:
    for path in sorted((SOURCE / floor).rglob("*.py")):
        upward = imported(path) - DOWN[floor] - {floor, "__version__"}
        assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)}"


def test_every_floor_is_known() -> None:
    floors = {p.name for p in SOURCE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert floors == set(DOWN)


def test_arrow_test_sees_an_upward_import(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(
        "def f():\n    from convattn.models import create_model\n    return create_model\n"
    )
    assert imported(planted) == {"models"}


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_and_a_block_need_torch_alone() -> None:
    loaded = loaded_after(
        "import convattn, torch\n"
        "convattn.create_block('ca', channels=8)(torch.zeros(1, 8, 4, 4))\n"
        "convattn.create_model('mobilenet_v2', attention='eca', width_mult=0.1)"
    )
    extras = {
        "jsonargparse", "rich", "yaml", "lightning", "torchvision", "matplotlib", "scipy",
        "sklearn", "PIL", "timm", "tensorboard", "huggingface_hub", "safetensors",
    }  # fmt: skip
    assert not loaded & extras


def test_help_imports_no_torch() -> None:
    loaded = loaded_after(
        "from convattn.cli.parser import parse\n"
        "parse(['train', '--attention', 'ca', '--attention_args.reduction', '16'])"
    )
    assert "torch" not in loaded


def test_importing_the_package_is_lazy() -> None:
    assert "torch" not in loaded_after("import convattn")
