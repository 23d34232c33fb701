"""Training recipes, the papers' and those for the digit scenes: files of the package, by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

__all__ = ["described", "recipe_path", "recipes", "with_recipes"]


def recipes() -> tuple[str, ...]:
    """Names of all recipes, sorted."""
    folder = resources.files("convattn") / "recipes"
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


def recipe_path(name: str) -> Path:
    """The file of a recipe."""
    return Path(str(resources.files("convattn") / "recipes" / f"{name}.yaml"))


def described() -> list[tuple[str, str]]:
    """Each recipe with the first line of its file, which says what it is."""
    return [(n, recipe_path(n).read_text("utf-8").split("\n")[0].lstrip("# ")) for n in recipes()]


def with_recipes(arguments: Sequence[str]) -> list[str]:
    """A command line whose `--config NAME` or `recipes/NAME.yaml` is the path of that recipe.

    A file of the user's goes first.
    """
    found = list(arguments)
    for i, word in enumerate(found):
        if word == "--config" and i + 1 < len(found):
            found[i + 1] = _resolved(found[i + 1])
        elif word.startswith("--config="):
            found[i] = f"--config={_resolved(word.removeprefix('--config='))}"
    return found


def _resolved(value: str) -> str:
    name = value.removeprefix("recipes/").removesuffix(".yaml")
    return str(recipe_path(name)) if not Path(value).exists() and name in recipes() else value
