"""Initial states: where a sequence starts, as Keras layers that save, load, and take gradients.

| layer | a sequence starts from |
|---|---|
| `Zeros` | each layer's own `get_initial_state`, zeros for Keras' layers |
| `Learned` | one trainable value per leaf, the same for every sequence |
| `Observed` | a trainable map of known values of any size: "my known state has 2 values, my layers have 8 and 16 units" |
| `Given` | full states that come with the data |
| `Bridge` | a trainable map of the state of another model with other sizes, as from encoder to decoder |
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import DataError, StateShapeError
from rnnstate.state.checks import checked
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State

_WHEN = ("start", "window")


class InitialState(keras.layers.Layer):
    """Base of all initial states.

    Args:
        at: When it acts: `"start"` at a sequence's start and wherever a reset says, `"window"` at every window.
    """

    needs_observed = False

    def __init__(self, at: str = "start", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if at not in _WHEN:
            raise ValueError(f"`at` must be one of {_WHEN}. Received: at={at!r}.")
        self.at = at

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        """Bind to a model and make the variables.

        Args:
            spec: The leaves of the model.
            own: Returns the layers' own initial state of a number of rows.
        """
        self._model = _Model(spec, own)
        self.built = True

    def observe(self, size: int) -> None:
        """Make the variables that depend on how many values are observed."""

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        """Return the initial state of a batch.

        Args:
            batch_size: Number of rows.
            observed: Known values `(batch, values)`, where the kind of initial state takes them.
            training: Whether noise is active.
        """
        return self._model.own(batch_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "at": self.at}


class _Model:
    """What an initial state knows of its model, out of sight of Keras' tracking."""

    def __init__(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        self.spec, self.own = spec, own


@keras.saving.register_keras_serializable("rnnstate")
class Zeros(InitialState):
    """Every layer's own initial state: zeros, unless a cell's `get_initial_state` says otherwise.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> StatefulModel(net, initial_state=initial.Zeros()).initial_state(2)["gru/h"].shape == (2, 3)
    True
    """


@keras.saving.register_keras_serializable("rnnstate")
class Learned(InitialState):
    """One trainable value per leaf, added to the layer's own initial state.

    Args:
        noise: Standard deviation of Gaussian noise added in training, so that the network does not rely on one exact
            point.
        seed: Seed of the noise.
        at: When it acts: `"start"` or `"window"`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> model = StatefulModel(net, initial_state=initial.Learned())
    >>> len(model.trainable_variables) - len(net.trainable_variables)
    1

    References:
        - Gers, Schraudolph and Schmidhuber, JMLR 3 (2002): states settle far from zero; the initial one is learned.
        - Noise on the initial state: Zimmermann, Tietz and Grothmann, "Forecasting with RNNs: 12 tricks" (2012).
    """

    def __init__(self, noise: float = 0.0, seed: int | None = None, at: str = "start", **kwargs: Any) -> None:
        super().__init__(at=at, **kwargs)
        self.noise, self.seed = noise, seed
        self._generator = keras.random.SeedGenerator(seed) if noise else None

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        super().attach(spec, own)
        self._values = [
            self.add_weight(shape=leaf.shape, dtype=leaf.dtype, initializer="zeros", name=name.replace("/", "_"))
            for name, leaf in spec.items()
        ]

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        own = self._model.own(batch_size)
        leaves = [
            value + ops.convert_to_tensor(learned) for value, learned in zip(own.values(), self._values, strict=True)
        ]
        if training and self._generator is not None:
            leaves = [leaf + self._noise_like(leaf) for leaf in leaves]
        return State.unchecked(own, leaves)

    def _noise_like(self, leaf: Array) -> Array:
        return keras.random.normal(ops.shape(leaf), stddev=self.noise, dtype=leaf.dtype, seed=self._generator)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise": self.noise, "seed": self.seed}


@keras.saving.register_keras_serializable("rnnstate")
class Observed(InitialState):
    """A trainable map from known values, of any size, to every leaf of every layer.

    The known values may be a measured temperature and the water level, or the output of the step before. The map is
    linear by default, one `Dense` per leaf, and a small network with `units`.

    Args:
        units: Width of a hidden layer that all leaves share; linear if left out.
        activation: Activation of the hidden layer, `"tanh"` unless given.
        size: How many values are observed; found at the first use if left out.
        at: When it acts: `"start"` or `"window"`.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(at=at, **kwargs)
        self.units, self.activation, self.size = units, keras.activations.get(activation or "tanh"), size
        self._hidden: Any = None
        self._maps: list[Any] = []

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
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
        for name, leaf in self._model.spec.items():
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
        leaves = zip(own.values(), self._maps, self._model.spec.values(), strict=True)
        return State.unchecked(own, [o + ops.reshape(dense(values), (-1, *leaf.shape)) for o, dense, leaf in leaves])

    @property
    def maps(self) -> tuple[Any, list[Any]]:
        """The hidden layer, or `None`, and one layer for each leaf."""
        return self._hidden, self._maps

    def _values_of(self, observed: Any) -> Any:
        return observed

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation, "size": self.size}


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


@keras.saving.register_keras_serializable("rnnstate")
class Given(InitialState):
    """Full states that come with the data, packed side by side in `Windows(observed=...)` by `pack`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> model = StatefulModel(net, initial_state=initial.Given())
    >>> model.initial_state(2, observed=initial.pack({"gru/h": np.ones((2, 3))})) == {"gru/h": np.ones((2, 3))}
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


def _check_rows(values: Array, batch_size: Any) -> None:
    """Raise unless there is one row of known values for each row of the batch: a single one would be broadcast."""
    rows = values.shape[0]
    if isinstance(rows, int) and isinstance(batch_size, int) and rows != batch_size:
        raise StateShapeError(
            f"Observed values must have one row for each of {batch_size} rows. Received: shape={tuple(values.shape)}."
        )


def pack(state: Mapping[str, Array]) -> Array:
    """Put all leaves of a state side by side: `(batch, total)`, in the order of the leaves.

    Args:
        state: Leaves `(batch, *shape)`.

    Example:

    >>> initial.pack({"lstm/h": np.ones((2, 3)), "lstm/c": np.zeros((2, 3))}).shape
    (2, 6)
    """
    values = [ops.reshape(value, (value.shape[0], -1)) for value in state.values()]
    if all(isinstance(value, np.ndarray) for value in state.values()):
        return np.concatenate([np.reshape(value, (len(value), -1)) for value in state.values()], axis=1)
    return ops.concatenate(values, axis=1)


def read_initial(initial_state: Any) -> InitialState:
    """Return the argument `initial_state` of `StatefulModel` as a layer.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(initial_state, InitialState):
        return initial_state
    if isinstance(initial_state, str) and initial_state == "zeros":
        return Zeros()
    raise ValueError(
        '`initial_state` must be "zeros" or a layer of `rnnstate.initial`, such as `rnnstate.initial.Learned()`. '
        f"Received: initial_state={initial_state!r}."
    )
