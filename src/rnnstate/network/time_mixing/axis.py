"""What axis 1 of a tensor in a network stands for, and which inputs of a network have a time axis."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import keras


class Axis(Enum):
    """What a tensor of a network holds.

    - `STEPS`: `(batch, time, ...)`, one entry for each step of the window.
    - `LAST`: one value for each window, from a layer that carries its memory, such as the last output of an LSTM.
    - `SUMMARY`: one value for each window, from the steps of the window, such as their mean.
    - `STATIC`: a value that depends on no step, from inputs without a time axis.
    """

    STEPS = "steps"
    LAST = "last"
    SUMMARY = "summary"
    STATIC = "static"


class Verdict(Enum):
    """The class of one node. `UNKNOWN` asks for a probe."""

    PER_STEP = "per step"
    SUMMARISES = "summarises"
    MIXES = "mixes"
    UNKNOWN = "unknown"


def joined(axes: Sequence[Axis]) -> Axis:
    """Return what a function of several tensors without a time axis holds."""
    for axis in (Axis.SUMMARY, Axis.LAST):
        if axis in axes:
            return axis
    return Axis.STATIC


def axes_of_inputs(inputs: Sequence[Any]) -> list[Axis]:
    """Tell the series among the inputs of a network from the static inputs.

    The first input `(batch, time, features)` fixes the number of steps. Without such an input, the first input of rank 2
    is the series. A float vector `(batch, values)` next to a series is static.
    """
    series = [tensor for tensor in inputs if len(tensor.shape) > 2] or [t for t in inputs if len(t.shape) > 1]
    if not series:
        return [Axis.STATIC for _ in inputs]
    time = next((None for tensor in series if tensor.shape[1] is None), series[0].shape[1])
    alone = all(len(tensor.shape) < 3 for tensor in inputs)
    return [Axis.STEPS if _is_series(tensor, time, alone) else Axis.STATIC for tensor in inputs]


def _is_series(tensor: Any, time: int | None, alone: bool) -> bool:
    if len(tensor.shape) < 2 or tensor.shape[1] != time:
        return False
    return len(tensor.shape) > 2 or alone or time is None or not keras.backend.is_float_dtype(tensor.dtype)
