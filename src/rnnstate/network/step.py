"""One call of a network from a given state: the pure function behind `StatefulModel`, and its compiled form."""

import warnings
from collections.abc import Mapping
from typing import Any

from keras import ops, tree

from rnnstate.kernels import kernels
from rnnstate.network.masks import mask_input
from rnnstate.network.scope import StateScope
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


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
        flags = rows[(slice(None), *[None] * (len(one.shape) - 1))]
        return ops.where(flags, one if one.dtype == other.dtype else ops.cast(one, other.dtype), other)

    return State.unchecked(otherwise, [choose(state[name], other) for name, other in otherwise.items()])


class Stepper:
    """`StatefulModel.step` on what has been checked, compiled where it can be, and kept.

    Args:
        carrier: The network with ports.
        start: The initial state that resets put rows back to.
        spec: The leaves of the state, in order.
        variables: All variables of both.
    """

    def __init__(self, carrier: Any, start: Any, spec: StateSpec, variables: list[Any]) -> None:
        self._carrier, self._start, self._spec, self._names = carrier, start, spec, tuple(spec)
        self._compiled = kernels().CompiledStep(self._step, variables)

    def __call__(
        self, x: Any, state: list[Array], mask: Any, reset: Any, training: bool, observed: Any
    ) -> tuple[Any, State]:
        """Run a step from leaves in the order of the spec."""
        # In training, losses of layers must stay with the layers, and observed values may still have to make variables.
        if training or (reset is not None and self._start.needs_observed):
            y, final = self._step(x, state, mask, reset, training, observed)
        else:
            y, final = self._compiled(x, state, mask, reset)
        return y, State.unchecked(self._names, final, fits=self._spec)

    def _step(
        self, x: Any, given: Any, mask: Any, reset: Any, training: bool = False, observed: Any = None
    ) -> tuple[Any, list[Array]]:
        # States are lists here, which every backend can compile, and gives back in order.
        x, given = tree.map_structure(ops.convert_to_tensor, (x, given))
        state = State.unchecked(self._names, given)
        if reset is None:
            return self._plain(run(self._carrier, x, state, mask, training))
        initial = self._start.state(ops.shape(tree.flatten(x)[0])[0], observed, training)
        if len(reset.shape) == 1:
            return self._plain(run(self._carrier, x, where_rows(reset, initial, state), mask, training))
        return self._plain(run(self._carrier, x, state, mask, training, reset, initial))

    def _plain(self, result: tuple[Any, State]) -> tuple[Any, list[Array]]:
        y, state = result
        return y, [state[name] for name in self._names]
