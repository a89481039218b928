"""The port of layers that need the position of each step: it carries how many steps came before the window.

A step that is no part of the sequence, such as padding, is not counted. A reset returns the count to its initial state.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from rnnstate.ports.protocol import LocalState, Port
from rnnstate.ports.steps import only_existing, place
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array


class PositionPort(Port):
    """Port of `rnnstate.layers.PositionEmbedding` and `RotaryPosition`. Steps that the network masks count as steps."""

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {"position": LeafSpec((1,))}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
        attached: Array | None = None,
    ) -> tuple[Array, LocalState]:
        steps = place(ops.shape(x)[:2], mask, reset)
        position = state["position"] + ops.cast(steps.rank, "float32")
        final = state["position"] + ops.cast(steps.count[:, None], "float32")
        if reset is not None and initial is not None:
            again = initial["position"] + ops.cast(steps.rank - steps.start, "float32")
            position = ops.where(steps.again, again, position)
            last = initial["position"] + ops.cast(steps.count[:, None] - steps.start[:, -1:], "float32")
            final = ops.where(steps.again[:, -1:], last, final)
        return only_existing(self.layer(x, position=position), mask), {"position": final}
