"""Non-local block (NL): every position adds a weighted sum over all positions.

Wang, Girshick, Gupta, He: Non-local Neural Networks, CVPR 2018.

    y_i = x_i + W o_i    o_i = sum_j A_ij g(x_j)    W: m -> C and a batch norm      (eq. 1, 6)

    gaussian            A = softmax_j(x_i . x_j)                                    (eq. 2)
    embedded_gaussian   A = softmax_j(theta_i . phi_j)                              (eq. 3)
    dot_product         A = theta_i . phi_j / P                                     (eq. 4)
    concatenation       A = relu(w . [theta_i, phi_j]) / P                          (eq. 5)

over the P positions j. The authors' code scales theta_i . phi_j of the embedded Gaussian by m^-0.5.
The equation numbers are recalled, not checked against the paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import ContextBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_norm_input, check_positive

__all__ = ["NonLocal"]

_MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


class NonLocal(ContextBlock):
    """Non-local block.

    Args:
        channels: C, at least `reduction`.
        mode: of the four above.
        reduction: hidden channels are m = C // reduction; None takes 2, in timm's form 8.
        hidden: m itself; None takes it from `reduction`.
        scale: scale the embedded Gaussian's logits by m^-0.5.
        subsample: 2x2 max pooling of what is summed over: "input" in front of phi and g as in the
            authors' code, "embedding" behind them, "none" for no pooling. None takes "input", in
            timm's form "none".
        norm: batch norm behind W.
        out_bias: bias in W.
        variant: "authors", or "timm": m rounded to a multiple of 8, so that C may be any, and the
            scale C^-0.5.
        ndim: number of axes of the map; 1, 2 or 3. Of three the first is not pooled.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; an axis with one position is not pooled. In
        training the batch norm needs N * H * W > 1.

    Cost:
        4Cm + 3m + 3C parameters ("gaussian" 2Cm + m + 3C, "concatenation" 2m more; without norm
        2C less, without out_bias C less). Without subsampling 4CmHW + 2m(HW)^2 MACs.
    """

    info = Info(
        title="Non-local block",
        summary="Adds to each position a weighted sum over all positions.",
        paper="Non-local Neural Networks, CVPR 2018",
        arxiv="1711.07971",
        year=2018,
        repository="facebookresearch/video-nonlocal-net",
        licence="CC BY-NC 4.0",
        positions=("after_add",),
        aliases=("nl", "nonlocal", "non_local_block"),
        deviations=(
            "The authors' code is Caffe2; it scales the logits and max-pools the input of phi "
            "and g. AlexHex7/Non-local_pytorch does not scale and pools behind phi and g.",
            "mmcv has no norm by default, and no bias in front of its norm.",
            "timm has m = C / 8 rounded to a multiple of 8, scales by C^-0.5 and does not pool.",
        ),
        min_channels=2,
    )

    def __init__(
        self,
        channels: int,
        *,
        mode: str = "embedded_gaussian",
        reduction: int | None = None,
        hidden: int | None = None,
        scale: bool = True,
        subsample: str | None = None,
        norm: bool = True,
        out_bias: bool = True,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("NonLocal", "mode", mode, _MODES)
        check_choice("NonLocal", "variant", variant, ("authors", "timm"))
        timm = variant == "timm"
        if subsample is None:
            subsample = "none" if timm else "input"
        check_choice("NonLocal", "subsample", subsample, ("input", "embedding", "none"))
        if reduction is None:
            reduction = 8 if timm else 2
        check_positive("NonLocal", "reduction", reduction)
        m = hidden
        if m is None:
            m = rounded_width(channels / reduction, 8, 0.9) if timm else self._hidden(reduction)
        check_positive("NonLocal", "hidden", m)
        self.mode, self.subsample, self.norm = mode, subsample, norm
        scale = scale and mode == "embedded_gaussian"
        self.scale = (channels if timm else m) ** -0.5 if scale else 1.0
        conv = conv_nd(ndim)
        self.pool = _MaxPool()

        def key_conv() -> nn.Module:
            layer = conv(channels, m, 1)
            return nn.Sequential(layer, self.pool) if subsample == "embedding" else layer

        self.g = key_conv()
        last: nn.Module = conv(m, channels, 1, bias=out_bias)
        self.out = nn.Sequential(last, batch_norm_nd(ndim)(channels)) if norm else last
        if mode != "gaussian":
            self.theta = conv(channels, m, 1)
            self.phi = key_conv()
        if mode == "concatenation":
            self.relation = nn.Linear(2 * m, 1, bias=False)
        self.start_as_identity()

    def zero_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [[*self.out.modules()][-1]]

    def context(self, x: Tensor) -> Tensor:
        """(N, C, *axes)."""
        if self.norm:
            check_norm_input(self, x[:, 0].numel())
        keys = self.pool(x) if self.subsample == "input" else x
        if self.mode == "gaussian":
            theta, phi = x, self.pool(x) if self.subsample != "none" else x
        else:
            theta, phi = self.theta(x), self.phi(keys)
        weights = self._weights(theta.flatten(2), phi.flatten(2))  # (N, HW, P)
        g = self.g(keys).flatten(2)  # (N, m, P)
        summed = (g @ weights.to(g.dtype).mT).unflatten(2, x.shape[2:])
        return self.out(summed).to(x.dtype)

    def _weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        """(N, m, HW), (N, m, P) -> (N, HW, P)."""
        if self.mode == "concatenation":
            left, right = self.relation.weight[0].chunk(2)
            logits = F.relu((left @ theta)[..., None] + (right @ phi)[:, None])
        else:
            logits = theta.mT @ phi * self.scale
        return logits.softmax(2) if "gaussian" in self.mode else logits / phi.shape[2]


class _MaxPool(nn.Module):
    """2x2 max pooling, stride 2, of the last two axes.

    In slices, since the gradient of max_pool2d is not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        for axis in range(max(2, x.dim() - 2), x.dim()):
            if torch.jit.is_tracing() or x.shape[axis] > 1:  # type: ignore[attr-defined]
                front = (slice(None),) * axis
                pair = x[(*front, slice(0, -1, 2))], x[(*front, slice(1, None, 2))]
                x = torch.stack(pair).max(0).values
        return x
