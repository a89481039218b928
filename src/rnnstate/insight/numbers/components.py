"""The shape of a cloud of states: principal components, the number of dimensions used, nearest states."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def principal_components(points: Array, count: int = 2) -> tuple[Array, Array]:
    """Return the coordinates of points along their directions of largest variance, and the share of each.

    Args:
        points: `(points, numbers)`.
        count: How many directions.

    Returns:
        Coordinates `(points, count)`, and shares of the variance `(count,)`.

    Example:

    >>> principal_components(np.array([[0.0, 0.0], [3.0, 4.0]]))[1].round(6).tolist()
    [1.0, 0.0]
    """
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-300)
    lacking = max(0, count - len(sizes))
    coordinates = np.pad((left * sizes)[:, :count], ((0, 0), (0, lacking)))
    return coordinates, np.pad(shares[:count], (0, lacking))


def participation_ratio(points: Array) -> float:
    """Return how many dimensions a cloud of points fills: (sum of variances)² / sum of squared variances.

    Equal variances in d directions give d. It is 0 for a single point.

    Example:

    >>> participation_ratio(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]))
    2.0
    """
    variances = np.linalg.eigvalsh(np.cov(points, rowvar=False, bias=True).reshape(points.shape[1], -1))
    total = float((variances**2).sum())
    return float(variances.sum() ** 2 / total) if total > 0 else 0.0


def nearest_steps(vectors: Array, valid: Array, row: int, step: int, count: int = 5, apart: int = 10) -> Array:
    """Return the places of the states that are nearest to one state: rows and steps `(count, 2)`, nearest first.

    Args:
        vectors: States `(rows, time, numbers)`.
        valid: Which steps hold data, bool `(rows, time)`.
        row: The row of the state.
        step: Its step.
        count: How many places at most.
        apart: Two places of one row, and the state itself, are at least so many steps apart.

    References:
        - Matching similar states: Strobelt et al., "LSTMVis", arXiv:1606.07461.
    """
    distance = np.linalg.norm(vectors - vectors[row, step], axis=-1)
    distance[~valid] = np.inf
    distance[row, max(0, step - apart + 1) : step + apart] = np.inf
    found: list[tuple[int, int]] = []
    while len(found) < count and np.isfinite(distance).any():
        near, at = np.unravel_index(int(np.argmin(distance)), distance.shape)
        found.append((int(near), int(at)))
        distance[near, max(0, at - apart + 1) : at + apart] = np.inf
    return np.array(found, np.int64).reshape(-1, 2)
