"""A state as one array: all leaves next to each other, as `Windows(observed=...)` takes it."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from rnnstate.state.state import Array


def pack(state: Mapping[str, Array]) -> Array:
    """Put all leaves of a state side by side: `(batch, total)`, in the order of the leaves.

    Args:
        state: Leaves `(batch, *shape)`.

    Example:

    >>> initial.pack({"lstm/h": np.ones((2, 3)), "lstm/c": np.zeros((2, 3))}).shape
    (2, 6)
    """
    values = [ops.reshape(value, (value.shape[0], -1)) for value in state.values()]
    if all(isinstance(value, np.ndarray) for value in state.values()):
        return np.concatenate([np.reshape(value, (len(value), -1)) for value in state.values()], axis=1)
    return ops.concatenate(values, axis=1)
