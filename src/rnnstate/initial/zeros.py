"""The initial state that the layers themselves define: zeros for Keras' layers."""

import keras

from rnnstate.initial.base import InitialState


@keras.saving.register_keras_serializable("rnnstate")
class Zeros(InitialState):
    """Every layer's own initial state: zeros, unless a cell's `get_initial_state` says otherwise.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> StatefulModel(net, initial_state=initial.Zeros()).initial_state(2)["gru/h"].shape == (2, 3)
    True
    """
