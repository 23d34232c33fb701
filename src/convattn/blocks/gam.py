"""Global Attention Mechanism (GAM): a gate per value from the channels, then one from the map.

Liu, Shao, Hoffmann: Global Attention Mechanism, arXiv 2021.

    M_c = W2 relu(W1 x)                                   at every position; C -> m -> C
    M_s = sigmoid(BN(conv_7x7(relu(BN(conv_7x7 (x * M_c))))))              C -> m -> C
    y   = x * M_c * M_s
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.core.checks import check_choice, check_norm_input
from convattn.core.errors import ArgumentError
from convattn.ops import mix_channels

__all__ = ["GAM"]

_SHUFFLE = 4  # groups of the channel shuffle in the code in circulation, whatever the rate


class GAM(GateBlock):
    """Global Attention Mechanism.

    Args:
        channels: C, at least `reduction`; when grouped a multiple of 4 and of `reduction` squared.
        reduction: hidden channels are m = C // reduction; the authors' argument `rate`.
        grouped: both 7x7 convolutions in `reduction` groups, and the channels of M_s shuffled.
        variant: "authors" multiplies by M_c as it is, as the code in circulation; "paper" by its
            sigmoid.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gates (N, C, H, W) twice, the first of any sign.
        In training the batch norms need N * H * W > 1.

    Cost:
        100Cm + 4C + 4m parameters, 100CmHW MACs; grouped 98Cm / reduction in place of 98Cm. In n
        axes 2 * 7^n in place of 98.
    """

    info = Info(
        title="Global Attention Mechanism",
        summary="Gates every value by a channel network, then by two 7x7 convolutions.",
        paper="Global Attention Mechanism: Retain Information to Enhance Channel-Spatial "
        "Interactions, 2021",
        arxiv="2112.05561",
        year=2021,
        positions=("before_add",),
        aliases=("gam_attention", "global_attention"),
        deviations=(
            "No authors' code was found; 'authors' is the code in circulation (iscyy/yoloair).",
            "It multiplies by the channel part without a sigmoid; that the paper has one there is "
            "recalled, not verified.",
            "Its ungrouped form shuffles the channels of M_s in some copies; not here.",
        ),
        min_channels=4,
    )

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        grouped: bool = False,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("GAM", "variant", variant, ("authors", "paper"))
        hidden = self._hidden(reduction)
        groups = reduction if grouped else 1
        if grouped and (channels % groups or hidden % groups or channels % _SHUFFLE):
            raise ArgumentError(
                f"GAM: channels must be a multiple of {_SHUFFLE} and of reduction * reduction = "
                f"{groups * groups} when grouped, got {channels}"
            )
        self.grouped = grouped
        self.variant = variant
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        conv, norm = conv_nd(ndim), batch_norm_nd(ndim)
        self.conv1 = conv(channels, hidden, 7, padding=3, groups=groups)
        self.bn1 = norm(hidden)
        self.conv2 = conv(hidden, channels, 7, padding=3, groups=groups)
        self.bn2 = norm(channels)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.fc2, self.bn2] if self.variant == "paper" else [self.bn2]

    def unit_layers(self) -> list[nn.Module]:
        """The channel part without a sigmoid: 1 for a start as the identity."""
        return [] if self.variant == "paper" else [self.fc2]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """Gates (N, C, H, W), the channel part's and the map part's."""
        check_norm_input(self, x[:, 0].numel())
        hidden = F.relu(mix_channels(x.flatten(2), self.fc1.weight, self.fc1.bias))
        mixed = mix_channels(hidden, self.fc2.weight, self.fc2.bias).view_as(x)
        channel = self.gate(mixed) if self.variant == "paper" else mixed
        hidden = F.relu(self.bn1(self.conv1(x * channel.to(x.dtype))))
        spatial = self.gate(self.bn2(self.conv2(hidden)))
        if self.grouped:
            spatial = spatial.unflatten(1, (_SHUFFLE, -1)).transpose(1, 2).flatten(1, 2)
        return channel, spatial
