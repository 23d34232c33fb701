"""cfzd/FcaNet: multi-spectral channel attention and its networks."""

from __future__ import annotations

from convattn.authors._resnet import in_blocks, resnet_builder
from convattn.authors._source import Source
from convattn.blocks.fca import FCA
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _layer(
    channel: int, dct_h: int, dct_w: int, reduction: int = 16, freq_sel_method: str = "top16"
) -> FCA:
    if freq_sel_method[3:] not in ("1", "2", "4", "8", "16", "32"):
        raise ArgumentError(
            f"freq_sel_method must be top, low or bot with 1, 2, 4, 8, 16 or 32, as 'top16'; "
            f"got {freq_sel_method!r}"
        )
    return FCA(
        channel,
        dct_size=(dct_h, dct_w),
        reduction=reduction,
        frequencies=freq_sel_method[:3],
        count=int(freq_sel_method[3:]),
    )


_LAYER = Source(
    ("cfzd/FcaNet:model/layer.py:MultiSpectralAttentionLayer",),
    _layer,
    keys=((r"basis", "dct_layer.weight"), (r"fc1", "fc.0"), (r"fc2", "fc.2")),
)

SOURCES = (
    _LAYER,
    *(
        Source(
            (f"cfzd/FcaNet:model/fcanet.py:fcanet{depth}",),
            # the sizes of the stages' maps for an image of 224x224
            resnet_builder(depth, "fca", attention_per_stage={"dct_size": (56, 28, 14, 7)}),
            blocks=in_blocks("att", _LAYER),
        )
        for depth in (34, 50, 101, 152)
    ),
)
