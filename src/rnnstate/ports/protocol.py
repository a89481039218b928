"""The protocol of a port: which leaves a layer has, and how the layer runs with them as an argument and a result.

`registry` finds the port of a layer. `recurrent` and `bidirectional` hold the ports of Keras' own layers.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from rnnstate.errors import UnsupportedModelError
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array

# The leaves of one layer by local name, such as `h`. Each has the shape `(batch, *shape)`.
LocalState = dict[str, Array]


class Port:
    """How to run one layer with its memory as an argument and a result.

    Subclass it for a layer with a memory of its own, and register the subclass with `register_port`.

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

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        """Return the leaves of `layer` by local name, such as `{"h": LeafSpec((8,))}`."""
        raise UnsupportedModelError(f"A port must say what its layer remembers. Received: {type(self)} without `spec`.")

    def initial(self, batch_size: Any) -> LocalState:
        """Return the leaves at the start of a sequence, `(batch, *shape)`: zeros unless overridden."""
        spec = self.spec(self.layer)
        return {name: ops.zeros((batch_size, *leaf.shape), dtype=leaf.dtype) for name, leaf in spec.items()}

    def call(
        self, x: Array, state: LocalState, mask: Array | None = None, training: bool = False
    ) -> tuple[Array, LocalState]:
        """Run the layer on a window.

        Args:
            x: Input `(batch, time, features)`.
            state: Leaves by local name, `(batch, *shape)`.
            mask: Boolean `(batch, time)` of the valid steps, or `None` if all are. The state after a window is that
                after its last valid step.
            training: Whether dropout and the like are active.

        Returns:
            The layer's output, and its leaves after the last valid step.
        """
        raise UnsupportedModelError(f"A port must run its layer. Received: {type(self)} without `call`.")
