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

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.compare.ranking import Candidate, Sensitivity
from convattn.compare.trials import Batch, Trials
from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError, ConvattnError, InputError
from convattn.core.seeds import check_seed
from convattn.insertion import plan, positions

__all__ = ["sensitivity"]


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
    check_positive("sensitivity", "steps", steps)
    if not seeds or len(set(map(check_seed, seeds))) < len(seeds):
        raise ArgumentError(f"sensitivity: seeds must differ and be one or more, got {seeds!r}")
    batches = _batches(data, model)
    candidates, skipped = _candidates(model, batches[0][0].shape, block, at, by, arguments)
    trials = Trials(model, batches, block, arguments, loss, steps, lr, train)
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
