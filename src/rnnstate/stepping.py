"""One call of a network from a given state: the pure function behind `StatefulModel`."""

import warnings
from collections.abc import Mapping
from typing import Any

from keras import ops, tree

from rnnstate.masking import mask_input
from rnnstate.scope import StateScope
from rnnstate.state import Array, State


def run(
    carrier: Any,
    x: Any,
    state: Mapping[str, Array],
    mask: Array | None,
    training: bool,
    reset: Array | None = None,
    initial: Mapping[str, Array] | None = None,
) -> tuple[Any, State]:
    """Call a network whose layers take their state from the scope.

    Args:
        carrier: The clone of the network, with ports.
        x: Its inputs, `(batch, time, features)` each.
        state: Leaves `(batch, *shape)`.
        mask: Boolean `(batch, time)` of the valid steps, or `None`.
        training: Whether dropout and the like are active.
        reset: Boolean `(batch, time)`: rows to put back to `initial` before a step.
        initial: The state that resets put rows back to.

    Returns:
        The outputs and the final state.
    """
    if mask is not None:
        x = tree.map_structure(lambda tensor: mask_input(ops.convert_to_tensor(tensor), mask), x)
    with StateScope(state, mask, reset, initial) as scope, warnings.catch_warnings():
        # Layers that drop a mask say that those after them will not see it; the scope's mask reaches them all the same.
        warnings.filterwarnings("ignore", message=".*was passed an input with a mask attached.*")
        y = carrier(x, training=training)
    return y, scope.state


def where_rows(rows: Array, state: Mapping[str, Array], otherwise: Mapping[str, Array]) -> State:
    """Choose whole rows: `state` where the boolean `rows`, `(batch,)`, is true, `otherwise` elsewhere."""

    def choose(one: Array, other: Array) -> Array:
        # Right-padded: a (batch,) flag against (batch, *shape), never the other way round.
        flags = ops.reshape(rows, (-1, *[1] * (len(one.shape) - 1)))
        return ops.where(flags, ops.cast(one, other.dtype), other)

    return State.unchecked(otherwise, [choose(state[name], other) for name, other in otherwise.items()])
