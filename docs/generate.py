"""Write docs/blocks/: one page per block and their table, from the registry alone.

    python docs/generate.py            write the pages
    python docs/generate.py --check    compare them; 1 if one is missing, stale or out of date

A page says only what the block's file says (docstrings, signature, `info`) or what is computed
from the block (accepted texts, parameters, MACs, start as the identity, sources that build it).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convattn import authors, cost, create_block
from convattn.authors._source import Source
from convattn.blocks import block_class, block_names
from convattn.blocks._base import Block, ConvBlock
from convattn.core.errors import ArgumentError

FOLDER = Path(__file__).resolve().parent / "blocks"
CHANNELS = (64, 256)
SIDE = 14

FAMILIES = {
    "gate": ("Gate blocks", "`y = x * gate * gate ...`: the map is multiplied by what it holds."),
    "context": ("Context blocks", "`y = x + context(x)`: what was seen elsewhere is added."),
    "conv": ("Convolution replacements", "Stand in for a convolution; width and size may change."),
}

POSITIONS = {
    "after_add": "behind the sum with the shortcut",
    "after_depthwise": "behind the depthwise convolution, its norm and its activation",
    "before_add": "at the end of the residual branch, in front of the sum",
    "before_block": "in front of a residual block",
    "before_conv": "in front of a convolution",
    "before_norm": "between a convolution and its norm",
    "before_project": "in front of the 1x1 convolution that ends the branch",
    "between_pointwise": "between two 1x1 convolutions",
    "conv3x3": "in place of the 3x3 convolution",
    "head": "in the head of a segmentation network",
    "stage_end": "at the end of a stage",
}

_WHOSE = {
    "paper": r"\bpapers?\b|\b[Tt]exts\b",
    "authors": r"\b[Aa]uthors\b|\b[Tt]heir\b|\b[Tt]he code\b|\b\w+\.py\b",
    "others": r"timm|torchvision|mmcv|pytorch|Pytorch|moskomule|AlexHex7|leaderj1001|FeatherFace"
    r"|MiniFASNet|CA authors|ECA-Net's|\bport\b|\bcopies\b|in circulation",
}


def pages() -> dict[str, str]:
    """File name -> text of all pages."""
    return {"index.md": index()} | {f"{name}.md": page(name) for name in block_names()}


def page(name: str) -> str:
    """The page of one block."""
    block = block_class(name)
    parts = [
        f"# {block.info.title}: `{name}`",
        _NOTE,
        _prose(block.info.summary),
        _facts(name, block),
        "## Equations",
        _equations(block),
        "## Arguments",
        _arguments(name, block),
        "## Shape",
        _prose(_sections(block).get("Shape", "")),
        "## Cost",
        _prose(_sections(block).get("Cost", "None.")),
        _costs(name),
        "## Paper, authors, others",
        _deviations(block),
        "## Copies that are wrong",
        _wrong_copies(block),
        "## Authors' classes that load",
        _sources(block),
        "## Example",
        _example(name, block),
        "[All blocks](index.md)",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def index() -> str:
    """The table of all blocks."""
    parts = [
        "# Blocks",
        _NOTE,
        f"{len(block_names())} blocks, each a page. Parameters, MACs (multiply-accumulates of "
        "convolutions, linear layers and matrix products) and whether a block can start as the "
        f"identity are those of the default arguments, at {CHANNELS[1]} channels on a "
        f"{SIDE}x{SIDE} map.",
    ]
    for family, (title, idea) in FAMILIES.items():
        rows = []
        for name in block_names():
            block = block_class(name)
            if block.family != family:
                continue
            info, made = block.info, create_block(name, _example_channels(name))
            rows.append(
                (
                    f"[`{name}`]({name}.md)",
                    info.title,
                    info.year or "",
                    *_counts(name, CHANNELS[1], {}),
                    "yes" if made.can_start_as_identity() else "no",
                    _codes(info.positions),
                )
            )
        head = ("name", "block", "year", "parameters", "MACs", "can start as identity", "positions")
        parts += [f"## {title}", idea, _table(head, rows, numbers=(2, 3, 4))]
    words = [(f"`{word}`", meaning) for word, meaning in POSITIONS.items()]
    parts += [
        "## Positions",
        "Where the authors put a block in a building block of their network.",
        _table(("word", "place"), words),
        "[Home](../index.md)",
    ]
    return "\n\n".join(parts) + "\n"


_NOTE = "<!-- Written by docs/generate.py; do not edit. -->"


# ------------------------------------------------------------------------------- parts of a page


def _facts(name: str, block: type[Block]) -> str:
    info = block.info
    rows: list[tuple[str, str]] = []
    if info.paper:
        rows.append(("paper", _prose(info.paper)))
    if info.arxiv:
        rows.append(("arXiv", f"[{info.arxiv}](https://arxiv.org/abs/{info.arxiv})"))
    if info.year:
        rows.append(("year", str(info.year)))
    if info.repository:
        link = f"[{info.repository}](https://github.com/{info.repository})"
        rows.append(("authors' code", f"{link}; {info.licence}" if info.licence else link))
    elif info.paper:
        rows.append(("authors' code", "none found"))
    rows.append(("family", FAMILIES[block.family][1]))
    source = f"[`src/convattn/blocks/{name}.py`](../../src/convattn/blocks/{name}.py)"
    rows.append(("class", f"`{block.__name__}` in {source}"))
    if info.aliases:
        rows.append(("other names", _codes(info.aliases)))
    if info.positions:
        places = (f"`{p}`, {POSITIONS[p]}" if p in POSITIONS else f"`{p}`" for p in info.positions)
        rows.append(("positions used by its authors", "; ".join(places)))
    rows.append(("fewest channels", f"{info.min_channels} with default arguments"))
    axes = f"2. {_prose(info.two_axes)}" if info.two_axes else "1, 2 or 3 (`ndim`)"
    rows.append(("axes of the map", axes))
    rows.append(("can start as the identity", _identity(name, block)))
    return _table(("", ""), rows)


def _identity(name: str, block: type[Block]) -> str:
    made = create_block(name, _example_channels(name))
    try:
        made.start_as_identity()
    except ArgumentError:
        return f"no. {_prose(block.no_identity)}"
    return (
        f"yes, but not in every form. {_prose(block.no_identity)}" if block.no_identity else "yes"
    )


def _equations(block: type[Block]) -> str:
    """The docstring of the file without its first line; what is indented there is a formula."""
    document = inspect.cleandoc(sys.modules[block.__module__].__doc__ or "")
    _, _, rest = document.partition("\n\n")
    parts: list[tuple[bool, list[str]]] = []
    for line in rest.splitlines():
        indented = line.startswith("    ")
        if not line:
            if parts:
                parts[-1][1].append("")
        elif parts and parts[-1][0] == indented and (indented or parts[-1][1][-1]):
            parts[-1][1].append(line)
        else:
            parts.append((indented, [line]))
    texts = []
    for indented, lines in parts:
        text = "\n".join(lines).strip("\n")
        texts.append(f"```text\n{textwrap.dedent(text)}\n```" if indented else _prose(text))
    return "\n\n".join(texts) or "`y = x`"


def _arguments(name: str, block: type[Block]) -> str:
    """From the signature, the docstring, and the error that a wrong text raises."""
    meanings = _items(_sections(block)["Args"])
    rows = []
    for each in inspect.signature(block).parameters.values():
        default = "" if each.default is each.empty else f"`{each.default!r}`"
        rows.append(
            (
                f"`{each.name}`",
                f"`{each.annotation}`",
                default,
                _prose(meanings.get(each.name, "")),
                _codes(map(repr, choices(name, each))),
            )
        )
    return _table(("argument", "type", "default", "meaning", "accepted"), rows)


def choices(name: str, argument: inspect.Parameter) -> list[str]:
    """The texts that an argument accepts."""
    kind = str(argument.annotation)
    if "str" not in kind or "tuple" in kind:
        return []
    try:
        create_block(name, _example_channels(name), **{argument.name: "?"})
    except ArgumentError as error:
        _, found, accepted = str(error).partition("must be one of")
        return re.findall(r"'(\w+)'", accepted.partition("; got")[0]) if found else []
    return []


def _costs(name: str) -> str:
    """Parameters and MACs of the default and of each `variant` and `mode`, as `convattn.cost`."""
    arguments = inspect.signature(block_class(name)).parameters
    forms: list[dict[str, Any]] = [{}]
    for each in ("variant", "mode"):
        if each in arguments:
            default = arguments[each].default
            forms += [{each: c} for c in choices(name, arguments[each]) if c != default]
    rows, refusals = [], {}
    for form in forms:
        label = ", ".join(f"`{key}={value!r}`" for key, value in form.items()) or "default"
        given = form if _builds(name, form) else {**form, "size": (SIDE, SIDE)}
        if given is not form:
            label += f", `size=({SIDE}, {SIDE})`"
        numbers: list[Any] = []
        for channels in CHANNELS:
            numbers += _counts(name, channels, given)
            if numbers[-1] == "refused":
                refusals[channels] = _refusal(name, channels, given)
        rows.append((label, *numbers))
    head = ["form"]
    for channels in CHANNELS:
        head += [f"parameters, C = {channels}", f"MACs, C = {channels}"]
    text = [
        f"Counted by `convattn.cost` for one {SIDE}x{SIDE} map in the convention conv+linear: "
        "multiply-accumulates of convolutions, linear layers and matrix products.",
        _table(head, rows, numbers=range(1, len(head))),
        *(f"C = {channels} is refused: {_prose(why)}" for channels, why in refusals.items()),
    ]
    return "\n\n".join(text)


def _counts(name: str, channels: int, arguments: dict[str, Any]) -> tuple[str, str]:
    try:
        block = create_block(name, channels, **arguments)
    except ArgumentError:
        return "refused", "refused"
    counted = cost(block, (1, channels, SIDE, SIDE))
    return f"{counted.parameters:,}", f"{counted.macs:,}"


def _refusal(name: str, channels: int, arguments: dict[str, Any]) -> str:
    try:
        create_block(name, channels, **arguments)
    except ArgumentError as error:
        return str(error)
    return ""


def _builds(name: str, arguments: dict[str, Any]) -> bool:
    return not _refusal(name, _example_channels(name), arguments)


def _deviations(block: type[Block]) -> str:
    rows = []
    for text in block.info.deviations:
        if _wrong(text) is None:
            whose = [who for who, words in _WHOSE.items() if re.search(words, text)]
            rows.append((", ".join(whose) or "this block", _prose(text)))
    rows.sort(key=lambda row: [who in row[0].split(", ") for who in _WHOSE], reverse=True)
    return _table(("whose", "difference"), rows) if rows else "No difference is known."


def _wrong(text: str) -> re.Match[str] | None:
    return re.fullmatch(r"Wrong in (?P<where>.+?): (?P<what>.+)", text, re.DOTALL)


def _wrong_copies(block: type[Block]) -> str:
    found = [match for match in map(_wrong, block.info.deviations) if match]
    lines = [f"- {re.sub('^the ', 'The ', m['where'])}: {_prose(m['what'])}" for m in found]
    return "\n".join(lines) or "None was verified."


def _sources(block: type[Block]) -> str:
    rows = []
    for name in authors.list_sources():
        source = authors._sources()[name]
        built, inside = _built_by(source)
        if block in inside:
            what = "block" if built is block else "network" if built is nn.Module else "layer"
            rows.append((f"`{name}`", what, f"`{_authors_signature(source)}`"))
    if not rows:
        return "None."
    text = (
        "`convattn.authors.create(source, ...)` builds the block, or what holds it, from the "
        "authors' constructor arguments; `convattn.load_authors(module, state_dict, "
        "source=source)` loads a state dict under their keys, and `convattn.authors.to_authors` "
        "is the way back."
    )
    return f"{text}\n\n{_table(('source', 'is', 'arguments'), rows)}"


@functools.cache
def _built_by(source: Source) -> tuple[type, frozenset[type]]:
    """Class of what a source says that it builds, and the classes of the blocks in it."""
    build = source.build
    plain: Callable[..., Any] = build.func if isinstance(build, functools.partial) else build
    made: type = plain if isinstance(plain, type) else typing.get_type_hints(plain)["return"]
    if issubclass(made, Block):
        return made, frozenset([made])
    if source.blocks:
        return made, frozenset[type]().union(*(_built_by(each.block)[1] for each in source.blocks))
    arguments = inspect.signature(build).parameters.values()
    if made is nn.Module:  # a network; one that takes the block's name shows which it means
        named = {each.default for each in arguments} & set(block_names())
        return made, frozenset(block_class(name) for name in named)
    # a layer that holds blocks; what it needs are widths
    needed = {each.name: CHANNELS[0] for each in arguments if each.default is each.empty}
    with torch.device("meta"), contextlib.suppress(ArgumentError):
        modules = build(**needed).modules()
        return made, frozenset(type(module) for module in modules if isinstance(module, Block))
    return made, frozenset()


def _authors_signature(source: Source) -> str:
    shown = []
    for each in inspect.signature(source.build).parameters.values():
        default = getattr(each.default, "__name__", repr(each.default))
        shown.append(each.name if each.default is each.empty else f"{each.name}={default}")
    return ", ".join(shown)


def _example(name: str, block: type[Block]) -> str:
    channels = _example_channels(name)
    lines = ["import torch", "", "from convattn import create_block", ""]
    lines += [f'block = create_block("{name}", channels={channels})']
    lines += [f"x = torch.randn(2, {channels}, {SIDE}, {SIDE})"]
    if issubclass(block, ConvBlock):
        lines[-2] = lines[-2][:-1] + f", out_channels={2 * channels}, stride=2)"
        lines += [f"assert block(x).shape == (2, {2 * channels}, {SIDE // 2}, {SIDE // 2})"]
    else:
        lines += ["assert block(x).shape == x.shape"]
    if create_block(name, channels).can_start_as_identity():
        lines += ["", "block.start_as_identity()", "assert torch.equal(block.eval()(x), x)"]
    return "\n".join(["```python", *lines, "```"])


def _example_channels(name: str) -> int:
    for channels in (*CHANNELS[:1], 128, *CHANNELS[1:]):
        try:
            create_block(name, channels)
        except ArgumentError:
            continue
        return channels
    raise LookupError(f"{name} accepts none of 64, 128 and 256 channels")


# ------------------------------------------------------------------------------------- Markdown


def _sections(block: type[Block]) -> dict[str, str]:
    """The sections of a class's docstring by their headings."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in inspect.cleandoc(block.__doc__ or "").splitlines():
        if re.fullmatch(r"[A-Z]\w+:", line):
            heading = line[:-1]
        else:
            found.setdefault(heading, []).append(line)
    return {key: textwrap.dedent("\n".join(lines)).strip() for key, lines in found.items()}


def _items(text: str) -> dict[str, str]:
    """The entries "name: meaning" of a section, with indented lines continued."""
    entries = re.split(r"\n(?=\S)", text)
    pairs = (re.sub(r"\s+", " ", entry).partition(": ") for entry in entries)
    return {name: meaning for name, _, meaning in pairs}


def _prose(text: str) -> str:
    """One line, with nothing outside of code that Markdown would take for its own."""
    parts = re.split(r"(`[^`]*`)", re.sub(r"\s+", " ", text).strip())
    parts[::2] = (re.sub(r"([<*])", r"\\\1", part) for part in parts[::2])
    return "".join(parts)


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]], numbers: Iterable[int] = ()) -> str:
    right = set(numbers)

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"

    head = list(head)
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    return "\n".join([line(head), line(rule), *map(line, rows)])


# ----------------------------------------------------------------------------------- command line


def problems(folder: Path = FOLDER) -> list[str]:
    """What is out of date in a folder, a line each."""
    wanted = pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    lines = [f"{name}: no such block" for name in sorted(found.keys() - wanted.keys())]
    for name, text in wanted.items():
        if name not in found:
            lines.append(f"{name}: missing")
        elif found[name] != text:
            lines.append(f"{name}: out of date")
    return lines


def write(folder: Path = FOLDER) -> None:
    """Write all pages, and remove those of blocks that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the pages of docs/blocks.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        write()
        return 0
    found = problems()
    for line in found:
        print(f"docs/blocks/{line}")
    if found:
        print("Write them anew: python docs/generate.py")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
