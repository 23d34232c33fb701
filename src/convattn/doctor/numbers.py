"""Outputs on the same weights, and which option or mistake explains a difference."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Any

import torch
from torch import Tensor, nn

from convattn.authors import list_sources, to_authors
from convattn.blocks import block_arguments, block_class
from convattn.core.errors import ConvattnError
from convattn.doctor.changes import Change
from convattn.doctor.matching import Form, Unit, forms, units
from convattn.doctor.patient import Patient, noise, outputs
from convattn.doctor.report import Finding
from convattn.doctor.search import Trial, trials

__all__ = ["compare_numbers"]

MOST_CHANGES = 3  # mistakes at once
MOST_FORMS = 12
MOST_TRIALS = 512  # forms times ways to pair equal layers
MOST_RUNS = 3000  # of our block with mistakes; about 1 ms each


def compare_numbers(
    theirs: Patient,
    name: str,
    channels: int,
    asked: dict[str, Any],
    initial: nn.Module | None = None,
) -> tuple[list[Finding], Form | None]:
    """Findings from outputs on the same weights; notes alone if all are equal.

    Args:
        theirs: the implementation, with random parameters.
        name: our block's.
        channels: C.
        asked: arguments of our block that the user means.
        initial: theirs as its constructor leaves it, to compare what the parameters start from.

    Returns:
        The findings, and the form of our block that explains the outputs, or None.
    """
    layers = units(theirs.model, _used(theirs))
    candidates = forms(name, channels, asked, layers)
    if candidates[0].distance >= 1:
        return [_other_layers(layers, candidates[0], name)], None
    tried = [*islice(trials(theirs, layers, candidates[:MOST_FORMS]), MOST_TRIALS)]
    runs = 0
    for count in range(MOST_CHANGES + 1):
        for trial in tried:
            for changes in combinations(trial.applicable if count else (), count):
                runs += 1
                if runs > MOST_RUNS:
                    return [_unexplained(tried, name)], None
                if trial.equal(changes):
                    found = [*_explained(trial, changes, theirs.model, name, asked)]
                    found += [*_starts(trial, initial)] if initial is not None else []
                    return found, trial.form
    return [_unexplained(tried, name)], None


def _used(theirs: Patient) -> set[str]:
    """Keys of the parameters that the output depends on."""
    keys: set[str] = set()
    for training in (False, True):
        model = theirs.fresh().train(training)
        try:
            y = outputs(model, 1 * theirs.x.clone().requires_grad_())[0]
            (y * noise(*y.shape).to(y)).sum().backward()
        except Exception:
            continue
        keys |= {key for key, p in model.named_parameters() if p.grad is not None}
    return keys or {key for key, _ in theirs.model.named_parameters()}


# ---------------------------------------------------------------------------------------- findings


def _explained(
    trial: Trial, changes: tuple[Change, ...], module: nn.Module, name: str, asked: dict[str, Any]
) -> Iterator[Finding]:
    defaults = {**block_arguments(name), **asked}
    for option, value in trial.form.changes:
        kind = "note" if isinstance(value, int) and not isinstance(value, bool) else "warning"
        yield Finding(
            f"option-{option}",
            kind,
            "",
            f"It is {name} with {option}={value!r}, {_not_default(defaults[option])}.",
            f"If it is meant, say so: attention_args={{{option!r}: {value!r}}}. If not, change it.",
        )
    extra = [key for key in trial.alone if not key.startswith("no ")]
    for biases, what, fix in (
        (extra, "has a bias where the definition has none", "Pass bias=False there."),
        (
            [key.removeprefix("no ") for key in trial.alone if key not in extra],
            "is missing, where the definition has a bias",
            "Pass bias=True there.",
        ),
    ):
        if biases:
            yield Finding("bias", "warning", biases[0], f"{', '.join(biases)}: it {what}.", fix)
    for change in changes:
        yield Finding(change.code, "error", "", change.what, change.fix)
    if not changes and not trial.alone:
        source = _key_source(module, trial.form.block, name)
        loads = f" Its keys are load_authors's source={source!r}." if source else ""
        yield Finding(
            "equal",
            "note",
            "",
            f"On the same weights the outputs in training and evaluation equal those of {name}"
            f"{' with the options above' if trial.form.changes else ''}.{loads}",
            "Nothing.",
        )


def _starts(trial: Trial, initial: nn.Module) -> Iterator[Finding]:
    """Parameters that start from another constant than the authors'."""
    their_start = {unit.path: unit for unit in units(initial)}
    for theirs, ours in trial.pairs:
        started = their_start.get(theirs.path)
        if started is None:
            continue
        for a, b in ((started.weight, ours.weight), (started.bias, ours.bias)):
            if a is None or b is None or not _constant(b):
                continue
            value, one = float(b.flatten()[0]), _constant(a)
            if not one or abs(float(a.flatten()[0]) - value) > 1e-6:
                start = f"at {float(a.flatten()[0]):g}" if one else "at random"
                yield Finding(
                    "initialisation",
                    "warning" if one else "note",
                    theirs.path,
                    f"It starts {start}, the authors' {ours.path} at {value:g}.",
                    f"Fill it with {value:g} in the constructor if you train from scratch.",
                )


def _constant(parameter: Tensor) -> bool:
    """All values equal; a single one counts if it is no random number."""
    values = torch.unique(parameter)
    return values.numel() == 1 and (parameter.numel() > 1 or float(values) in (0, 1))


def _not_default(default: object) -> str:
    return "which is not the default" if default is None else f"the default is {default!r}"


def _key_source(module: nn.Module, block: nn.Module, name: str) -> str:
    """The authors' file whose keys these are."""
    keys = set(module.state_dict())
    repository = block_class(name).info.repository
    for source in list_sources():
        if repository and source.startswith(repository):
            try:
                if set(to_authors(block, source=source)) == keys:
                    return source
            except (ConvattnError, IndexError, KeyError):
                continue
    return ""


def _unexplained(tried: list[Trial], name: str) -> Finding:
    off = min((trial.off for trial in tried), default=float("inf"))
    return Finding(
        "output-differs",
        "error",
        "",
        f"On the same weights, input and mode the output is not that of {name} ({off:.2g} off, "
        "relative to its mean), and no known mistake explains it.",
        f"Compare it line by line with convattn/blocks/{name}.py, whose docstring has the "
        "equations.",
    )


def _other_layers(layers: list[Unit], nearest: Form, name: str) -> Finding:
    ours = units(nearest.block)
    return Finding(
        "other-layers",
        "error",
        "",
        f"Its layers are not those of {name}: {_listed(layers)}; {name}"
        f"{_arguments(nearest.changes)} has {_listed(ours)}.",
        "Where another form is meant, name it with attention_args; otherwise build these layers.",
    )


def _arguments(changes: tuple[tuple[str, Any], ...]) -> str:
    return f"({', '.join(f'{k}={v!r}' for k, v in changes)})" if changes else ""


def _listed(layers: list[Unit]) -> str:
    texts = [
        f"{u.path} {'x'.join(map(str, u.shape)) or '1'}{' + bias' if u.bias is not None else ''}"
        for u in layers
    ]
    return ", ".join(texts) or "none with parameters"
