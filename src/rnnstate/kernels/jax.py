"""JAX: a scatter inside a compiled step with donated arguments is done in place by XLA."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnstate.kernels.loops.jax import has_loop, no_loop_because, recurrent_loop
from rnnstate.kernels.reference import (
    FEED_ERRORS,
    LOADS_AHEAD,
    LOOPS_IN_PYTHON,
    TRACES_AGAIN_FOR_VARIABLES,
    feed,
    has_replicas,
    is_synchronous,
    put_rows,
    random_state,
    set_random_state,
    steps_of,
    take_rows,
    without_gradients,
)
from rnnstate.kernels.step.jax import CompiledStep, many_steps

__all__ = [
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
