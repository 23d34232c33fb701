"""google-coral/test_data: the authors' mobile DeepLabV3 of TensorFlow, for its trained weights.

Batch norms are those of the graph before it was folded and quantised. The backbone's layers are
named as torchvision names them, the head's by their scopes in tensorflow/models
`research/deeplab/model.py`. The input is x / 127.5 - 1 for pixels of 0 to 255.
"""

from __future__ import annotations

from torch import nn

from convattn.authors._mobilenet_v2 import nested_keys
from convattn.authors._source import Source
from convattn.core.checks import check_choice
from convattn.models import create_model
from convattn.models.dense import assemble

__all__ = ["SOURCES"]


def _deeplab(num_classes: int = 21, output_stride: int = 16) -> nn.Module:
    check_choice("DeepLabV3", "output_stride", output_stride, (8, 16))
    host = create_model(
        "mobilenet_v2", features_only=True, output_stride=output_stride, same_padding=True
    )
    return assemble("deeplabv3", host, num_classes, rates=(), head="tensorflow")


SOURCES = (
    Source(
        ("google-coral/test_data:deeplabv3_mnv2_pascal_quant.tflite:DeepLabV3",),
        _deeplab,
        keys=(
            *((rf"backbone\.host\.{ours}", theirs) for ours, theirs in nested_keys()),
            (r"classifier\.branches\.0\.1", "image_pooling.0"),
            (r"classifier\.branches\.0\.2", "image_pooling.1"),
            (r"classifier\.branches\.1", "aspp0"),
            (r"classifier\.project", "concat_projection"),
            (r"classifier\.logits", "logits"),
        ),
    ),
)
