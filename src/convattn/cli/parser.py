"""What the command line accepts. Imports no torch, so that help and errors come at once."""

from __future__ import annotations

import dataclasses
import difflib
import re
from argparse import RawDescriptionHelpFormatter
from importlib import resources
from typing import Any, Literal, NoReturn

import jsonargparse

from convattn.core.config import CompareConfig, TrainConfig

__all__ = ["parse"]

LIST = """\
examples:
  convattn list                blocks with a sentence each
  convattn list models         networks
  convattn list hosts          networks of timm and torchvision, where these are installed
  convattn list sources        authors' classes that can be built and loaded
"""
TRAIN = """\
examples:
  convattn train --attention ca
  convattn train --attention ca --data path/to/imagenet --epochs 200 --batch 256
  convattn train --attention se --attention_args.reduction 24 --model_args.width_mult 0.5
  convattn train --host timm/resnet18 --insert ca@after_conv2 --checkpoint resnet18.pth --lr 0.01
  convattn train --config my.yaml --lr 0.1       values of the file, then of the line
  convattn train --attention ca --print_config   write such a file
  convattn train --resume runs/mobilenet_v2_ca   go on where it stopped
  torchrun --nproc_per_node 8 -m convattn train --data path/to/imagenet
"""
EVAL = """\
examples:
  convattn eval runs/mobilenet_v2_ca
  convattn eval runs/mobilenet_v2_ca/weights/last.pt --data path/to/images
"""
COMPARE = """\
examples:
  convattn compare --blocks '[none, se, ca]' --seeds 5 --data path/to/images --name study
  convattn compare --grid '{lr: [0.05, 0.1]}'    vary another field as well
  convattn compare --host timm/resnet18 --blocks '[none, se@before_add, ca@after_conv2]'
The same command goes on where it was stopped, and repeats no finished run.
"""
EXPLAIN = """\
examples:
  convattn explain runs/mobilenet_v2_ca
  convattn explain runs/mobilenet_v2_ca --out gates.png --count 8 --data path/to/images
"""
COST = """\
With a block, the network without it stands beside. Measuring takes some seconds.

examples:
  convattn cost mobilenet_v2 --attention ca
  convattn cost mobilenet_v2 --attention ca --measure --per_block
  convattn cost resnet50 --convention ptflops
  convattn cost timm/resnet18 --insert ca@after_conv2
  convattn cost mobilenet_v2 --attention eca --input_size '[1, 3, 64, 64]' --per_layer
"""
# a test compares them with convattn.cost, which imports torch
CONVENTIONS = ("conv+linear", "all-ops", "thop-2019-07", "thop-2019-08", "ptflops", "fvcore")
# a test compares them with convattn.tables, which imports torch
STATUSES = ("reproduced", "explained", "size only", "differs", "not built", "scores only")
TABLES = """\
Parameters and operations of each row's network are counted in the row's unit and convention, and
stand beside the print. A row is reproduced to the last digit; or explained by what its authors'
tool did not see; or its size alone is reproduced, the operations not being counted here; or it
differs, with the reason; or its network is not built here. All rows take about a minute.

examples:
  convattn tables --paper ca
  convattn tables --model mobilenet_v2 --status differs
  convattn tables --json > tables.json
Exit code 0: all rows are as recorded, 1: one is not, 2: wrong arguments.
"""
DOCTOR = """\
examples:
  convattn doctor mobilenet_v2 --attention ca
  convattn doctor torchvision/resnet18 --insert eca@before_add
  convattn doctor runs/mobilenet_v2_ca/weights/best.pt --input_size '[2, 3, 32, 32]'
  convattn doctor runs/mobilenet_v2_ca --images 8            its gates on test images, not on noise
Exit code 0: nothing found (notes are allowed), 1: something, 2: wrong arguments.
"""
AUDIT = """\
Imports FILE.py, so its code runs: audit only what you would run. Arguments of the constructor for
channels and sizes are found by their names, others are given.

examples:
  convattn audit my_blocks.py:CoordAtt --as ca
  convattn audit my_blocks.py:Attention --as se --arguments '{width: 64, squeeze: 4}'
  convattn audit my_blocks.py:Cbam --as cbam --attention_args.variant timm
Exit code 0: nothing found (notes are allowed), 1: something, 2: wrong arguments.
"""
DATA_CHECK = """\
Reads everything: images, boxes, masks, label maps. The format is told from the folder's content.

examples:
  convattn data check path/to/coco
  convattn data check path/to/VOCdevkit --task detection
  convattn data check path/to/images --on_bad skip     report, and exit with 0
Exit code 0: nothing found or to be skipped, 1: something, 2: wrong arguments.
"""
DEMO = """\
Trains MobileNetV2 without attention and with SE, CBAM, ECA and CA on the embedded digit scenes,
several seeds each, and compares them. It is `convattn compare` with the recipe demo.yaml.

examples:
  convattn demo
  convattn demo --seeds 5 --name longer --epochs 8
"""

# other names of options, those of insertion into other people's networks
SPELLINGS = {"model": ("--host",), "model_args": ("--host_args",), "attention": ("--insert",)}


class _Help(jsonargparse.DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Defaults of options, and examples as they are written."""


class _Parser(jsonargparse.ArgumentParser):
    """Names the nearest option where one is misspelt."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        known = [o for action in parser._actions for o in action.option_strings]
        for word in re.findall(r"--?\w[\w.-]*", message):
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
            if near and word not in known and "unrecognized" in message:
                message += f"\n  {word}: did you mean {near[0]}?"
        super().error(message, ex)
        raise SystemExit(2)  # error() has left already; this tells the type checker so


def parse(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The verb and its options as plain values; exits with 2 on a wrong line, 0 after help."""
    parser = _new("", "Attention blocks for convolutional networks.", "")
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subcommands(required=True, dest="verb")
    recipe = str(resources.files("convattn").joinpath("recipes", "demo.yaml"))
    for verb, made, text in (
        ("demo", _compare("demo", "The main job in four minutes.", DEMO, recipe), "the main job"),
        ("train", _train(), "train a network"),
        ("eval", _eval(), "evaluate a trained network"),
        ("explain", _explain(), "show what a trained network's attention lets through"),
        ("compare", _compare("compare", "Compare blocks fairly.", COMPARE), "compare blocks"),
        ("cost", _cost(), "count parameters and multiply-accumulates"),
        ("tables", _tables(), "papers' tables beside what is recomputed"),
        ("doctor", _doctor(), "examine a network: gates, gradients, sizes, export"),
        ("audit", _audit(), "compare somebody's block with its authors' definition"),
        ("data", data := _new("data", "Look after data.", ""), "check data before training"),
        ("list", _list(), "list blocks, networks, authors' sources"),
    ):
        verbs.add_subcommand(verb, made, help=text)
    _add_data_verbs(data)  # jsonargparse wants the upper level first
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
    parser = _new("list", "List what there is.", LIST)
    what = Literal["blocks", "models", "hosts", "sources"]
    parser.add_argument("what", type=what, nargs="?", default="blocks", help="what to list")
    return parser


def _train() -> jsonargparse.ArgumentParser:
    parser = _new("train", "Train a network.", TRAIN)
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
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


def _add_network(parser: jsonargparse.ArgumentParser, what: str) -> None:
    """What `cost` and `doctor` take: a network by name, with blocks."""
    parser.add_argument("model", type=str, help=what)
    for name, kind, default, text in (
        ("model_args", dict[str, Any], {}, "its arguments"),
        ("attention", str, "none", "block in it, as ca, ca@POSITION, or several of these"),
        ("attention_args", dict[str, Any], {}, "the block's arguments"),
        ("at", str | None, None, "position of the block"),
    ):
        names = (f"--{name}", *SPELLINGS.get(name, ()))
        parser.add_argument(*names, type=kind, default=default, help=text)


def _eval() -> jsonargparse.ArgumentParser:
    parser = _new("eval", "Evaluate a trained network, rebuilt from its weights file alone.", EVAL)
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
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parser.add_class_arguments(CompareConfig)
    _add_run(parser)
    return parser


def _explain() -> jsonargparse.ArgumentParser:
    parser = _new("explain", "Draw the gates of a trained network on test images.", EXPLAIN)
    parser.add_argument("checkpoint", type=str, help="weights file of a run, or the run's folder")
    parser.add_argument("--out", type=str, default="gates.png", help="picture to write")
    parser.add_argument("--count", type=int, default=5, help="images, each of another class")
    parser.add_argument("--data", type=str | None, default=None, help="other data than its own")
    return parser


def _cost() -> jsonargparse.ArgumentParser:
    parser = _new("cost", "Count parameters and multiply-accumulates.", COST)
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
    parser = _new("tables", "Recompute the sizes in the papers' tables.", TABLES)
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
    parser = _new("doctor", "Say what will hurt in a network, each with its fix.", DOCTOR)
    _add_network(parser, "network, or the weights file or folder of a run")
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
    parser = _new("audit", "Compare somebody's block with its authors' definition.", AUDIT)
    parser.add_argument("target", type=str, help="FILE.py:Class")
    parser.add_argument("--as", type=str, default="ca", help="our block")
    parser.add_argument(
        "--arguments", type=dict[str, Any], default={}, help="of the class's constructor"
    )
    parser.add_argument("--attention_args", type=dict[str, Any], default={}, help="of our block")
    return parser


def _add_data_verbs(parser: jsonargparse.ArgumentParser) -> None:
    verbs = parser.add_subcommands(required=True, dest="what", help="what to do")
    check = _new("data check", "Find what is wrong with data before training.", DATA_CHECK)
    check.add_argument("source", type=str, help="folder, or 'scenes'")
    check.add_argument(
        "--task",
        type=Literal["classification", "detection", "instance", "segmentation"] | None,
        default=None,
        help="read it for this task; default: for every task that it serves",
    )
    check.add_argument("--data_args", type=dict[str, Any], default={}, help="the data's options")
    check.add_argument(
        "--on_bad",
        type=Literal["stop", "skip"],
        default="stop",
        help="whether defects would stop a training or be left out of it",
    )
    verbs.add_subcommand("check", check, help="find what is wrong")


def _version() -> str:
    from convattn import __version__

    return f"convattn {__version__}"
