"""One call of a network from a given state: the pure function behind `StatefulModel`, and its compiled form."""

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import keras
from keras import ops, tree

from rnnstate.kernels import kernels
from rnnstate.network.clone import Network, walk
from rnnstate.network.masks import mask_input
from rnnstate.network.scope import StateScope
from rnnstate.network.served import Served
from rnnstate.network.stand_in import PortLayer
from rnnstate.network.watch import Watch, watched_layers
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


class Start(Protocol):
    """An initial state, as far as a step uses it. The layers of `rnnstate.initial` are such starts."""

    needs_observed: bool
    built: bool

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
    """`StatefulModel.step` on arguments that have been checked. The compiled form is kept until the network changes.

    Args:
        carrier: The network with ports.
        start: The initial state to which resets return a row.
        spec: The leaves of the state, in order.
        served: The variables of the network and of the initial state.
    """

    def __init__(self, carrier: Network, start: Start, spec: StateSpec, served: Served) -> None:
        self._carrier, self._start, self._spec, self._names = carrier, start, spec, tuple(spec)
        self.served, self._warned, self._ran, self._version = served, False, False, 0
        self._stand_in = next(layer for _, layer in walk(carrier) if isinstance(layer, PortLayer))
        self._watch = Watch(self.layers)
        self._compiled = kernels().CompiledStep(self._step, served)

    def layers(self) -> Iterator[Any]:
        """Yield the layers that decide what a step computes, each once."""
        return watched_layers(self._carrier, self._start)

    def version(self) -> int:
        """Return a number that is another one after each change of a layer. What was compiled before is forgotten."""
        if self._watch.changed():
            self.forget()
        return self._version

    def forget(self) -> None:
        """Forget what was compiled, and look at the layers anew."""
        for _, layer in walk(self._carrier):
            if isinstance(layer, PortLayer):
                layer.renew()
        self.served.find()
        self._watch.look()
        self._compiled = kernels().CompiledStep(self._step, self.served)
        self._version += 1

    def __call__(self, x: Any, state: list[Array], mask: Any, reset: Any, observed: Any) -> tuple[Any, State]:
        """Run a step of inference from leaves in the order of the spec."""
        if self._watch.changed():
            self.forget()
        # A reset from observed values runs uncompiled, because it may have to make variables.
        if reset is not None and self._start.needs_observed:
            self._make_variables(x, observed)
            y, final = self.served.run(partial(self._step, x, state, mask, reset, False, observed))
        else:
            y, final = self._compiled(x, state, mask, reset)
        if self._ran:
            self._note_own_changes()
        return y, State.unchecked(self._names, final, fits=self._spec)

    def training(
        self, x: Any, state: list[Array], mask: Any, reset: Any, observed: Any
    ) -> tuple[Any, State, list[tuple[Any, Array]]]:
        """Run a step of training, which changes no variable.

        Returns:
            The outputs, the final state, and the variables that would have changed, each with its new value.
        """
        self.version()
        y, final, moved = self.served.attempt(partial(self._apart, x, state, mask, reset, observed))
        self._note_own_changes()
        return y, State.unchecked(self._names, final, fits=self._spec), moved

    def warn_once(self, moved: list[tuple[Any, Array]]) -> None:
        """Say, the first time, that a step of training has dropped new values."""
        if moved and not self._warned:
            self._warned = True
            paths = ", ".join(f"`{variable.path}`" for variable, _ in moved[:3])
            warnings.warn(
                f"`step(training=True)` is pure: it dropped the new values of {len(moved)} variables, such as {paths}. "
                "So averages stay as they are, and what layers draw from seeds is the same in each call. In a training "
                "loop of your own, call `training_step`, which returns the new values, and assign them.",
                stacklevel=4,
            )

    def advance(self, x: Any, state: list[Array], mask: Any) -> tuple[Any, list[Array]]:
        """Run a step without checks, by the compiled form where there is one."""
        y, final = self._compiled(x, state, mask, None)
        return y, final

    def plain(self, x: Any, state: list[Array], mask: Any) -> tuple[Any, list[Array]]:
        """Run a step without checks, uncompiled."""
        return self._step(x, state, mask, None)

    def _note_own_changes(self) -> None:
        """Do not take for a change of the network what layers note in themselves while they run."""
        self._ran = False
        if self._watch.changed():
            self._watch.look()

    def _apart(self, x: Any, state: list[Array], mask: Any, reset: Any, observed: Any) -> Any:
        if reset is not None:
            self._make_variables(x, observed)
        variables = self.served.variables
        pairs = list(zip(variables, self.served.values(), strict=True))
        with self.served.lock:
            with keras.StatelessScope(pairs, collect_losses=True) as scope:
                before = [scope.get_current_value(variable) for variable in variables]
                y, final = self._step(x, state, mask, reset, True, observed)
                after = [scope.get_current_value(variable) for variable in variables]
            # The losses that layers add stay with the network, at one of its layers: a Functional network takes none. A copy
            # is known to this layer alone, so it counts once.
            self._stand_in.add_loss([ops.copy(loss) for loss in scope.losses])
        pairs = [(v, new) for v, old, new in zip(variables, before, after, strict=True) if new is not old]
        return y, final, pairs

    def _make_variables(self, x: Any, observed: Any) -> None:
        """Make the variables of an initial state, because they cannot be made inside a scope."""
        if not self._start.built:
            self._start.state(tree.flatten(x)[0].shape[0], observed)
            self.version()

    def _step(
        self, x: Any, given: Any, mask: Any, reset: Any, training: bool = False, observed: Any = None
    ) -> tuple[Any, list[Array]]:
        # A state is a list here: every backend can compile a list, and returns it in the same order.
        self._ran = True
        x, given = tree.map_structure(ops.convert_to_tensor, (x, given))
        state = State.unchecked(self._names, given)
        with self.served.lock:
            if reset is None:
                return self._plain(run(self._carrier, x, state, mask, training))
            initial = self._start.state(ops.shape(tree.flatten(x)[0])[0], observed, training)
            if len(reset.shape) == 1:
                return self._plain(run(self._carrier, x, where_rows(reset, initial, state), mask, training))
            return self._plain(run(self._carrier, x, state, mask, training, reset, initial))

    def _plain(self, result: tuple[Any, State]) -> tuple[Any, list[Array]]:
        y, state = result
        return y, [state[name] for name in self._names]
