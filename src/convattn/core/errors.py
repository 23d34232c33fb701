"""Every error that convattn raises on purpose: one class per cause.

Each is a subclass of the builtin that a caller would expect, and its text says what was wrong,
where, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "ConvattnError",
    "DataError",
    "DataNotFoundError",
    "InputError",
    "MissingExtraError",
    "NonFiniteError",
    "RunBusyError",
    "StateDictError",
    "UnknownNameError",
]


class ConvattnError(Exception):
    """Base of all errors below."""


class ArgumentError(ConvattnError, ValueError):
    """An argument or option has a value that is not accepted."""


class UnknownNameError(ArgumentError):
    """No block, model, source or position has this name."""


class InputError(ConvattnError, ValueError):
    """A tensor handed to a block or network has the wrong type, rank or size."""


class StateDictError(ConvattnError, ValueError):
    """A state dict does not fit: missing, unexpected or differently shaped keys."""


class MissingExtraError(ConvattnError, ImportError):
    """A feature needs a library that is not installed."""


class DataNotFoundError(ConvattnError, FileNotFoundError):
    """A data path does not exist or holds nothing that can be read."""


class DataError(ConvattnError, ValueError):
    """Data was found, but a file or label in it is unusable."""


class CheckpointError(ConvattnError, ValueError):
    """A checkpoint is missing, incomplete, corrupt, unsafe or of another run."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint or run at this path."""


class RunBusyError(ConvattnError, RuntimeError):
    """Another process is writing to this run directory."""


class NonFiniteError(ConvattnError, ArithmeticError):
    """Training met a NaN or an infinity and stopped before it did harm."""
