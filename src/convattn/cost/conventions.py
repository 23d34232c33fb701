"""Counting conventions: how many operations each operator stands for.

Tables of different papers cannot be mixed unless the convention is the same: MobileNetV2 at 224 is
"300 M" in one and "327 M" in another. Every number of ours therefore names its convention.

conv+linear
    Multiply-accumulates of convolutions, linear layers and matrix products, biases free; all else
    is listed as uncounted. The convention of the CA paper, and the one whose number does not
    depend on how a block is written (means or adaptive pools, 1x1 convolutions or products).

all-ops
    The same, and for each other operator, as it is written in the model:

    ==================================================  ===========================
    elementwise (add, mul, sigmoid, hardswish, max, …)  1 per output element
    mean, sum, max, min, product over axes              1 per input element
    adaptive average pool                               1 per input element
    2-norm; variance, standard deviation                2; 3 per input element
    average or max pool of a window of k elements       k per output element
    batch norm in eval                                  2 per element
    layer, group or instance norm                       5 per element
    softmax, log-softmax; log-sum-exp                   5; 4 per input element
    bilinear upsampling                                 4 per output element
    copies (cat, stack, pad, clone, gather, nearest …)  0
    ==================================================  ===========================

An operator without a rule is listed as uncounted in either convention. An operator of one's own
takes part by `torch.utils.flop_counter.register_flop_formula` (floating point operations, two for
each multiply-accumulate).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

__all__ = ["CONVENTIONS", "count_all_ops", "count_products", "is_free", "spoken_name"]

Operator = Any  # torch._ops.OpOverload
Rule = Callable[[Tensor, tuple[Any, ...]], int]  # (first output, arguments) -> operations

CONVENTIONS: dict[str, str] = {
    "conv+linear": "multiply-accumulates of convolutions, linear layers and matrix products",
    "all-ops": "the same, and all other operators by the rules in convattn.cost.conventions",
}


def _numel(x: Any) -> int:
    return x.numel() if isinstance(x, Tensor) else sum(t.numel() for t in x)


def _per_input(times: int) -> Rule:
    return lambda out, args: times * _numel(args[0])


def _per_output(times: int) -> Rule:
    return lambda out, args: times * _numel(out)


def _window(out: Tensor, args: tuple[Any, ...]) -> int:
    """(input, kernel_size, ...): one int stands for all axes of the window."""
    axes = out.dim() - 2 if out.dim() > 2 else 1
    kernel = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
    return _numel(out) * math.prod(kernel if len(kernel) > 1 else list(kernel) * axes)


# Products that torch's own registry leaves out: ECA's k-tap kernel is a matrix-vector product.
_PRODUCTS: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "mv": lambda args: _numel(args[0]),
    "addmv": lambda args: _numel(args[1]),
    "dot": lambda args: _numel(args[0]),
    "vdot": lambda args: _numel(args[0]),
    "addbmm": lambda args: _numel(args[1]) * args[2].shape[2],
}


def _all(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[str, Rule] = {
    **_all("mean sum prod max min amax amin argmax argmin cumsum", _per_input(1)),
    **_all("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", _per_input(1)),
    **_all("adaptive_max_pool2d adaptive_max_pool3d", _per_input(1)),
    **_all("linalg_vector_norm norm", _per_input(2)),
    **_all("var std var_mean std_mean", _per_input(3)),
    **_all("avg_pool1d avg_pool2d avg_pool3d", _window),
    **_all("max_pool2d_with_indices max_pool3d_with_indices", _window),
    **_all("batch_norm", _per_input(2)),
    **_all("layer_norm group_norm instance_norm", _per_input(5)),
    **_all("softmax log_softmax", _per_input(5)),
    **_all("logsumexp", _per_input(4)),
    **_all("upsample_bilinear2d", _per_output(4)),
    # elementwise ones that torch does not tag as such
    **_all("hardswish hardsigmoid prelu rrelu_with_noise floor_divide", _per_output(1)),
    **_all("clone copy to_copy cat stack repeat flip roll fill zero one_hot", _per_output(0)),
    **_all("constant_pad_nd reflection_pad2d replication_pad2d", _per_output(0)),
    **_all("index index_select gather im2col pixel_shuffle", _per_output(0)),
    **_all("channel_shuffle native_channel_shuffle", _per_output(0)),
    **_all("upsample_nearest1d upsample_nearest2d upsample_nearest3d", _per_output(0)),
}

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


def spoken_name(operator: Operator) -> str:
    """What the operator is called in tables: "batch_norm", "hardtanh", "mylib::my_operator"."""
    namespace, _, name = operator.name().partition("::")
    plain = str(name.partition(".")[0]).strip("_")
    return _SPOKEN.get(plain, plain) if namespace in ("aten", "prim") else f"{namespace}::{plain}"


def is_free(operator: Operator) -> bool:
    """Whether the operator only views or allocates; such are neither counted nor listed."""
    return bool(operator.is_view) or spoken_name(operator) in _ALLOCATIONS


def count_products(
    operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> int | None:
    """Multiply-accumulates of a convolution, linear layer or matrix product; None for others."""
    formula = flop_registry.get(operator._overloadpacket)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=out)) // 2
    product = _PRODUCTS.get(spoken_name(operator))
    return None if product is None else product(args)


def count_all_ops(operator: Operator, args: tuple[Any, ...], out: Any) -> int | None:
    """Operations of any other operator by the rules above; None where there is no rule."""
    first = out[0] if isinstance(out, (tuple, list)) and out else out
    if not isinstance(first, Tensor):
        return None
    name = spoken_name(operator)
    reduces = name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor)
    rule = None if reduces else _RULES.get(name)  # max(x, y) of two tensors is elementwise
    if rule is not None:
        return rule(first, args)
    return _numel(first) if torch.Tag.pointwise in operator.tags else None
