"""An initial state that is computed from the state of another model."""

from collections.abc import Mapping
from typing import Any

import keras

from rnnstate.initial.observed import Observed
from rnnstate.initial.packing import pack


@keras.saving.register_keras_serializable("rnnstate")
class Bridge(Observed):
    """A trainable map from the state of another model, of other sizes, to every leaf of this one.

    All leaves of the other state are put side by side; `pack` does it for `Windows(observed=...)`.

    Example:

    >>> encoder = StatefulModel(keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(5, name="lstm")]))
    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(3, name="gru")])
    >>> decoder = StatefulModel(net, initial_state=initial.Bridge())
    >>> y, state = encoder.step(np.ones((4, 7, 2)), encoder.initial_state(4))
    >>> tuple(decoder.initial_state(4, observed=state)["gru/h"].shape)
    (4, 3)

    References:
        - The bridge between encoder and decoder of OpenNMT; the state handoff of NeuralHydrology.
    """

    def _values_of(self, observed: Any) -> Any:
        return pack(observed) if isinstance(observed, Mapping) else observed
