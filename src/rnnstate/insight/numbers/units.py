"""Numbers about the units of a state: which stand still, which are saturated, and how the norm of a state grows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# A unit stands still if it moves by less than this share of the size of its leaf.
STILL = 1e-3


def still_units(leaf: Array, valid: Array) -> Array:
    """Return which units do not change over the valid steps, bool `(units,)`.

    Args:
        leaf: The values `(rows, time, *shape)`.
        valid: Which steps hold data, bool `(rows, time)`.

    Example:

    >>> still_units(np.array([[[1.0, 0.3], [-1.0, 0.3]]]), np.ones((1, 2), bool)).tolist()
    [False, True]
    """
    values = leaf[valid].reshape(int(valid.sum()), -1).astype(np.float64)
    size = max(float(np.sqrt(np.mean(values**2))), 1e-3)
    still: Array = values.std(axis=0) < STILL * size
    return still


def saturation(gate: Array, valid: Array, low: float = 0.1, high: float = 0.9) -> tuple[Array, Array]:
    """Return the share of steps in which each unit of a gate is below `low`, and above `high`, each `(units,)`.

    Example:

    >>> saturation(np.array([[[0.05], [0.5], [0.95], [0.99]]]), np.ones((1, 4), bool))
    (array([0.25]), array([0.5]))

    References:
        - Karpathy et al., "Visualizing and understanding recurrent networks", arXiv:1506.02078.
    """
    values = gate[valid].reshape(int(valid.sum()), -1)
    return (values < low).mean(axis=0), (values > high).mean(axis=0)


def norms(leaf: Array) -> Array:
    """Return the root mean square over the units of a leaf `(rows, time, *shape)`, as `(rows, time)`."""
    return np.asarray(np.sqrt(np.mean(leaf.reshape(*leaf.shape[:2], -1).astype(np.float64) ** 2, axis=-1)))


def growth(norm: Array, valid: Array) -> float:
    """Return how many times larger the norm `(rows, time)` is in the last quarter of the steps than in the second one.

    Example:

    >>> growth(np.array([[0.0, 1.0, 1.0, 3.0]]), np.ones((1, 4), bool))
    3.0
    """
    time = norm.shape[1]
    quarters = [slice(time // 4, max(time // 2, time // 4 + 1)), slice(3 * time // 4, time)]
    second, last = (float(np.mean(norm[:, part][valid[:, part]])) if valid[:, part].any() else 0.0 for part in quarters)
    return last / second if second > 1e-9 else (1.0 if last <= 1e-9 else float("inf"))
