"""The protocol of a port: which leaves a layer has, and how the layer runs with them as an argument and a result.

`PortLike` is what the rest of the package expects of a port, and `Port` is a base class that users can inherit from.
`registry` finds the port of a layer. `recurrent` and `bidirectional` hold the ports of Keras' own layers.
"""

import inspect
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, Protocol, TypeGuard, cast

from keras import ops

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array

# The leaves of one layer by local name, such as `h`. Each has the shape `(batch, *shape)`.
LocalState = dict[str, Array]


class PortLike(Protocol):
    """Anything that acts as a port. A class with these three methods need not inherit from `Port`."""

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        """Return the leaves of `layer` by local name."""

    def initial(self, batch_size: Any) -> LocalState:
        """Return the leaves at the start of a sequence, `(batch, *shape)`."""

    def call(
        self, x: Array, state: LocalState, mask: Array | None = None, training: bool = False
    ) -> tuple[Array, LocalState]:
        """Run the layer on a window `(batch, time, features)`. Return its output and its final leaves."""


class ResettingPort(Protocol):
    """A port that can reset rows inside a window by itself, in one call for all steps."""

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
    ) -> tuple[Array, LocalState]:
        """Run the layer on a window. Before a step whose `reset`, `(batch, time)`, is true, a row starts at `initial`."""


def resets_itself(port: Any) -> TypeGuard[ResettingPort]:
    """True for a port whose `call` takes `reset` and `initial`. Other ports with resets run step by step."""
    return _takes(cast(Hashable, type(port)), "reset")


class MaskedPort(Protocol):
    """A port whose layer treats a step that the network masks in another way than a step that does not exist."""

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        *,
        attached: Array | None = None,
    ) -> tuple[Array, LocalState]:
        """Run the layer on a window. `mask` holds the steps that exist, `attached` the mask that Keras gives the layer."""


def separates_masks(port: Any) -> TypeGuard[MaskedPort]:
    """True for a port whose `call` takes `attached`. Every other port gets both masks joined as `mask`."""
    return _takes(cast(Hashable, type(port)), "attached")


@cache
def _takes(port_class: Hashable, argument: str) -> bool:
    """True if `call` of a class of ports has an argument. The answer is kept, because every call of a layer asks."""
    return argument in inspect.signature(cast(Any, port_class).call).parameters


def both(one: Array | None, other: Array | None) -> Array | None:
    """Return the steps that are valid in two masks. `None` is a mask without padding."""
    if one is None or other is None:
        return one if other is None else other
    return ops.logical_and(one, other)


def check_features(layer: Any, x: Array, features: int) -> None:
    """Raise if the input of a layer has another number of features.

    Raises:
        DataError: If it has.
    """
    if x.shape[-1] != features:
        raise DataError(
            f"Layer `{layer.name}` must get {features} features, (batch, time, features). Received: shape={tuple(x.shape)}."
        )


def refusal(port_class: type, layer: Any) -> str | None:
    """Return why a class of ports cannot carry a layer, with the way out; `None` if it can."""
    refuses = getattr(port_class, "refuses", None)
    reason: str | None = None if refuses is None else refuses(layer)
    return reason


class Port:
    """How to run one layer with its memory as an argument and a result.

    To make your own layer carry, write a subclass, and register it with `register_port`.

    Args:
        layer: The built layer. The port uses its weights and never changes its state.

    Example:

    >>> class Total(keras.layers.Layer):
    ...     def call(self, x):
    ...         return keras.ops.cumsum(x, axis=1)
    >>> class TotalPort(Port):
    ...     def spec(self, layer):
    ...         return {"total": LeafSpec((3,))}
    ...     def call(self, x, state, mask=None, training=False):
    ...         y = self.layer(x) + state["total"][:, None]
    ...         return y, {"total": y[:, -1]}
    >>> register_port(Total, TotalPort)
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        """Return why a layer cannot be carried as it is configured, and the way out. By default every layer can be.

        The text completes the sentence "Layer `name` cannot be carried: ...", without a full stop at the end.
        """
        return None

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        """Return the leaves of `layer` by local name, such as `{"h": LeafSpec((8,))}`."""
        raise UnsupportedModelError(f"A port must say what its layer remembers. Received: {type(self)} without `spec`.")

    def initial(self, batch_size: Any) -> LocalState:
        """Return the leaves at the start of a sequence, `(batch, *shape)`. The default is zeros."""
        spec = self.spec(self.layer)
        return {name: ops.zeros((batch_size, *leaf.shape), dtype=leaf.dtype) for name, leaf in spec.items()}

    def call(
        self, x: Array, state: LocalState, mask: Array | None = None, training: bool = False
    ) -> tuple[Array, LocalState]:
        """Run the layer on a window.

        Args:
            x: Input `(batch, time, features)`.
            state: Leaves by local name, `(batch, *shape)`.
            mask: Boolean `(batch, time)`, true for the valid steps; `None` if all steps are valid. A step that is not
                valid must leave every leaf as it was.
            training: Whether layers such as dropout are active.

        Returns:
            The output of the layer, and its leaves after the last valid step.
        """
        raise UnsupportedModelError(f"A port must run its layer. Received: {type(self)} without `call`.")
