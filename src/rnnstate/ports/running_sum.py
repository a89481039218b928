"""The port of a cumulative sum over time, `keras.ops.cumsum(x, axis=1)`: the leaf `sum` holds the sum so far.

    window 1    x 1 2 3    y  1  3  6    next sum  6
    window 2    x 4 5      y 10 15       next sum 15

A step that is no part of the sequence adds nothing. A step that the network masks is added, because operations of Keras see
no masks. A clone of the network has the layer `RunningSum` in place of the operation, so that a port can run it.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from rnnstate.layers.linear_scan import linear_scan
from rnnstate.ports.protocol import LocalState, Port
from rnnstate.ports.steps import only_existing
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array


class RunningSum(keras.layers.Layer):
    """The cumulative sum over time as a layer.

    Args:
        shape: The shape of one step.
        kwargs: As in `keras.Layer`.
    """

    def __init__(self, shape: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = shape

    def call(self, x: Array) -> Array:
        return ops.cumsum(x, axis=1)

    def compute_output_spec(self, x: Any) -> Any:
        # Keras would try a sparse tensor on TensorFlow after some layers, such as `Reshape`.
        return keras.KerasTensor(x.shape, dtype=x.dtype)


def sums_steps(operation: Any, x: Any, time: int | None) -> bool:
    """Return whether an operation is a cumulative sum over time that `RunningSum` can replace.

    Args:
        operation: An operation of the network.
        x: The symbol that it is called with.
        time: The number of steps of the series of the network; `None` stands for any number.
    """
    if type(operation).__name__ != "Cumsum" or not type(operation).__module__.startswith("keras."):
        return False
    rank, axis = len(x.shape), operation.axis
    # The sum of whole numbers would be rounded in a leaf, which is a floating number.
    plain = operation.dtype is None and keras.backend.is_float_dtype(x.dtype)
    return plain and rank > 2 and axis in (1, 1 - rank) and x.shape[1] == time and None not in x.shape[2:]


class RunningSumPort(Port):
    """Port of `RunningSum`."""

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {"sum": LeafSpec(layer.shape)}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
        attached: Array | None = None,
    ) -> tuple[Array, LocalState]:
        before, added = state["sum"], only_existing(ops.cast(x, state["sum"].dtype), mask)
        if reset is None or initial is None:
            sums = before[:, None] + ops.cumsum(added, axis=1)
        else:
            sums = _with_resets(added, before, reset, initial["sum"])
        return only_existing(ops.cast(sums, x.dtype), mask), {"sum": sums[:, -1]}


def _with_resets(x: Array, before: Array, reset: Array, initial: Array) -> Array:
    """Return the sums of a window in which rows return to `initial`. The factor is 0 at a reset, and 1 elsewhere."""
    flags = ops.cast(ops.reshape(reset, (*ops.shape(reset), *[1] * (len(x.shape) - 2))), x.dtype)
    begun = ops.concatenate([before[:, None], ops.zeros_like(x[:, 1:])], axis=1)  # the sum so far joins the first step
    drive = x + flags * initial[:, None] + (1 - flags) * begun
    rows = (ops.shape(x)[0], ops.shape(x)[1], -1)
    factors = ops.broadcast_to(1 - flags, ops.shape(x))
    (sums,) = linear_scan((ops.reshape(factors, rows),), (ops.reshape(drive, rows),))
    return ops.reshape(sums, ops.shape(x))
