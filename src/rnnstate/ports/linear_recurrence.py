"""The port of `MinGRU`, `MinLSTM` and `LRU`: the layer runs with its state as an argument, masks and resets included."""

from collections.abc import Mapping
from typing import Any

from rnnstate.layers.base import LinearRecurrence
from rnnstate.ports.protocol import LocalState, Port, check_features
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array


class LinearRecurrencePort(Port):
    """Port of the linear recurrences of `rnnstate.layers`. All steps of a window run in parallel, also with resets."""

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        if type(layer).call is LinearRecurrence.call:
            return None
        return f"its class {type(layer).__name__} overrides `call`. Register a port: `rnnstate.register_port`"

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {name: LeafSpec((layer.state_size,), layer.variable_dtype) for name in layer.state_names}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
    ) -> tuple[Array, LocalState]:
        check_features(self.layer, x, self.layer.features)
        names = self.layer.state_names
        start, again = (None if leaves is None else [leaves[name] for name in names] for leaves in (state, initial))
        y, final = self.layer.run(x, start, mask, training, reset, again)
        return (y, *final) if self.layer.return_state else y, dict(zip(names, final, strict=True))
