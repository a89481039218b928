"""One call of a network from a given state: the pure function behind `StatefulModel`, and its compiled form."""

import warnings
from collections.abc import Mapping
from typing import Any, Protocol

from keras import ops, tree

from rnnstate.kernels import kernels
from rnnstate.network.clone import Network
from rnnstate.network.masks import mask_input
from rnnstate.network.scope import StateScope
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


class Start(Protocol):
    """An initial state, as far as a step uses it. The layers of `rnnstate.initial` are such starts."""

    needs_observed: bool

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        """Return the initial state of a batch, leaves `(batch, *shape)`."""


def run(
    carrier: Network,
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
        x: The inputs of the network, each `(batch, time, features)`.
        state: Leaves `(batch, *shape)`.
        mask: Boolean `(batch, time)` of the valid steps, or `None`.
        training: Whether layers such as dropout are active.
        reset: Boolean `(batch, time)`. Where it is true, the row returns to `initial` before the step.
        initial: The state to which resets return a row, leaves `(batch, *shape)`.

    Returns:
        The outputs and the final state.
    """
    if mask is not None:
        x = tree.map_structure(lambda tensor: mask_input(ops.convert_to_tensor(tensor), mask), x)
    with StateScope(state, mask, reset, initial) as scope, warnings.catch_warnings():
        # A layer that drops a mask warns that later layers will not see it. They do see it: the scope holds the mask.
        warnings.filterwarnings("ignore", message=".*was passed an input with a mask attached.*")
        y = carrier(x, training=training)
    return y, scope.state


def where_rows(rows: Array, state: Mapping[str, Array], otherwise: Mapping[str, Array]) -> State:
    """Choose whole rows: `state` where the boolean `rows`, `(batch,)`, is true, `otherwise` elsewhere."""

    def choose(one: Array, other: Array) -> Array:
        # Flags (batch,) become (batch, 1, ...), so that each flag meets its own row of (batch, *shape).
        flags = rows[(slice(None), *[None] * (len(one.shape) - 1))]
        return ops.where(flags, one if one.dtype == other.dtype else ops.cast(one, other.dtype), other)

    return State.unchecked(otherwise, [choose(state[name], other) for name, other in otherwise.items()])


class Stepper:
    """`StatefulModel.step` on arguments that have been checked. The compiled form is kept for later steps.

    Args:
        carrier: The network with ports.
        start: The initial state to which resets return a row.
        spec: The leaves of the state, in order.
        variables: All variables of the network and of the initial state.
    """

    def __init__(self, carrier: Network, start: Start, spec: StateSpec, variables: list[Any]) -> None:
        self._carrier, self._start, self._spec, self._names = carrier, start, spec, tuple(spec)
        self._compiled = kernels().CompiledStep(self._step, variables)

    def __call__(
        self, x: Any, state: list[Array], mask: Any, reset: Any, training: bool, observed: Any
    ) -> tuple[Any, State]:
        """Run a step from leaves in the order of the spec."""
        # Training runs uncompiled, because losses that layers add must stay with the layers. So does a reset from observed
        # values, because it may have to make variables.
        if training or (reset is not None and self._start.needs_observed):
            y, final = self._step(x, state, mask, reset, training, observed)
        else:
            y, final = self._compiled(x, state, mask, reset)
        return y, State.unchecked(self._names, final, fits=self._spec)

    def _step(
        self, x: Any, given: Any, mask: Any, reset: Any, training: bool = False, observed: Any = None
    ) -> tuple[Any, list[Array]]:
        # A state is a list here: every backend can compile a list, and returns it in the same order.
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
