"""PyTorch: the way of batches to Keras as a `DataLoader` that only converts arrays to tensors.

Keras wraps a dataset in a loader of PyTorch, whose general machinery takes as long as a step of a small network. Keras reads
a loader that it is given as it is.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from keras import ops

# Keras keeps these dtypes.
_KEPT = {np.dtype(name) for name in ("bool", "int8", "int32", "int64", "float16", "float32", "float64")}


class Batches(torch.utils.data.DataLoader[Any]):
    """The batches of a dataset in order, as tensors.

    Args:
        dataset: A `keras.utils.PyDataset`. Its batches are tuples of arrays, and of dicts, lists and tuples of arrays.
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset, batch_size=None)

    def __iter__(self) -> Any:
        # PyTorch's own loader draws a number for each epoch. Dropout that follows stays the same with the same draw.
        torch.empty((), dtype=torch.int64).random_()
        return self._tensors()

    def _tensors(self) -> Iterator[Any]:
        plain = ops.convert_to_tensor(np.zeros(1, "float32")).device.type == "cpu"
        convert = _on_cpu if plain else ops.convert_to_tensor
        for index in range(len(self)):
            yield _mapped(convert, self.dataset[index])


def _on_cpu(array: Any) -> Any:
    """Copy an array to a tensor, as Keras does."""
    if isinstance(array, np.ndarray) and array.dtype in _KEPT:
        return torch.from_numpy(np.array(array))
    return ops.convert_to_tensor(array)


def _mapped(convert: Any, part: Any) -> Any:
    if part is None:
        return None
    if type(part) is dict:
        return {name: _mapped(convert, one) for name, one in part.items()}
    if type(part) in (list, tuple):
        return type(part)([_mapped(convert, one) for one in part])
    return convert(part)
