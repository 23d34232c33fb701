"""Randomness without state: every draw comes from a key, never from what was drawn before.

So a run resumed anywhere draws what the uninterrupted run would have drawn, and the number of
data workers cannot matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from convattn.core.errors import ArgumentError

__all__ = ["check_seed", "derive", "draw_from", "permutation", "seeded"]


def check_seed(seed: object) -> int:
    """The seed, or `ArgumentError` when it is not an integer in 0..2**63-1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ArgumentError(f"seed must be an integer in 0..2**63-1, got {seed!r}")
    return seed


def derive(seed: int, *stream: str | int) -> int:
    """A seed for one purpose, such as derive(seed, "order", epoch); differs for each stream."""
    text = "/".join([str(check_seed(seed)), *map(str, stream)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def permutation(count: int, seed: int) -> list[int]:
    """A random order of 0..count-1, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator).tolist()


def draw_from(seed: int) -> None:
    """Let PyTorch draw from `seed` from now on, on the CPU and on the current GPU.

    `torch.manual_seed` records a stack trace for every kind of device that is not in use; that
    took a third of the time of a small training step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside; PyTorch's CPU generator is as before after it."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
