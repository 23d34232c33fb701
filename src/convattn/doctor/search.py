"""Their block and ours on the same weights, in every way that their layers can be paired."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor, nn

from convattn.doctor.changes import CHANGES, Change, run_changed
from convattn.doctor.matching import Form, Unit, pairings, share, units
from convattn.doctor.patient import Patient, close, outputs

__all__ = ["Trial", "trials"]


@dataclass
class Trial:
    """Their block and a form of ours on the same weights.

    Attributes:
        alone: biases that only one of them has, zero now.
        off: the least difference seen, relative to the mean of their output.
    """

    form: Form
    theirs: nn.Module
    ours: nn.Module
    pairs: list[tuple[Unit, Unit]]
    x: Tensor
    alone: list[str]
    off: float = float("inf")
    _wanted: dict[bool, Tensor | None] = field(default_factory=dict)
    _applicable: tuple[Change, ...] | None = None

    @property
    def applicable(self) -> tuple[Change, ...]:
        """The mistakes that change our output at all."""
        if self._applicable is None:
            right = self._ours(False, ())
            made = ((change, self._ours(False, (change,))) for change in CHANGES)
            self._applicable = tuple(
                change
                for change, y in made
                if y is not None and (right is None or not close([y], [right], 1e-9))
            )
        return self._applicable

    def equal(self, changes: tuple[Change, ...]) -> bool:
        """Whether our block with these mistakes gives their outputs, in both modes."""
        compared = False
        for training in (False, True):
            wanted = self._theirs(training)
            if wanted is None:  # a mode that does not run has its own finding
                continue
            mine = self._ours(training, changes)
            if mine is None or mine.shape != wanted.shape:
                return False
            if not close([mine], [wanted]):
                if not changes:
                    off = (mine - wanted).abs().max() / (wanted.abs().mean() + 1e-12)
                    self.off = min(self.off, float(off))
                return False
            compared = True
        return compared

    def _ours(self, training: bool, changes: tuple[Change, ...]) -> Tensor | None:
        # in training a run moves the statistics
        model = copy.deepcopy(self.ours).train() if training else self.ours.eval()
        try:
            with torch.no_grad():
                return run_changed(model, self.x.clone(), changes)
        except Exception:
            return None

    def _theirs(self, training: bool) -> Tensor | None:
        if training not in self._wanted:
            model = copy.deepcopy(self.theirs).train(training)
            try:
                with torch.no_grad():
                    self._wanted[training] = outputs(model, self.x.clone())[0]
            except Exception:
                self._wanted[training] = None
        return self._wanted[training]


def trials(theirs: Patient, layers: list[Unit], candidates: list[Form]) -> Iterator[Trial]:
    """Each form with its layers in their order, then each with equal layers exchanged."""
    for round_ in zip_longest(*(pairings(layers, units(form.block)) for form in candidates)):
        for form, pairs in zip(candidates, round_, strict=True):
            if pairs is not None:
                a, b = theirs.fresh(), copy.deepcopy(form.block)
                yield Trial(form, a, b, pairs, theirs.x, share(a, b, pairs))
