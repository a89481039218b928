"""Checks of a given state against a spec: everything is checked before anything is changed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import backend, ops

from rnnstate.errors import SpecMismatchError, StateShapeError, StateStructureError, StateValueError
from rnnstate.messages import quoted
from rnnstate.state.spec import LeafSpec, StateSpec
from rnnstate.state.state import Array, State

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def checked(spec: StateSpec, given: Any, *, batch_size: int | None = None, partial: bool = False) -> State:
    """Return `given` as a state that fits `spec`, or raise without touching anything.

    Args:
        spec: What the state must look like.
        given: Mapping of leaf name to array `(batch, *shape)`.
        batch_size: Number of rows it must have; `None` takes that of the first leaf.
        partial: Whether leaves may be left out.

    Returns:
        A `State`. Arrays and lists are cast to the dtypes of the spec; tensors of the backend stay as they are.

    Raises:
        StateStructureError: If leaves are missing or unknown.
        StateShapeError: If a leaf has another shape, or another batch.
        StateValueError: If a leaf is not floating, or an array holds a value that is not finite.
    """
    if isinstance(given, State) and given.fits is spec and batch_size in (None, given.batch_size):
        return given
    _check_names(spec, given, partial)
    ordered = {name: _as_array(name, given[name]) for name in spec if name in given}
    for name, value in ordered.items():
        batch_size = _check_shape(name, spec[name], value, batch_size)
    return State.unchecked(ordered, [_cast(name, spec[name], value) for name, value in ordered.items()])


def _check_names(spec: StateSpec, given: Any, partial: bool) -> None:
    if not isinstance(given, Mapping):
        raise StateStructureError(
            f"A state must be a mapping of leaf names to arrays, with the leaves {quoted(spec, 6)}. "
            f"Received: {type(given).__name__}."
        )
    unknown = [name for name in given if name not in spec]
    missing = [] if partial else [name for name in spec if name not in given]
    if not unknown and not missing:
        return
    received = [f"unknown {quoted(unknown)}"] if unknown else []
    received += [f"no {quoted(missing)}"] if missing else []
    hint = ""
    if unknown and missing and _same_architecture(spec, given):
        hint = " The state is that of the same architecture under other names: use `spec.adopt(state)`."
    raise StateStructureError(
        f"A state must have the leaves {quoted(spec, 6)}. Received: {' and '.join(received)}.{hint}"
    )


def _same_architecture(spec: StateSpec, given: Mapping[str, Any]) -> bool:
    try:
        spec.adopt({name: _as_array(name, value) for name, value in given.items()})
    except SpecMismatchError:
        return False
    return True


def _as_array(name: str, value: Any) -> Array:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise StateShapeError(f"State leaf `{name}` must be an array. Received: {error}.") from error


def _check_shape(name: str, leaf: LeafSpec, value: Array, batch_size: int | None) -> int | None:
    shape = tuple(value.shape)
    rows = shape[0] if shape else None
    fits = len(shape) == len(leaf.shape) + 1 and shape[1:] == leaf.shape
    if fits and (batch_size is None or rows is None or rows == batch_size):
        return batch_size if rows is None else rows
    hint = ""
    if not fits and len(shape) == 2:
        hint = " To start from observed values of another size, use `initial_state=rnnstate.initial.Observed()`."
    elif fits:
        hint = " Give one row per sample, or choose the samples with `rows=` or `keys`."
    raise StateShapeError(
        f"State leaf `{name}` must have shape {leaf.describe(batch_size)}. Received: shape={shape}.{hint}"
    )


def _cast(name: str, leaf: LeafSpec, value: Array) -> Array:
    dtype = backend.standardize_dtype(value.dtype) if not isinstance(value, np.ndarray) else str(value.dtype)
    if dtype not in _FLOATS:
        raise StateValueError(
            f"State leaf `{name}` must have a floating dtype ({leaf.dtype}). Received: dtype={dtype}. "
            f'Convert it with `.astype("{leaf.dtype}")`.'
        )
    return _finite(name, value, leaf.dtype) if isinstance(value, np.ndarray) else value


def _finite(name: str, value: np.ndarray, dtype: str) -> np.ndarray:
    # bfloat16 is no NumPy dtype of its own; float32 holds its values exactly.
    with np.errstate(over="ignore"):
        array = value.astype("float32" if dtype == "bfloat16" else dtype)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row = int(bad[0][0])
        raise StateValueError(
            f"State leaf `{name}` must hold finite values. Received: {value[tuple(bad[0])]} in row {row} "
            f"({len(bad)} of {array.size} values)."
        )
    return array


def checked_flags(name: str, flags: Any, shape: Any) -> Array | None:
    """Return boolean flags that have the given shape, or raise; `None` stays `None`."""
    if flags is None:
        return None
    shape = tuple(shape)
    if None not in shape and tuple(np.shape(flags)) != shape:
        raise StateShapeError(f"`{name}` must be boolean with shape {shape}. Received: shape={tuple(np.shape(flags))}.")
    return ops.cast(flags, "bool")
