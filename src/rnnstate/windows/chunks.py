"""Chunks of sequences, as a source yields them: read one by one and checked, with key and number in each error.

The first chunk decides the layout: which parts a chunk has, and the shape of one step of each part.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import REPAIR, Array, explain, first_bad
from rnnstate.windows.chunk_gaps import TIMINGS, Clock, check_timing
from rnnstate.windows.inputs import check_resets, read_array

Make = Callable[[], Iterable[Any]]
Name = tuple[str, str | None]  # (role, name of the input or output); the name is `None` if there is one without a name
ROLES = ("x", "y", "sample_weight")
RESETS: Name = ("resets", None)
_NAMES = ("key", *ROLES, "resets", *TIMINGS)
_FORMS = "(key, x), (key, x, y), (key, x, y, sample_weight), or a mapping with some of the names " + listed(_NAMES)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Steps of one sequence.

    Args:
        number: Which chunk of the source it is, from 0.
        key: The key of its sequence.
        begin: Its first step in the sequence.
        steps: How many steps it has; a chunk may be empty.
        parts: Arrays `(steps, ...)` by role and name, or `(1, ...)` for a part with one entry for its sequence.
        missing: How many steps are missing before each step, `(steps,)`; `None` if the source does not tell.
    """

    number: int
    key: Hashable
    begin: int
    steps: int
    parts: dict[Name, Array]
    missing: NDArray[np.int64] | None = None

    @property
    def place(self) -> str:
        """Where the chunk is: a part of a sentence."""
        return f"in chunk {self.number}, of sequence {self.key!r}"


class Layout:
    """What all chunks of a source have in common, as far as they have been read.

    Args:
        targets: The argument `targets` of `Windows`. It says which targets and weights have one entry for each sequence.
        step: The argument `step` of `Windows`.
        gap: The argument `gap` of `Windows`.
    """

    def __init__(self, targets: Any = "auto", step: Any = None, gap: Any = None) -> None:
        self._targets, self.step, self.gap = targets, step, gap
        self.entries: dict[Name, dict[Hashable, Array]] = {}  # the one entry of each sequence, `(1, ...)`
        self.timings: list[str] = []  # which of `times` and `gaps` the chunks have
        self.shapes: dict[Name, tuple[int, ...]] = {}  # of one step
        self.dtypes: dict[Name, np.dtype[Any]] = {}
        self.fixed = False  # whether a whole pass has been read, so the dtypes are known
        self._first = ""

    def one_for_each_sequence(self, name: Name) -> bool:
        """Return whether a part has one entry for its sequence, which each chunk of the sequence repeats."""
        role, part = name
        if role not in ("y", "sample_weight") or not isinstance(self._targets, Mapping):
            return role in ("y", "sample_weight") and self._targets == "sequence"
        kinds = set(self._targets.values()) if part is None else {self._targets.get(part)}
        return kinds == {"sequence"}

    def check(self, chunk: Chunk, timings: list[str]) -> None:
        """Raise a `DataError` unless a chunk has the parts and shapes of the chunks before it, and finite values."""
        shapes = {name: part.shape[1:] for name, part in chunk.parts.items()}
        if not self.shapes:
            self.shapes, self.timings, self._first = shapes, timings, chunk.place
        if timings != self.timings:
            raise DataError(
                f"All chunks must tell their times in the same way: {listed(self.timings) or 'not at all'}, as "
                f"{self._first}. Received: {listed(timings) or 'no times'} {chunk.place}."
            )
        if set(shapes) != set(self.shapes):
            raise DataError(
                f"All chunks must have the same parts: {_named(self.shapes)}, as {self._first}. "
                f"Received: {_named(shapes)} {chunk.place}."
            )
        for name, part in chunk.parts.items():
            self._check_part(name, part, chunk)
            if not self.fixed:
                self.dtypes[name] = np.result_type(part.dtype, self.dtypes.get(name, part.dtype))

    def _check_part(self, name: Name, part: Array, chunk: Chunk) -> None:
        if part.shape[1:] != self.shapes[name]:
            raise DataError(
                f"`{_label(name)}` must have one shape per step in all chunks: {self.shapes[name]}, as {self._first}. "
                f"Received: {part.shape[1:]} {chunk.place}."
            )
        if self.one_for_each_sequence(name):
            self._check_entry(name, part, chunk)
        elif len(part) != chunk.steps:
            raise DataError(
                f"All parts of a chunk must have the same number of steps: {chunk.steps}, as its `x`. "
                f"Received: {len(part)} of `{_label(name)}` {chunk.place}."
            )
        if self.fixed and self.dtypes[name].kind in "iu" and part.dtype.kind == "f":
            raise DataError(
                f"`{_label(name)}` must hold whole numbers in each pass, as in the first. Received: {part.dtype} "
                f"{chunk.place}."
            )
        bad = first_bad(part)
        if bad is not None:
            raise DataError(
                f"`{_label(name)}` {explain(part[bad])} at step {chunk.begin + bad[0]}, {chunk.place}. {REPAIR}"
            )

    def _check_entry(self, name: Name, part: Array, chunk: Chunk) -> None:
        known = self.entries.setdefault(name, {}).setdefault(chunk.key, part.copy())
        if not np.array_equal(known, part):
            raise DataError(
                f"`{_label(name)}` must be the same in all chunks of a sequence, because with targets='sequence' it has one "
                f"entry for each sequence: {known[0]}, as before. Received: {part[0]} {chunk.place}. Use targets='steps' or "
                "targets='last' for values that change."
            )


def read_chunks(make: Make, layout: Layout) -> Iterator[Chunk]:
    """Yield the chunks of one pass over the source.

    Args:
        make: Returns an iterable of chunks that begins at the beginning.
        layout: What the chunks must have in common. The first chunk of all decides it.

    Raises:
        DataError: If a chunk is malformed, does not fit the layout, or holds a value that is not finite.
    """
    steps: dict[Hashable, int] = {}
    clock = Clock(layout.step)
    for number, item in enumerate(_called(make)):
        given = _split(item, number)
        key = _read_key(given["key"], number)
        parts = {
            name: part for role in (*ROLES, "resets") for name, part in _read_parts(role, given, layout, number, key)
        }
        if not any(role == "x" for role, _ in parts):
            raise DataError(f"A chunk must have inputs. Received: no `x` in chunk {number}, of sequence {key!r}.")
        begin, length = steps.setdefault(key, 0), len(next(iter(parts.values())))
        if RESETS in parts:
            check_resets(key, parts[RESETS], length, begin)
        chunk = Chunk(number, key, begin, length, parts)
        layout.check(chunk, [name for name in TIMINGS if given.get(name) is not None])
        check_timing(layout.timings, layout.step, layout.gap)
        steps[key] += length
        yield replace(chunk, missing=clock.missing(given, key, begin, length))


def _read_parts(
    role: str, given: Mapping[str, Any], layout: Layout, number: int, key: Hashable
) -> Iterator[tuple[Name, Array]]:
    """Yield the arrays of one role of a chunk: one without a name, or several by name."""
    value = given.get(role)
    if value is None:
        return
    for name, part in value.items() if isinstance(value, Mapping) else [(None, value)]:
        label = f"{_label((role, name))} in chunk {number}"
        entry = layout.one_for_each_sequence((role, name))
        yield (role, name), read_array(np.asarray(part)[None] if entry else part, label, key)


def check_make(make: Any) -> None:
    """Raise a `DataError` unless `make` can be called for a new pass."""
    if not callable(make):
        raise DataError(
            "`make` must be a function without arguments that returns a new iterable of chunks, because each epoch reads "
            f"the source again. Received: {type(make).__name__}. Write `Windows.from_iterable(lambda: data, ...)` for a "
            "source that can be iterated again, or pass the generator function itself."
        )


def _called(make: Make) -> Iterable[Any]:
    """Return the iterable of a new pass.

    Raises:
        DataError: If it is none, or a `DataLoader` of PyTorch that shuffles, which only its sampler shows.
    """
    source = make()
    if not isinstance(source, Iterable) and not hasattr(source, "__getitem__"):
        raise DataError(
            f"`make()` must return an iterable of chunks. Received: {type(source).__name__}. A function needs a `yield` "
            "or a `return`."
        )
    if type(getattr(source, "sampler", None)).__name__ == "RandomSampler":
        raise DataError(
            "The chunks of a sequence must come in time order. Received: a `DataLoader` with `shuffle=True`. Use "
            "`shuffle=False`."
        )
    return source


def _split(item: Any, number: int) -> dict[str, Any]:
    """Return the parts of a chunk by name."""
    if isinstance(item, Mapping) and {"key", "x"} <= set(item) <= set(_NAMES):
        return dict(item)
    if isinstance(item, tuple | list) and 2 <= len(item) <= 4:
        return dict(zip(("key", *ROLES), item, strict=False))
    received = f"{type(item).__name__} of {len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
    if isinstance(item, Mapping):
        received = f"a mapping with the names {listed(item)}"
    raise DataError(f"`make()` must yield chunks {_FORMS}. Received: {received} as chunk {number}.")


def _read_key(key: Any, number: int) -> Hashable:
    """Return a key as a plain value, which is equal to itself in other chunks, also if it is a scalar of a library."""
    if hasattr(key, "as_py"):
        key = key.as_py()
    if hasattr(key, "shape") and not np.shape(key):
        key = np.asarray(key).item()
    by_identity = isinstance(key, Hashable) and type(key).__hash__ is object.__hash__
    if not isinstance(key, Hashable) or hasattr(key, "shape") or by_identity or key != key:
        raise DataError(
            "A key must be a string, a number or a tuple of them, so that chunks of one sequence have equal keys. "
            f"Received: {type(key).__name__} {key!r:.40} in chunk {number}."
        )
    return key


def _label(name: Name) -> str:
    role, part = name
    return role if part is None else f"{role}[{part!r}]"


def _named(names: Iterable[Name]) -> str:
    return listed(_label(name) for name in names)
