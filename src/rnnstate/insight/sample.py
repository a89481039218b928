"""The data of a few sequences of `Windows`, from their first steps on, put together from the batches that hold them."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from rnnstate.errors import DataError, UnknownKeyError
from rnnstate.messages import listed
from rnnstate.network.masks import is_series
from rnnstate.windows.batch import Batch

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """Some sequences, padded to one number of steps.

    Args:
        keys: The identity of each row.
        x: The inputs, each `(rows, time, ...)`, or `(rows, values)` for one vector per sequence.
        y: The targets `(rows, time, ...)`, if there is one target per step.
        valid: Which steps hold data, bool `(rows, time)`.
        begins: Where windows begin, bool `(rows, time)`.
        resets: Steps before which a row returns to its initial state, bool `(rows, time)`.
        keep: How much of the state a gap before the step leaves, `(rows, time)`.
        observed: Known values at the first step of the window that holds the step, `(rows, time, values)`.
        length: Steps of a window.
        series: For each input, whether it has a time axis.
    """

    keys: tuple[Hashable, ...]
    x: Any
    y: Array | None
    valid: Array
    begins: Array
    resets: Array
    keep: Array
    observed: Array | None
    length: int
    series: tuple[bool, ...]

    def observed_at(self, step: int) -> Array | None:
        """Return the known values of the windows that hold a step, `(rows, values)`."""
        return None if self.observed is None else self.observed[:, step]

    def x_at(self, step: int) -> Any:
        """Return the inputs of one step, each `(rows, 1, ...)`."""
        return self.map_x(lambda part: part[:, step : step + 1])

    def map_x(self, series: Any, static: Any = lambda part: part) -> Any:
        """Return the inputs with one function applied to those with a time axis, and another to the rest."""
        parts = [
            series(part) if by_step else static(part)
            for part, by_step in zip(tree.flatten(self.x), self.series, strict=True)
        ]
        return tree.pack_sequence_as(self.x, parts)


def take_sample(windows: Any, keys: Iterable[Hashable] | None, rows: int, steps: int) -> Sample:
    """Return the first `steps` steps of some sequences.

    Args:
        windows: `Windows`.
        keys: The sequences. The default is the `rows` longest ones, as far as they are as long as the longest one or have
            `steps` steps.
        rows: How many sequences, if `keys` does not name them.
        steps: How many steps at most.

    Raises:
        DataError: If `windows` is not `Windows`.
        UnknownKeyError: If a key is no sequence of `windows`.
    """
    if not all(hasattr(windows, name) for name in ("plan", "keys", "lengths", "assemble")):
        raise DataError(f"`windows` must be `rnnstate.Windows`. Received: {type(windows).__name__}.")
    chosen = _chosen(windows, keys, rows, steps)
    time = int(min(steps, windows.lengths[chosen].max()))
    filled = _Filled(windows, chosen, time)
    plan = windows.plan
    wanted = np.isin(plan.sequence, chosen) & (plan.start < time)
    for index in np.flatnonzero(wanted.any(axis=1)).tolist():
        filled.add(windows[index], index, np.flatnonzero(wanted[index]).tolist())
    return filled.sample()


def _chosen(windows: Any, keys: Iterable[Hashable] | None, rows: int, steps: int) -> Array:
    if keys is None:
        longest = np.argsort(-windows.lengths, kind="stable")
        least = min(steps, int(windows.lengths.max()))
        enough: Array = longest[windows.lengths[longest] >= least]
        return enough[:rows]
    places = {key: place for place, key in enumerate(windows.keys)}
    listed_keys = list(keys)
    unknown = [key for key in listed_keys if key not in places]
    if unknown or not listed_keys:
        raise UnknownKeyError(
            f"`keys` must name sequences of `windows`: {listed(places)}. Received: {listed(unknown) or 'no key'}."
        )
    return np.array([places[key] for key in listed_keys])


class _Filled:
    """Arrays of a sample, which fill up batch by batch."""

    def __init__(self, windows: Any, chosen: Array, time: int) -> None:
        self.windows, self.time = windows, time
        self.rows = {int(sequence): row for row, sequence in enumerate(chosen)}
        self.x: list[Array] = []
        self.series: tuple[bool, ...] = ()
        self.structure: Any = None
        self.y: Array | None = None
        self.observed: Array | None = None
        shape = len(chosen), time
        self.valid, self.begins, self.resets = (np.zeros(shape, bool) for _ in range(3))
        self.keep = np.ones(shape)

    def add(self, batch: Any, index: int, places: list[int]) -> None:
        """Copy the windows at some places of a batch to their sequences and steps."""
        inputs, plan = Batch.from_keras(batch[0]), self.windows.plan
        y = batch[1] if len(batch) > 1 and self.windows.targets == "steps" else None
        if not self.x:
            self._make(inputs, y, inputs.lead + plan.length)
        for place in places:
            row, start = self.rows[int(plan.sequence[index, place])], int(plan.start[index, place])
            count = min(int(plan.steps[index, place]), self.time - start)
            to, taken = np.s_[row, start : start + count], np.s_[place, inputs.lead : inputs.lead + count]
            for target, part, by_step in zip(self.x, tree.flatten(inputs.x), self.series, strict=True):
                target[to if by_step else row] = part[taken if by_step else place]
            if self.y is not None and y is not None:
                self.y[to] = y[place, :count]
            if self.observed is not None and inputs.observed is not None:
                self.observed[to] = inputs.observed[place]
            if inputs.reset is not None:
                self.resets[to] = inputs.reset[taken]
            if inputs.keep is not None:
                self.keep[row, start] = inputs.keep[place] if start else 1
            self.valid[to], self.begins[row, start] = True, True

    def _make(self, inputs: Batch, y: Any, steps: int) -> None:
        parts = tree.flatten(inputs.x)
        self.structure, self.series = inputs.x, tuple(is_series(part, steps) for part in parts)
        rows = len(self.rows)
        self.x = [
            np.zeros((rows, self.time, *part.shape[2:]) if by_step else (rows, *part.shape[1:]), part.dtype)
            for part, by_step in zip(parts, self.series, strict=True)
        ]
        if isinstance(y, np.ndarray):
            self.y = np.zeros((rows, self.time, *y.shape[2:]), y.dtype)
        if inputs.observed is not None:
            self.observed = np.zeros((rows, self.time, *inputs.observed.shape[1:]), inputs.observed.dtype)

    def sample(self) -> Sample:
        keys = tuple(self.windows.keys[sequence] for sequence in self.rows)
        x = tree.pack_sequence_as(self.structure, self.x)
        flags = self.valid, self.begins, self.resets, self.keep
        return Sample(keys, x, self.y, *flags, self.observed, self.windows.length, self.series)
