"""A push of one array for many keys, which makes no array for a single key.

keys  ("north", "south")     x  (2, features)   or  (2, time, features)
outputs                         (2, outputs)    or  (2, time, outputs)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.streaming.engine import Engine, kept_dtype


def distinct_keys(keys: Any) -> list[Any]:
    """Return the keys of a push as a new list.

    Raises:
        DataError: If they are no sequence, or a key comes twice.
    """
    if isinstance(keys, (str, bytes, Mapping)) or not hasattr(keys, "__iter__"):
        raise DataError(f"`keys` must be a sequence of keys. Received: {type(keys).__name__}.")
    found = keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
    try:
        if len(set(found)) == len(found):
            return found
    except TypeError as error:
        raise DataError(f"`keys` must hold texts and whole numbers. Received: {error}.") from error
    twice = next(key for at, key in enumerate(found) if key in found[:at])
    raise DataError(f"Each key must come once in a push. Received: {twice!r} twice. Push its steps as one chunk.")


def read_inputs(keys: list[Any], x: Any) -> Any:
    """Return the inputs as an array, or as a dict of arrays by name.

    Raises:
        DataError: If an array does not have one row for each key.
    """
    if isinstance(x, Mapping):
        return {name: _with_rows(keys, name, part) for name, part in x.items()}
    return _with_rows(keys, "x", x)


def _with_rows(keys: list[Any], name: str, x: Any) -> NDArray[Any]:
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise DataError(f"`{name}` must be an array with a row for each key. Received: {error}.") from error
    if array.ndim and len(array) == len(keys):
        return array
    raise DataError(
        f"`{name}` must have shape (keys={len(keys)}, features) or (keys={len(keys)}, time, features). "
        f"Received: shape={array.shape}. Nothing has changed."
    )


def by_key(keys: list[Any], x: Any) -> dict[Any, Any]:
    """Return the input of each key, as `push` takes it."""
    if isinstance(x, dict):
        return {key: {name: part[row] for name, part in x.items()} for row, key in enumerate(keys)}
    return dict(zip(keys, x, strict=True))


def joined(outputs: Sequence[Any]) -> Any:
    """Return the outputs of single keys in one array, or in the structure of arrays that each of them has."""
    first = outputs[0]
    if isinstance(first, dict):
        return {name: joined([one[name] for one in outputs]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)(map(joined, zip(*outputs, strict=True)))
    return np.stack(outputs)


def nothing(engine: Engine, x: Any) -> Any:
    """Return the outputs of a push without keys, arrays of no rows."""
    parts = x if isinstance(x, dict) else {engine.inputs[0].name: x}
    axes = {spec.name: 1 + len(spec.shape) for spec in engine.inputs if spec.per_step}  # without time
    times = [part.shape[1:2] for name, part in parts.items() if part.ndim > axes.get(name, part.ndim)]
    time = times[0] if times else ()
    kinds = [((0, *(time if spec.per_step else ()), *spec.shape), kept_dtype(spec.dtype)) for spec in engine.outputs]
    return engine.packed([np.empty(shape, dtype) for shape, dtype in kinds])
