"""FcaNet's multi-spectral attention (FCA): channel gates from cosine transforms, not from means.

Qin, Zhang, Wu, Li: FcaNet, Frequency Channel Attention Networks, ICCV 2021.

    channels are split into n parts; part i has the frequency (u_i, v_i) of a 7x7 grid
    z = sum over p, q of x'[p, q] b_u(p) b_v(q)        x' is x pooled to L x L
    b_f(p) = sqrt((1 + [f > 0]) / L) cos(pi f (p + 1/2) / L)
    g = sigmoid(W2 relu(W1 z))
    y = x * g

A frequency of the 7x7 grid is multiplied by L // 7; (0, 0) alone gives L times the mean, as SE.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.blocks._pooled import adaptive_weights, resample
from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError

__all__ = ["FCA"]

# (u, v) as digits uv: best by the authors' single-frequency experiments, lowest, and worst
_FREQUENCIES = {
    "top": "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 46 63 33 53 55 21 61 52 "
    "54 32 31 41 23 20 65 13",
    "low": "00 01 10 11 02 20 21 12 22 03 30 40 04 13 31 05 14 23 32 41 50 06 15 24 "
    "33 42 51 60 16 25 34 43",
    "bot": "66 14 34 36 26 43 11 24 44 45 56 15 42 62 25 51 64 13 65 20 23 41 31 32 "
    "54 52 61 21 55 53 33 63",
}


class FCA(GateBlock):
    """Multi-spectral channel attention.

    Args:
        channels: C, a multiple of `count` and at least `reduction`.
        dct_size: L, or (rows, columns), 7 or more; the authors take the map's own size, 56, 28,
            14, 7 by stage. Maps of another size are average-pooled to it.
        frequencies: "top" (best in the authors' experiments), "low" or "bot" (worst).
        count: n, how many of them, up to 32.
        reduction: hidden channels are m = C // reduction.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1).

    Cost:
        2Cm parameters and a buffer of C L^2, 2Cm MACs; for maps of another size than L, and in
        graphs, CLH(L + W) more per call, for any batch.
    """

    info = Info(
        title="Multi-spectral channel attention (FcaNet)",
        summary="Gates channels as SE does, from cosine transforms in place of means.",
        paper="FcaNet: Frequency Channel Attention Networks, ICCV 2021",
        arxiv="2012.11879",
        year=2021,
        repository="cfzd/FcaNet",
        licence="MIT",
        positions=("before_add",),
        aliases=("fcanet", "fca_layer", "multi_spectral_attention"),
        deviations=(
            "For maps of another size the pooling is folded into the basis: the same sum, and its "
            "gradient is deterministic.",
            "dct_size below 7 makes all frequencies 0 in the authors' code; refused here.",
        ),
        min_channels=16,
        two_axes="Its frequencies are pairs that the authors ranked on images; for one axis or "
        "three there is no such ranking.",
    )

    basis: Tensor

    def __init__(
        self,
        channels: int,
        *,
        dct_size: int | tuple[int, int] = 7,
        frequencies: str = "top",
        count: int = 16,
        reduction: int = 16,
    ) -> None:
        super().__init__(channels)
        hidden = self._hidden(reduction)
        check_choice("FCA", "frequencies", frequencies, tuple(_FREQUENCIES))
        check_positive("FCA", "count", count)
        pairs = _FREQUENCIES[frequencies].split()
        if count > len(pairs):
            raise ArgumentError(f"FCA: count must be at most {len(pairs)}, got {count}")
        pairs = pairs[:count]
        if channels % count:
            raise ArgumentError(
                f"FCA: count must divide channels, got count={count} with channels={channels}; "
                f"use {max(channels // count, 1) * count} channels"
            )
        sides = dct_size if isinstance(dct_size, (tuple, list)) else (dct_size, dct_size)
        if len(sides) != 2 or not all(isinstance(side, int) and side >= 7 for side in sides):
            raise ArgumentError(
                f"FCA: dct_size must be an integer of at least 7, or two of them, got {dct_size!r}"
            )
        rows, columns = sides
        u, v = ([int(pair[i]) for pair in pairs] for i in (0, 1))
        basis = _cosines(u, rows)[:, :, None] * _cosines(v, columns)[:, None, :]
        basis = basis.repeat_interleave(channels // count, 0)  # (C, L, L)
        self.register_buffer("basis", basis.to(torch.get_default_dtype()))
        self.fc1 = nn.Linear(channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, channels, bias=False)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.fc2]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        z = (x * self._basis_for(x)).sum((2, 3))
        return (self._over_map(self.gate(self.fc2(F.relu(self.fc1(z))))),)

    def _basis_for(self, x: Tensor) -> Tensor:
        """The pooling to L x L folded into the basis: (C, L, L) -> (C, H, W)."""
        # a graph serves all sizes and must not ask for this one
        in_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
        if not in_graph and x.shape[2:] == self.basis.shape[1:]:
            return self.basis
        to_rows = adaptive_weights(self.basis.shape[1], x.shape[2], x)  # (L, H)
        to_columns = adaptive_weights(self.basis.shape[2], x.shape[3], x)
        return resample(self.basis, to_rows.mT, to_columns.mT)


def _cosines(frequencies: list[int], size: int) -> Tensor:
    """(n, L): the cosine of each frequency, scaled to unit length."""
    f = torch.tensor(frequencies, dtype=torch.float64)[:, None] * (size // 7)
    p = torch.arange(size, dtype=torch.float64)
    scale = torch.where(f > 0, 2.0, 1.0) / size
    return scale.sqrt() * torch.cos(math.pi * f * (p + 0.5) / size)
