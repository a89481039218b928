"""The outputs for a dataset that a user made, sorted into one array in time order for each sequence."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array


class Places:
    """Which steps of which sequence the batches of one pass hold. Nothing else of a batch is kept."""

    def __init__(self) -> None:
        self._slots: list[NDArray[np.int64]] = []
        self._valid: list[NDArray[np.bool_]] = []
        self._again: tuple[int, int] | None = None  # (sequence, batch) of the first sequence that begins twice
        self._seen: set[int] = set()

    def add(self, slots: NDArray[np.int64], first: NDArray[np.bool_], valid: NDArray[np.bool_]) -> None:
        """Note the next batch.

        Args:
            slots: The sequence of each row, `(batch,)`; -1 is an empty row.
            first: Whether the row begins its sequence, `(batch,)`.
            valid: Which steps of each window are data, `(batch, length)`.
        """
        for slot, begins in zip(slots.tolist(), first.tolist(), strict=True):
            if slot >= 0 and begins and slot in self._seen and self._again is None:
                self._again = slot, len(self._slots)
            self._seen.add(slot)
        self._slots.append(slots)
        self._valid.append(valid)

    @property
    def rows(self) -> list[int]:
        """Rows of each batch."""
        return [len(slots) for slots in self._slots]

    def check(self, keys: Sequence[Hashable]) -> None:
        """Raise a `DataError` if the outputs could not be one array for each sequence."""
        if self._again is not None:
            slot, batch = self._again
            raise DataError(
                "`predict` returns one array for each key, so a sequence must begin once. Received: sequence "
                f"{keys[slot]!r}, which begins again in batch {batch}. Give the second beginning another key."
            )
        lengths = [valid.shape[1] for valid in self._valid]
        for batch, length in enumerate(lengths):
            if length != lengths[0]:
                raise DataError(
                    f"`predict` needs windows of the same number of steps in all batches: {lengths[0]}, as in batch 0. "
                    f"Received: {length} in batch {batch}. Pad the windows, and say with `mask` which steps are data."
                )

    def assemble(self, outputs: Iterable[Any], keys: Sequence[Hashable], per_step: Sequence[int]) -> dict[Any, Any]:
        """Return the outputs of each sequence in time order, without padding.

        Args:
            outputs: For each batch in turn, arrays `(batch, length, ...)` or `(batch, ...)` in the structure of the model's
                outputs.
            keys: Identity of each sequence.
            per_step: For each output, for how many steps it has one entry; 0 for one entry per window.

        Returns:
            For each key an array `(time, ...)`, or `(windows, ...)` where `per_step` is false.
        """
        parts: list[list[list[Array]]] = [[[] for _ in per_step] for _ in keys]
        empty: list[Array] = []
        structure: Any = None
        for output, slots, valid in zip(outputs, self._slots, self._valid, strict=True):
            structure, leaves = output, tree.flatten(output)
            empty = [leaf[:0, 0] if flag else leaf[:0] for leaf, flag in zip(leaves, per_step, strict=True)]
            for row in np.flatnonzero(slots >= 0).tolist():
                for part, leaf, flag in zip(parts[slots[row]], leaves, per_step, strict=True):
                    part.append(leaf[row][valid[row][::flag]] if flag else leaf[row : row + 1])
        arrays = ([np.concatenate([none, *part]) for none, part in zip(empty, found, strict=True)] for found in parts)
        return {key: tree.pack_sequence_as(structure, list(row)) for key, row in zip(keys, arrays, strict=True)}
