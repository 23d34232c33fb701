"""landskape-ai/triplet-attention: Triplet Attention, its two sets of key names, its networks."""

from __future__ import annotations

from torch import Tensor, nn

from convattn.authors._mobilenet_v2 import before_add, nested_keys
from convattn.authors._resnet import attention_last, in_blocks
from convattn.authors._source import Source
from convattn.blocks.triplet import Triplet
from convattn.core.checks import check_choice
from convattn.models import create_model

__all__ = ["SOURCES"]


def _root(no_spatial: bool = False) -> Triplet:
    return _triplet(no_spatial)


def _models(
    gate_channels: int,
    reduction_ratio: int = 16,  # these two are ignored by the authors too
    pool_types: tuple[str, ...] = ("avg", "max"),
    no_spatial: bool = False,
) -> Triplet:
    return _triplet(no_spatial)


def _triplet(no_spatial: bool) -> Triplet:
    return Triplet(None, spatial=not no_spatial)  # the authors' class takes any number of channels


def _edited_kernel(block: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """The authors change the kernel by editing their file, so its size is read from the weights."""
    sizes = {w.shape[-1] for key, w in state_dict.items() if key.endswith("conv.weight")}
    if not isinstance(block, Triplet) or len(sizes) != 1 or sizes == {block.kernel_size}:
        return
    edited = Triplet(None, kernel_size=sizes.pop(), spatial=block.spatial)
    for name, branch in edited.named_children():
        setattr(block, name, branch.to(next(block.parameters())))


def _residual_net(
    network_type: str, depth: int, num_classes: int, att_type: str | None
) -> nn.Module:
    check_choice("ResidualNet", "network_type", network_type, ("ImageNet", "CIFAR10", "CIFAR100"))
    check_choice("ResidualNet", "depth", depth, (18, 34, 50, 101))
    check_choice("ResidualNet", "att_type", att_type, ("TripletAttention", None))
    return create_model(
        f"resnet{depth}",
        attention="triplet" if att_type else "none",
        num_classes=num_classes,
        stem="imagenet" if network_type == "ImageNet" else "cifar",
    )


def _mobilenet_v2(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    return create_model(
        "mobilenet_v2",
        attention="triplet",
        at="before_add",
        num_classes=num_classes,
        width_mult=width_mult,
        round_widths=False,
        dropout=0.25,
    )


_REPOSITORY = "landskape-ai/triplet-attention"

_BLOCKS = (
    Source(
        (f"{_REPOSITORY}:triplet_attention.py:TripletAttention",),
        _root,
        keys=((r"(cw|hc|hw)\.", r"\1.conv."),),
        adapt=_edited_kernel,
    ),
    Source(
        (f"{_REPOSITORY}:MODELS/triplet_attention.py:TripletAttention",),
        _models,
        keys=(
            (r"cw\.", "ChannelGateH.spatial."),
            (r"hc\.", "ChannelGateW.spatial."),
            (r"hw\.", "SpatialGate.spatial."),
        ),
        adapt=_edited_kernel,
    ),
)

SOURCES = (
    *_BLOCKS,
    Source(
        (f"{_REPOSITORY}:MODELS/resnet.py:ResidualNet",),
        _residual_net,
        blocks=in_blocks("triplet_attention", _BLOCKS[1]),
        order=attention_last,
    ),
    Source(
        (f"{_REPOSITORY}:MODELS/mobilenet.py:triplet_attention_mobilenet_v2",),
        _mobilenet_v2,
        keys=nested_keys(),
        blocks=(before_add(_BLOCKS[1]),),
    ),
)
