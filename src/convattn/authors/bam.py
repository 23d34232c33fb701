"""Jongchan/attention-module: the Bottleneck Attention Module."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.bam import BAM

__all__ = ["SOURCES"]


def _bam(gate_channel: int, variant: str = "authors") -> BAM:
    return BAM(gate_channel, variant=variant)  # `variant` is ours: the paper adds the branches


SOURCES = (
    Source(
        ("Jongchan/attention-module:MODELS/bam.py:BAM",),
        _bam,
        keys=(
            (r"fc1", "channel_att.gate_c.gate_c_fc_0"),
            (r"fc_bn", "channel_att.gate_c.gate_c_bn_1"),
            (r"fc2", "channel_att.gate_c.gate_c_fc_final"),
            (r"conv1", "spatial_att.gate_s.gate_s_conv_reduce0"),
            (r"bn1", "spatial_att.gate_s.gate_s_bn_reduce0"),
            (r"conv2", "spatial_att.gate_s.gate_s_conv_di_0"),
            (r"bn2", "spatial_att.gate_s.gate_s_bn_di_0"),
            (r"conv3", "spatial_att.gate_s.gate_s_conv_di_1"),
            (r"bn3", "spatial_att.gate_s.gate_s_bn_di_1"),
            (r"conv4", "spatial_att.gate_s.gate_s_conv_final"),
        ),
    ),
)
