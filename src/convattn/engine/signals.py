"""SIGTERM and Ctrl-C: the step in progress ends, a checkpoint is written, then the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "Pending", "pending_signal"]


class Interrupted(BaseException):
    """A run was asked to stop and can be resumed; carries the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}; the run can be resumed")
        self.number = number


class Pending:
    """The signal that arrived, 0 for none."""

    number = 0


@contextmanager
def pending_signal() -> Iterator[Pending]:
    """Note the first SIGINT or SIGTERM instead of dying; the second ends the process at once."""
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def note(number: int, frame: FrameType | None) -> None:
        if pending.number:
            os._exit(128 + number)
        pending.number = number

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, note) for number in numbers]
    try:
        yield pending
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
