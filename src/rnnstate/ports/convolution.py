"""The port of convolutions over time: the layer remembers the inputs that its kernel still reaches.

A kernel of 3 with dilation 2 reads the steps t, t-2 and t-4, so the leaf `past` holds the last 4 inputs:

    past        -4 -3 -2 -1               (batch, 4, channels)
    window                   0  1  2      (batch, time, channels)
    output 1        *     *     *
    next past             -1  0  1  2

At the start of a sequence `past` is zero, which is the padding that `padding="causal"` adds.
"""

from collections.abc import Callable, Mapping
from typing import Any

from keras import layers, ops

from rnnstate.ports.protocol import LocalState, Port, check_features
from rnnstate.ports.steps import existing, look_back, only_existing, place, remembered, take_steps
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array

_WAY_OUT = 'Use `Conv1D(..., padding="causal")`'


def _conv(layer: Any, x: Array, **how: Any) -> Array:
    return ops.conv(x, layer.kernel, **how)


def _depthwise(layer: Any, x: Array, **how: Any) -> Array:
    return ops.depthwise_conv(x, layer.kernel, **how)


def _separable(layer: Any, x: Array, **how: Any) -> Array:
    return ops.separable_conv(x, layer.depthwise_kernel, layer.pointwise_kernel, **how)


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


class ConvolutionPort(Port):
    """Port of `Conv1D(padding="causal")`, and of `Conv1D`, `DepthwiseConv1D` and `SeparableConv1D` after zeros on the left.

    Keras' convolutions ignore masks: a step that the network itself masks is read as it is. Only steps that are no part of
    the sequence, such as the padding of a window, are left out.
    """

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        return _cannot_run(layer) or _not_causal(layer)

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        steps = reach(layer)
        return {"past": LeafSpec((steps, self._channels()), layer.variable_dtype)} if steps else {}

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
        check_features(self.layer, x, self._channels())
        if not reach(self.layer):
            return self._convolve(x, _kernel(self.layer)[1]), {}
        past = ops.cast(state["past"], x.dtype)
        if reset is None or initial is None:
            return self._from_past(x, past, mask)
        return self._with_resets(x, past, mask, reset, ops.cast(initial["past"], x.dtype))

    def _from_past(self, x: Array, past: Array, mask: Array | None) -> tuple[Array, LocalState]:
        """Run the window after its past, `(batch, reach, channels)`."""
        back, dilation = reach(self.layer), _kernel(self.layer)[1]
        if mask is None:
            joined = ops.concatenate([past, x], axis=1)
            return self._convolve(joined, dilation), {"past": joined[:, -back:]}
        steps = place(ops.shape(x)[:2], mask, None)
        joined = ops.concatenate([past, existing(x, steps)], axis=1)
        y = take_steps(self._convolve(joined, dilation), steps.rank)
        return only_existing(y, mask), {"past": take_steps(joined, steps.count[:, None] + ops.arange(back))}

    def _with_resets(
        self, x: Array, past: Array, mask: Array | None, reset: Array, initial: Array
    ) -> tuple[Array, LocalState]:
        """Run a window in which rows return to their initial state.

        Each step gets its own copy of the steps that the kernel reads, `(batch, time * kernel, channels)`, from the initial
        state, the past or the window. A convolution that moves on by a whole kernel then reads each copy once.
        """
        kernel, dilation = _kernel(self.layer)
        steps = place(ops.shape(x)[:2], mask, reset)
        source = ops.concatenate([initial, past, existing(x, steps)], axis=1)
        taps = ops.arange(kernel - 1, -1, -1, dtype="int32") * dilation
        y = self._convolve(look_back(source, reach(self.layer), steps, taps), 1, strides=kernel)
        return only_existing(y, mask), {"past": remembered(past, x, steps, initial)}

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
    """Port of a convolution with `padding="valid"` after a `ZeroPadding1D` that adds all that it reads on the left."""

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        return _cannot_run(layer) or (None if layer.padding == "valid" else _not_causal(layer))


def _cannot_run(layer: Any) -> str | None:
    """Return why the port cannot run a layer, causal or not."""
    if type(layer).call not in _CONVOLUTIONS:
        return f"its class {type(layer).__name__} overrides `call`. Register a port: `rnnstate.register_port`"
    if layer.data_format != "channels_last":
        return f'its time axis is the last one (data_format="{layer.data_format}"). Use `data_format="channels_last"`'
    if layer.strides[0] > 1:
        return (
            f"it gives one output for every {layer.strides[0]} steps (strides={layer.strides[0]}), and outputs must be per "
            f"step. Use `strides=1`, and multiply the `dilation_rate` of the convolutions after it by {layer.strides[0]}: "
            f"the outputs at the steps 0, {layer.strides[0]}, {2 * layer.strides[0]} and so on then equal those with strides"
        )
    return None


def _not_causal(layer: Any) -> str | None:
    """Return why a layer is not causal; `None` if it is."""
    back = reach(layer)
    if layer.padding == "causal" or not back:
        return None
    pad = f"put `ZeroPadding1D(({back}, 0))` before the layer"
    if layer.padding == "valid":
        return f'its first {back} outputs do not exist (padding="valid"), so outputs are not per step. {_WAY_OUT}, or {pad}'
    after = back - back // 2
    ahead = f" up to {after} steps ahead" if after else ""
    return f'it reads steps{ahead} (padding="same"). {_WAY_OUT}, or use `padding="valid"` and {pad}'


def _channels(layer: Any) -> int:
    if isinstance(layer, layers.SeparableConv1D):
        return int(layer.depthwise_kernel.shape[1])
    groups = 1 if isinstance(layer, layers.DepthwiseConv1D) else layer.groups
    return int(layer.kernel.shape[1]) * int(groups)
