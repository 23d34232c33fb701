"""Detectors and segmenters: torchvision's, on the backbones of this package.

A network is put together from a backbone (`create_model`, with its blocks) and its heads, so the
backbone can be loaded or inspected first.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.core.names import require, suggest

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DETECTORS", "SEGMENTERS", "assemble", "backbone_of", "full_load"]

DETECTORS = ("ssdlite320", "retinanet", "faster_rcnn", "mask_rcnn")
SEGMENTERS = ("deeplabv3", "lraspp")
_FILES = {
    "ssdlite320": "ssdlite",
    "retinanet": "detectors",
    "faster_rcnn": "detectors",
    "mask_rcnn": "detectors",
    "deeplabv3": "segmenters",
    "lraspp": "segmenters",
}
_CLASSES = {  # whose other arguments a builder hands on
    "ssdlite320": ("ssd", "SSD"),
    "retinanet": ("retinanet", "RetinaNet"),
    "faster_rcnn": ("faster_rcnn", "FasterRCNN"),
    "mask_rcnn": ("mask_rcnn", "MaskRCNN"),
}
_SSD = ("mobilenet_v2", "mobilenext")  # backbones with the authors' extra maps


def backbone_of(
    name: str, backbone: str, arguments: dict[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The network that a detector's or segmenter's backbone is built from.

    Args:
        name: "ssdlite320", "deeplabv3", ...
        backbone: a network's name.
        arguments: `model_args`; `output_stride` of a segmenter is its backbone's.

    Returns:
        Name and arguments for `create_model`, and the arguments left for `assemble`.

    Raises:
        UnknownNameError: no such detector or segmenter.
        ArgumentError: this backbone does not fit, or an argument is unknown.
    """
    if name not in _FILES:
        raise UnknownNameError(f"no detector or segmenter {name!r}; {suggest(str(name), _FILES)}")
    rest = dict(arguments)
    if name == "ssdlite320":
        if backbone not in _SSD:
            raise ArgumentError(f"ssdlite320 has the backbones {', '.join(_SSD)}; got {backbone!r}")
        host, own = f"{backbone}_ssd", {}
    else:
        host, own = backbone, {"features_only": True}
        if name in SEGMENTERS:
            own["output_stride"] = rest.pop("output_stride", 16)
    known = _arguments(name)
    for argument in rest:
        if argument not in known:
            raise ArgumentError(f"{name} has no argument {argument!r}; {suggest(argument, known)}")
    return host, own, rest


def assemble(name: str, host: nn.Module, num_classes: int, **arguments: Any) -> nn.Module:
    """A detector or segmenter on a backbone.

    Args:
        name: as of `backbone_of`.
        host: the backbone, loaded and with its blocks.
        num_classes: K; of detectors without a background class.
        **arguments: its own.

    Raises:
        ArgumentError: the backbone has other maps than it needs, or an argument is refused.
    """
    try:
        model: nn.Module = _builder(name)(host, num_classes, **arguments)
    except TypeError as error:
        raise ArgumentError(f"{name} cannot be built with {arguments!r}: {error}") from error
    return model


def full_load(model: nn.Module) -> str:
    """Let a two-stage detector pass on all proposals and detections that its limits allow.

    How many there are else depends on the image and on the weights, and with them the work of the
    second stage; so networks can be compared by what it then costs. Others stay as they are.

    Args:
        model: in eval mode; changed in place.

    Returns:
        The limits in words; "" for other networks.
    """
    if not hasattr(model, "roi_heads"):
        return ""
    rpn: Any = model.rpn
    heads: Any = model.roi_heads
    rpn.nms_thresh = heads.nms_thresh = 1.0  # no box overlaps another by more
    rpn.score_thresh, heads.score_thresh = 0.0, -1.0
    limits = f"{rpn.post_nms_top_n():,} and {heads.detections_per_img:,}"
    return f"all proposals and detections that the network lets through ({limits})"


def _arguments(name: str) -> set[str]:
    """What a builder takes, with what it hands on; torchvision would ignore a misspelt one."""
    names = _named(_builder(name)) - {"host", "num_classes"}
    if name in _CLASSES:
        module, kind = _CLASSES[name]
        whole = require(f"torchvision.models.detection.{module}", "train")
        names |= _named(getattr(whole, kind)) - {"backbone", "num_classes", "head"}
    return names


def _named(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}


def _builder(name: str) -> Any:
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
