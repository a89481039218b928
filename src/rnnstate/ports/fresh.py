"""The port of a layer that does not carry: it starts from its initial state in each window, and has no leaves."""

from collections.abc import Mapping
from typing import Any

from keras import ops, tree

from rnnstate.ports.protocol import LocalState, Port, PortLike, both, resets_itself, separates_masks
from rnnstate.ports.scan import step_by_step
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array


class FreshPort(Port):
    """Runs a layer through its own port, from its initial state, and drops the state in which the window ends.

    Masks and resets inside of a window act as they do in a layer that carries.

    Args:
        layer: The layer.
        port: The port of the layer.
    """

    def __init__(self, layer: Any, port: PortLike) -> None:
        super().__init__(layer)
        self.inner = port

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {}

    def initial(self, batch_size: Any) -> LocalState:
        return {}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
        *,
        attached: Array | None = None,
    ) -> tuple[Array, LocalState]:
        fresh = self.inner.initial(ops.shape(tree.flatten(x)[0])[0])
        inner: Any = self.inner
        masks = {"mask": mask, "attached": attached} if separates_masks(inner) else {"mask": both(attached, mask)}
        if reset is None:
            return inner.call(x, fresh, training=training, **masks)[0], {}
        if resets_itself(inner):
            return inner.call(x, fresh, training=training, reset=reset, initial=fresh, **masks)[0], {}
        return step_by_step(inner, x, fresh, masks["mask"], training, reset, fresh)[0], {}
