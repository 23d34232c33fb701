"""leaderj1001/Attention-Augmented-Conv2d: the paper's definition of the convolution."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.aa import AA

__all__ = ["SOURCES"]


def _aa(
    cin: int,
    cout: int,
    k: int,
    dk: int,
    dv: int,
    Nh: int,
    H: int,
    W: int,
    relative: bool = True,
) -> AA:
    return AA(
        cin,
        cout,
        kernel_size=k,
        heads=Nh,
        key_channels=dk,
        value_channels=dv,
        relative=relative,
        size=(H, W),
    )


SOURCES = (
    Source(
        ("leaderj1001/Attention-Augmented-Conv2d:formula (paper definition):-",),
        _aa,
        keys=(
            (r"rel_(h|w)", r"key_rel_\1"),
            (r"conv", "conv_out"),
            (r"qkv", "qkv_conv"),
            (r"project", "attn_out"),
        ),
    ),
)
