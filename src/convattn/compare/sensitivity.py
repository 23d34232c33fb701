"""Where in a network a block helps most: a cheap proxy for all places, a short training for few.

Proxy, for each place and seed: the blocks start as the identity; the gradient of the loss for
their parameters is taken on some batches; one step along it is tried at several lengths on the
batches kept aside. The score is the largest decrease of the loss there, below the host's.

Training, for the places with the best scores: the blocks learn for some steps, from the identity,
and the loss on the batches kept aside is compared with the host's.

Which batches are kept aside and how blocks start differs by seed and is the same for all places,
so places are compared seed by seed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.compare.ranking import Candidate, Sensitivity
from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError, ConvattnError, InputError
from convattn.core.seeds import check_seed, derive, draw_from, permutation
from convattn.insertion import find, insert, plan, positions

__all__ = ["sensitivity"]

Batch = tuple[Any, Any]

_LENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # with 1 a loss that were linear would become 0


def sensitivity(
    model: nn.Module,
    data: Iterable[Batch],
    block: str = "ca",
    *,
    at: Sequence[str] | str | None = None,
    by: str = "position",
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
    top: int = 3,
    steps: int = 100,
    lr: float = 0.02,
    train: str = "blocks",
    seeds: Sequence[int] = (0, 1, 2),
    **arguments: Any,
) -> Sensitivity:
    """Find out where in a network a block helps most; the network stays as it is.

    Args:
        model: any network, trained; copies of it are changed.
        data: batches (images, targets), two or more. They are kept in memory: give as many as
            the answer is worth, such as `itertools.islice(loader, 12)`. For each seed a third of
            them is kept aside for measuring.
        block: a name from `list_blocks` that can start as the identity.
        at: positions, paths or patterns as for `insert`, each of which is tried; None for the
            named positions of the network but "after_conv1", ...
        by: what is tried on its own: a whole "position", each "stage" of it, or each "place".
        loss: (output of the model, targets) -> mean loss; lower is better.
        top: how many places with the best scores are trained; 0 for none.
        steps: of each training, with Adam, one batch each.
        lr: of the blocks in training.
        train: "blocks" alone, the host frozen and in eval mode; or "all", the host with a tenth of
            `lr`, and compared with a host that was trained so without blocks.
        seeds: each repeats everything with other batches and other blocks.
        **arguments: of the block.

    Returns:
        All places with scores, gains and costs, best first; `print` shows the table, `.best` is
        the name of the one that is better than all others beyond chance, or None.

    Raises:
        UnknownNameError: no such block, position or path.
        ArgumentError: an argument that cannot be, or the block fits nowhere.
        InputError: `data` holds fewer than two batches, or no pairs.

    Example:
        >>> import torch
        >>> from convattn import create_model, sensitivity
        >>> model = create_model("mobilenet_v2", width_mult=0.1, num_classes=3)
        >>> data = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])) for _ in range(3)]
        >>> found = sensitivity(model, data, "eca", top=1, steps=1, seeds=(0, 1))
        >>> sorted(c.name for c in found.candidates if c.gains) == [found.candidates[0].name]
        True
    """
    check_choice("sensitivity", "by", by, ("position", "stage", "place"))
    check_choice("sensitivity", "train", train, ("blocks", "all"))
    if not seeds or len(set(map(check_seed, seeds))) < len(seeds):
        raise ArgumentError(f"sensitivity: seeds must differ and be one or more, got {seeds!r}")
    batches = _batches(data, model)
    candidates, skipped = _candidates(model, batches[0][0].shape, block, at, by, arguments)
    trials = _Trials(model, batches, block, arguments, loss, steps, lr, train)
    started = time.perf_counter()
    for i, candidate in enumerate(candidates):
        begun = time.perf_counter()
        proxy = tuple(trials.proxy(candidate, seed) for seed in seeds)
        candidates[i] = replace(candidate, proxy=proxy, seconds=time.perf_counter() - begun)
    candidates.sort(key=lambda c: -c.score)
    middle = time.perf_counter()
    chosen, rest = candidates[: max(top, 0)], candidates[max(top, 0) :]
    controls = [trials.trained(None, seed) for seed in seeds] if chosen else []
    for i, candidate in enumerate(chosen):
        begun = time.perf_counter()
        gains = tuple(
            control - trials.trained(candidate, seed)
            for control, seed in zip(controls, seeds, strict=True)
        )
        spent = candidate.seconds + time.perf_counter() - begun
        chosen[i] = replace(candidate, gains=gains, seconds=spent)
    chosen.sort(key=lambda c: -(c.gain or 0.0))
    return Sensitivity(
        host=type(model).__name__,
        block=block,
        candidates=(*chosen, *rest),
        loss=tuple(trials.host_loss(seed) for seed in seeds),
        seeds=tuple(seeds),
        steps=steps,
        seconds={"proxy": middle - started, "training": time.perf_counter() - middle},
        skipped=skipped,
    )


def _batches(data: Iterable[Batch], model: nn.Module) -> list[Batch]:
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    found = []
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not _is_images(batch[0]):
            raise InputError(
                "sensitivity: data must give batches (images, targets) with images (N, C, H, W), "
                f"got {type(batch).__name__}"
            )
        found.append((batch[0].to(device), _moved(batch[1], device)))
    if len(found) < 2:
        raise InputError(
            f"sensitivity: data has {len(found)} batches; two are needed, one to learn from and "
            "one to measure on"
        )
    return found


def _is_images(x: object) -> bool:
    return isinstance(x, Tensor) and x.dim() == 4


def _moved(tree: Any, device: torch.device) -> Any:
    move = lambda x: x.to(device) if isinstance(x, Tensor) else x  # noqa: E731
    return torch.utils._pytree.tree_map(move, tree)


def _candidates(
    model: nn.Module, size: Sequence[int], block: str, at: Any, by: str, arguments: dict[str, Any]
) -> tuple[list[Candidate], dict[str, str]]:
    """Places to try, each set of paths once, and why positions were left out."""
    one = (1, *size[1:])
    named = at is not None
    wanted: Iterable[str] = [at] if isinstance(at, str) else at or _positions(model, one)
    found: dict[tuple[str, ...], Candidate] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        try:
            rows = plan(model, block, name, input_size=one, **arguments)
        except ConvattnError as error:
            if named:
                raise
            skipped[name] = str(error)
            continue
        groups: dict[str, list[Any]] = {}
        for row in rows:
            place = row.place
            key = {"position": name, "stage": f"{name} in stage {place.stage}"}.get(by, place.path)
            groups.setdefault(key, []).append(row)
        for key, group in groups.items():
            paths = tuple(row.place.path for row in group)
            candidate = Candidate(
                name=key,
                paths=paths,
                parameters=sum(row.parameters for row in group),
                macs=sum(row.macs for row in group),
            )
            found.setdefault(paths, candidate)
    if not found:
        raise ArgumentError(
            f"sensitivity: {block} fits nowhere in {type(model).__name__}: "
            + "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        )
    return list(found.values()), skipped


def _positions(model: nn.Module, size: Sequence[int]) -> list[str]:
    """All but those behind single convolutions, of which each lies beside another position."""
    have = list(positions(model, input_size=size))
    return [name for name in have if not name.startswith("after_conv")] or have


@dataclass(frozen=True)
class _Trials:
    """Trials of places on copies of a host, which itself stays as it is."""

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
