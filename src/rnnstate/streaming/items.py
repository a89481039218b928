"""What is pushed for one key, read and checked, so that an error concerns this key alone."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.messages import listed, quoted
from rnnstate.streaming.engine import ArraySpec, Engine
from rnnstate.streaming.keys import encode, encode_all


@dataclass(slots=True)
class Item:
    """A push of one key.

    Args:
        key: The key of the session.
        text: The key as stores know it.
        parts: The inputs in the order of the model, `(time, features)` each, or `(features,)` of a static input.
        steps: How many steps they have.
        single: Whether the user gave one step without a time axis, and gets an output without one.
        number: The sequence number, or `None`.
        observed: Observed values for a new session, or `None`.
        create: Whether a new session may begin.
        restart: Whether to restart a session that exists.
        time: The event time, or `None`.
    """

    key: Any
    text: str
    parts: Sequence[NDArray[Any]]
    steps: int
    single: bool
    number: int | None = None
    observed: Any = None
    create: bool = True
    restart: bool = False
    time: float | None = None


@dataclass(slots=True)
class Stack:
    """The pushes of n keys in one array, if the inputs have the same shape.

    Args:
        keys: The keys of the sessions.
        texts: The keys as stores know them.
        x: The inputs `(n, time, features)`.
        single: Whether the user gave one step without a time axis for each key.
        numbers: The sequence number of each key or `None`, or `None` if no key has one.
    """

    keys: Sequence[Any]
    texts: Sequence[str]
    x: NDArray[Any]
    single: bool
    numbers: Sequence[int | None] | None = None

    def take(self, rows: Sequence[int]) -> "Stack":
        """Return the pushes of some keys."""
        numbers = None if self.numbers is None else [self.numbers[row] for row in rows]
        keys, texts = [self.keys[row] for row in rows], [self.texts[row] for row in rows]
        return Stack(keys, texts, self.x[rows], self.single, numbers)

    def items(self) -> list[Item]:
        """Return the push of each key. The items have no parts."""
        steps, numbers = self.x.shape[1], self.numbers or [None] * len(self.keys)
        triples = zip(self.keys, self.texts, numbers, strict=True)
        return [Item(key, text, (), steps, self.single, number) for key, text, number in triples]


def read_stack(engine: Engine, x: Mapping[Any, Any], numbers: Mapping[Any, Any]) -> Stack | None:
    """Return what is pushed for all keys at once, or `None` if the inputs differ in shape or one of them cannot be used."""
    spec, keys, values = engine.inputs[0], list(x), list(x.values())
    if len(engine.inputs) > 1 or not spec.per_step or set(map(type, values)) != {np.ndarray}:
        return None
    batch = _joined(values, spec) if _fits(engine, values[0].shape) else None
    return None if batch is None else _stack_of(engine, keys, batch, numbers)


def read_rows(engine: Engine, keys: list[Any], rows: NDArray[Any]) -> Stack | None:
    """Return what is pushed for all keys in one array `(n, ...)`, or `None` if a key needs a look."""
    spec = engine.inputs[0]
    if (
        len(engine.inputs) > 1
        or not spec.per_step
        or rows.dtype.kind not in "fiub"
        or not _fits(engine, rows.shape[1:])
    ):
        return None
    with np.errstate(over="ignore"):
        batch = np.array(rows, spec.dtype, order="C")  # a copy, because the caller may change the array during the step
    return _stack_of(engine, keys, batch, {}) if _is_finite(batch) else None


def _fits(engine: Engine, shape: tuple[int, ...]) -> bool:
    """Return whether the input of a key may have a shape, with or without a time axis."""
    single = shape == engine.inputs[0].shape
    if not shape or not (single or (shape[1:] == engine.inputs[0].shape and shape[0] > 0)):
        return False
    return engine.steps is None or not (single or shape[0] % engine.steps)


def _stack_of(engine: Engine, keys: list[Any], batch: NDArray[Any], numbers: Mapping[Any, Any]) -> Stack | None:
    """Return inputs that fit `(n, ...)` as a stack, or `None` if a key or a number cannot be used."""
    single = batch.shape[1:] == engine.inputs[0].shape
    if single:
        batch = batch.reshape(len(keys), 1, *batch.shape[1:])
    try:
        given = [_number(key, numbers.get(key)) for key in keys] if numbers else None
        return Stack(keys, encode_all(keys), batch, single, given)
    except DataError:
        return None


def stacked(items: Sequence[Item]) -> Stack | None:
    """Return items in one array, or `None` if they differ in shape or one of them is more than an input for a session."""
    first = items[0]
    if len(first.parts) != 1 or any(len(item.parts) != 1 or not _is_plain(item, first) for item in items):
        return None
    x = np.stack([item.parts[0] for item in items])
    return Stack([item.key for item in items], [item.text for item in items], x, first.single)


def _is_plain(item: Item, first: Item) -> bool:
    extra = item.restart or any(part is not None for part in (item.number, item.observed, item.time))
    return not extra and item.single == first.single and item.parts[0].shape == first.parts[0].shape


def _joined(values: list[NDArray[Any]], spec: ArraySpec) -> NDArray[Any] | None:
    """Return arrays as one, `(n, *shape)`, or `None` if their shapes differ or a value cannot be used."""
    shape = values[0].shape
    if len(set(map(len, values))) > 1:
        return None
    batch = np.empty((len(values), *shape), spec.dtype)
    try:
        # Joining is several times as fast as making an array of many small ones.
        with np.errstate(over="ignore"):
            np.concatenate(values, out=batch.reshape(-1, *shape[1:]))
    except (ValueError, TypeError):  # other shapes, or values that are no numbers of this kind
        return None
    return batch if _is_finite(batch) else None


def _is_finite(batch: NDArray[Any]) -> bool:
    return batch.dtype.kind != "f" or bool(np.isfinite(batch).all())


def read_item(engine: Engine, key: Any, x: Any, number: Any, observed: Any, create: bool) -> Item:
    """Return what is pushed for one key.

    Raises:
        DataError: If the key, the inputs or the number cannot be used.
    """
    text, specs = encode(key), engine.inputs
    if len(specs) == 1 and not isinstance(x, Mapping):
        parts = [_part(key, specs[0], x)]
    else:
        parts = [_part(key, spec, value) for spec, value in zip(specs, _by_name(key, specs, x), strict=True)]
    steps, single = _steps(key, specs, parts)
    if single:
        parts = [part[None] if spec.per_step else part for spec, part in zip(specs, parts, strict=True)]
    if engine.steps is not None and steps % engine.steps:
        raise DataError(
            f"Key {key!r}: the network takes windows of {engine.steps} steps. Received: {steps} step"
            f"{'' if steps == 1 else 's'}. Push a multiple."
        )
    return Item(key, text, parts, steps, single, _number(key, number), observed, create)


def event_time(key: Any, time: Any) -> float | None:
    """Return an event time, or `None` if there is none.

    Raises:
        DataError: If it is no finite number.
    """
    if time is None:
        return None
    is_number = isinstance(time, (int, float, np.integer, np.floating)) and not isinstance(time, bool)
    with suppress(OverflowError):  # a whole number above all floats
        if is_number and math.isfinite(time):
            return float(time)
    raise DataError(
        f"Key {key!r}: an event time must be a finite number, in seconds. Received: {repr(time)[:60]}. Nothing has changed."
    )


def check_mapping(name: str, given: Any, x: Any) -> None:
    """Raise `DataError` unless an argument of a push is a mapping with keys of `x`, or left out."""
    if given is None and name != "x":
        return
    if not isinstance(given, Mapping):
        raise DataError(
            f"`{name}` must be a mapping by key, such as {{'north': ...}}. Received: {type(given).__name__}."
        )
    if given is not x and (unknown := [key for key in given if key not in x]):
        raise DataError(f"`{name}` must have keys of `x` alone. Received: {listed(unknown)}.")


def _by_name(key: Any, specs: Sequence[ArraySpec], x: Any) -> list[Any]:
    names = [spec.name for spec in specs]
    if isinstance(x, Mapping):
        if set(x) == set(names):
            return [x[name] for name in names]
        received = quoted(x, 6)
    elif isinstance(x, (list, tuple)) and len(x) == len(names):
        return list(x)
    else:
        received = type(x).__name__
    raise DataError(f"Key {key!r}: the inputs must be {quoted(names, 6)}, by name. Received: {received}.")


def _part(key: Any, spec: ArraySpec, value: Any) -> NDArray[Any]:
    """Return one input as an array that fits, or raise."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:  # lists of different lengths; tensors on another device
        raise DataError(f"Key {key!r}: input `{spec.name}` must be an array. Received: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"Key {key!r}: input `{spec.name}` must hold numbers. Received: dtype={array.dtype}.")
    rest = array.shape[1:] if spec.per_step and array.ndim == len(spec.shape) + 1 else array.shape
    if rest != spec.shape or (rest is not array.shape and not len(array)):
        hint = " A window must have at least one step." if rest == spec.shape else ""
        raise DataError(
            f"Key {key!r}: input `{spec.name}` must have shape {_shown(spec)}. Received: shape={array.shape}.{hint}"
        )
    with np.errstate(over="ignore"):
        array = array.astype(spec.dtype, copy=False)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise DataError(
            f"Key {key!r}: input `{spec.name}` must be finite in {spec.dtype}. Received: {np.asarray(value)[place]} at "
            f"{list(place)}. Fill the value."
        )
    return array


def _steps(key: Any, specs: Sequence[ArraySpec], parts: Sequence[NDArray[Any]]) -> tuple[int, bool]:
    """Return the number of steps, and whether the inputs have no time axis."""
    lengths = {
        spec.name: None if part.ndim == len(spec.shape) else len(part)
        for spec, part in zip(specs, parts, strict=True)
        if spec.per_step
    }
    if len(set(lengths.values())) > 1:
        raise DataError(f"Key {key!r}: all inputs must have the same number of steps. Received: {lengths}.")
    (steps,) = set(lengths.values())
    return (1, True) if steps is None else (steps, False)


def _number(key: Any, number: Any) -> int | None:
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < 2**63:
        raise DataError(
            f"Key {key!r}: a sequence number must be a whole number from 0 on, below 2**63. Received: {number!r}."
        )
    return int(number)


def _shown(spec: ArraySpec) -> str:
    sizes = ", ".join([f"features={size}" if len(spec.shape) == 1 else str(size) for size in spec.shape])
    one = f"({sizes},)" if len(spec.shape) == 1 else f"({sizes})"
    return f"{one} or (time, {sizes})" if spec.per_step else one
