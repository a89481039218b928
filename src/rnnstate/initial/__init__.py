"""The states that sequences start from: Keras layers that save, load and pass gradients.

Each kind has a file of its name; `base` is their base, `packing` makes one array of a state.

| layer | a sequence starts from |
|---|---|
| `Zeros` | each layer's own `get_initial_state`, zeros for Keras' layers |
| `Learned` | one trainable value per leaf, the same for every sequence |
| `Observed` | a trainable map from known values of any size: "my known state has 2 values, my layers have 8 and 16 units" |
| `Given` | full states that come with the data |
| `Bridge` | a trainable map from the state of another model with other sizes, for example from encoder to decoder |
"""

from rnnstate.initial.base import InitialState as InitialState
from rnnstate.initial.bridge import Bridge as Bridge
from rnnstate.initial.given import Given as Given
from rnnstate.initial.learned import Learned as Learned
from rnnstate.initial.observed import Observed as Observed
from rnnstate.initial.packing import pack as pack
from rnnstate.initial.zeros import Zeros as Zeros

# Saved models and checkpoints record where a class lives. They record the public path, so that the files may move.
for _kind in (InitialState, Zeros, Learned, Observed, Given, Bridge):
    _kind.__module__ = __name__
