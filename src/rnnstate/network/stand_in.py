"""`PortLayer`: the layer of a clone that stands for one layer with a memory; `SelfAttention` for one with several inputs."""

from typing import Any

import keras
from keras import ops, tree

from rnnstate.errors import UnsupportedModelError
from rnnstate.network.masks import window_flags
from rnnstate.network.scope import StateScope, active_scope
from rnnstate.ports.attention import AttentionPort
from rnnstate.ports.convolution import PaddedConvolutionPort
from rnnstate.ports.protocol import PortLike, both, resets_itself, separates_masks
from rnnstate.ports.recurrent import RecurrentPort
from rnnstate.ports.scan import step_by_step
from rnnstate.state.state import Array


class PortLayer(keras.Layer):
    """Stands for one layer with a memory. It shares the weights of the layer, and runs the layer through its port.

    Args:
        layer: The layer to stand for.
        port: Its port.
    """

    def __init__(self, layer: Any, port: PortLike) -> None:
        super().__init__(
            name=layer.name, dtype=layer.dtype_policy, activity_regularizer=getattr(layer, "activity_regularizer", None)
        )
        self.layer = layer
        self.port = port
        self.place = layer.name
        self.supports_masking = True
        # The layer reads so many zeros in the original network, and the clone has none of them.
        self.zeros = port.zeros if isinstance(port, PaddedConvolutionPort) else 0
        # For how many steps of the window the input has one entry. Layers with strides before this one decide it.
        self.rate = 1

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def renew(self) -> None:
        """Follow a layer that has changed: its dtype policy, and what its port has derived from it."""
        self.dtype_policy = self.layer.dtype_policy
        for part in (self.port, *vars(self.port).values()):
            if isinstance(part, RecurrentPort):
                part.renew()

    def call(self, x: Array, initial_state: Any = None, mask: Array | None = None, training: bool = False) -> Array:
        if initial_state is not None:
            raise UnsupportedModelError(
                f"Layer `{self.place}` must take its state from the sequence it belongs to. Received: a network that "
                "calls it with `initial_state=`. Remove that argument, and give the state to `StatefulModel.step`."
            )
        # Without a scope, as when Keras builds the network, the layer starts from its own initial state.
        scope = active_scope() or StateScope()
        prefix = scope.enter(self.place)
        state = scope.take(prefix, self.port, self.layer, ops.shape(tree.flatten(x)[0])[0])
        masks = self._masks(mask, window_flags(scope.mask, x, self.rate))
        reset = window_flags(scope.reset, x, self.rate)
        y, final = self._run(x, state, masks, training, reset, scope.initial_of(prefix))
        scope.put(prefix, final)
        return y

    def _masks(self, attached: Array | None, exists: Array | None) -> dict[str, Array | None]:
        """Return the mask that Keras gives the layer and the mask of the window as the port takes them."""
        if separates_masks(self.port):
            return {"mask": exists, "attached": attached}
        return {"mask": both(attached, exists)}

    def _run(self, x: Array, state: Any, masks: Any, training: bool, reset: Array | None, initial: Any) -> Any:
        if reset is None:
            return self.port.call(x, state, training=training, **masks)
        if resets_itself(self.port):
            return self.port.call(x, state, training=training, reset=reset, initial=initial, **masks)
        return step_by_step(self.port, x, state, masks["mask"], training, reset, initial)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        # Later layers see the mask of the network only as far as Keras hands it on. The mask of the window is in the scope.
        return self.layer.compute_mask(inputs, previous_mask) if self.layer.supports_masking else None

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        # The layer itself answers: it may have no `compute_output_shape`, and then Keras runs the layer on symbols.
        return self.layer.compute_output_spec(self._with_zeros(x))

    def _with_zeros(self, x: Any) -> Any:
        """Return the shape of the layer's own input, if the number of steps is known."""
        if not self.zeros or x.shape[1] is None:
            return x
        return keras.KerasTensor((x.shape[0], x.shape[1] + self.zeros, *x.shape[2:]), dtype=x.dtype)


class SelfAttention(PortLayer):
    """Stands for an attention layer in which a series attends to itself. In the clone it has one input.

    The original network calls the layer with the same tensor as query, value and key, and with `use_causal_mask=True`.
    """

    def __call__(self, query: Any, value: Any = None, key: Any = None, training: Any = None, **how: Any) -> Any:
        # Only here are the tensors those of the graph: Keras may cast each of them before `call`. The clone, once built,
        # calls the layer with the query alone.
        if value is not None:
            self._check(query, value, key, how)
        return super().__call__(query, training=training)

    def _check(self, query: Any, value: Any, key: Any, how: dict[str, Any]) -> None:
        name = f"Layer `{self.layer.name}` ({type(self.layer).__name__})"
        leave = "To leave the layer without a memory, give `attention_window` as a mapping without its name."
        if value is not query or (key is not None and key is not query):
            raise UnsupportedModelError(
                f"{name} must attend from a series to the same series to be carried. Received: a query that is another "
                f"tensor than the value or the key. {leave}"
            )
        causal = how.pop("use_causal_mask", False)
        other = {argument: given for argument, given in how.items() if given is not None and given is not False}
        if not causal or other:
            received = ", ".join(sorted(other)) or "use_causal_mask=False"
            raise UnsupportedModelError(
                f"{name} must be called with `use_causal_mask=True` and no other mask or option to be carried. "
                f"Received: {received}. {leave}"
            )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(x, x)


def stand_in_for(layer: Any, port: PortLike) -> PortLayer:
    """Return the stand-in of a layer with a memory."""
    return (SelfAttention if isinstance(port, AttentionPort) else PortLayer)(layer, port)
