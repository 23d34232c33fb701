"""The compiled operators: whether they are there, and which tensors they take.

The library is built from csrc/ when the package is installed, and registers CPU kernels with
PyTorch when it is loaded. Where it is missing every operator computes with PyTorch's own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["CPU", "OPERATORS", "SMALL", "kernels", "reference_only", "takes"]

OPERATORS = torch.library.Library("convattn", "DEF")
CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)  # straight to a kernel, no autograd
SMALL = 1 << 16  # values; below, one gate's training step is as fast by PyTorch's own operators
_INTERFACE = 3  # of csrc/ops/register.cpp; a library of another one is not used
_FILE = Path(__file__).with_name("libconvattn.so")
_DTYPES = (torch.float32, torch.bfloat16)


def _load() -> tuple[str, str]:
    """The kind of processor that the kernels are for, or "" and why there are none."""
    if os.environ.get("CONVATTN_OPS") == "reference":
        return "", "CONVATTN_OPS=reference in the environment"
    if not _FILE.exists():
        return "", "the package was installed without a C++ compiler"
    try:
        library = ctypes.CDLL(str(_FILE))
    except OSError as error:
        return "", f"the library does not load: {error}"
    library.convattn_processor.restype = ctypes.c_char_p
    if library.convattn_interface() != _INTERFACE:
        return "", "the library is of another version; install the package again"
    if library.convattn_register() != 0:
        return "", "PyTorch did not accept the operators"
    return library.convattn_processor().decode(), ""


_PROCESSOR, _MISSING = _load()
_live = bool(_PROCESSOR)


def kernels() -> str:
    """Which path is live, in words: the compiled kernels, or PyTorch's operators and why."""
    if _live:
        return f"compiled for the CPU ({_PROCESSOR})"
    return f"PyTorch's own operators: {_MISSING or 'reference_only() is in force'}"


@contextmanager
def reference_only() -> Iterator[None]:
    """Compute with PyTorch's own operators, to compare the kernels with them."""
    global _live
    before, _live = _live, False
    try:
        yield
    finally:
        _live = before


def takes(x: Tensor) -> bool:
    """Whether the kernels take this map: (N, C, H, W) on the CPU, float32 or bfloat16, dense.

    Where a program is made of what the block does (export, tracing) or derivatives are taken by
    other means than backward, the answer is no: PyTorch's own operators are understood there.
    """
    if not _live:
        return False
    if torch.compiler.is_compiling():
        if torch.compiler.is_exporting():
            return False
    elif (
        torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    ):
        return False
    return (
        type(x) is Tensor
        and x.is_cpu
        and x.dtype in _DTYPES
        and x.layout is torch.strided
        and x.dim() == 4
        and x.numel() > 0
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
    )
