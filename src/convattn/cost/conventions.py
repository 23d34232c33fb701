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

The others are those of tools that tables were made with, as these counted then:

    ============================  ============  ============  ==========  ======
    operations of                 thop-2019-07  thop-2019-08  ptflops     fvcore
    ============================  ============  ============  ==========  ======
    convolution, per output       k + bias      k + bias      k + bias    k
    linear layer of n, per output 2n - 1        2n - 1        n           n
    batch norm, per element       4             4             2           2
    ReLU, ReLU6, per element      1 [1]_        0             1           -
    max pool, global maximum      0             0             in          -
    mean over all positions [2]_  in + out      in + out      in          in
    ============================  ============  ============  ==========  ======

    .. [1] of those that one module runs, the last alone: a shared layer's count was overwritten.
    .. [2] and adaptive average pools to more than one place.

    thop-2019-07 is that of ECA's tables, thop-2019-08 of those for its ResNet-18 and -34, ptflops
    of Triplet Attention's. They call "FLOPs" what they count.

An operator without a rule is listed as uncounted in every convention. An operator of one's own
takes part by `torch.utils.flop_counter.register_flop_formula` (floating point operations, two for
each multiply-accumulate).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convattn.cost import tools
from convattn.cost.operators import Operator, numel, products, spoken_name

__all__ = ["CONVENTIONS", "Convention"]

Rule = Callable[[Tensor, tuple[Any, ...]], int]  # (first output, arguments) -> operations


@dataclass(frozen=True)
class Convention:
    """One way to count.

    Attributes:
        text: what it counts, for a reader.
        count: (operator, arguments, keyword arguments, output) -> operations, None where it has no
            rule.
        last_alone: operators of which each module's last call replaces those before.
    """

    text: str
    count: Callable[[Operator, tuple[Any, ...], dict[str, Any], Any], int | None]
    last_alone: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


def _per_input(times: int) -> Rule:
    return lambda out, args: times * numel(args[0])


def _per_output(times: int) -> Rule:
    return lambda out, args: times * numel(out)


def _window(out: Tensor, args: tuple[Any, ...]) -> int:
    """(input, kernel_size, ...): one int stands for all axes of the window."""
    axes = out.dim() - 2 if out.dim() > 2 else 1
    kernel = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
    return numel(out) * math.prod(kernel if len(kernel) > 1 else list(kernel) * axes)


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


def _count_all_ops(
    operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> int | None:
    macs = products(operator, args, kwargs, out)
    if macs is not None:
        return macs
    first = out[0] if isinstance(out, (tuple, list)) and out else out
    if not isinstance(first, Tensor):
        return None
    name = spoken_name(operator)
    reduces = name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor)
    rule = None if reduces else _RULES.get(name)  # max(x, y) of two tensors is elementwise
    if rule is not None:
        return rule(first, args)
    return numel(first) if torch.Tag.pointwise in operator.tags else None


CONVENTIONS: dict[str, Convention] = {
    "conv+linear": Convention(
        "multiply-accumulates of convolutions, linear layers and matrix products", products
    ),
    "all-ops": Convention(
        "the same, and all other operators by the rules in convattn.cost.conventions",
        _count_all_ops,
    ),
    "thop-2019-07": Convention(
        "as thop until July 2019: batch norm 4, ReLU 1 per element, linear layers 2n - 1",
        tools.count_thop_2019_07,
        last_alone=("relu", "hardtanh"),
    ),
    "thop-2019-08": Convention(
        "as thop from August 2019: batch norm 4 per element, linear layers 2n - 1",
        tools.count_thop_2019_08,
    ),
    "ptflops": Convention(
        "as ptflops until 2020: batch norm 2, ReLU and pools 1 per element", tools.count_ptflops
    ),
    "fvcore": Convention(
        "as fvcore: batch norm 2 per element, averages over all positions 1", tools.count_fvcore
    ),
}
