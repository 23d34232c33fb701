"""What counting tools of their time counted, for tables that were made with them.

Those tools hooked into layers, so a sum or a sigmoid written as a function was invisible to them,
and a function written as a 1x1 convolution had another number than the same as a linear layer. The
rules here follow the operators. Pools over all positions count, however written, and pools of
windows; means and maxima along one axis alone (CA's strips, those over channels of CBAM and
Triplet Attention) do not.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from convattn.cost.operators import Operator, numel, products, spoken_name

__all__ = ["count_fvcore", "count_ptflops", "count_thop_2019_07", "count_thop_2019_08"]

Arguments = tuple[Any, ...]

CONVOLUTION = "convolution"
MATRIX = ("mm", "addmm", "bmm", "baddbmm")
ACTIVATIONS = ("relu", "hardtanh", "leaky_relu", "elu", "prelu")  # ReLU6 is a hardtanh
MAX_POOLS = ("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d")
WINDOWS = ("avg_pool1d", "avg_pool2d", "avg_pool3d")


def count_thop_2019_07(
    operator: Operator, args: Arguments, kwargs: dict[str, Any], out: Any
) -> int | None:
    """thop of June and July 2019, which counted ReLU."""
    if spoken_name(operator) in ("relu", "hardtanh"):
        return numel(args[0])
    return count_thop_2019_08(operator, args, kwargs, out)


def count_thop_2019_08(
    operator: Operator, args: Arguments, kwargs: dict[str, Any], out: Any
) -> int | None:
    """thop of August to December 2019, which counted ReLU as nothing."""
    name, macs = spoken_name(operator), products(operator, args, kwargs, out)
    if macs is not None:
        if name == CONVOLUTION:
            return macs + _bias(args, out)
        # a linear layer: every product and every sum of two of them
        return 2 * macs - numel(out) if name in MATRIX else macs
    if name == "batch_norm":
        return 4 * numel(args[0])
    if name in ("relu", "hardtanh", *MAX_POOLS) or _is_global("max", name, args):
        return 0
    if _is_global("mean", name, args) or _is_adaptive_pool(name, args):
        # the window rounded down, where it does not divide the map, and one division
        shape, size = args[0].shape[2:], _pooled_size(name, args)
        window = math.prod(a // b for a, b in zip(shape, size, strict=True))
        return (window + 1) * numel(out)
    if name in WINDOWS:
        axes = out.dim() - 2
        kernel = list(args[1]) if isinstance(args[1], (list, tuple)) else [args[1]]
        return (math.prod(kernel if len(kernel) > 1 else kernel * axes) + 1) * numel(out)
    return None


def count_ptflops(
    operator: Operator, args: Arguments, kwargs: dict[str, Any], out: Any
) -> int | None:
    """Ptflops of 2019 and 2020, up to its version 0.6.3."""
    name, macs = spoken_name(operator), products(operator, args, kwargs, out)
    if macs is not None:
        return macs + _bias(args, out) if name == CONVOLUTION else macs
    if name == "batch_norm":
        affine = isinstance(args[1], Tensor)
        return (2 if affine else 1) * numel(args[0])
    if name in ACTIVATIONS:
        return numel(out)
    pools = name in (*MAX_POOLS, *WINDOWS) or _is_adaptive_pool(name, args)
    if pools or _is_global("mean", name, args) or _is_global("max", name, args):
        return numel(args[0])
    return None


def count_fvcore(
    operator: Operator, args: Arguments, kwargs: dict[str, Any], out: Any
) -> int | None:
    """Fvcore, for layers of convolutional networks in eval mode."""
    name, macs = spoken_name(operator), products(operator, args, kwargs, out)
    if macs is not None:
        return macs
    if name == "batch_norm":
        return (2 if isinstance(args[1], Tensor) else 1) * numel(args[0])
    if _is_global("mean", name, args) or _is_adaptive_pool(name, args):
        return numel(args[0])
    return None


def _bias(args: Arguments, out: Any) -> int:
    """One for each output element, where the convolution has a bias."""
    return numel(out) if isinstance(args[2], Tensor) else 0


def _is_global(what: str, name: str, args: Arguments) -> bool:
    """Whether it is the "mean" or "max" over all positions of a map (N, C, ...)."""
    if name not in (what, f"a{what}") or args[0].dim() < 3 or len(args) < 2:
        return False
    axes, reduced = args[0].dim(), args[1]
    if isinstance(reduced, int):
        reduced = [reduced]
    return isinstance(reduced, (list, tuple)) and sorted(a % axes for a in reduced) == list(
        range(2, axes)
    )


def _is_adaptive_pool(name: str, args: Arguments) -> bool:
    """Whether it averages windows, and not one whole axis for each place of the others."""
    if not name.startswith("adaptive_avg_pool"):
        return False
    shape, size = args[0].shape[2:], _pooled_size(name, args)
    return all(b == 1 for b in size) or not any(
        b in (1, a) for a, b in zip(shape, size, strict=True)
    )


def _pooled_size(name: str, args: Arguments) -> list[int]:
    axes = args[0].dim() - 2
    return [1] * axes if name == "mean" else list(args[1])
