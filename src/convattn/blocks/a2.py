"""Double attention (A2): gather global descriptors by attention, distribute them by attention.

Chen, Kalantidis, Li, Yan, Feng: A^2-Nets: Double Attention Networks, NeurIPS 2018.

    A = W_A x                                  (m, HW)
    B = softmax over positions of W_B x        (n, HW)
    V = softmax over channels of W_V x         (n, HW)
    G = A B^T                                  (m, n)     gather
    y = x + W (G V)                                       distribute
"""

from __future__ import annotations

from torch import Tensor, nn

from convattn.blocks._base import ContextBlock, Info, conv_nd
from convattn.core.checks import check_feature_map, check_positive

__all__ = ["A2"]


class A2(ContextBlock):
    """Double attention.

    Args:
        channels: C.
        hidden: m, channels of what is gathered; None takes C // 2.
        maps: n, number of attention maps; None takes m.
        residual: False returns W (G V) without x.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W.

    Cost:
        2Cm + 2Cn + m + 2n + C parameters, HW(2Cm + 2Cn + 2mn) MACs.
    """

    info = Info(
        title="Double attention",
        summary="Gathers global descriptors by attention and distributes them by attention.",
        paper="A^2-Nets: Double Attention Networks, NeurIPS 2018",
        arxiv="1810.11579",
        year=2018,
        positions=("after_add",),
        aliases=("a2net", "double_attention"),
        deviations=(
            "No authors' code was found. The sum with x follows the paper as recalled, and m = n "
            "= C // 2 is inferred from the published size of their ResNet-50; neither is verified.",
            "Wrong in External-Attention-pytorch: the softmax runs over the batch, so an image's "
            "output depends on the other images; it also has no sum with x.",
        ),
        min_channels=2,
    )
    no_identity = "With residual=False the map itself is not in the output."

    def __init__(
        self,
        channels: int,
        *,
        hidden: int | None = None,
        maps: int | None = None,
        residual: bool = True,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        m = self._hidden(2) if hidden is None else hidden
        n = m if maps is None else maps
        check_positive("A2", "hidden", m)
        check_positive("A2", "maps", n)
        conv = conv_nd(ndim)
        self.residual = residual
        self.gathered = conv(channels, m, 1)
        self.gather = conv(channels, n, 1)
        self.distribute = conv(channels, n, 1)
        self.out = conv(m, channels, 1)

    def can_start_as_identity(self) -> bool:
        """See `no_identity`."""
        return self.residual

    def zero_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.out]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes)."""
        if self.residual:
            return super().forward(x)
        check_feature_map(self, x, self.channels, self.ndim)
        return self.context(x)

    def context(self, x: Tensor) -> Tensor:
        """(N, C, *axes)."""
        a = self.gathered(x).flatten(2)  # (N, m, HW)
        b = self.gather(x).flatten(2).softmax(2).to(a.dtype)  # (N, n, HW)
        v = self.distribute(x).flatten(2).softmax(1).to(a.dtype)  # (N, n, HW)
        z = (a @ b.mT) @ v  # (N, m, n) @ (N, n, HW)
        return self.out(z.unflatten(2, x.shape[2:])).to(x.dtype)
