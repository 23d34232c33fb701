"""Global Second-order Pooling (GSoP): gates from the covariance of channels, or of positions.

Gao, Xie, Wang, Li: Global Second-order Pooling Convolutional Networks, CVPR 2019.

    z = BN(W relu(x))                                     C -> d
    S = covariance of the d channels of relu(z)           (d, d)     mode "channel"
    S = covariance of the 8x8 positions of pool_8x8(z)    (64, 64)   mode "position"
    r = row-wise W_r BN(S)                                4 numbers from each row of S
    y = x * sigmoid(W_c r)                                one gate per channel
    y = relu(x * up(sigmoid(W_p relu(r))))                one gate per position, 8x8 -> H x W
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._pooled import adaptive_weights, check_pooled_norm, resample
from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError

__all__ = ["GSoP"]

_SIDE = 8  # the position gate's grid


class GSoP(GateBlock):
    """Global Second-order Pooling.

    Args:
        channels: C.
        mode: "channel" or "position".
        dim: d, the channels whose covariance is taken.
        stride: of W in mode "channel"; None takes the authors' rule, 2 up to 259 channels (their
            first stage has 256), else 1.
        ndim: number of axes of the map; 1, 2 or 3, in mode "position" 2.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1) or (N, 1, H, W). The output of
        mode "position" is rectified, as in the authors' bottleneck.

    Cost:
        channel: 5Cd + 4d^2 + C + 9d parameters, CdH'W' + d^2H'W' + 4d^2 + 4dC MACs (H', W': H, W
        over the stride, rounded up);
        position: Cd + 3d + 33216 parameters, HWCd + 64^2 d + 64d + 2 * 4 * 64^2 MACs, and, pooling
        to 8x8 and back as matrix products, 8d(HW + 8W) + 8(8H + HW).
    """

    info = Info(
        title="Global Second-order Pooling",
        summary="Gates channels (or positions) from their covariance matrix.",
        paper="Global Second-order Pooling Convolutional Networks, CVPR 2019",
        arxiv="1811.12006",
        year=2019,
        repository="ZilinGao/Global-Second-order-Pooling-Convolutional-Networks",
        licence="MIT",
        positions=("before_add",),
        aliases=("gsop_net", "second_order_pooling"),
        deviations=(
            "In the code no activation stands between the last two layers of mode 'channel', and "
            "no relu behind the reduction of mode 'position'.",
            "The centring matrix of mode 'position' is (I - 11^T / 64) / 64 of size d in the code, "
            "a true centring for d = 64 only; it is kept.",
        ),
    )
    no_identity = "The output of mode 'position' is rectified: gates of 1 give relu(x), not x."

    def __init__(
        self,
        channels: int,
        *,
        mode: str = "channel",
        dim: int = 128,
        stride: int | None = None,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("GSoP", "mode", mode, ("channel", "position"))
        if mode == "position" and ndim != 2:
            raise ArgumentError(f"GSoP: mode 'position' needs ndim=2, its grid is 8x8; got {ndim}")
        check_positive("GSoP", "dim", dim)
        if stride is None:
            stride = 2 if mode == "channel" and channels // 4 <= 64 else 1
        check_positive("GSoP", "stride", stride)
        self.mode = mode
        rows = dim if mode == "channel" else _SIDE**2
        self.reduce = conv_nd(ndim)(channels, dim, 1, stride)
        self.reduce_bn = batch_norm_nd(ndim)(dim)
        self.row_bn = nn.BatchNorm2d(rows)
        self.row_conv = nn.Conv2d(rows, 4 * rows, (rows, 1), groups=rows)
        self.fc = nn.Linear(4 * rows, channels if mode == "channel" else rows)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.fc] if self.mode == "channel" else []

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = super().forward(x)
        return y if self.mode == "channel" else F.relu(y)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate, (N, C, 1, 1) or (N, 1, H, W)."""
        reduced = self.reduce(F.relu(x))
        check_pooled_norm(self, reduced[:, 0].numel(), "the reduced map", "batch or map")
        z = self.reduce_bn(reduced)
        if self.mode == "channel":
            return (self._over_map(self.gate(self.fc(self._rows(_covariance(F.relu(z)))))),)
        down = [adaptive_weights(_SIDE, length, z) for length in z.shape[2:]]
        rows = self._rows(_position_covariance(resample(z, *down)))
        gate = self.gate(self.fc(F.relu(rows))).view(-1, 1, _SIDE, _SIDE)
        up = [adaptive_weights(length, _SIDE, gate) for length in x.shape[2:]]
        return (resample(gate, *up),)

    def _rows(self, matrix: Tensor) -> Tensor:
        """(N, R, R) -> (N, 4R): four numbers from each row."""
        check_pooled_norm(self, matrix[:, 0].numel(), "the covariance")
        rows = self.row_bn(matrix[..., None]).squeeze(3)  # (N, R, R)
        weight = self.row_conv.weight.view(rows.shape[1], 4, -1)  # (R, 4, R)
        mixed = torch.einsum("nrk,rjk->nrj", rows, weight).flatten(1)
        bias = self.row_conv.bias
        assert bias is not None
        return mixed + bias.to(mixed.dtype)


def _covariance(z: Tensor) -> Tensor:
    """(N, d, H, W) -> (N, d, d)."""
    precise = _precise(z)
    centred = precise - precise.mean(2, keepdim=True)
    return (centred @ precise.mT / precise.shape[2]).to(z.dtype)


def _position_covariance(z: Tensor) -> Tensor:
    """(N, d, 8, 8) -> (N, 64, 64), centred by the authors' matrix."""
    precise = _precise(z)
    centred = precise - precise.sum(1, keepdim=True) / precise.shape[2]
    return (precise.mT @ centred / precise.shape[2]).to(z.dtype)


def _precise(z: Tensor) -> Tensor:
    """(N, d, H, W) -> (N, d, HW), whose sums of products are infinite in float16."""
    return z.flatten(2).to(torch.promote_types(z.dtype, torch.float32))
