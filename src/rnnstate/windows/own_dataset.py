"""Datasets that users make themselves, accepted if their batches come in an order in which states can be carried.

A state can be carried only if each batch holds at most one window of a sequence, each sequence begins with `first`, and
the windows of a sequence come in time order. Nothing in the arrays of a batch would show a mistake: training would
continue with wrong states.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.batch import Batch, WindowDataset, missing_names
from rnnstate.windows.dataset import Keyed
from rnnstate.windows.windows import Windows


class UserWindows(keras.utils.PyDataset):
    """A dataset that a user made, in the shape of `Windows`.

    Args:
        dataset: A `keras.utils.PyDataset` with an attribute `keys`, whose batches have the inputs of `Windows`:
            `{"x": ..., "slot": ..., "first": ...}`, and optionally `"start"`, the first step of each window.

    Raises:
        DataError: If two windows of a sequence are in one batch, or windows are out of time order; with key and step.
    """

    varies = False
    prefix = 0
    targets = None

    def __init__(self, dataset: Any) -> None:
        super().__init__(workers=min(1, dataset.workers))
        self._dataset = dataset
        self.keys: tuple[Hashable, ...] = tuple(dataset.keys)
        rows: set[int] = set()
        check_order(_inputs(dataset, rows), self.keys)
        self.batch_size = rows.pop() if len(rows) == 1 else None
        self.length = self.max_length = int(keras.tree.flatten(Batch.from_keras(dataset[0][0]).x)[0].shape[1])
        self.scales = np.ones(len(dataset))
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        inputs, *rest = self._dataset[index]
        return (Batch.from_keras(inputs).to_keras(), *(part for part in rest if part is not None))


def _inputs(dataset: Any, rows: set[int]) -> Iterator[Any]:
    """Yield the inputs of each batch, and collect the numbers of rows in `rows`."""
    for index in range(len(dataset)):
        inputs = dataset[index][0]
        yield inputs
        rows.add(len(Batch.from_keras(inputs).slot))


def as_windows(data: Any, argument: str) -> WindowDataset:
    """Return `data` if they are windows, or a checked dataset that the user made.

    Raises:
        DataError: If they are neither.
    """
    if isinstance(data, (Windows, UserWindows)):
        return data
    if isinstance(data, keras.utils.PyDataset) and isinstance(data, Keyed):
        return UserWindows(data)
    raise DataError(
        f"`{argument}` must be `rnnstate.Windows`, which keep each sequence in time order. "
        f"Received: {type(data).__name__}. Wrap the data: `Windows(x, y, length=96, batch_size=32)`. A "
        "`keras.utils.PyDataset` of your own needs an attribute `keys`, and the inputs of `Windows` in its batches."
    )


class OrderGuard:
    """Checks batches one by one, in the order in which a model receives them.

    Args:
        keys: Keys of the sequences; a slot is the index of a key. By default, slots are keys.

    Example:

    >>> guard = OrderGuard(keys=["north", "south"])
    >>> guard.check(slot=[0, 1], first=[True, True], start=[0, 0])
    >>> guard.check(slot=[0, 1], first=[False, False], start=[24, 0])
    Traceback (most recent call last):
    rnnstate.errors.DataError: Windows of a sequence must come in time order. Received: the window from step 0 after \
that from step 0, sequence 'south', batch 1, row 1. Sort the windows by step, or set `first` where a sequence begins \
again.
    """

    def __init__(self, keys: Sequence[Hashable] | None = None) -> None:
        self.keys = None if keys is None else tuple(keys)
        self.batch = 0
        self._start: dict[int, int | None] = {}

    def check(self, slot: Any, first: Any, start: Any = None) -> None:
        """Check a batch, and remember it.

        Args:
            slot: Whole numbers `(batch,)`: index of each row's sequence among the keys; -1 is an empty row.
            first: Booleans `(batch,)`: whether the row begins its sequence.
            start: Whole numbers `(batch,)`: the first step of each window, or `None`.

        Raises:
            DataError: If a slot is unknown, two rows are of one sequence, a sequence does not begin with `first`, or a
                window does not come after the sequence's previous window. The message names key and step. The
                guard then keeps its state.
        """
        slots = _whole("slot", slot)
        firsts = _aligned("first", np.asarray(first).astype(bool), slots)
        starts = None if start is None else _aligned("start", _whole("start", start), slots)
        rows = [row for row in range(len(slots)) if slots[row] != -1]
        self._check_slots(slots, rows)
        self._check_one_each(slots, rows, starts)
        for row in rows:
            self._check_follows(int(slots[row]), bool(firsts[row]), None if starts is None else int(starts[row]), row)
        self._start |= {int(slots[row]): None if starts is None else int(starts[row]) for row in rows}
        self.batch += 1

    def restart(self) -> None:
        """Forget all batches: every sequence must begin with `first` again."""
        self.batch = 0
        self._start.clear()

    def _check_slots(self, slots: NDArray[np.int64], rows: list[int]) -> None:
        limit = np.inf if self.keys is None else len(self.keys)
        for row in rows:
            if not 0 <= slots[row] < limit:
                known = "" if self.keys is None else f" and below {limit}, the number of sequences"
                raise DataError(
                    f"`slot` must be at least 0{known}, or -1 in empty rows. "
                    f"Received: {slots[row]} in batch {self.batch}, row {row}."
                )

    def _check_one_each(self, slots: NDArray[np.int64], rows: list[int], starts: NDArray[np.int64] | None) -> None:
        row_of: dict[int, int] = {}
        for row in rows:
            other = row_of.setdefault(int(slots[row]), row)
            if other != row:
                steps = "" if starts is None else f", from steps {starts[other]} and {starts[row]}"
                raise DataError(
                    "A batch must hold one window of a sequence at most, because the second needs the state in which "
                    f"the first ends. Received: two of sequence {self._key(int(slots[row]))!r}{steps}, batch "
                    f"{self.batch}, rows {other} and {row}. Put them in batches one after the other."
                )

    def _check_follows(self, slot: int, first: bool, start: int | None, row: int) -> None:
        if first:
            return
        where = f"sequence {self._key(slot)!r}, batch {self.batch}, row {row}"
        if slot not in self._start:
            step = "" if start is None else f" from step {start}"
            raise DataError(
                "The first window of a sequence must have `first` set, or it starts from an old state. "
                f"Received: a window{step} without it, {where}. Set `first`, or give the windows before it."
            )
        before = self._start[slot]
        if start is not None and before is not None and start <= before:
            raise DataError(
                f"Windows of a sequence must come in time order. Received: the window from step {start} after that "
                f"from step {before}, {where}. Sort the windows by step, or set `first` where a sequence begins again."
            )

    def _key(self, slot: int) -> Hashable:
        return slot if self.keys is None else self.keys[slot]


def check_order(batches: Iterable[Mapping[str, Any]], keys: Sequence[Hashable] | None = None) -> None:
    """Check the order of a whole epoch.

    Args:
        batches: The inputs of each batch in turn, with `"slot"`, `"first"`, and optionally `"start"`.
        keys: Keys of the sequences; a slot is the index of a key. By default, slots are keys.

    Raises:
        DataError: As `OrderGuard.check`.

    Example:

    >>> check_order([{"slot": [0], "first": [True]}, {"slot": [0], "first": [False]}])
    """
    guard = OrderGuard(keys)
    for inputs in batches:
        if missing := missing_names(inputs):
            raise DataError(
                f"Inputs of a batch must tell `slot` and `first`. Received: no `{missing[0]}` in batch {guard.batch}."
            )
        batch = Batch.from_keras(inputs)
        guard.check(batch.slot, batch.first, batch.start)


def _whole(name: str, values: Any) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"`{name}` must be whole numbers (batch,). Received: dtype={array.dtype}, shape {array.shape}.")
    return array.astype(np.int64)


def _aligned(name: str, array: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
    if array.shape != slots.shape:
        raise DataError(f"`{name}` must have the shape of `slot`, {slots.shape}. Received: shape {array.shape}.")
    return array
