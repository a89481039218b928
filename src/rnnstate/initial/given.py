"""An initial state that is given in full, as data."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import DataError, StateShapeError
from rnnstate.initial.base import InitialState
from rnnstate.state.checks import checked
from rnnstate.state.state import Array, State


@keras.saving.register_keras_serializable("rnnstate")
class Given(InitialState):
    """Full states that come with the data, packed side by side in `Windows(observed=...)` by `pack`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> model = StatefulModel(net, initial_state=initial.Given())
    >>> model.initial_state(2, observed=initial.pack({"gru/h": np.ones((2, 3))}))["gru/h"].shape == (2, 3)
    True
    """

    needs_observed = True

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        if observed is None:
            raise DataError(
                "`Given` needs the full state of each row. Received: none. Give `observed=rnnstate.initial.pack(state)` "
                "to `initial_state` or to `Windows`."
            )
        leaves = observed if isinstance(observed, Mapping) else self._unpacked(ops.convert_to_tensor(observed))
        state = checked(self._model.spec, leaves, batch_size=batch_size if isinstance(batch_size, int) else None)
        cast = [ops.cast(ops.convert_to_tensor(state[name]), leaf.dtype) for name, leaf in self._model.spec.items()]
        return State.unchecked(self._model.spec, cast)

    def _unpacked(self, values: Array) -> dict[str, Array]:
        sizes = [int(np.prod(leaf.shape)) for leaf in self._model.spec.values()]
        if len(values.shape) != 2 or values.shape[1] != sum(sizes):
            raise StateShapeError(
                f"A packed state must have shape (batch, {sum(sizes)}): {sizes} values of {list(self._model.spec)}. "
                f"Received: shape={tuple(values.shape)}."
            )
        pairs = zip(self._model.spec.items(), pairwise(np.cumsum([0, *sizes]).tolist()), strict=True)
        return {name: ops.reshape(values[:, a:b], (-1, *leaf.shape)) for (name, leaf), (a, b) in pairs}
