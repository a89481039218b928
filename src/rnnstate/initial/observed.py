"""An initial state that is computed from known values of any size."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import DataError, StateShapeError
from rnnstate.initial.base import InitialState
from rnnstate.initial.choosing import chosen
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


@keras.saving.register_keras_serializable("rnnstate")
class Observed(InitialState):
    """A trainable map from known values, of any size, to every leaf of every layer, or to some leaves.

    The known values may be a measured temperature and the water level, or the output of the step before. The map is
    linear by default, one `Dense` per leaf, and a small network with `units`.

    Args:
        units: Width of a hidden layer that all leaves share; linear if left out.
        activation: Activation of the hidden layer, `"tanh"` unless given.
        size: How many values are observed; found at the first use if left out.
        at: When it acts: `"start"` or `"window"`.
        leaves: The leaves to compute, by the names of leaves, layers or nested networks, such as `["lstm/h", "gru"]`. The
            other leaves are those of the layers' own initial state. The default is all leaves.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="lstm")])
    >>> model = StatefulModel(net, initial_state=initial.Observed())
    >>> state = model.initial_state(batch_size=3, observed=np.ones((3, 2)))
    >>> tuple(state["lstm/c"].shape)
    (3, 8)

    References:
        - Mohajerin and Waslander, "State initialization for recurrent neural network modeling of time-series data",
          IJCNN 2017, doi:10.1109/IJCNN.2017.7966138.
    """

    needs_observed = True

    def __init__(
        self,
        units: int | None = None,
        activation: Any = None,
        size: int | None = None,
        at: str = "start",
        leaves: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(at=at, **kwargs)
        self.leaves = leaves
        self.units, self.activation, self.size = units, keras.activations.get(activation or "tanh"), size
        self._hidden: Any = None
        self._maps: list[Any] = []
        self._mapped: tuple[str, ...] = ()

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        self._mapped = tuple(chosen(spec, self.leaves))
        super().attach(spec, own)
        self.built = False
        if self.size is not None:
            size, self.size = self.size, None
            self.observe(size)

    def observe(self, size: int) -> None:
        if self.size not in (None, size):
            raise StateShapeError(
                f"Observed values must have shape (batch, {self.size}), as before. Received: {size} values per row."
            )
        if self.built:
            return
        self.size, width = size, self.units or size
        dtype = next(iter(self._model.spec.values())).dtype
        if self.units is not None:
            self._hidden = keras.layers.Dense(self.units, activation=self.activation, dtype=dtype, name="hidden")
            self._hidden.build((None, size))
        for name in self._mapped:
            leaf = self._model.spec[name]
            dense = keras.layers.Dense(int(np.prod(leaf.shape)), dtype=dtype, name=name.replace("/", "_"))
            dense.build((None, width))
            self._maps.append(dense)
        self.built = True

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        own = self._model.own(batch_size)
        if observed is None:
            raise DataError(
                f"`{type(self).__name__}` needs the known values of each row, (batch, values). Received: none. "
                "Give `observed=` to `initial_state` or to `Windows`."
            )
        values = ops.convert_to_tensor(self._values_of(observed), dtype=next(iter(self._model.spec.values())).dtype)
        if len(values.shape) != 2:
            raise StateShapeError(
                f"Observed values must have shape (batch, values). Received: shape={tuple(values.shape)}."
            )
        _check_rows(values, batch_size)
        self.observe(values.shape[1])
        values = values if self._hidden is None else self._hidden(values)
        leaves = dict(own)
        for name, dense in zip(self._mapped, self._maps, strict=True):
            leaves[name] = leaves[name] + ops.reshape(dense(values), (-1, *self._model.spec[name].shape))
        return State.unchecked(leaves, leaves.values())

    @property
    def maps(self) -> tuple[Any, list[Any]]:
        """The hidden layer, or `None`, and for each leaf the layer that computes it, or `None`."""
        by_leaf = dict(zip(self._mapped, self._maps, strict=True))
        return self._hidden, [by_leaf.get(name) for name in self._model.spec]

    def _values_of(self, observed: Any) -> Any:
        return observed

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        config = {**super().get_config(), "units": self.units, "activation": activation, "size": self.size}
        # Files of release 0.1.0 have no `leaves`, and neither do layers that compute all of them.
        return config if self.leaves is None else {**config, "leaves": list(self.leaves)}


def _check_rows(values: Array, batch_size: Any) -> None:
    """Raise unless there is one row of known values for each row of the batch: a single one would be broadcast."""
    rows = values.shape[0]
    if isinstance(rows, int) and isinstance(batch_size, int) and rows != batch_size:
        raise StateShapeError(
            f"Observed values must have one row for each of {batch_size} rows. Received: shape={tuple(values.shape)}."
        )
