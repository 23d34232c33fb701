"""The authors' mobile networks as plain functions, on the layers of `authors_functional`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from authors_functional import Layer, State, conv, linear, norm
from torch import Tensor


def mobilenet_v2(s: State, x: Tensor, attention: Layer | None, simam_: Layer | None) -> Tensor:
    """Under torchvision's names; attention last in each block, or SimAM behind the depthwise."""
    dw_norm = 2 if simam_ else 1

    def layer(p: str, y: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        y = conv(s, f"{p}.0", y, stride, groups)
        if groups > 1 and simam_:
            y = simam_(s, p, y)
        return F.relu6(norm(s, f"{p}.{dw_norm if groups > 1 else 1}", y))

    x = layer("features.0", x, 2)
    for k in range(1, 18):
        p, y = f"features.{k}.conv", x
        first = 0 if k == 1 else 1
        if first:
            y = layer(f"{p}.0", y)
        y = layer(f"{p}.{first}", y, 2 if k in (2, 4, 7, 14) else 1, y.shape[1])
        y = norm(s, f"{p}.{first + 2}", conv(s, f"{p}.{first + 1}", y))
        y = attention(s, f"{p}.{first + 3}", y) if attention else y
        x = x + y if x.shape == y.shape else y
    return linear(
        s, "classifier.0" if simam_ else "classifier.1", layer("features.18", x).mean((2, 3))
    )


def hsigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def mobilenet_v3(s: State, x: Tensor, strides: str, first_hswish: int) -> Tensor:
    """d-li14's: behind an expansion the gate comes before the activation.

    `strides` has a digit for each block; from block `first_hswish` on the activation is h-swish.
    """

    def hswish(y: Tensor) -> Tensor:
        return y * hsigmoid(y)

    def gated(p: str, y: Tensor) -> Tensor:
        if f"{p}.fc.0.weight" not in s:
            return y
        v = linear(s, f"{p}.fc.2", F.relu(linear(s, f"{p}.fc.0", y.mean((2, 3)))))
        return y * hsigmoid(v)[..., None, None]

    x = hswish(norm(s, "features.0.1", conv(s, "features.0.0", x, 2)))
    for k, digit in enumerate(strides, 1):
        p, stride, y = f"features.{k}.conv", int(digit), x
        act = hswish if k >= first_hswish else F.relu
        if k == 1:
            y = act(norm(s, f"{p}.1", conv(s, f"{p}.0", y, stride, y.shape[1])))
            y = norm(s, f"{p}.5", conv(s, f"{p}.4", gated(f"{p}.3", y)))
        else:
            y = act(norm(s, f"{p}.1", conv(s, f"{p}.0", y)))
            y = norm(s, f"{p}.4", conv(s, f"{p}.3", y, stride, y.shape[1]))
            y = norm(s, f"{p}.8", conv(s, f"{p}.7", act(gated(f"{p}.5", y))))
        x = x + y if x.shape == y.shape else y
    x = hswish(norm(s, "conv.1", conv(s, "conv.0", x))).mean((2, 3))
    return linear(s, "classifier.3", hswish(linear(s, "classifier.0", x)))


def coordinate_attention(s: State, p: str, x: Tensor) -> Tensor:
    """The CA paper's equations 4 to 8, under the names of mbv2_ca.py."""
    rows, columns = x.mean(3), x.mean(2)  # (N, C, H), (N, C, W)
    f = conv(s, f"{p}.conv1", torch.cat((rows, columns), 2)[..., None])
    f = norm(s, f"{p}.bn1", f)
    f = f * hsigmoid(f)
    f_h, f_w = f[:, :, : x.shape[2]], f[:, :, x.shape[2] :]
    g_h, g_w = conv(s, f"{p}.conv2", f_h).sigmoid(), conv(s, f"{p}.conv3", f_w).sigmoid()
    return x * g_h * g_w[..., 0][:, :, None]


def flat_mobilenet_v2(s: State, x: Tensor, attention: Layer) -> Tensor:
    """Under the names of d-li14 and mbv2_ca.py, all layers of a block in one Sequential."""

    def layer(p: str, i: int, y: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        return norm(s, f"{p}.{i + 1}", conv(s, f"{p}.{i}", y, stride, groups))

    x = F.relu6(layer("features.0", 0, x, 2))
    x = F.relu6(layer("features.1.conv", 0, x, 1, x.shape[1]))
    x = layer("features.1.conv", 3, x)
    for k in range(2, 18):
        p = f"features.{k}.conv"
        y = F.relu6(layer(p, 0, x))
        y = F.relu6(layer(p, 3, y, 2 if k in (2, 4, 7, 14) else 1, y.shape[1]))
        y = layer(p, 7, attention(s, f"{p}.6", y))
        x = x + y if x.shape == y.shape else y
    return linear(s, "classifier.1", F.relu6(layer("conv", 0, x)).mean((2, 3)))
