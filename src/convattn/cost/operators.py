"""Operators as the counter sees them: their names, and the multiply-accumulates of products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import flop_registry

__all__ = ["Operator", "is_free", "numel", "products", "spoken_name"]

Operator = Any  # torch._ops.OpOverload

_SPOKEN = {
    "native_batch_norm": "batch_norm",
    "native_batch_norm_legit": "batch_norm",
    "native_batch_norm_legit_no_training": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "miopen_batch_norm": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
}

# They make or name memory and compute nothing; views (`is_view`) are free as well.
_ALLOCATIONS = (
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "scalar_tensor"),
    *("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like"),
    *("new_full", "arange", "linspace", "eye", "detach", "lift_fresh", "unsafe_view"),
)

# Products that torch's own registry leaves out: ECA's k-tap kernel is a matrix-vector product.
_PRODUCTS: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "mv": lambda args: numel(args[0]),
    "addmv": lambda args: numel(args[1]),
    "dot": lambda args: numel(args[0]),
    "vdot": lambda args: numel(args[0]),
    "addbmm": lambda args: numel(args[1]) * args[2].shape[2],
}


def numel(x: Any) -> int:
    """Elements of a tensor, or of all tensors in a list."""
    return x.numel() if isinstance(x, Tensor) else sum(t.numel() for t in x)


def spoken_name(operator: Operator) -> str:
    """What the operator is called in tables: "batch_norm", "hardtanh", "mylib::my_operator"."""
    namespace, _, name = operator.name().partition("::")
    plain = str(name.partition(".")[0]).strip("_")
    return _SPOKEN.get(plain, plain) if namespace in ("aten", "prim") else f"{namespace}::{plain}"


def is_free(operator: Operator) -> bool:
    """Whether the operator only views or allocates; such are neither counted nor listed."""
    return bool(operator.is_view) or spoken_name(operator) in _ALLOCATIONS


def products(
    operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> int | None:
    """Multiply-accumulates of a convolution, linear layer or matrix product; None for others."""
    formula = flop_registry.get(operator._overloadpacket)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=out)) // 2
    product = _PRODUCTS.get(spoken_name(operator))
    return None if product is None else product(args)
