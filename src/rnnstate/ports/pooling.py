"""The ports of pooling over time.

`ZeroPadding1D((n, 0))` and then `AveragePooling1D(n + 1, strides=1)` or `MaxPooling1D(n + 1, strides=1)` read a step and the
n steps before it, as a causal convolution does. The zeros at the start of a sequence count in the mean and in the maximum.

A pool of at most as many steps as its `strides` stays within one group of steps, and remembers nothing.
"""

from typing import Any

from keras import layers, ops

from rnnstate.ports.convolution import PaddedConvolutionPort, strides_of
from rnnstate.state.state import Array

_POOLS: dict[Any, Any] = {layers.AveragePooling1D: ops.average_pool, layers.MaxPooling1D: ops.max_pool}


def is_pooling(layer: Any) -> bool:
    """True for the pooling layers of Keras that can follow zeros on the left, as they are configured."""
    return type(layer) in _POOLS and PoolingPort.refuses(layer) is None


class PoolingPort(PaddedConvolutionPort):
    """Port of `AveragePooling1D` and `MaxPooling1D` after a `ZeroPadding1D` that adds all that they read on the left."""

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        if layer.padding == "valid" and layer.data_format == "channels_last":
            return None
        return 'it is not causal. Use `padding="valid"` and `data_format="channels_last"`'

    def _channels(self) -> int:
        # A pooling layer has no weights, so nothing but its first input in the network tells the number of channels.
        return int(self.layer.input.shape[-1])

    def _convolve(self, x: Array, dilation: int, strides: int = 1) -> Array:
        """Pool `x`, without padding. The dilation of a pool is 1."""
        pool = _POOLS[type(self.layer)]
        return pool(x, self.layer.pool_size[0], strides=strides, padding="valid", data_format="channels_last")


class GroupPoolingPort(PoolingPort):
    """Port of `AveragePooling1D` and `MaxPooling1D` with `pool_size` up to `strides`: each pool stays within its group."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer, zeros=0)

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        if type(layer) not in _POOLS:
            return f"its class {type(layer).__name__} is none of Keras. Register a port: `rnnstate.register_port`"
        if layer.data_format != "channels_last":
            return (
                f'its time axis is the last one (data_format="{layer.data_format}"). Use `data_format="channels_last"`'
            )
        steps, strides = int(layer.pool_size[0]), strides_of(layer)
        # With whole groups, `padding="same"` adds nothing to a pool that fits into its group.
        return None if steps <= strides else _beyond_its_group(layer, steps, strides)


def _beyond_its_group(layer: Any, steps: int, strides: int) -> str:
    """Return why a pool that reads more steps than its strides is not carried by itself, and the way out."""
    alone = "" if strides == 1 else f", or `pool_size={strides}`"
    return (
        f'it reads {steps} steps, some of them later ones or none at the start (padding="{layer.padding}"). Put '
        f'`ZeroPadding1D(({steps - 1}, 0))` right before it, and use `padding="valid"`{alone}'
    )
