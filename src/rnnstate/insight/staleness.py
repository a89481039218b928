"""Staleness: stored states grow old, because training changes the weights after a state was computed.

At the end of an epoch, the rows of the training bank come from the weights of many different steps. To measure how far off
they are, the sequences run once more with the current weights.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from rnnstate.model.bank import CARRIED
from rnnstate.state.state import State


class Staleness(keras.callbacks.Callback):
    """Callback that logs the distance between stored and recomputed states after each epoch, as `staleness`.

    The distance is the root mean square of the difference over all values, in the units of the state. It is 0 if the
    weights did not move. For unrelated states of a saturated LSTM it is of the order of 1.

    Args:
        windows: The `Windows` whose sequences are recomputed: the training windows, or a part of their sequences.
        refresh: Whether the recomputed states replace the stored ones.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(3, return_sequences=True)])
    >>> model = StatefulModel(net)
    >>> model.compile("sgd", "mse")
    >>> windows = Windows(np.ones((2, 6, 1)), np.ones((2, 6, 3)), length=3, batch_size=2)
    >>> history = model.fit(windows, callbacks=[Staleness(windows)], verbose=0)
    >>> 0 < history.history["staleness"][0] < 1
    True

    References:
        - Recurrent state staleness: Kapturowski et al., "Recurrent experience replay in distributed reinforcement
          learning" (R2D2), ICLR 2019.
    """

    def __init__(self, windows: Any, refresh: bool = False) -> None:
        super().__init__()
        self.windows, self.refresh = windows, refresh

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        states = self.model.states
        stored = states.read(self.windows.keys)
        _, recomputed = self.model.predict(self.windows, return_state=True, verbose=0)
        if logs is not None:
            logs["staleness"] = distance(stored, recomputed)
        if self.refresh:
            states.bank.write(states.reserve(self.windows.keys), recomputed, CARRIED)


def distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the root mean square difference of two states over all their values.

    Args:
        one: A state of NumPy arrays.
        other: Another state with the same leaves.

    Example:

    >>> distance({"gru/h": np.zeros((2, 3))}, {"gru/h": np.full((2, 3), 0.5)})
    0.5
    """
    first, second = State(one).numpy(), State(other).numpy()
    differences = [np.ravel(first[name] - second[name]) for name in first]
    return float(np.sqrt(np.mean(np.square(np.concatenate(differences)))))
