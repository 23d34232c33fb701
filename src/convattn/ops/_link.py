"""What the pooling and the gating of one block tell each other in the backward pass.

The gradient of x in y = x * gate(pool(x)) has two parts: dy * gate, and what pooling spreads over
the map. Two operators would write a map each, and autograd would add them: three passes. Linked,
the pooling writes the sum in one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convattn.ops._library import takes

__all__ = ["Link", "can_link", "linked_to"]

_now = threading.local()


class Link:
    """Between a block's first pooling of its map and the multiplication at its end.

    Attributes:
        token: an empty output of the pooling, None before there was one.
    """

    def __init__(self, x: Tensor) -> None:
        self.x: Tensor | None = x
        self.token: Tensor | None = None
        self._rest: Callable[..., Tensor] | None = None
        self._task = -1

    def __enter__(self) -> Link:
        self._outer = getattr(_now, "link", None)
        _now.link = self
        return self

    def __exit__(self, *error: Any) -> None:
        _now.link, self.x = self._outer, None
        self._outer = None

    def hand_over(self, rest: Callable[..., Tensor]) -> None:
        """Called by the gating's backward: rest(...) adds up the gradient of x."""
        self._rest, self._task = rest, torch._C._current_graph_task_id()

    def taken(self) -> Callable[..., Tensor] | None:
        """Called by the pooling's backward, once for each `hand_over`.

        What an earlier pass left is not this one's: that pass wanted gradients of parameters
        alone, and did not come to the pooling.
        """
        rest, self._rest = self._rest, None
        return rest if self._task == torch._C._current_graph_task_id() else None


def linked_to(x: Tensor) -> Link | None:
    """The link that waits for a pooling of x, if one does."""
    link: Link | None = getattr(_now, "link", None)
    return link if link is not None and link.x is x and link.token is None else None


def can_link(x: Tensor) -> bool:
    """Whether a backward pass through x may come, and the kernels take it."""
    return (
        torch.is_grad_enabled()
        and x.requires_grad
        and not torch.compiler.is_compiling()
        and takes(x)
    )
