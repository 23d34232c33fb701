"""Digit scenes, the embedded data: `digit_scenes.py` draws scene i, `objects.py` has its boxes.

`material.py` holds what scenes are made of, `composing.py` puts it together, `painting.py` draws.
"""

from convattn.data.scenes.digit_scenes import (
    SCENES_VERSION,
    DigitScenes,
    Scene,
    scenes_fingerprint,
)

__all__ = ["SCENES_VERSION", "DigitScenes", "Scene", "scenes_fingerprint"]
