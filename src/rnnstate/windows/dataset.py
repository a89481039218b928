"""A Keras dataset that one worker loads in order, batch by batch; and a protocol for datasets that name their sequences."""

from typing import Any, Protocol, runtime_checkable

import keras

from rnnstate.errors import DataError


@runtime_checkable
class Keyed(Protocol):
    """A dataset that names its sequences."""

    @property
    def keys(self) -> Any:
        """Identity of each sequence, in the order of the slots."""


class OrderedDataset(keras.utils.PyDataset):
    """A `PyDataset` that refuses parallel loading, because it would hand out the batches in another order.

    Args:
        **kwargs: Arguments of `keras.utils.PyDataset`; `workers` above 1 is refused.

    Raises:
        DataError: If `workers` is above 1, now or when it is set later.
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
