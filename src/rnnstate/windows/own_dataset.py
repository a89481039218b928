"""Datasets that users make themselves, accepted if their batches come in an order in which states can be carried.

A state can be carried only if each batch holds at most one window of a sequence, each sequence begins with `first`, and
the windows of a sequence come in time order and do not overlap. Training would not notice a mistake: it would continue
with wrong states. So a batch must say with `start` where its windows begin, and the order is checked before training.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.batch import Batch, WindowDataset, missing_names
from rnnstate.windows.dataset import Keyed
from rnnstate.windows.finite import check_own
from rnnstate.windows.own_outputs import Places
from rnnstate.windows.windows import Windows


class UserWindows(keras.utils.PyDataset):
    """A dataset that a user made, in the shape of `Windows`.

    The whole epoch is read once to check its order. The first batch of this pass is kept until it is asked for, because
    the model looks at the first batch before it trains.

    Args:
        dataset: A `keras.utils.PyDataset` with an attribute `keys`, whose batches have the inputs of `Batch`:
            `{"x": ..., "slot": ..., "first": ..., "start": ...}`.

    Raises:
        DataError: If a batch lacks a fact, two windows of a sequence are in one batch, or windows overlap or are out of
            time order. The message names key and step.
    """

    varies = False
    targets = None
    order = "own"

    def __init__(self, dataset: Any) -> None:
        super().__init__(workers=min(1, dataset.workers))
        if not len(dataset):
            raise DataError("A dataset must have at least one batch. Received: `len(dataset)` is 0.")
        self._dataset = dataset
        self.keys: tuple[Hashable, ...] = tuple(dataset.keys)
        self._first: tuple[Any, ...] | None = None
        self._places = Places()
        # Number of steps with data of each sequence, in the order of the keys.
        self.lengths = np.zeros(len(self.keys), dtype=np.int64)
        check_order(self._read(self._places, self.lengths), self.keys)
        first = Batch.from_keras(self._first[0] if self._first else {})
        # Rows of each batch.
        self.rows = self._places.rows
        self.batch_size = self.rows[0] if len(set(self.rows)) == 1 else None
        self.prefix = first.lead
        self.length = self.max_length = _steps(first)
        self.scales = np.ones(len(dataset))
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        given, *rest = self._take(index)
        inputs = Batch.from_keras(given)
        check_own(inputs, index, self.keys)
        return (inputs.to_keras(), *(part for part in rest if part is not None))

    def check_repeatable(self) -> None:
        """Raise if a new process could not make the batches of a later epoch again.

        Raises:
            DataError: If the dataset changes at the end of an epoch.
        """
        if self._changes:
            raise DataError(
                "A run with `checkpoint=` needs a dataset that gives the same batches in each epoch, because a new process "
                f"does not know how the dataset had changed. Received: {type(self._dataset).__name__}, which has an "
                "`on_epoch_end`. Train without `checkpoint=`, remove `on_epoch_end`, or use `rnnstate.Windows`, whose "
                "orders can be resumed."
            )

    @property
    def _changes(self) -> bool:
        return type(self._dataset).on_epoch_end is not keras.utils.PyDataset.on_epoch_end

    def on_epoch_end(self) -> None:
        """Tell the dataset of the user that an epoch has ended, and check the order if the dataset may have changed it.

        Raises:
            DataError: If the batches of the next epoch are out of order.
        """
        self._dataset.on_epoch_end()
        if self._changes:
            check_order(self._read(Places(), np.zeros_like(self.lengths)), self.keys)

    def check_predictable(self) -> None:
        """Raise a `DataError` if outputs could not be sorted into one array for each sequence."""
        self._places.check(self.keys)

    def assemble(self, outputs: Iterable[Any], per_step: Any = True) -> dict[Hashable, Any]:
        """Return the outputs of all batches in time order, one array for each sequence; see `Windows.assemble`."""
        return self._places.assemble(outputs, self.keys, per_step)

    def _read(self, places: Places, lengths: NDArray[np.int64]) -> Iterator[Any]:
        """Yield the inputs of each batch and keep the first batch. Note the places of windows, and add up the lengths."""
        for index in range(len(self._dataset)):
            batch = self._dataset[index]
            if index == 0:
                self._first = batch
            yield batch[0]
            inputs = Batch.from_keras(batch[0])
            places.add(np.array(inputs.slot), np.asarray(inputs.first).astype(bool), _valid(inputs))
            _add_steps(lengths, inputs)

    def _take(self, index: int) -> tuple[Any, ...]:
        """Return a batch of the user. The first batch of the check is handed out once and then forgotten."""
        kept, self._first = (self._first, None) if index == 0 else (None, self._first)
        return self._dataset[index] if kept is None else kept


def _steps(batch: Batch) -> int:
    """Return the steps of a window, without the steps before it."""
    if batch.mask is not None:
        return batch.time - batch.lead
    # An input with a time axis has at least as many axes as a static input.
    longest = max(keras.tree.flatten(batch.x), key=lambda leaf: len(leaf.shape))
    return int(longest.shape[1])


def _add_steps(lengths: NDArray[np.int64], batch: Batch) -> None:
    counts = _counts(batch)
    filled = np.asarray(batch.slot) >= 0
    if counts is not None:
        np.add.at(lengths, np.asarray(batch.slot)[filled], counts[filled])


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
        "`keras.utils.PyDataset` of your own needs an attribute `keys`, and batches with `x`, `slot`, `first` and `start`; "
        "see `docs/windows.md`."
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
the window from step 0, sequence 'south', batch 1, row 1. Sort the windows by step, or set `first` where a sequence \
begins again.
    """

    def __init__(self, keys: Sequence[Hashable] | None = None) -> None:
        self.keys = None if keys is None else tuple(keys)
        self.batch = 0
        # For each slot the first step of its last window, and the step after the window; `None` if they are not known.
        self._last: dict[int, tuple[int | None, int | None]] = {}

    def check(self, slot: Any, first: Any, start: Any = None, steps: Any = None) -> None:
        """Check a batch, and remember it.

        Args:
            slot: Whole numbers `(batch,)`: index of each row's sequence among the keys; -1 is an empty row.
            first: Booleans `(batch,)`: whether the row begins its sequence.
            start: Whole numbers `(batch,)`: the first step of each window. It may be left out as long as all rows have
                `first`, because a window that begins a sequence has no predecessor.
            steps: Whole numbers `(batch,)`: how many steps with data each window has. Without it, windows that overlap go
                unseen.

        Raises:
            DataError: If a slot is unknown, two rows are of one sequence, a sequence does not begin with `first`, or a
                window does not come after the previous window of its sequence. The message names key and step. The
                guard then keeps its state.
        """
        slots = _whole("slot", slot)
        firsts = _aligned("first", np.asarray(first).astype(bool), slots)
        starts = None if start is None else _aligned("start", _whole("start", start), slots)
        counts = None if steps is None or start is None else _aligned("steps", _whole("steps", steps), slots)
        rows = [row for row in range(len(slots)) if slots[row] != -1]
        self._check_slots(slots, rows)
        self._check_one_each(slots, rows, starts)
        for row in rows:
            self._check_follows(int(slots[row]), bool(firsts[row]), None if starts is None else int(starts[row]), row)
        for row in rows:
            begin = None if starts is None else int(starts[row])
            self._last[int(slots[row])] = begin, None if begin is None or counts is None else begin + int(counts[row])
        self.batch += 1

    def restart(self) -> None:
        """Forget all batches: every sequence must begin with `first` again."""
        self.batch = 0
        self._last.clear()

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
        if slot not in self._last:
            step = "" if start is None else f" from step {start}"
            raise DataError(
                "The first window of a sequence must have `first` set, or it starts from an old state. "
                f"Received: a window{step} without it, {where}. Set `first`, or give the windows before it."
            )
        before, end = self._last[slot]
        if start is None or before is None:
            raise DataError(
                "A window that continues a sequence, and the window before it, must have `start`, their first step. "
                "Without it, a wrong order would train from wrong states. "
                f'Received: no `start`, {where}. Add `"start"`, whole numbers (batch,), to the inputs of each batch.'
            )
        if start <= before:
            raise DataError(
                f"Windows of a sequence must come in time order. Received: the window from step {start} after the "
                f"window from step {before}, {where}. Sort the windows by step, or set `first` where a sequence begins "
                "again."
            )
        if end is not None and start < end:
            raise DataError(
                "Windows of a sequence must not overlap, because a window starts from the state in which the window "
                f"before it ended. Received: the window from step {start} after the window of steps {before} to {end - 1}, "
                f"{where}. Cut windows that begin where the window before them ends, or set `first` in each."
            )

    def _key(self, slot: int) -> Hashable:
        return slot if self.keys is None else self.keys[slot]


def check_order(batches: Iterable[Mapping[str, Any]], keys: Sequence[Hashable] | None = None) -> None:
    """Check the order of a whole epoch.

    Args:
        batches: The inputs of each batch in turn, with `"slot"`, `"first"` and `"start"`. If they have `"x"` or `"mask"`
            too, windows that overlap are refused.
        keys: Keys of the sequences; a slot is the index of a key. By default, slots are keys.

    Raises:
        DataError: As `OrderGuard.check`.

    Example:

    >>> check_order([{"slot": [0], "first": [True], "start": [0]}, {"slot": [0], "first": [False], "start": [96]}])
    """
    guard = OrderGuard(keys)
    for inputs in batches:
        if not isinstance(inputs, Mapping):
            raise DataError(
                "Inputs of a batch must be a dict with `x`, `slot`, `first` and `start`. "
                f"Received: {type(inputs).__name__} in batch {guard.batch}. See `docs/windows.md`."
            )
        if missing := missing_names(inputs):
            raise DataError(
                f"Inputs of a batch must tell `slot` and `first`. Received: no `{missing[0]}` in batch {guard.batch}."
            )
        batch = Batch.from_keras(inputs)
        guard.check(batch.slot, batch.first, batch.start, _counts(batch))


def _valid(batch: Batch) -> NDArray[np.bool_]:
    """Return which steps of each window are data, `(batch, length)`."""
    if batch.mask is not None:
        return np.array(batch.mask)[:, batch.lead :].astype(bool)
    return np.ones((len(batch.slot), 0 if batch.x is None else _steps(batch)), bool)


def _counts(batch: Batch) -> NDArray[np.int64] | None:
    """Return how many steps with data each window has, `(batch,)`; `None` if the batch does not tell."""
    if batch.mask is not None:
        return np.asarray(np.asarray(batch.mask)[:, batch.lead :].astype(bool).sum(axis=1), dtype=np.int64)
    return None if batch.x is None else np.full(len(batch.slot), _steps(batch))


def _whole(name: str, values: Any) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"`{name}` must be whole numbers (batch,). Received: dtype={array.dtype}, shape {array.shape}.")
    return array.astype(np.int64)


def _aligned(name: str, array: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
    if array.shape != slots.shape:
        raise DataError(f"`{name}` must have the shape of `slot`, {slots.shape}. Received: shape {array.shape}.")
    return array
