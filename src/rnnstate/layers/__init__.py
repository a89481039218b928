"""Layers that this package adds: linear recurrences, whose steps can be computed in parallel.

| file | idea |
|---|---|
| `linear_scan` | all steps of h_t = a_t h_(t-1) + b_t, in parallel |
| `base` | the base of the layers: state, masks, resets, dropout |
| `gated` | the common part of `MinGRU` and `MinLSTM` |
| `min_gru` | `MinGRU`: one gate, which depends on the input alone |
| `min_lstm` | `MinLSTM`: two gates, which depend on the input alone |
| `lru` | `LRU`: a complex state with a learned decay |
"""

from rnnstate.layers.base import LinearRecurrence as LinearRecurrence
from rnnstate.layers.lru import LRU as LRU
from rnnstate.layers.min_gru import MinGRU as MinGRU
from rnnstate.layers.min_lstm import MinLSTM as MinLSTM

# Saved models record where a class lives. They record the public path, so that the files may move.
for _kind in (LinearRecurrence, MinGRU, MinLSTM, LRU):
    _kind.__module__ = __name__
