"""Rows of a bank with `keras.ops` alone: the definition that the backends' own versions must agree with."""

from typing import Any

from keras import ops


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


def random_state() -> dict[str, Any]:
    """Return the state of the backend's global random generator, if training can depend on one, as NumPy arrays."""
    return {}


def set_random_state(state: dict[str, Any]) -> None:
    """Put the backend's global random generator back to what `random_state` returned."""
