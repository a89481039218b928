"""Columns with mean 0 and standard deviation 1, and back to the units of the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of each column, as the command line scales its data.

    Args:
        mean: `(features,)`.
        std: `(features,)`, 1 for a column that is constant.

    Example:

    >>> train = {"north": np.array([[1.0, 20.0], [3.0, 60.0]]), "south": np.array([[2.0, 40.0]])}
    >>> scaling = Scaling.of(train)
    >>> scaling.mean.tolist(), scaling.scale(train)["south"].tolist()
    ([2.0, 40.0], [[0.0, 0.0]])
    >>> scaling.unscale(scaling.scale(train))["north"].round(6).tolist()
    [[1.0, 20.0], [3.0, 60.0]]
    """

    mean: Array
    std: Array

    @classmethod
    def of(cls, data: Any) -> "Scaling":
        """Measure the columns of all sequences together. Measure the training part alone.

        Args:
            data: An array `(..., features)`, or a list or a mapping of them.

        Raises:
            DataError: If there is no row, or a value is not finite.
        """
        rows = _rows(data)
        values = np.concatenate(rows) if rows else np.zeros((0, 0))
        if not len(values) or not np.isfinite(values).all():
            received = "no rows" if not len(values) else "a value that is not finite"
            raise DataError(f"Data must have at least one row, and finite values, to be scaled. Received: {received}.")
        # A constant column has a deviation of rounding errors, which must not become a divisor.
        constant = values.max(axis=0) == values.min(axis=0)
        return cls(values.mean(axis=0), np.where(constant, 1.0, values.std(axis=0)))

    def scale(self, values: Any) -> Any:
        """Return columns `(..., features)` with mean 0 and deviation 1; a list or a mapping of arrays as such."""
        return _map(lambda part: (part - self.mean) / self.std, values)

    def unscale(self, outputs: Any) -> Any:
        """Return outputs in the units of the data. The columns of `outputs` are the first columns that were measured."""

        def unscaled(part: Any) -> Any:
            columns = part.shape[-1]
            return part * self.std[:columns] + self.mean[:columns]

        return _map(unscaled, outputs)


def _rows(data: Any) -> list[Array]:
    """Return all arrays as rows `(rows, features)`."""
    if isinstance(data, Mapping):
        return [row for part in data.values() for row in _rows(part)]
    if isinstance(data, list | tuple):
        return [row for part in data for row in _rows(part)]
    array = np.asarray(data, np.float64)
    return [array.reshape(-1, array.shape[-1])]


def _map(function: Any, data: Any) -> Any:
    if isinstance(data, Mapping):
        return {name: _map(function, part) for name, part in data.items()}
    if isinstance(data, list | tuple):
        return [_map(function, part) for part in data]
    return function(np.asarray(data))
