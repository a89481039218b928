"""The port of convolutions over time: the layer remembers the inputs that its kernel still reaches.

A kernel of 3 with dilation 2 reads the steps t, t-2 and t-4, so the leaf `past` holds the last 4 inputs:

    past        -4 -3 -2 -1               (batch, 4, channels)
    window                   0  1  2      (batch, time, channels)
    output 1        *     *     *
    next past             -1  0  1  2

At the start of a sequence `past` is zero, which is the padding that `padding="causal"` adds.

With `strides=s` a layer gives one output for each group of s steps, and a window holds whole groups. A causal kernel ends at
the first step of each group. A kernel of at most s steps stays within its group, and nothing is remembered:

    strides=2     past -2 -1   window  0  1 | 2  3
    causal, 3           *  *           *
                                       *  *   *
    valid, 2                           *  *
                                              *  *
"""

from collections.abc import Callable, Mapping
from typing import Any

from keras import layers, ops

from rnnstate.ports.protocol import LocalState, Port, check_features
from rnnstate.ports.steps import every, existing, look_back, only_existing, place, remembered, take_steps
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array

_WAY_OUT = 'Use `Conv1D(..., padding="causal")`'


def _conv(layer: Any, x: Array, **how: Any) -> Array:
    return ops.conv(x, layer.kernel, **how)


def _depthwise(layer: Any, x: Array, **how: Any) -> Array:
    return ops.depthwise_conv(x, layer.kernel, **how)


def _separable(layer: Any, x: Array, **how: Any) -> Array:
    return ops.separable_conv(x, layer.depthwise_kernel, layer.pointwise_kernel, **how)


_LAYERS = (layers.Conv1D, layers.DepthwiseConv1D, layers.SeparableConv1D)
_CONVOLUTIONS: dict[Any, Callable[..., Array]] = {
    layers.Conv1D.call: _conv,
    layers.DepthwiseConv1D.call: _depthwise,
    layers.SeparableConv1D.call: _separable,
}


def reach(layer: Any) -> int:
    """Return how many steps back a convolution, a pool or a delay reads: `(kernel_size - 1) * dilation_rate`."""
    kernel, dilation = _kernel(layer)
    return (kernel - 1) * dilation


def _kernel(layer: Any) -> tuple[int, int]:
    """Return how many steps a convolution, a pool or a delay reads, and how far they lie apart."""
    if hasattr(layer, "cropping"):
        return 2, int(layer.cropping[1])
    if hasattr(layer, "pool_size"):
        return int(layer.pool_size[0]), 1
    return int(layer.kernel_size[0]), int(layer.dilation_rate[0])


_STRIDED = (*_LAYERS, layers.AveragePooling1D, layers.MaxPooling1D)


def strides_of(layer: Any) -> int:
    """Return for how many steps a layer gives one output. Convolutions and pools over time alone have strides."""
    return int(layer.strides[0]) if isinstance(layer, _STRIDED) else 1


class ConvolutionPort(Port):
    """Port of `Conv1D(padding="causal")`, and of `Conv1D`, `DepthwiseConv1D` and `SeparableConv1D` within groups of steps.

    Keras' convolutions ignore masks: a step that the network itself masks is read as it is. Only steps that are no part of
    the sequence, such as the padding of a window, are left out.
    """

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        return _cannot_run(layer) or _not_causal(layer)

    @property
    def back(self) -> int:
        """How many steps are remembered. Without causal padding, the kernel stays within a group of steps."""
        return reach(self.layer) if self.layer.padding == "causal" else 0

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {"past": LeafSpec((self.back, self._channels()), layer.variable_dtype)} if self.back else {}

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
        if not self.back:
            return self._convolve(x, _kernel(self.layer)[1], strides_of(self.layer)), {}
        check_features(self.layer, x, self._channels())
        past = ops.cast(state["past"], x.dtype)
        if reset is None or initial is None:
            return self._from_past(x, past, mask)
        return self._with_resets(x, past, mask, reset, ops.cast(initial["past"], x.dtype))

    def _from_past(self, x: Array, past: Array, mask: Array | None) -> tuple[Array, LocalState]:
        """Run the window after its past, `(batch, back, channels)`."""
        back, dilation, strides = self.back, _kernel(self.layer)[1], strides_of(self.layer)
        if mask is None:
            joined = ops.concatenate([past, x], axis=1)
            return self._convolve(joined, dilation, strides), {"past": joined[:, -back:]}
        steps = place(ops.shape(x)[:2], mask, None)
        joined = ops.concatenate([past, existing(x, steps)], axis=1)
        y = take_steps(self._convolve(joined, dilation, strides), steps.rank[:, ::strides] // strides)
        final = {"past": take_steps(joined, steps.count[:, None] + ops.arange(back))}
        return only_existing(y, mask[:, ::strides]), final

    def _with_resets(
        self, x: Array, past: Array, mask: Array | None, reset: Array, initial: Array
    ) -> tuple[Array, LocalState]:
        """Run a window in which rows return to their initial state.

        Each step gets its own copy of the steps that the kernel reads, `(batch, time * kernel, channels)`, from the initial
        state, the past or the window. A convolution that moves on by a whole kernel then reads each copy once.
        """
        (kernel, dilation), strides = _kernel(self.layer), strides_of(self.layer)
        steps = place(ops.shape(x)[:2], mask, reset)
        source = ops.concatenate([initial, past, existing(x, steps)], axis=1)
        taps = ops.arange(kernel - 1, -1, -1, dtype="int32") * dilation
        # The step of each group at which the kernel ends.
        ends = every(steps, strides, reach(self.layer) - self.back)
        y = self._convolve(look_back(source, self.back, ends, taps), 1, strides=kernel)
        y = y if mask is None else only_existing(y, mask[:, ::strides])
        return y, {"past": remembered(past, x, steps, initial)}

    def _channels(self) -> int:
        """Return the number of input channels."""
        return _channels(self.layer)

    def _convolve(self, x: Array, dilation: int, strides: int = 1) -> Array:
        """Run the layer on `x`, without padding."""
        layer = self.layer
        how = {"strides": strides, "padding": "valid", "dilation_rate": dilation, "data_format": "channels_last"}
        y = _CONVOLUTIONS[type(layer).call](layer, x, **how)
        y = y if layer.bias is None else y + ops.cast(layer.bias, y.dtype)
        return y if layer.activation is None else layer.activation(y)


class PaddedConvolutionPort(ConvolutionPort):
    """Port of a convolution with `padding="valid"` after a `ZeroPadding1D` that adds all that it reads on the left.

    Args:
        layer: The convolution.
        zeros: How many zeros are added. The memory takes their place.
    """

    def __init__(self, layer: Any, zeros: int) -> None:
        super().__init__(layer)
        self.zeros = zeros

    @property
    def back(self) -> int:
        return self.zeros

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        return _cannot_run(layer) or (None if layer.padding == "valid" else _not_causal(layer))


def _cannot_run(layer: Any) -> str | None:
    """Return why the port cannot run a layer, causal or not."""
    if type(layer).call not in _CONVOLUTIONS:
        return f"its class {type(layer).__name__} overrides `call`. Register a port: `rnnstate.register_port`"
    if layer.data_format != "channels_last":
        return f'its time axis is the last one (data_format="{layer.data_format}"). Use `data_format="channels_last"`'
    return None


def _not_causal(layer: Any) -> str | None:
    """Return why a layer is not causal; `None` if it is. A kernel that fits into a group of steps is."""
    back, strides = reach(layer), strides_of(layer)
    beyond = back + 1 - strides
    if layer.padding == "causal" or beyond <= 0:
        return None
    pad = f"put `ZeroPadding1D(({back}, 0))` before the layer"
    if layer.padding == "valid":
        first = f"first {back} outputs" if strides == 1 else "first outputs"
        each = "step" if strides == 1 else f"{strides} steps"
        return f'its {first} do not exist (padding="valid"), so outputs are not per {each}. {_WAY_OUT}, or {pad}'
    after = beyond - beyond // 2
    ahead = f" up to {after} steps ahead" if after else ""
    return f'it reads steps{ahead} (padding="same"). {_WAY_OUT}, or use `padding="valid"` and {pad}'


def _channels(layer: Any) -> int:
    if isinstance(layer, layers.SeparableConv1D):
        return int(layer.depthwise_kernel.shape[1])
    groups = 1 if isinstance(layer, layers.DepthwiseConv1D) else layer.groups
    return int(layer.kernel.shape[1]) * int(groups)
