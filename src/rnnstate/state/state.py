"""State: a named set of arrays, one row per sample, that never changes once made."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import StateShapeError, StateStructureError, StateValueError, UnknownKeyError
from rnnstate.messages import quoted
from rnnstate.state.spec import LeafSpec, StateSpec, below

# An array of NumPy or of the active backend; Keras gives its tensors no common type.
Array: TypeAlias = Any


class State(Mapping[str, Array]):
    """All that a model remembers for a batch of sequences.

    An immutable mapping of leaf names to arrays of shape `(batch, *shape)`. Wherever a `State` is taken, a plain
    mapping is too. `state["lstm"]` is the sub-state of a layer or a nested network, whose leaf names begin after `lstm/`.
    It is a view by name: `in`, iteration and `len` know the leaves alone.

    Args:
        leaves: Mapping (or pairs) of leaf name to array. All leaves have the same number of rows.

    Raises:
        StateShapeError: If a leaf has no batch axis, or the leaves disagree about the batch.
        StateStructureError: If a name is not a non-empty string.

    Example:

    >>> state = State({"lstm/h": np.zeros((3, 8)), "lstm/c": np.ones((3, 8))})
    >>> state.batch_size
    3
    >>> state.rows([0, 2])["lstm/c"].shape
    (2, 8)
    >>> state["lstm"]
    State(h: (3, 8) float64, c: (3, 8) float64)
    """

    def __init__(self, leaves: Mapping[str, Array] | Iterable[tuple[str, Array]] = ()) -> None:
        self._leaves = {name: _as_array(value) for name, value in dict(leaves).items()}
        _check_rows(self._leaves)

    fits: StateSpec | None = None  # the spec of the model that made this state: there, it needs no check

    @classmethod
    def unchecked(cls, names: Iterable[str], values: Iterable[Any], fits: StateSpec | None = None) -> "State":
        """Rebuild a state around anything; for program transformations, which pass placeholders through."""
        state = cls.__new__(cls)
        state._leaves = dict(zip(names, values, strict=True))
        state.fits = fits
        return state

    def __getitem__(self, name: str) -> Array:
        try:
            return self._leaves[name]
        except KeyError:
            part = below(self._leaves, name)
        if not part:
            raise UnknownKeyError(f"{_expected_leaves(self._leaves)} Received: `{name}`.")
        return State.unchecked(part, part.values())

    def __contains__(self, name: object) -> bool:
        return name in self._leaves

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def values(self) -> ValuesView[Array]:
        """Return the leaves alone, in order."""
        return self._leaves.values()  # what `Mapping` has itself takes longer than some steps of a served model

    def __repr__(self) -> str:
        leaves = ", ".join(f"{name}: {tuple(value.shape)} {_dtype(value)}" for name, value in self.items())
        return f"State({leaves})"

    def __eq__(self, other: object) -> bool:
        """True if both have the same leaves with the same dtypes, shapes and bits: 0.0 and -0.0 differ."""
        if not isinstance(other, Mapping) or set(other) != set(self):
            return False
        return all(_same_bits(to_numpy(value), to_numpy(other[name])) for name, value in self.items())

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash

    @property
    def batch_size(self) -> int:
        """Number of rows; 0 for a state without leaves."""
        for value in self._leaves.values():
            return int(value.shape[0])
        return 0

    @property
    def spec(self) -> StateSpec:
        """What this state looks like: shapes without the batch axis, and dtypes."""
        return StateSpec({name: LeafSpec(tuple(v.shape[1:]), _dtype(v)) for name, v in self._leaves.items()})

    def map(self, function: Callable[[Array], Array]) -> "State":
        """Return the state with `function` applied to every leaf."""
        return State({name: function(value) for name, value in self._leaves.items()})

    def rows(self, indices: Sequence[int] | NDArray[Any]) -> "State":
        """Return the given rows of every leaf, in the given order.

        Args:
            indices: Row numbers from 0, or from the end if negative.

        Raises:
            StateShapeError: If a row is out of range.
        """
        taken = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        outside = taken[(taken < -self.batch_size) | (taken >= self.batch_size)]
        if outside.size:
            raise StateShapeError(
                f"Rows must lie in 0 to {self.batch_size - 1}, the rows of this state. Received: row {outside[0]}."
            )
        return self.map(lambda value: _rows_of(value, taken % max(self.batch_size, 1)))

    def replace(self, leaves: Mapping[str, Any] | None = None, /, **more: Any) -> "State":
        """Return a state with some leaves replaced.

        Args:
            leaves: Leaf name to new array, of the shape of the old one. The name of a layer stands for its leaves:
                `state.replace({"lstm": {"h": h, "c": c}})`. Arrays and lists get the dtype of the leaf; tensors stay.
            more: The same as keyword arguments, for names that Python allows.

        Raises:
            StateStructureError: If a name is not a leaf of this state.
            StateShapeError: If a new leaf has another shape than the one it replaces.
            StateValueError: If a new leaf is not floating and the old one is.

        Example:

        >>> state = State({"lstm/h": np.zeros((3, 8)), "lstm/c": np.zeros((3, 8)), "gru/h": np.zeros((3, 5))})
        >>> state.replace({"gru/h": np.ones((3, 5))})["gru/h"].sum()
        np.float64(15.0)
        >>> other = State({"h": np.ones((3, 8)), "c": np.ones((3, 8))})
        >>> state.replace({"lstm": other})["lstm/c"].sum()
        np.float64(24.0)
        """
        if not isinstance(leaves, Mapping | None):
            raise StateStructureError(
                f"`replace` takes a mapping of leaf names to arrays. Received: {type(leaves).__name__}."
            )
        given = _flattened({**(leaves or {}), **more})
        unknown = [name for name in given if name not in self._leaves]
        if unknown:
            raise StateStructureError(f"{_expected_leaves(self._leaves)} Received: {quoted(unknown)}.")
        new = {name: _fitted(name, self._leaves[name], value) for name, value in given.items()}
        return State({**self._leaves, **new})

    def put(self, indices: Sequence[int] | NDArray[Any], other: Mapping[str, Array]) -> "State":
        """Return this state with some rows replaced by those of another; `rows` takes what `put` puts.

        Args:
            indices: Distinct row numbers, as many as `other` has rows.
            other: A state with the same leaves.

        Raises:
            StateStructureError: If the leaves differ.
            StateShapeError: If a row is out of range or given twice, or `other` has another number of rows.
        """
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        self.rows(rows)
        _check_same_leaves(self, other, 1)
        if State(other).batch_size != len(rows) or len(np.unique(rows % max(self.batch_size, 1))) != len(rows):
            raise StateShapeError(
                f"`put` needs one distinct row number for each row. Received: rows {rows.tolist()[:6]} for a state with "
                f"{State(other).batch_size} rows."
            )
        order = np.arange(self.batch_size)
        order[rows] = self.batch_size + np.arange(len(rows))
        return State({name: _rows_of(_stack(value, other[name]), order) for name, value in self._leaves.items()})

    def cast(self, dtype: str) -> "State":
        """Return the same values in another floating dtype, such as `"float64"`."""
        from keras import ops

        return self.map(lambda value: value.astype(dtype) if isinstance(value, np.ndarray) else ops.cast(value, dtype))

    def mean(self) -> "State":
        """Return the mean over all rows, as a state of one row: a typical state, to start from or to compare with."""
        from keras import ops

        return self.map(lambda v: v.mean(0)[None] if isinstance(v, np.ndarray) else ops.mean(v, axis=0)[None])

    def detach(self) -> "State":
        """Return the same values with the gradient cut."""
        from keras import ops

        return self.map(lambda value: value if isinstance(value, np.ndarray) else ops.stop_gradient(value))

    def numpy(self) -> "State":
        """Return the same values as NumPy arrays, in memory of their own."""
        return self.map(lambda value: np.array(to_numpy(value)))


def concat(states: Sequence[Mapping[str, Array]]) -> State:
    """Put the rows of several states under one another.

    Args:
        states: States with the same leaves; leaves `(batch_i, *shape)`.

    Returns:
        A `State` of NumPy arrays with `sum(batch_i)` rows, in the given order.

    Raises:
        StateStructureError: If there is no state, or the leaves differ.
        StateShapeError: If a leaf has another shape in one of the states.

    Example:

    >>> one, two = State({"gru/h": np.zeros((1, 5))}), State({"gru/h": np.ones((2, 5))})
    >>> concat([one, two]).batch_size
    3
    """
    if not states:
        raise StateStructureError("`concat` needs at least one state. Received: none.")
    first = State(states[0])
    for index, state in enumerate(states[1:], start=1):
        _check_same_leaves(first, state, index)
    return State({name: np.concatenate([to_numpy(state[name]) for state in states]) for name in first})


def to_numpy(value: Array) -> np.ndarray:
    """Return any array as a NumPy array, whatever the backend and the device."""
    if isinstance(value, np.ndarray):
        return value
    from keras import ops

    return np.asarray(ops.convert_to_numpy(value))


def _stack(value: Array, other: Array) -> Array:
    if isinstance(value, np.ndarray):
        return np.concatenate([value, to_numpy(other)])
    from keras import ops

    return ops.concatenate([value, ops.convert_to_tensor(other, dtype=value.dtype)])


def _flattened(leaves: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with the names joined by `/`."""
    flat: dict[str, Any] = {}
    for name, value in leaves.items():
        path = f"{prefix}{name}"
        part = _flattened(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
        twice = [inner for inner in part if inner in flat]
        if twice:
            raise StateStructureError(f"Each leaf must be given once. Received: `{twice[0]}` twice.")
        flat |= part
    return flat


def _fitted(name: str, old: Array, value: Any) -> Array:
    """Return a new value of a leaf, in the dtype of the old one; raise if it does not fit."""
    try:
        new = _as_array(value)
    except ValueError as error:  # lists of different lengths
        raise StateShapeError(f"State leaf `{name}` must be an array. Received: {error}.") from error
    if tuple(new.shape) != tuple(old.shape):
        expected = LeafSpec(tuple(old.shape[1:])).describe(old.shape[0])
        raise StateShapeError(f"State leaf `{name}` must have shape {expected}. Received: shape={tuple(new.shape)}.")
    if "float" in _dtype(old) and "float" not in _dtype(new):
        raise StateValueError(
            f"State leaf `{name}` must have a floating dtype ({_dtype(old)}). Received: dtype={_dtype(new)}. "
            "Convert it first."
        )
    return new.astype(_dtype(old)) if isinstance(new, np.ndarray) and isinstance(old, np.ndarray) else new


def _as_array(value: Any) -> Array:
    """Leave tensors of any backend as they are; turn lists and numbers into arrays."""
    return value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)


def _rows_of(value: Array, rows: np.ndarray) -> Array:
    if isinstance(value, np.ndarray):
        return value[rows]
    from keras import ops  # TensorFlow's tensors take no array as an index

    return ops.take(value, rows, axis=0)


def _dtype(value: Array) -> str:
    return str(value.dtype).removeprefix("torch.").split("'")[-2 if "'" in str(value.dtype) else -1]


def _expected_leaves(leaves: Iterable[str]) -> str:
    return f"The state has the leaves {quoted(leaves, 6)}."


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _check_rows(leaves: Mapping[str, Array]) -> None:
    sizes: dict[str, int] = {}
    for name, value in leaves.items():
        if not isinstance(name, str) or not name:
            raise StateStructureError(f"Leaf names must be non-empty strings. Received: {name!r}.")
        if len(value.shape) == 0:
            raise StateShapeError(f"State leaf `{name}` must have a batch axis. Received: shape=().")
        sizes[name] = value.shape[0]
    if len({size for size in sizes.values() if isinstance(size, int)}) > 1:
        rows = ", ".join(f"`{name}` has {size}" for name, size in list(sizes.items())[:3])
        raise StateShapeError(f"All leaves of a state must have the same number of rows. Received: {rows}.")


def _check_same_leaves(first: State, other: Mapping[str, Array], index: int) -> None:
    if set(other) != set(first):
        raise StateStructureError(f"{_expected_leaves(first)} Received: state {index} with {quoted(other, 6)}.")
    for name, value in first.items():
        if tuple(other[name].shape[1:]) != tuple(value.shape[1:]):
            expected = LeafSpec(tuple(value.shape[1:])).describe()
            raise StateShapeError(
                f"State leaf `{name}` must have shape {expected} in every state. "
                f"Received: shape={tuple(other[name].shape)} in state {index}."
            )
