"""The content of a checkpoint as JSON and named arrays, and back, bit for bit.

Numbers, strings, `None`, lists, tuples, mappings with string names, NumPy arrays and NumPy numbers come back unchanged.
Other values are refused, so reading executes nothing.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import DataError

Arrays = dict[str, np.ndarray]
# JSON has no arrays, NumPy numbers and tuples. Each is a mapping with one of these names as its only name.
_ARRAY, _NUMBER, _TUPLE = "__array__", "__number__", "__tuple__"


def pack(value: Any) -> tuple[str, Arrays]:
    """Return a value as JSON and the arrays that the JSON refers to.

    Args:
        value: Plain values, arrays, and lists, tuples and mappings of them.

    Raises:
        DataError: If a part is of another type, with its place.

    Example:

    >>> pack({"epoch": 3, "rows": [np.ones((2, 5), "float32")]})[0]
    '{"epoch": 3, "rows": [{"__array__": "0:rows.0"}]}'
    """
    arrays: Arrays = {}
    return json.dumps(_packed(value, (), arrays)), arrays


def unpack(text: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the value that `pack` was given.

    Raises:
        DataError: If the text is no JSON, or refers to an array that is missing.
    """
    try:
        return _unpacked(json.loads(text), arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"Packed values must be as `pack` wrote them. Received: {error!r}.") from error


def _packed(value: Any, place: tuple[str, ...], arrays: Arrays) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        name = f"{len(arrays)}:{'.'.join(place)}"
        arrays[name] = _storable(np.asarray(value), place)
        return {_ARRAY if isinstance(value, np.ndarray) else _NUMBER: name}
    if isinstance(value, list | tuple):
        parts = [_packed(part, (*place, str(index)), arrays) for index, part in enumerate(value)]
        return parts if isinstance(value, list) else {_TUPLE: parts}
    if isinstance(value, Mapping) and all(type(name) is str and not name.startswith("__") for name in value):
        return {name: _packed(part, (*place, name), arrays) for name, part in value.items()}
    raise DataError(
        "Only numbers, strings, arrays, and lists, tuples and mappings by name of them can be kept. "
        f"Received: {type(value).__name__} at {_shown(place)}."
    )


def _storable(array: np.ndarray, place: tuple[str, ...]) -> np.ndarray:
    """Return a copy that later steps cannot change. Short float types become float32, which holds all their numbers."""
    if array.dtype.kind in "biuf":
        return np.array(array, order="C")
    if array.dtype.kind == "V" and array.dtype.itemsize <= 2 and array.dtype.names is None:
        return array.astype("float32")
    raise DataError(f"Arrays must hold numbers to be kept. Received: dtype={array.dtype} at {_shown(place)}.")


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_ARRAY}:
        return arrays[value[_ARRAY]]
    if set(value) == {_NUMBER}:
        return arrays[value[_NUMBER]][()]
    if set(value) == {_TUPLE}:
        return tuple(_unpacked(part, arrays) for part in value[_TUPLE])
    return {name: _unpacked(part, arrays) for name, part in value.items()}


def _shown(place: tuple[str, ...]) -> str:
    return f"`{'.'.join(place)}`" if place else "the top"
