"""The state scope: it hands a state to the layers of a network, at any depth, and collects their final leaves.

Each layer with a memory takes its leaves from the active scope and puts its final leaves there. So a call of the network
inside a scope is a pure function from `(x, state)` to `(y, state)`. Nothing in Keras is patched.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from keras import ops

from rnnstate.ports.protocol import PortLike
from rnnstate.state.spec import LeafSpec, StateSpec
from rnnstate.state.state import Array, State

_ACTIVE: ContextVar["StateScope | None"] = ContextVar("rnnstate_scope", default=None)


class StateScope:
    """The state given to one call of a network, and the final state of the call.

    Args:
        given: State to start from, or `None` to let each layer start from its own initial state.
        mask: Boolean `(batch, time)` of the valid steps. Layers use it when Keras hands them no mask.
        reset: Boolean `(batch, time)`. Where it is true, the row returns to `initial` before the step.
        initial: The state to which resets return a row.
    """

    def __init__(
        self,
        given: Mapping[str, Array] | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
        initial: Mapping[str, Array] | None = None,
    ) -> None:
        self.given, self.mask, self.reset, self.initial = given, mask, reset, initial
        self.final: dict[str, Array] = {}
        self.specs: dict[str, LeafSpec] = {}
        self.owners: dict[str, PortLike] = {}
        self._names: dict[str, list[str]] = {}
        self._calls: dict[str, int] = {}

    def __enter__(self) -> "StateScope":
        self._token = _ACTIVE.set(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _ACTIVE.reset(self._token)

    @property
    def spec(self) -> StateSpec:
        """Leaves of all layers that were called, in the order of the calls."""
        return StateSpec(self.specs)

    @property
    def state(self) -> State:
        """The final state of the call."""
        return State.unchecked(self.final, self.final.values())

    def enter(self, path: str) -> str:
        """Name one call of the layer at `path`. A layer that a network uses twice has one memory for each use."""
        count = self._calls[path] = self._calls.get(path, -1) + 1
        return path if count == 0 else f"{path}/call_{count}"

    def take(self, prefix: str, port: PortLike, layer: Any, batch_size: Any) -> dict[str, Array]:
        """Return the leaves from which the layer starts, by their local names."""
        spec = port.spec(layer)
        self.owners[prefix], self._names[prefix] = port, list(spec)
        self.specs.update({f"{prefix}/{name}": leaf for name, leaf in spec.items()})
        if self.given is not None:
            return {name: self.given[f"{prefix}/{name}"] for name in spec}
        initial = port.initial(batch_size)
        return {name: initial[name] for name in spec}

    def initial_of(self, prefix: str) -> dict[str, Array] | None:
        """Return the leaves to which a reset returns the layer, by their local names."""
        if self.initial is None:
            return None
        return {name: self.initial[f"{prefix}/{name}"] for name in self._names[prefix]}

    def put(self, prefix: str, final: Mapping[str, Array]) -> None:
        """Keep the final leaves of the layer, in the dtype in which they are carried."""
        for name, value in final.items():
            leaf = f"{prefix}/{name}"
            self.final[leaf] = ops.cast(value, self.specs[leaf].dtype)


def active_scope() -> StateScope | None:
    """Return the scope that the current call of a network runs in."""
    return _ACTIVE.get()
