"""What the command line accepts. Imports no torch, so that help and errors come at once."""

from __future__ import annotations

import dataclasses
import difflib
import re
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, Literal, NoReturn

import jsonargparse

from convattn.cli import texts
from convattn.cli.recipes import recipe_path, recipes, with_recipes
from convattn.core.config import CompareConfig, TrainConfig
from convattn.core.names import suggest

__all__ = ["parse"]

# a test compares them with convattn.cost, which imports torch
CONVENTIONS = ("conv+linear", "all-ops", "thop-2019-07", "thop-2019-08", "ptflops", "fvcore")
# a test compares them with convattn.tables, which imports torch
STATUSES = ("reproduced", "explained", "size only", "differs", "not built", "scores only")
CONFIG = "YAML file with any of these options, or the name of a recipe"
# other names of options, those of insertion into other people's networks
SPELLINGS = {"model": ("--host",), "model_args": ("--host_args",), "attention": ("--insert",)}


class _Help(jsonargparse.DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Defaults of options, and examples as they are written."""


class _Parser(jsonargparse.ArgumentParser):
    """Names the nearest option where one is misspelt."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        if "does not exist" in message and 'key "config"' in message:
            name = Path(message.rpartition(": ")[2].strip("'")).stem
            message += f"\n  It is no recipe either; {suggest(name, recipes())}"
        known = [o for action in parser._actions for o in action.option_strings]
        for word in re.findall(r"--?\w[\w.-]*", message):
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
            if near and word not in known and "unrecognized" in message:
                message += f"\n  {word}: did you mean {near[0]}?"
        super().error(message, ex)
        raise SystemExit(2)  # error() has left already; this tells the type checker so


def parse(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The verb and its options as plain values; exits with 2 on a wrong line, 0 after help."""
    arguments = with_recipes(arguments)
    parser = _new("", "Attention blocks for convolutional networks.", "")
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subcommands(required=True, dest="verb")
    recipe = str(recipe_path("demo"))
    for verb, made, text in (
        (
            "demo",
            _compare("demo", "The main job in four minutes.", texts.DEMO, recipe),
            "the main job",
        ),
        ("train", _train(), "train a network"),
        ("eval", _eval(), "evaluate a trained network"),
        ("explain", _explain(), "show what a trained network's attention lets through"),
        ("compare", _compare("compare", "Compare blocks fairly.", texts.COMPARE), "compare blocks"),
        ("cost", _cost(), "count parameters and multiply-accumulates"),
        ("tables", _tables(), "papers' tables beside what is recomputed"),
        ("doctor", _doctor(), "examine a network: gates, gradients, sizes, export"),
        ("audit", _audit(), "compare somebody's block with its authors' definition"),
        ("data", data := _new("data", "Look after data.", ""), "check data, write shards"),
        ("list", _list(), "list blocks, networks, authors' sources, recipes"),
    ):
        verbs.add_subcommand(verb, made, help=text)
    _add_data_verbs(data)  # jsonargparse wants the upper level first
    arguments = _bracketed(arguments)
    found = parser.parse_args(arguments).as_dict()
    verb = found["verb"]
    options = {k: v for k, v in found[verb].items() if k != "config"}
    if "blocks" in options:
        named = {word.partition("=")[0] for word in arguments}
        if named & {"--attention", "--insert"}:  # short for a comparison with none
            if "--blocks" in named:
                parser.error("--insert and --blocks both name the blocks to compare; keep one")
            options["blocks"] = list(dict.fromkeys(["none", options["attention"]]))
        options["attention"] = "none"  # of each run by its block
    if options.get("resume"):  # which are of the run, and which were given anew?
        options["given"] = list(parser.parse_args(arguments, defaults=False).as_dict()[verb])
    return verb, options


def _bracketed(arguments: list[str]) -> list[str]:
    """`--blocks none,se,ca` as the list `[none,se,ca]`, which jsonargparse wants."""
    words = list(arguments)
    for i, word in enumerate(words):
        name, sign, value = word.partition("=")
        if word == "--blocks" and i + 1 < len(words) and words[i + 1][:1] not in ("[", "-"):
            words[i + 1] = f"[{words[i + 1]}]"
        elif name == "--blocks" and sign and not value.startswith("["):
            words[i] = f"{name}=[{value}]"
    return words


def train_config(options: dict[str, Any]) -> TrainConfig:
    """The fields of `TrainConfig` among the options."""
    return TrainConfig(**_fields(TrainConfig, options))


def compare_config(options: dict[str, Any]) -> CompareConfig:
    """The fields of `CompareConfig` among the options."""
    return CompareConfig(**_fields(CompareConfig, options))


def _fields(config: type, options: dict[str, Any]) -> dict[str, Any]:
    return {f.name: options[f.name] for f in dataclasses.fields(config)}


def _new(
    verb: str, description: str, epilog: str, defaults: str | None = None
) -> jsonargparse.ArgumentParser:
    return _Parser(
        prog=f"convattn {verb}".strip(),
        usage=f"convattn {verb} [options]" if verb else None,  # not a page before each error
        description=description,
        epilog=epilog,
        formatter_class=_Help,
        allow_abbrev=False,
        default_config_files=[defaults] if defaults else [],
    )


def _list() -> jsonargparse.ArgumentParser:
    parser = _new("list", "List what there is.", texts.LIST)
    what = Literal["blocks", "models", "hosts", "sources", "recipes"]
    parser.add_argument("what", type=what, nargs="?", default="blocks", help="what to list")
    return parser


def _train() -> jsonargparse.ArgumentParser:
    parser = _new("train", "Train a network.", texts.TRAIN)
    parser.add_argument("--config", action="config", help=CONFIG)
    parser.add_argument("--resume", type=str | None, default=None, help="folder of a run to go on")
    _add_run(parser)
    return parser


def _add_run(parser: jsonargparse.ArgumentParser) -> None:
    """The fields of a run; those of the network also under the names that insertion gives them."""
    parser.add_class_arguments(TrainConfig)
    for action in parser._actions:
        for alias in SPELLINGS.get(action.dest, ()):
            action.option_strings.append(alias)
            parser._option_string_actions[alias] = action


def _add_network(parser: jsonargparse.ArgumentParser, what: str, **model: Any) -> None:
    """What `cost` and `doctor` take: a network by name, with blocks."""
    parser.add_argument("model", help=what, **({"type": str} | model))
    for name, kind, default, text in (
        ("model_args", dict[str, Any], {}, "its arguments"),
        ("attention", str, "none", "block in it, as ca, ca@POSITION, or several of these"),
        ("attention_args", dict[str, Any], {}, "the block's arguments"),
        ("at", str | None, None, "position of the block"),
    ):
        names = (f"--{name}", *SPELLINGS.get(name, ()))
        parser.add_argument(*names, type=kind, default=default, help=text)


def _eval() -> jsonargparse.ArgumentParser:
    parser = _new(
        "eval", "Evaluate a trained network, rebuilt from its weights file alone.", texts.EVAL
    )
    parser.add_argument("checkpoint", type=str, help="weights file of a run, or the run's folder")
    parser.add_argument("--data", type=str | None, default=None, help="other data than its own")
    parser.add_argument("--batch", type=int, default=64, help="images at once")
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to run"
    )
    return parser


def _compare(
    verb: str, description: str, epilog: str, recipe: str | None = None
) -> jsonargparse.ArgumentParser:
    parser = _new(verb, description, epilog, recipe)
    parser.add_argument("--config", action="config", help=CONFIG)
    parser.add_class_arguments(CompareConfig)
    _add_run(parser)
    return parser


def _explain() -> jsonargparse.ArgumentParser:
    parser = _new("explain", "Draw the gates of a trained network on test images.", texts.EXPLAIN)
    parser.add_argument("checkpoint", type=str, help="weights file of a run, or the run's folder")
    parser.add_argument("--out", type=str, default="gates.png", help="picture to write")
    parser.add_argument("--count", type=int, default=5, help="images, each of another class")
    parser.add_argument("--data", type=str | None, default=None, help="other data than its own")
    return parser


def _cost() -> jsonargparse.ArgumentParser:
    parser = _new("cost", "Count parameters and multiply-accumulates.", texts.COST)
    _add_network(parser, "network")
    parser.add_argument(
        "--input_size", type=list[int], default=[1, 3, 224, 224], help="batch, channels, H, W"
    )
    parser.add_argument(
        "--convention",
        type=Literal[CONVENTIONS],
        default="conv+linear",
        help="which operations count",
    )
    parser.add_argument("--per_layer", action="store_true", help="table of all layers")
    parser.add_argument("--per_block", action="store_true", help="table of all attention blocks")
    parser.add_argument("--measure", action="store_true", help="latency and peak memory too")
    parser.add_argument("--threads", type=int, default=1, help="for measuring on the CPU")
    parser.add_argument(
        "--device", type=Literal["cpu", "cuda"], default="cpu", help="where to measure"
    )
    return parser


def _tables() -> jsonargparse.ArgumentParser:
    parser = _new("tables", "Recompute the sizes in the papers' tables.", texts.TABLES)
    parser.add_argument("--paper", type=str | None, default=None, help="only of this paper")
    parser.add_argument(
        "--model", type=str | None, default=None, help="only networks with this part in the name"
    )
    parser.add_argument(
        "--status",
        type=Literal[STATUSES] | None,
        default=None,
        help="only rows that came out so",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with exact counts")
    return parser


def _doctor() -> jsonargparse.ArgumentParser:
    parser = _new("doctor", "Say what will hurt in a network, each with its fix.", texts.DOCTOR)
    _add_network(
        parser,
        "network, or the weights file or folder of a run; without it, what blocks run on here",
        type=str | None,
        nargs="?",
        default=None,
    )
    parser.add_argument(
        "--input_size",
        type=list[int],
        default=[2, 3, 224, 224],
        help="noise that it is run on: batch (2 or more), channels, H, W",
    )
    parser.add_argument(
        "--images", type=int, default=0, help="test images of the run, in place of the noise"
    )
    parser.add_argument("--data", type=str | None, default=None, help="other data than its own")
    return parser


def _audit() -> jsonargparse.ArgumentParser:
    parser = _new("audit", "Compare somebody's block with its authors' definition.", texts.AUDIT)
    parser.add_argument("target", type=str, help="FILE.py:Class")
    parser.add_argument("--as", type=str, default="ca", help="our block")
    parser.add_argument(
        "--arguments", type=dict[str, Any], default={}, help="of the class's constructor"
    )
    parser.add_argument("--attention_args", type=dict[str, Any], default={}, help="of our block")
    return parser


def _add_data_verbs(parser: jsonargparse.ArgumentParser) -> None:
    verbs = parser.add_subcommands(required=True, dest="what", help="what to do")
    check = _new("data check", "Find what is wrong with data before training.", texts.DATA_CHECK)
    check.add_argument("source", type=str, help="folder, or 'scenes'")
    _add_reading(
        check,
        "read it for this task; default: for every task that it serves",
        "whether defects would stop a training or be left out of it",
    )
    verbs.add_subcommand("check", check, help="find what is wrong")
    shard = _new("data shard", "Write data as WebDataset's tar files.", texts.DATA_SHARD)
    shard.add_argument("source", type=str, help="folder, or 'scenes'")
    shard.add_argument("folder", type=str, help="where to, new or empty")
    shard.add_argument("--max_mb", type=int, default=256, help="largest shard in megabytes")
    _add_reading(
        shard,
        "what the shards are for; needed where the source serves several tasks",
        "whether defects stop the writing or are left out",
    )
    verbs.add_subcommand("shard", shard, help="write it for many machines")


def _add_reading(parser: jsonargparse.ArgumentParser, task: str, on_bad: str) -> None:
    """How a source is read."""
    tasks = Literal["classification", "detection", "instance", "segmentation"] | None
    choice = Literal["stop", "skip"]
    parser.add_argument("--task", type=tasks, default=None, help=task)
    parser.add_argument("--data_args", type=dict[str, Any], default={}, help="the data's options")
    parser.add_argument("--on_bad", type=choice, default="stop", help=on_bad)


def _version() -> str:
    from convattn import __version__

    return f"convattn {__version__}"
