"""Attention-augmented convolution (AA): a convolution beside multi-head self-attention.

Bello, Zoph, Vaswani, Shlens, Le: Attention Augmented Convolutional Networks, ICCV 2019.

    q, k, v = W x            d_k, d_k, d_v channels, in N_h heads of consecutive channels
    l_ij    = d^-0.5 q_i . (k_j + r^h_(row j - row i) + r^w_(col j - col i))     d = d_k / N_h
    o_i     = sum_j softmax_j(l_ij) v_j
    y       = [conv_kxk x, W_O [o of all heads]]            C_out - d_v and d_v channels
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._axes import axis_names
from convattn.blocks._base import ConvBlock, Info, conv_nd
from convattn.blocks._pooled import check_size
from convattn.core.checks import check_odd, check_positive
from convattn.core.errors import ArgumentError

__all__ = ["AA"]


class AA(ConvBlock):
    """Attention-augmented convolution.

    Args:
        channels: C of the input.
        out_channels: C_out, more than d_v; None for C.
        stride: of the convolution and of q, k, v.
        kernel_size: of the convolution, odd.
        heads: N_h.
        key_channels: d_k, a multiple of N_h; None takes 0.2 C_out, at least 20 per head.
        value_channels: d_v, a multiple of N_h; None takes 0.1 C_out, at least 1 per head.
        relative: the terms r^h and r^w, whose tables all heads share.
        size: (H, W) of the maps whose offsets the tables hold; None takes 32 along each axis. On
            larger maps farther offsets take the farthest entry.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C_out, H / stride, W / stride), rounded up; any H, W.

    Cost:
        (k^2 C + 1)(C_out - d_v) + (C + 1)(2d_k + d_v) + (d_v + 1)d_v parameters, relative
        2(H + W - 1)d_k / N_h more (H, W of `size`); at stride 1 HW(k^2 C(C_out - d_v) +
        C(2d_k + d_v) + d_v^2 + HW(d_k + d_v)) MACs, relative HW(H + W)d_k and, to pick the
        tables' entries, (H^2(2S_h - 1) + W^2(2S_w - 1))d_k / N_h more, S the `size`.
    """

    info = Info(
        title="Attention-augmented convolution",
        summary="Concatenates a convolution with multi-head self-attention over all positions.",
        paper="Attention Augmented Convolutional Networks, ICCV 2019",
        arxiv="1904.09925",
        year=2019,
        positions=("conv3x3",),
        aliases=("aaconv", "attention_augmented_conv"),
        deviations=(
            "No authors' repository exists.",
            "Wrong in leaderj1001/Attention-Augmented-Conv2d: one form draws new relative tables "
            "at every call, and both scale a view in place, which autograd refuses. Here the "
            "tables are parameters.",
            "The default widths and heads, and the stride of q, k, v, are recalled, not verified.",
            "The paper's tables fit one size of map; here any size, see `size`.",
        ),
        min_channels=9,
    )

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        kernel_size: int = 3,
        heads: int = 8,
        key_channels: int | None = None,
        value_channels: int | None = None,
        relative: bool = True,
        size: tuple[int, ...] | None = None,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, out_channels, stride, ndim)
        check_odd("AA", "kernel_size", kernel_size)
        check_positive("AA", "heads", heads)
        out = self.out_channels
        dk = heads * max(20, round(0.2 * out / heads)) if key_channels is None else key_channels
        dv = heads * max(1, round(0.1 * out / heads)) if value_channels is None else value_channels
        for name, width in (("key_channels", dk), ("value_channels", dv)):
            check_positive("AA", name, width)
            if width % heads:
                raise ArgumentError(f"AA: {name} must be a multiple of heads={heads}, got {width}")
        if dv >= out:
            raise ArgumentError(
                f"AA: out_channels={out} must be more than value_channels={dv}; use at least "
                f"{dv + 1} channels, or fewer heads than {heads}"
            )
        self.heads, self.dk, self.dv, self.relative = heads, dk, dv, relative
        if relative:
            self.size = check_size("AA", "size", (32,) * ndim if size is None else size, ndim)
            d = dk // heads
            for axis, length in zip(axis_names(ndim), self.size, strict=True):
                table = torch.randn(2 * length - 1, d) * d**-0.5
                self.register_parameter(f"rel_{axis}", nn.Parameter(table))
        padding, conv = kernel_size // 2, conv_nd(ndim)
        self.conv = conv(channels, out - dv, kernel_size, stride, padding)
        self.qkv = conv(channels, 2 * dk + dv, 1, stride)
        self.project = conv(dv, dv, 1)

    def convolve(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C_out, H', W')."""
        return torch.cat((self.conv(x), self.project(self._attend(self.qkv(x)))), 1).to(x.dtype)

    def _attend(self, qkv: Tensor) -> Tensor:
        """(N, 2d_k + d_v, H, W) -> (N, d_v, H, W)."""
        q, k, v = (
            part.unflatten(1, (self.heads, -1))
            for part in qkv.split((self.dk, self.dk, self.dv), 1)
        )  # (N, N_h, d, H, W)
        q = q * (self.dk // self.heads) ** -0.5
        logits = q.flatten(3).mT @ k.flatten(3)  # (N, N_h, HW, HW)
        if self.relative:
            terms = [self._relative(q, place) for place in range(self.ndim)]
            relative = sum(terms[1:], start=terms[0])  # (N, N_h, H, W, H, W)
            logits = logits + relative.flatten(2 + self.ndim).flatten(2, 1 + self.ndim)
        weights = logits.softmax(3).to(v.dtype)
        return (v.flatten(3) @ weights.mT).flatten(1, 2).unflatten(2, qkv.shape[2:])

    def _relative(self, q: Tensor, place: int) -> Tensor:
        """q_i . r_(j - i) along one axis: (N, N_h, d, H, W) -> (N, N_h, H, W, 1, W) or the like."""
        axes = axis_names(self.ndim)
        axis = axes[place]
        table = _offsets(getattr(self, f"rel_{axis}"), q.shape[3 + place])
        term = torch.einsum(f"nac{axes},{axis}jc->na{axes}j", q, table)
        return term[(..., *(slice(None) if p == place else None for p in range(self.ndim)))]


def _offsets(table: Tensor, length: int) -> Tensor:
    """Entry for each pair (query, key) along an axis: (2S - 1, d) -> (length, length, d).

    A product with zeros and ones, whose gradient is deterministic where that of an index is not.
    """
    reach = table.shape[0] // 2
    positions = torch.arange(length, device=table.device)
    offset = (positions - positions[:, None]).clamp(-reach, reach) + reach  # (query, key)
    entries = torch.arange(table.shape[0], device=table.device)
    return (offset[..., None] == entries).to(table.dtype) @ table
