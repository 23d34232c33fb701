"""Global Context block (GC): one vector of context for all positions.

Cao, Xu, Lin, Wei, Hu: GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond,
ICCV Workshops 2019.

    a = softmax over positions of w x          (HW)     pooling "att"; "avg" takes a = 1 / HW
    c = sum over positions of a x              (C)
    t = W2 relu(LayerNorm(W1 c))               (C)      C -> m -> C
    y = x + t                                           fusion "add"
    y = x * sigmoid(t)                                  fusion "mul"
"""

from __future__ import annotations

from torch import Tensor, nn

from convattn.blocks._base import ContextBlock, Info, conv_nd
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_feature_map, check_positive
from convattn.ops import global_context, global_mean

__all__ = ["GC"]


class GC(ContextBlock):
    """Global Context.

    Args:
        channels: C, at least `reduction`.
        reduction: hidden channels are m = C // reduction; None takes 16, in timm's form 8.
        hidden: m itself; None takes it from `reduction`.
        pooling: "att" or "avg".
        fusion: "add", "mul", or "mul_add": multiply, then add, each with its own W1 and W2. None
            takes "add", in timm's form "mul".
        variant: "authors", or "timm": m rounded to nearest, so that C may be any, and 1e-6 in the
            layer norm.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; the added vector is (N, C, 1, 1).

    Cost:
        C + 1 parameters and 2CHW MACs for "att" (none for "avg"), and for each fusion
        2Cm + C + 3m parameters and 2Cm MACs.
    """

    info = Info(
        title="Global Context",
        summary="Pools one context vector by attention, transforms it and adds it everywhere.",
        paper="GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, "
        "ICCV Workshops 2019",
        arxiv="1904.11492",
        year=2019,
        repository="xvjiarui/GCNet",
        licence="Apache-2.0",
        positions=("before_add",),
        aliases=("gcnet", "global_context", "context_block"),
        deviations=(
            "The last layers start at zero as in the authors' code: with 'add' the block starts "
            "as the identity, with 'mul' at a gate of one half.",
            "timm multiplies by default, with reduction 8, and has 1e-6 in the layer norm; its "
            "'gca' adds.",
        ),
        min_channels=16,
    )

    def __init__(
        self,
        channels: int,
        *,
        reduction: int | None = None,
        hidden: int | None = None,
        pooling: str = "att",
        fusion: str | None = None,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("GC", "pooling", pooling, ("att", "avg"))
        check_choice("GC", "variant", variant, ("authors", "timm"))
        timm = variant == "timm"
        if fusion is None:
            fusion = "mul" if timm else "add"
        check_choice("GC", "fusion", fusion, ("add", "mul", "mul_add"))
        if reduction is None:
            reduction = 8 if timm else 16
        check_positive("GC", "reduction", reduction)
        if hidden is None:
            hidden = rounded_width(channels / reduction, 1) if timm else self._hidden(reduction)
        check_positive("GC", "hidden", hidden)
        self.pooling = pooling
        self.fusion = fusion
        if pooling == "att":
            self.mask = conv_nd(ndim)(channels, 1, 1)
            nn.init.kaiming_normal_(self.mask.weight)
            assert self.mask.bias is not None
            nn.init.zeros_(self.mask.bias)
        eps = 1e-6 if timm else 1e-5
        if "add" in fusion:
            self.add = _transform(channels, hidden, eps)
        if "mul" in fusion:
            self.mul = _transform(channels, hidden, eps)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.mul[-1]] if "mul" in self.fusion else []

    def zero_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.add[-1]] if "add" in self.fusion else []

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes)."""
        if self.fusion == "add":
            return super().forward(x)
        check_feature_map(self, x, self.channels, self.ndim)
        pooled = self._pool(x)
        y = x * self._over_map(self.gate(self.mul(pooled))).to(x.dtype)
        return y if self.fusion == "mul" else y + self._over_map(self.add(pooled)).to(x.dtype)

    def _whole(self, x: Tensor) -> Tensor | None:
        if self.pooling != "att":
            return None
        return global_context(x, self.mask, self.add[0], self.add[1], self.add[3])

    def context(self, x: Tensor) -> Tensor:
        """What "add" adds, (N, C, 1, 1)."""
        return self._over_map(self.add(self._pool(x))).to(x.dtype)

    def _pool(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C)."""
        if self.pooling == "avg":
            return global_mean(x)
        weights = self.mask(x).flatten(2).softmax(2)  # (N, 1, HW)
        return (x.flatten(2) @ weights.to(x.dtype).mT)[..., 0]


def _transform(channels: int, hidden: int, eps: float) -> nn.Sequential:
    last = nn.Linear(hidden, channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden, eps), nn.ReLU(), last)
