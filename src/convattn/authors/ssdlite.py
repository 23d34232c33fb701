"""houqb/ssdlite-pytorch-mobilenext: the SSDLite networks of the CA authors, and their backbones."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from torch import nn

from convattn.authors._mobilenet_v2 import Keys, after_depthwise, flat_keys, nested_keys
from convattn.authors._source import Inside, Source
from convattn.authors.mobilenext import KEYS as MOBILENEXT_KEYS
from convattn.authors.senet import SEM
from convattn.core.checks import check_choice
from convattn.models import create_model
from convattn.models.dense import assemble

__all__ = ["SOURCES"]

_EXPANSIONS = (0.2, 0.25, 0.5, 0.25)  # of the extra blocks, in the network with attention


def _sembv2(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    # the first is unused by the authors too; their extra blocks take 1280 channels
    check_choice("SEMBV2", "width_mult <= 1", width_mult <= 1.0, (True,))
    return create_model(
        "mobilenet_v2_ssd",
        attention="se",
        attention_args={"reduction": 24, "act": "relu6"},
        width_mult=width_mult,
        expansions=_EXPANSIONS,
    )


def _mobilenet_v2() -> nn.Module:
    return create_model("mobilenet_v2_ssd")  # their widths are not rounded, but theirs is always 1


def _mobilenext(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    check_choice("MobileNeXt", "width_mult <= 1", width_mult <= 1.0, (True,))
    return create_model("mobilenext_ssd", width_mult=width_mult)


def _extras(index: Callable[[str, bool], str]) -> Keys:
    """Names of the extra blocks' layers, given a part and whether the layer is its norm."""
    return (
        (
            r"extras\.(\d)\.(\w+)\.(conv|norm)",
            lambda m: f"extras.{m[1]}.{index(m[2], m[3] == 'norm')}",
        ),
    )


def _flat(part: str, norm: bool) -> str:
    index = {"expand": 0, "depthwise": 3, "project": 7}[part]
    return f"conv.{index + norm}"


def _nested(part: str, norm: bool) -> str:
    if part == "project":
        return f"conv.{2 + norm}"
    return f"conv.{('expand', 'depthwise').index(part)}.{int(norm)}"


def _sandglass(part: str, norm: bool) -> str:
    index = {"depthwise": 0, "reduce": 3, "expand": 5}[part]
    return f"{index + norm}"


_FOLDER = "houqb/ssdlite-pytorch-mobilenext:ssd/modeling"

_BACKBONES = {
    "mobilenet_v2": Source(
        (f"{_FOLDER}/backbone/mobilenet.py:MobileNetV2",),
        _mobilenet_v2,
        keys=(*nested_keys(), *_extras(_nested)),
    ),
    "se_mbv2": Source(
        (f"{_FOLDER}/backbone/se_mbv2.py:SEMBV2",),
        _sembv2,
        keys=(*flat_keys(attention=True), *_extras(_flat)),
        blocks=(
            after_depthwise(SEM),
            Inside(r"extras\.(\d)\.after_depthwise", r"extras.\1.conv.6", SEM),
        ),
    ),
    "mobilenext": Source(
        (f"{_FOLDER}/backbone/mobilenext.py:MobileNeXt",),
        _mobilenext,
        keys=(*MOBILENEXT_KEYS, *_extras(_sandglass)),
    ),
}

_BOXES: dict[tuple[int, ...], str] = {(6, 6, 6, 6, 6, 4): "coco", (6, 6, 6, 6, 6, 6): "voc"}


def _detector(
    backbone: str = "mobilenet_v2",
    num_classes: int = 21,
    boxes_per_location: Sequence[int] = (6, 6, 6, 6, 6, 6),
) -> nn.Module:
    """Their entries BACKBONE.NAME, NUM_CLASSES and PRIORS.BOXES_PER_LOCATION.

    The detector is our `ssdlite320`, whose classes do not count the background. With the boxes for
    COCO it has their loss for COCO, focal, which says what the columns of the class heads are.
    """
    check_choice("SSDDetector", "backbone", backbone, tuple(_BACKBONES))
    check_choice("SSDDetector", "boxes_per_location", tuple(boxes_per_location), tuple(_BOXES))
    boxes = _BOXES[tuple(boxes_per_location)]
    loss = "focal" if boxes == "coco" else "multibox"
    host = _BACKBONES[backbone].build()
    return assemble("ssdlite320", host, num_classes - 1, boxes=boxes, loss=loss)


_HEAD = r"head\.(\w+)_head\.module_list\.(\d)"


def _head(match: re.Match[str]) -> str:
    kind = {"classification": "cls", "regression": "reg"}[match[1]]
    return f"box_head.predictor.{kind}_headers.{match[2]}"


def _with_backbone(backbone: str) -> Source:
    return Source(
        (),
        _detector,
        keys=(
            (rf"{_HEAD}(?=\.\d)", lambda match: f"{_head(match)}.conv"),
            (_HEAD, _head),  # the last is a convolution alone
        ),
        blocks=(Inside(r"backbone\.host", "backbone", _BACKBONES[backbone]),),
    )


def _choose(keys: Collection[str]) -> Source:
    if not any(key.startswith("backbone.host.head") for key in keys):
        return _with_backbone("mobilenext")
    attention = any(".after_depthwise." in key for key in keys)
    return _with_backbone("se_mbv2" if attention else "mobilenet_v2")


SOURCES = (
    *_BACKBONES.values(),
    Source(
        (
            f"{_FOLDER}/box_head/box_predictor.py:SSDDetector",
            f"{_FOLDER}/detector/ssd_detector.py:SSDDetector",
        ),
        _detector,
        choose=_choose,
    ),
)
