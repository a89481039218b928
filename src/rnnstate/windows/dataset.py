"""What a model needs of a dataset of windows, and a Keras dataset that is loaded in order by one worker."""

from collections.abc import Hashable
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError


class WindowDataset(Protocol):
    """A dataset of windows as a model meets it: `Windows`, or a checked dataset that the user made."""

    epoch: int

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Identity of each sequence; the index of a key is its slot."""

    @property
    def length(self) -> int:
        """Steps of a window."""

    @property
    def max_length(self) -> int:
        """Steps of a batch's time axis, without the steps before the windows."""

    @property
    def batch_size(self) -> int | None:
        """Rows of each batch, or `None` if batches differ."""

    @property
    def prefix(self) -> int:
        """How many steps come before each window."""

    @property
    def varies(self) -> bool:
        """Whether the steps of windows are drawn at random for each batch."""

    @property
    def scales(self) -> NDArray[np.float64]:
        """Steps of each batch in relation to `length`; `(batches,)`."""

    @property
    def targets(self) -> str | dict[str, str] | None:
        """How the targets are cut, by output name if they have names; `None` if this is unknown."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def __getitem__(self, index: int) -> Any:
        """Return batch `index`: `(inputs,)`, `(inputs, targets)` or `(inputs, targets, weights)`."""


@runtime_checkable
class Keyed(Protocol):
    """A dataset that names its sequences."""

    @property
    def keys(self) -> Any:
        """Identity of each sequence, in the order of the slots."""


class OrderedDataset(keras.utils.PyDataset):
    """A `PyDataset` that refuses parallel loading, which would hand out its batches in another order.

    Args:
        **kwargs: Arguments of `keras.utils.PyDataset`; `workers` above 1 is refused.

    Raises:
        DataError: If more than one worker is asked for, now or later.
    """

    def __init__(self, **kwargs: Any) -> None:
        _check_loading(kwargs.get("workers", 1), kwargs.get("use_multiprocessing", False))
        super().__init__(**kwargs)

    @property
    def workers(self) -> int:
        """Number of loading threads: 0 or 1."""
        return int(super().workers)

    @workers.setter
    def workers(self, value: int) -> None:
        _check_loading(value, self.use_multiprocessing)
        keras.utils.PyDataset.workers.fset(self, value)


def _check_loading(workers: int, use_multiprocessing: bool) -> None:
    if workers > 1 or use_multiprocessing:
        raise DataError(
            "`workers` must be 0 or 1, without `use_multiprocessing`. "
            f"Received: workers={workers}, use_multiprocessing={use_multiprocessing}. In the first `fit` of a model, "
            "Keras' parallel loader starts one batch late, or repeats and loses batches, so states would be carried "
            "to the wrong windows."
        )
