"""The operators' kernels: whether they are there, and which tensors they take.

The library is built from csrc/ when the package is installed, and registers CPU kernels with
PyTorch when it is loaded. The GPU's are in Triton, which is imported when the first map on a GPU
comes. Where kernels are missing every operator computes with PyTorch's own.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["CPU", "OPERATORS", "SMALL", "kernels", "on_gpu", "reference_only", "straight", "takes"]

OPERATORS = torch.library.Library("convattn", "DEF")
CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_CUDA = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
SMALL = 1 << 16  # values; below, one gate's training step is as fast by PyTorch's own operators
_INTERFACE = 6  # of csrc/ops/register.cpp; a library of another one is not used
# "reference", or the kernels of a lesser processor: "baseline", "avx2"
_WANTED = os.environ.get("CONVATTN_OPS", "")
_FILE = Path(__file__).with_name("libconvattn.so")
_DTYPES = (torch.float32, torch.bfloat16)
_GPU_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CAPABILITY = (7, 5)  # of the oldest GPUs that Triton supports; bfloat16 needs (8, 0)


def _load() -> tuple[str, str]:
    """The kind of processor that the kernels are for, or "" and why there are none."""
    if _WANTED == "reference":
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
    processor: str = library.convattn_processor().decode()
    if _WANTED not in ("", processor):
        return "", (
            f"CONVATTN_OPS={_WANTED} in the environment is not for this processor; choose "
            "reference, baseline or, where the processor has it, avx2 or avx512"
        )
    return processor, ""


_PROCESSOR, _MISSING = _load()
_live = _WANTED != "reference"


@cache
def _gpu_lacks(index: int) -> str:
    """Why there are no kernels for this GPU, or "" if there are."""
    if torch.version.hip is not None:
        return "the kernels are for NVIDIA"
    if torch.cuda.get_device_capability(index) < _CAPABILITY:
        return "the GPU is too old"
    try:
        import triton

        triton.runtime.driver.active.get_current_target()  # builds its launcher
    except Exception as error:  # not installed, no C compiler, ...
        return f"Triton cannot be used: {(str(error) or type(error).__name__).splitlines()[0]}"
    return ""


def _gpu_dtypes(index: int) -> tuple[torch.dtype, ...]:
    if _gpu_lacks(index):
        return ()
    return _GPU_DTYPES if torch.cuda.get_device_capability(index) >= (8, 0) else _GPU_DTYPES[:2]


# torch.compiler.assume_constant_result, which would import the compiler: it must not step inside
_gpu_dtypes._dynamo_marked_constant = True  # type: ignore[attr-defined]


def kernels() -> str:
    """Which path is live, in words: the kernels, or PyTorch's operators and why; also of GPUs."""
    if not _live:
        return f"PyTorch's own operators: {_MISSING or 'reference_only() is in force'}"
    found = f"PyTorch's own operators: {_MISSING}"
    if _PROCESSOR:
        found = f"compiled for the CPU ({_PROCESSOR})"
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        lacks = _gpu_lacks(index)
        path = f"PyTorch's own operators ({lacks})" if lacks else "Triton"
        found += f"; on {torch.cuda.get_device_name(index)} {path}"
    return found


def straight(x: Tensor) -> torch._C.DispatchKeySet:
    """Where an operator is sent to get to the kernel of x's device, past autograd."""
    return _CUDA if x.is_cuda else CPU


def on_gpu(name: str, folder: str) -> None:
    """Implement the operator for GPUs by the function of its name in ops/FOLDER/triton.py."""

    def implementation(*arguments: Any) -> Any:
        module = importlib.import_module(f"convattn.ops.{folder}.triton")
        return getattr(module, name)(*arguments)

    OPERATORS.impl(name, implementation, "CUDA")


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
    """Whether the kernels take this map: (N, C, H, W), dense, float32 or bfloat16.

    float16 too on a GPU. A map on another device than a CPU or an NVIDIA GPU is not taken.

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
        and x.dtype in _dtypes(x)
        and x.layout is torch.strided
        and x.dim() == 4
        and x.numel() > 0
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
    )


def _dtypes(x: Tensor) -> tuple[torch.dtype, ...]:
    """Those of the kernels for x's device."""
    if x.is_cpu:
        return _DTYPES if _PROCESSOR else ()
    return _gpu_dtypes(x.get_device()) if x.is_cuda else ()
