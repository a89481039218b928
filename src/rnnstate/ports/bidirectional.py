"""The port of `keras.layers.Bidirectional`."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from rnnstate.errors import UnsupportedModelError
from rnnstate.ports.protocol import LocalState, Port
from rnnstate.ports.recurrent import BackwardPort, RecurrentPort
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array


class BidirectionalPort(Port):
    """Port of `keras.layers.Bidirectional`: the forward layer carries, the backward layer starts fresh in each window.

    The backward layer runs from the last step of a window to the first, so its final state belongs to the first step and
    does not continue in the next window. `carry_backward` carries it nevertheless, as Keras' stateful layer does.
    """

    carry_backward = False

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        if layer.return_state:
            raise UnsupportedModelError(
                f"Layer `{layer.name}` must have `return_state=False`: its states are those of the model. "
                "Received: return_state=True. Use two recurrent layers and `Concatenate` instead."
            )
        self._forward, self._backward = RecurrentPort(layer.forward_layer), BackwardPort(layer.backward_layer)

    def _carried(self) -> dict[str, RecurrentPort]:
        return {"forward": self._forward} | ({"backward": self._backward} if self.carry_backward else {})

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {
            f"{side}/{name}": leaf
            for side, port in self._carried().items()
            for name, leaf in port.spec(port.layer).items()
        }

    def initial(self, batch_size: Any) -> LocalState:
        sides = {side: port.initial(batch_size) for side, port in self._carried().items()}
        return {f"{side}/{name}": leaf for side, leaves in sides.items() for name, leaf in leaves.items()}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
    ) -> tuple[Array, LocalState]:
        outputs: list[Array] = []
        final: LocalState = {}
        for side, port in (("forward", self._forward), ("backward", self._backward)):
            fresh = port.initial(ops.shape(x)[0])
            local, start = _below(side, state) or fresh, _below(side, initial or {}) or fresh
            y, leaves = port.call(x, local, mask=mask, training=training, reset=reset, initial=start)
            outputs.append(y)
            final |= {f"{side}/{name}": leaf for name, leaf in leaves.items()}
        if self.layer.return_sequences:
            outputs[1] = ops.flip(outputs[1], axis=1)
        return _merge(self.layer.merge_mode, *outputs), {name: final[name] for name in self.spec(self.layer)}


def _below(side: str, leaves: Mapping[str, Array]) -> LocalState:
    return {name.removeprefix(f"{side}/"): leaf for name, leaf in leaves.items() if name.startswith(f"{side}/")}


def _merge(mode: str | None, forward: Array, backward: Array) -> Array:
    """Join both directions as `Bidirectional(merge_mode=...)` does."""
    if mode == "concat":
        return ops.concatenate([forward, backward], axis=-1)
    if mode == "mul":
        return forward * backward
    if mode is None:
        return [forward, backward]
    return (forward + backward) / (2 if mode == "ave" else 1)
