"""One trial of a place: a step along the gradient, or a short training, on a copy of the host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convattn.compare.ranking import Candidate
from convattn.core.seeds import derive, draw_from, permutation
from convattn.insertion import find, insert

__all__ = ["Batch", "Trials"]

Batch = tuple[Any, Any]

_LENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # with 1 a loss that were linear would become 0


@dataclass(frozen=True)
class Trials:
    """Trials on copies of a host, which itself stays as it is; `sensitivity` has the arguments."""

    host: nn.Module
    batches: list[Batch]
    block: str
    arguments: dict[str, Any]
    loss: Callable[[Any, Any], Tensor]
    steps: int
    lr: float
    train: str

    def proxy(self, candidate: Candidate, seed: int) -> float:
        """By how much one step along the gradient lowers the loss on the batches kept aside."""
        seen, aside = self._split(seed)
        with _drawing_from(derive(seed, "blocks")):
            model, blocks = self._with_blocks(candidate)
            new: list[Tensor] = [p for block in blocks for p in block.parameters()]
            gradients, loss = [torch.zeros_like(p) for p in new], 0.0
            for images, targets in seen:
                part = self.loss(model(images), targets) / len(seen)
                found = torch.autograd.grad(part, new, materialize_grads=True)
                torch._foreach_add_(gradients, found)
                loss += part.item()
            slope = sum(g.square().sum().item() for g in gradients)
            before, decreases = self._measure(model, aside), [0.0]
            for length in _LENGTHS if slope > 0 else ():
                step = length * abs(loss) / slope
                with torch.no_grad():
                    torch._foreach_add_(new, gradients, alpha=-step)
                    decreases.append(before - self._measure(model, aside))
                    torch._foreach_add_(new, gradients, alpha=step)
        return max(decreases)

    def trained(self, candidate: Candidate | None, seed: int) -> float:
        """The loss on the batches kept aside after training; without blocks for None."""
        seen, aside = self._split(seed)
        with _drawing_from(derive(seed, "blocks")):
            model, blocks = self._with_blocks(candidate)
            new = [p for block in blocks for p in block.parameters()]
            ours = {id(p) for p in new}
            old = [p for p in model.parameters() if p.requires_grad and id(p) not in ours]
            if not new and not old:
                return self._measure(model, aside)
            for module in [model] if self.train == "all" else blocks:
                module.train()
            rates = [{"params": new, "lr": self.lr}, {"params": old, "lr": self.lr / 10}]
            optimizer = torch.optim.Adam(rates)
            for step in range(self.steps):
                images, targets = seen[step % len(seen)]
                optimizer.zero_grad()
                self.loss(model(images), targets).backward()
                optimizer.step()
            return self._measure(model.eval(), aside)

    def host_loss(self, seed: int) -> float:
        """The host's own loss on the batches kept aside."""
        return self._measure(self._with_blocks(None)[0], self._split(seed)[1])

    def _with_blocks(self, candidate: Candidate | None) -> tuple[nn.Module, list[nn.Module]]:
        """A copy of the host in eval mode, and its new blocks; they learn, it as `train` says."""
        model = copy.deepcopy(self.host).eval()
        if self.train == "blocks":
            model.requires_grad_(False)
        if candidate is None:
            return model, []
        there = {found.path for found in find(model)}
        size = (1, *self.batches[0][0].shape[1:])
        insert(model, self.block, candidate.paths, input_size=size, **self.arguments)
        new = [found.path for found in find(model) if found.path not in there]
        return model, [model.get_submodule(path) for path in new]

    def _measure(self, model: nn.Module, batches: list[Batch]) -> float:
        with torch.no_grad():
            losses = [self.loss(model(images), targets).item() for images, targets in batches]
        return sum(losses) / len(losses)

    def _split(self, seed: int) -> tuple[list[Batch], list[Batch]]:
        """Batches to learn from, and a third that is kept aside."""
        order = permutation(len(self.batches), derive(seed, "batches"))
        mixed = [self.batches[i] for i in order]
        aside = max(1, len(mixed) // 3)
        return mixed[aside:], mixed[:aside]


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, on the CPU and on the current GPU; both are as before after it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        draw_from(seed)
        yield
