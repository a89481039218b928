"""JAX: rows of a bank are written in place inside a compiled step with donated arguments, by native code or by XLA."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnstate.kernels.loops.jax import has_loop, no_loop_because, recurrent_loop
from rnnstate.kernels.native.loops import native_bank
from rnnstate.kernels.reference import (
    FED_AT_ONCE,
    FEED_ERRORS,
    LOADS_AHEAD,
    LOOPS_IN_PYTHON,
    TRACES_AGAIN_FOR_VARIABLES,
    feed,
    has_replicas,
    is_synchronous,
    random_state,
    set_random_state,
    steps_of,
    without_gradients,
)
from rnnstate.kernels.reference import put_rows as put_by_xla
from rnnstate.kernels.reference import take_rows as take_by_xla
from rnnstate.kernels.step.jax import CompiledStep, many_steps

__all__ = [
    "FED_AT_ONCE",
    "FEED_ERRORS",
    "LOADS_AHEAD",
    "LOOPS_IN_PYTHON",
    "TAKES_STACKS",
    "TRACES_AGAIN_FOR_VARIABLES",
    "CompiledStep",
    "arrays",
    "copies",
    "feed",
    "has_loop",
    "has_replicas",
    "is_synchronous",
    "many_steps",
    "no_loop_because",
    "put_rows",
    "random_state",
    "recurrent_loop",
    "register_state",
    "set_random_state",
    "steps_of",
    "take_rows",
    "without_gradients",
]

TAKES_STACKS = True

_REGISTERED: set[type] = set()


def take_rows(variables: Sequence[Any], slots: Any) -> list[Any]:
    """Return the rows `slots` of each variable, detached."""
    native = native_bank()
    if native is None:
        return take_by_xla(variables, slots)
    rows: list[Any] = native.take([jax.lax.stop_gradient(variable.value) for variable in variables], slots)
    return rows


def put_rows(variables: Sequence[Any], slots: Any, rows: Sequence[Any]) -> None:
    """Write rows to the rows `slots` of each variable."""
    native = native_bank()
    if native is None:
        put_by_xla(variables, slots, rows)
        return
    pairs = list(zip(variables, rows, strict=True))
    banks = [jax.lax.stop_gradient(variable.value) for variable in variables]
    new = [jax.lax.stop_gradient(part).astype(variable.dtype) for variable, part in pairs]
    for variable, bank in zip(variables, native.put(banks, slots, new), strict=True):
        variable.assign(bank)


def arrays(tensors: Iterable[Any]) -> list[Any]:
    """Return tensors as NumPy arrays. On the CPU they are views."""
    return [np.asarray(tensor) for tensor in tensors]


@jax.jit
def copies(tensors: list[Any]) -> list[Any]:
    """Return copies of tensors. For twenty small ones, one compiled call takes a quarter of the time of twenty."""
    return [jnp.copy(tensor) for tensor in tensors]


def register_state(state_class: Any) -> None:
    """Make a state a pytree, so that it passes through `jit`, `grad` and `scan`."""
    if state_class not in _REGISTERED:
        _REGISTERED.add(state_class)
        jax.tree_util.register_pytree_node(
            state_class, lambda state: (tuple(state.values()), tuple(state)), state_class.unchecked
        )
