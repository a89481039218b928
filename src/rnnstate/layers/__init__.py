"""Layers that this package adds: linear recurrences, whose steps run in parallel, and positions.

| file | idea |
|---|---|
| `linear_scan` | all steps of h_t = a_t h_(t-1) + b_t, in parallel |
| `base` | the base of the linear recurrences: state, masks, resets, dropout |
| `gated` | the common part of `MinGRU` and `MinLSTM` |
| `min_gru` | `MinGRU`: one gate, which depends on the input alone |
| `min_lstm` | `MinLSTM`: two gates, which depend on the input alone |
| `lru` | `LRU`: a complex state with a learned decay |
| `positions` | `PositionEmbedding` and `RotaryPosition`: the position of each step in its sequence |
"""

from rnnstate.layers.base import LinearRecurrence as LinearRecurrence
from rnnstate.layers.lru import LRU as LRU
from rnnstate.layers.min_gru import MinGRU as MinGRU
from rnnstate.layers.min_lstm import MinLSTM as MinLSTM
from rnnstate.layers.positions import PositionEmbedding as PositionEmbedding
from rnnstate.layers.positions import RotaryPosition as RotaryPosition

# Saved models record where a class lives. They record the public path, so that the files may move.
for _kind in (LinearRecurrence, MinGRU, MinLSTM, LRU, PositionEmbedding, RotaryPosition):
    _kind.__module__ = __name__
