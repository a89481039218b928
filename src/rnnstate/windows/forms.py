"""The forms in which users hand over sequences, and how each is read: one array for each key.

The form of `x` decides how everything else is read, so `(sequences, values)` and `(time, values)` are never confused.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import Array, Rows
from rnnstate.windows.frames import frame_array, is_frame, is_series, series_array

Convert = Callable[[Any, str, Hashable], Array]


@dataclass(frozen=True)
class Form:
    """How `x` was given: one sequence, a stack or list of them, or a mapping by key."""

    kind: Literal["one", "stacked", "keyed"]
    keys: tuple[Hashable, ...]


def form_of(x: Any, by: str | None) -> Form:
    """Return the form of `x`; `by` decides what the names of a one-level mapping are."""
    if isinstance(x, Mapping):
        return _mapping_form(x, by)
    if is_list(x):
        return Form("stacked", tuple(range(len(x))))
    return Form("stacked", tuple(range(shape_of(x)[0]))) if len(shape_of(x)) >= 3 else Form("one", (0,))


def _mapping_form(x: Mapping[Any, Any], by: str | None) -> Form:
    if (by or _guess(x)) == "key":
        return Form("keyed", tuple(x))
    parts = list(x.values())
    for part in parts:
        if isinstance(part, Mapping):
            return Form("keyed", tuple(part))
    stacks = [part for part in parts if is_list(part) or len(shape_of(part)) >= 3]
    return Form("stacked", tuple(range(len(stacks[0])))) if stacks else Form("one", (0,))


def _guess(x: Mapping[Any, Any]) -> str:
    """Return whether the keys of a mapping are those of sequences or the names of inputs."""
    parts = list(x.values())
    nested = [isinstance(part, Mapping) for part in parts]
    if all(nested) or not all(isinstance(name, str) for name in x):
        return "key"
    if any(nested) or any(is_list(part) and len(part) and hasattr(part[0], "shape") for part in parts):
        return "input"
    shapes = [shape_of(part) for part in parts]
    ranks = {len(shape) for shape in shapes}
    alike = len({shape[:2] for shape in shapes}) == 1
    return "input" if len(ranks) > 1 or (min(ranks) >= 3 and alike) else "key"


def in_form(data: Any, form: Form) -> Any:
    """Return a mapping by the keys 0, 1, 2 of arrays and lists as if it had been given as those."""
    if isinstance(data, Mapping) and form.kind != "keyed" and set(data) == set(form.keys):
        return data[0] if form.kind == "one" else [data[key] for key in form.keys]
    return data


def read_rows(data: Any, form: Form, label: str, convert: Convert | None = None) -> Rows:
    """Return one array for each key of `form`.

    Args:
        data: What the user gave.
        form: The form of `x`.
        label: How errors call the data.
        convert: Makes an array of `(data, label, key)`; by default numbers are needed.

    Raises:
        DataError: If the data have another form than `x`, or other keys.
    """
    convert = convert or read_array
    if form.kind == "keyed":
        if not isinstance(data, Mapping):
            raise DataError(
                f"`{label}` must be a mapping by key, as `x`. Received: {type(data).__name__}. "
                "Give `{key: array}` with the keys of `x`."
            )
        check_keys(data, form.keys, label)
        return [convert(data[key], label, key) for key in form.keys]
    if form.kind == "one":
        return [convert(data, label, form.keys[0])]
    if is_list(data):
        if len(data) != len(form.keys):
            raise DataError(f"`{label}` must have {len(form.keys)} sequences, as `x`. Received: {len(data)}.")
        return [convert(part, label, key) for key, part in zip(form.keys, data, strict=True)]
    array = convert(data, label, None)
    if array.ndim < 2:
        raise DataError(
            f"`{label}` must have one row for each of the {len(form.keys)} sequences: (sequences, time, ...). "
            f"Received: shape {array.shape}."
        )
    return array


def check_keys(data: Mapping[Any, Any], keys: tuple[Hashable, ...], label: str) -> None:
    """Raise a `DataError` unless a mapping has these keys and no others."""
    missing = [key for key in keys if key not in data]
    known = set(keys)
    extra = [key for key in data if key not in known]
    if missing or extra:
        parts = [f"no {listed(missing)}"] * bool(missing) + [f"also {listed(extra)}"] * bool(extra)
        raise DataError(f"`{label}` must have the keys of `x`. Received: {' and '.join(parts)}.")


def is_list(data: Any) -> bool:
    """Return whether `data` is a list of sequences; a list of plain numbers is an array."""
    return isinstance(data, list | tuple) and (not data or not np.isscalar(data[0]))


def shape_of(data: Any) -> tuple[int, ...]:
    """Return a shape without converting arrays; ragged lists, which `_array` refuses by name, have none."""
    try:
        return tuple(np.shape(data))
    except ValueError:
        return ()


def read_array(data: Any, label: str, key: Hashable = None) -> Array:
    """Return numbers as an array of rank 1 or more, without a copy where there is one already."""
    where = "" if key is None else f" in sequence {key!r}"
    if is_frame(data):
        return frame_array(data, f"`{label}`{where}")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        raise DataError(f"`{label}` must have all its values. Received: a masked array{where}. Fill it first.")
    try:
        array = series_array(data) if is_series(data) else np.asarray(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"`{label}` must be an array of numbers. Received: {error}{where}.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"`{label}` must hold numbers. Received: dtype={array.dtype}{where}.")
    if array.ndim < 1:
        raise DataError(f"`{label}` must have a time axis. Received: the number {array}{where}.")
    return array
