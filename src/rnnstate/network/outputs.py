"""The outputs of a network: which of them have a time axis, and what is given for them by name.

The order of outputs is that of `net.outputs`, which is that of `keras.tree.flatten`: sorted by name in a dict.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import tree

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.network.clone import inputs_of


def outputs_per_step(net: Any) -> list[bool]:
    """Return, for each output of a network, whether it has one entry per step, and not one per window.

    An output per step has shape `(batch, time, ...)`, with the time axis of an input. A forecast `(batch, horizon, 1)` from
    a window of any length is one output per window.

    Example:

    >>> x = keras.Input((None, 2))
    >>> h = keras.layers.GRU(3, return_sequences=True)(x)
    >>> last = keras.layers.GRU(3)(h)
    >>> outputs_per_step(keras.Model(x, {"b": h, "a": last, "c": keras.layers.RepeatVector(5)(last)}))
    [False, True, False]
    """
    times = {_time(tensor) for tensor in tree.flatten(inputs_of(net)) if _is_series(tensor)} | {None}
    return [len(output.shape) > 2 and output.shape[1] in times for output in net.outputs]


def _is_series(tensor: Any) -> bool:
    if len(tensor.shape) == 2:  # tokens `(batch, time)`; a float vector is a static input
        return not keras.backend.is_float_dtype(tensor.dtype)
    return len(tensor.shape) > 2


def _time(tensor: Any) -> int | None:
    steps: int | None = tensor.shape[1]
    return steps


def output_names(net: Any) -> list[str]:
    """Return the name of each output: its key in a dict of outputs, else the name of its layer."""
    return sorted(net.output) if isinstance(net.output, dict) else list(net.output_names)


def by_output(net: Any, given: Any, what: str) -> list[Any]:
    """Return what is given for each output. A single thing is given for each of them.

    Args:
        net: The network.
        given: One thing, a mapping by output name in which names may be missing, or the structure of the outputs.
        what: The name of `given` in the error message.

    Raises:
        DataError: If `given` has a name that no output has.
    """
    count = len(net.outputs)
    if not isinstance(given, Mapping):
        parts = list(given) if isinstance(given, (list, tuple)) else [given] * count
        return parts
    if count == 1 and len(given) == 1:
        return list(given.values())
    names = output_names(net)
    if unknown := [name for name in given if name not in names]:
        raise DataError(
            f"`{what}` must have the names of the outputs of the network: {listed(names, limit=5)}. "
            f"Received: {listed(unknown)}. Rename them, or name the outputs: `keras.Model(x, {{name: output}})`."
        )
    return [given.get(name) for name in names]
