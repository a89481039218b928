"""Rows of a bank with `keras.ops` alone: the definition that the backends' own versions must agree with."""

from typing import Any

from keras import ops

from rnnstate.kernels.loops_reference import no_loop_because, recurrent_loop

__all__ = ["has_replicas", "no_loop_because", "put_rows", "recurrent_loop", "register_state", "take_rows"]


def take_rows(variable: Any, slots: Any) -> Any:
    """Return the rows `slots` of a variable."""
    return ops.take(variable, slots, axis=0)


def put_rows(variable: Any, slots: Any, rows: Any) -> None:
    """Write `rows` to the rows `slots` of a variable. This copies the variable; the backends' versions do not."""
    rows = ops.cast(ops.stop_gradient(rows), variable.dtype)
    variable.assign(ops.scatter_update(variable, slots[:, None], rows))


def has_replicas() -> bool:
    """True inside a distribution strategy whose replicas would keep banks of their own."""
    return False


def register_state(state_class: Any) -> None:
    """Let the program transformations of the backend see through a `State`."""
