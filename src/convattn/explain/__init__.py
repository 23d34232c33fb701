"""Look inside a model: every gate of every block on given images, and pictures of them."""

from __future__ import annotations

from convattn.explain.colours import heat_colours
from convattn.explain.gates import GateMap, gate_maps
from convattn.explain.pictures import choose_columns, overlay, picture_grid

__all__ = ["GateMap", "choose_columns", "gate_maps", "heat_colours", "overlay", "picture_grid"]
