"""The states that sequences start from: Keras layers that save, load and pass gradients.

| layer | a sequence starts from |
|---|---|
| `Zeros` | each layer's own `get_initial_state`, zeros for Keras' layers |
| `Learned` | one trainable value per leaf, the same for every sequence |
| `Observed` | a trainable map from known values of any size: "my known state has 2 values, my layers have 8 and 16 units" |
| `Given` | full states that come with the data |
| `Bridge` | a trainable map from the state of another model with other sizes, for example from encoder to decoder |
"""

from rnnstate.initial.initial import Bridge as Bridge
from rnnstate.initial.initial import Given as Given
from rnnstate.initial.initial import InitialState as InitialState
from rnnstate.initial.initial import Learned as Learned
from rnnstate.initial.initial import Observed as Observed
from rnnstate.initial.initial import Zeros as Zeros
from rnnstate.initial.initial import pack as pack

# Saved models and checkpoints record where a class lives. They record the public path, so that the files may move.
for _kind in (InitialState, Zeros, Learned, Observed, Given, Bridge):
    _kind.__module__ = __name__
