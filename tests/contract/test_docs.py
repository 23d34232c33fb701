"""The pages are true: generated ones are up to date, examples run, commands parse, links lead."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import convattn
from convattn.blocks import block_names

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = script(DOCS / "generate.py")
build = script(DOCS / "build.py")
arrows = script(Path(__file__).parent / "test_arrows.py")
PAGES: list[Path] = build.sources()


def fences(page: Path, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table(page: Path, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is `first`."""
    _, found, rest = (ROOT / page).read_text(encoding="utf-8").partition(f"\n| {first} |")
    assert found, f"{page} has no table of {first}"
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# ---------------------------------------------------------------------------------- pages of blocks


def test_pages_of_blocks_are_up_to_date() -> None:
    assert not generate.problems(), "run: python docs/generate.py"


def test_a_stale_a_missing_and_a_changed_page_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "pages", lambda: {"a.md": "a\n", "b.md": "b\n"})
    (tmp_path / "b.md").write_text("changed")
    (tmp_path / "c.md").write_text("c")
    assert generate.problems(tmp_path) == [
        "c.md: no such block", "a.md: missing", "b.md: out of date",
    ]  # fmt: skip
    generate.write(tmp_path)
    assert not generate.problems(tmp_path)


@pytest.mark.parametrize("name", block_names())
def test_page_says_everything(name: str) -> None:
    """What the issue asks for is there, and the numbers are those of the block."""
    text = (DOCS / "blocks" / f"{name}.md").read_text(encoding="utf-8")
    info = convattn.block_info(name)
    for fact in (info.title, info.arxiv, str(info.year or ""), info.repository, *info.positions):
        assert fact in text
    channels = max(64, info.min_channels)
    block = convattn.create_block(name, channels)
    parameters = sum(p.numel() for p in block.parameters())
    if channels == 64:
        assert f"| default | {parameters:,} |" in text
    says_yes = "| can start as the identity | yes" in text
    assert says_yes == block.can_start_as_identity()
    for sentence in info.deviations:
        words = re.findall(r"\w+", sentence.partition(": ")[2] or sentence)
        assert " ".join(words) in " ".join(re.findall(r"\w+", text)), sentence


# ------------------------------------------------------------------------------------- all pages


HOW_TO = [page for page in PAGES if page.parent == Path("docs/how-to") and fences(page, "python")]
NEEDS = {"unet.md": "segmentation_models_pytorch", "yolo.md": "ultralytics"}


def python_examples() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if (page.parts[0] == "docs" or page.name == "README.md") and page not in HOW_TO:
            for number, code in enumerate(fences(page, "python"), 1):
                yield f"{page}:{number}", code


EXAMPLES = dict(python_examples())


@pytest.mark.parametrize("where", EXAMPLES, ids=str)
def test_example_runs(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[where], where, "exec"), {"__name__": "__main__"})


def steps(page: Path) -> list[tuple[str, str]]:
    """The Python fences of a page, each with the text fence that follows at once, or ""."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = r"^```python\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?"
    return re.findall(pattern, text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", HOW_TO, ids=str)
def test_how_to_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fences of a page are one program and print what stands under them.

    `NAME.pth`, the reader's file, is there with random weights of torchvision's model.
    """
    torchvision = pytest.importorskip("torchvision")
    needed = NEEDS.get(page.name, "torch")
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    monkeypatch.chdir(tmp_path)
    for name in set(re.findall(r'load\("(\w+)\.pth"', (ROOT / page).read_text())):
        torch.save(torchvision.models.get_model(name).state_dict(), f"{name}.pth")
    program = "\nprint('\\0', end='')\n".join(code for code, _ in steps(page))
    printed = io.StringIO()
    if needed == "ultralytics":  # it changes seeds, algorithms and environment of its process
        printed.write(in_a_process(program))
    else:
        with contextlib.redirect_stdout(printed):
            exec(compile(program, str(page), "exec"), {"__name__": "__main__"})
    for (_, told), found in zip(steps(page), printed.getvalue().split("\0"), strict=True):
        assert not told or plain_lines(found) == plain_lines(told)


def in_a_process(program: str) -> str:
    environment = {**os.environ, "YOLO_CONFIG_DIR": os.getcwd(), "YOLO_OFFLINE": "true"}
    command = [sys.executable, "-W", "error", "-"]
    run = subprocess.run(command, input=program, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def plain_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for block in fences(page, "sh") + fences(page, "text"):
            for line in block.splitlines():
                found = re.match(r"(?:torchrun .* -m )?convattn (?!VERB)(.+)", line)
                if found:
                    words = shlex.split(re.sub(r"\s{3,}.*", "", found[1]), comments=True)
                    yield f"{page}: {' '.join(words)}", words


COMMANDS = dict(commands())


@pytest.mark.parametrize("where", COMMANDS, ids=str)
def test_command_is_accepted(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser takes every command of the pages; `my.yaml` is the page's own example."""
    from convattn.cli.parser import compare_config, parse, train_config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    page = Path(where.partition(":")[0])
    for text in fences(page, "yaml"):
        (tmp_path / "my.yaml").write_text(text)
    if "--help" in COMMANDS[where]:
        with pytest.raises(SystemExit, match="0"):
            parse(COMMANDS[where])
        return
    verb, options = parse(COMMANDS[where])
    if verb in ("train", "compare", "demo"):
        train_config(options)
    if verb in ("compare", "demo"):
        compare_config(options)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for written, path, fragment in build.links(page):
        assert (ROOT / path).exists(), f"{page}: {written}"
        if fragment:
            assert fragment in build.anchors(path), f"{page}: {written}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [Path("README.md")]
    while waiting:
        page = waiting.pop()
        if page not in reached and page in PAGES:
            reached.add(page)
            waiting += [path for _, path, _ in build.links(page)]
    assert reached == set(PAGES)


def test_site_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    build.build(tmp_path)
    for page in PAGES:
        path = tmp_path / page.with_suffix(".html")
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|iframe)\b|src=\"\w+:", text)
        for target in re.findall(r'(?:href|src)="([^"#]+)', text):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert Path(os.path.normpath(path.parent / target)).is_file(), f"{page}: {target}"
                assert not target.endswith(".md")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_emphasis_by_accident(page: Path) -> None:
    """A star or underscore of a formula must not turn into markup."""
    assert "<em>" not in build.render(page)


# -------------------------------------------------------------------------- tables of single pages


def test_measured_tables_are_those_of_the_results() -> None:
    page = (DOCS / "operators.md").read_text()
    tables = script(ROOT / "benchmarks" / "tables.py")
    assert tables.fill(page, ROOT / "benchmarks" / "results") == page, "python -m benchmarks docs"
    assert page.count("<!-- end -->") == 6


def test_architecture_has_the_floors_of_the_code() -> None:
    rows = table(Path("docs/architecture.md"), "floor")
    told = {codes(floor)[0]: set(codes(allowed)) for floor, _, allowed in rows}
    assert told == arrows.DOWN, "docs/architecture.md and test_arrows.py differ"
    names = [codes(row[0])[0] for row in rows]
    for position, name in enumerate(names):
        assert told[name] <= set(names[position + 1 :]), f"{name} imports a floor above it"


def test_architecture_has_the_public_face() -> None:
    page = Path("docs/architecture.md")
    names = [name for row in table(page, "name") for name in codes(row[0])]
    assert sorted(names) == sorted(convattn.__all__)
    from convattn.cli.run import _VERBS

    verbs = [name for row in table(page, "verb") for name in codes(row[0])]
    assert sorted(verbs) == sorted(f"convattn {verb}" for verb in _VERBS)


def test_architecture_has_the_families() -> None:
    from convattn.blocks import _base

    for base, _, method in table(Path("docs/architecture.md"), "base"):
        family = getattr(_base, codes(base)[0])
        assert hasattr(family, codes(method)[0].partition("(")[0])
    families = {c.__name__ for c in vars(_base).values() if hasattr(c, "family")} - {"Block"}
    assert families == {codes(row[0])[0] for row in table(Path("docs/architecture.md"), "base")}


def test_files_named_in_the_architecture_exist() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = [name for name in codes(text) if re.fullmatch(r"\w+/\w+\.py", name)]
    assert len(named) > 10
    for name in named:
        assert (ROOT / "src" / "convattn" / name).is_file() or (ROOT / name).is_file(), name


def test_index_has_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = [codes(row[0])[0] for row in table(Path("docs/index.md"), "extra")]
    assert sorted(told) == sorted(project["optional-dependencies"])


def test_run_folder_is_as_told(tmp_path: Path) -> None:
    from convattn.core.config import TrainConfig
    from convattn.engine.reporters import SilentReporter
    from convattn.engine.run import RunFolder
    from convattn.tasks.train import train

    config = TrainConfig(
        model_args={"width_mult": 0.1},
        data_args={"train_count": 30, "test_count": 10, "size": 24},
        epochs=1,
        device="cpu",
        project=str(tmp_path),
    )
    run = RunFolder.new(config)
    train(config, run, SilentReporter())
    told = [name for row in table(Path("docs/how-to/train.md"), "file") for name in codes(row[0])]
    for name in told:
        assert (run.path / name).exists(), name
    left = {path.name for path in run.path.iterdir() if path.name[0] != "."}
    assert left == {name.partition("/")[0] for name in told}


def test_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(convattn.__version__)}\]", text, re.MULTILINE)
