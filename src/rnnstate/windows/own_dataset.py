"""Datasets of the user's own: taken if their batches come in an order in which states can be carried."""

from collections.abc import Hashable, Iterator
from typing import Any

import keras
import numpy as np

from rnnstate.errors import DataError
from rnnstate.windows.batch import Batch
from rnnstate.windows.guarding import check_order
from rnnstate.windows.windows import Windows


class UserWindows(keras.utils.PyDataset):
    """A dataset of the user's own as a model meets `Windows`.

    Args:
        dataset: A `keras.utils.PyDataset` with an attribute `keys`, whose batches have the inputs of `Windows`:
            `{"x": ..., "slot": ..., "first": ...}`, and `"start"`, the first step of each window, if they can tell.

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
    """Give the inputs of each batch, and collect how many rows batches have."""
    for index in range(len(dataset)):
        inputs = dataset[index][0]
        yield inputs
        rows.add(len(Batch.from_keras(inputs).slot))


def as_windows(data: Any, argument: str) -> Any:
    """Return `data` as windows: as they are, or as a checked dataset of the user's own.

    Raises:
        DataError: If they are neither.
    """
    if isinstance(data, (Windows, UserWindows)):
        return data
    if isinstance(data, keras.utils.PyDataset) and hasattr(data, "keys"):
        return UserWindows(data)
    raise DataError(
        f"`{argument}` must be `rnnstate.Windows`, which keep each sequence in time order. "
        f"Received: {type(data).__name__}. Wrap the data: `Windows(x, y, length=96, batch_size=32)`. A "
        "`keras.utils.PyDataset` of your own needs an attribute `keys`, and the inputs of `Windows` in its batches."
    )
