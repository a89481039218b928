"""The registry of ports: which port runs which class of layers."""

from typing import Any

import keras
from keras import layers

from rnnstate.layers.base import LinearRecurrence
from rnnstate.layers.positions import Positioned
from rnnstate.ports.attention import NO_WINDOW, AttentionPort, Window, window_of
from rnnstate.ports.bidirectional import BidirectionalPort
from rnnstate.ports.convolution import ConvolutionPort
from rnnstate.ports.fresh import FreshPort
from rnnstate.ports.linear_recurrence import LinearRecurrencePort
from rnnstate.ports.pooling import GroupPoolingPort
from rnnstate.ports.position import PositionPort
from rnnstate.ports.protocol import PortLike, refusal
from rnnstate.ports.recurrent import BackwardPort, RecurrentPort, runs_backward
from rnnstate.ports.running_sum import RunningSum, RunningSumPort

_REGISTRY: dict[type, type] = {
    layers.RNN: RecurrentPort,
    layers.Bidirectional: BidirectionalPort,
    layers.Conv1D: ConvolutionPort,
    layers.DepthwiseConv1D: ConvolutionPort,
    layers.SeparableConv1D: ConvolutionPort,
    layers.AveragePooling1D: GroupPoolingPort,
    layers.MaxPooling1D: GroupPoolingPort,
    layers.MultiHeadAttention: AttentionPort,
    layers.GroupQueryAttention: AttentionPort,
    Positioned: PositionPort,
    LinearRecurrence: LinearRecurrencePort,
    RunningSum: RunningSumPort,
}


def register_port(layer_class: type, port_class: type) -> None:
    """Make every layer of a class carry, by saying what it remembers.

    Args:
        layer_class: A subclass of `keras.Layer` whose output at one step depends on earlier steps.
        port_class: A class with the methods `spec(layer)`, `initial(batch)` and `call(x, state, mask, training)`. Its
            constructor takes the layer as its only argument. A subclass of `Port` inherits an initial state of zeros.
            A class method `refuses(layer)` may return why the port cannot carry a layer as it is configured.

    Raises:
        TypeError: If `layer_class` is not a class of Keras layers, or the port lacks a method.

    Example:

    >>> class Count(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x + keras.ops.cumsum(keras.ops.ones_like(x), axis=1)
    >>> class CountPort(rs.Port):
    ...     def spec(self, layer):
    ...         return {"count": rs.LeafSpec((1,))}
    ...     def call(self, x, state, mask=None, training=False):
    ...         y = self.layer(x) + state["count"][:, None]
    ...         return y, {"count": state["count"] + x.shape[1]}
    >>> register_port(Count, CountPort)
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(f"`layer_class` must be a subclass of `keras.Layer`. Received: layer_class={layer_class!r}.")
    missing = [name for name in ("spec", "initial", "call") if not callable(getattr(port_class, name, None))]
    if missing:
        raise TypeError(f"A port must have `spec`, `initial` and `call`. Received: {port_class!r} without {missing}.")
    _REGISTRY[layer_class] = port_class


def find_port(layer: Any, carry_backward: bool = False, attention_window: Window = None) -> PortLike | None:
    """Return a port for `layer`, or `None` if the layer carries nothing. The nearest registered class wins.

    A port may refuse a layer as it is configured, such as `Conv1D(padding="same")`; see `why_not_carried`.

    Args:
        layer: Any layer.
        carry_backward: Whether layers that run backward are carried.
        attention_window: How many earlier steps attention layers remember: one number, or one by layer name.
    """
    port_class = _port_class(layer)
    if port_class is None or (runs_backward(layer) and not carry_backward) or why_not_carried(layer, attention_window):
        return None
    port: PortLike = (BackwardPort if port_class is RecurrentPort and runs_backward(layer) else port_class)(layer)
    if isinstance(port, BidirectionalPort):
        port.carry_backward = carry_backward
    if isinstance(port, AttentionPort):
        port.window = window_of(layer, attention_window) or 0
    return port


def has_port(layer: Any) -> bool:
    """True if a port can run the layer as it is configured. A port class may refuse a layer by a method `refuses(layer)`."""
    return _port_class(layer) is not None and why_not_carried(layer) is None


def _port_class(layer: Any) -> type | None:
    return next((_REGISTRY[kind] for kind in type(layer).__mro__ if kind in _REGISTRY), None)


def why_not_carried(layer: Any, attention_window: Window = None) -> str | None:
    """Return why the port of the class of `layer` cannot carry it as it is configured, with the way out.

    `None` means that the layer can be carried, or that no port is registered for its class.
    """
    port_class = _port_class(layer)
    if port_class is None:
        return None
    reason = refusal(port_class, layer)
    if reason is None and issubclass(port_class, AttentionPort) and window_of(layer, attention_window) is None:
        return "it attends to all earlier steps. " + NO_WINDOW
    return reason


def choose_kernels(port: PortLike, kernels: str) -> None:
    """Let Keras' own layers under a port run in fast loops (`"auto"`), or not (`"reference"`).

    Raises:
        ValueError: If `kernels` is neither.
    """
    if kernels not in ("auto", "reference"):
        raise ValueError(f'`kernels` must be "auto" or "reference". Received: kernels={kernels!r}.')
    if isinstance(port, FreshPort):
        port = port.inner
    for inner in (port, *vars(port).values()):
        if isinstance(inner, RecurrentPort):
            inner.kernels = kernels
