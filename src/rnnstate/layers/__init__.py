"""Layers that this package adds.

| file | idea |
|---|---|
| `positions` | `PositionEmbedding` and `RotaryPosition`: the position of each step in its sequence |
"""

from rnnstate.layers.positions import PositionEmbedding as PositionEmbedding
from rnnstate.layers.positions import RotaryPosition as RotaryPosition

# Saved models record where a class lives. They record the public path, so that the files may move.
for _kind in (PositionEmbedding, RotaryPosition):
    _kind.__module__ = __name__
