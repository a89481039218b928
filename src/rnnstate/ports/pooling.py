"""The port of pooling over time after zeros on the left: the layer remembers the inputs that its pool still reaches.

`ZeroPadding1D((n, 0))` and then `AveragePooling1D(n + 1, strides=1)` or `MaxPooling1D(n + 1, strides=1)` read a step and the
n steps before it, as a causal convolution does. The zeros at the start of a sequence count in the mean and in the maximum.
"""

from typing import Any

from keras import layers, ops

from rnnstate.ports.convolution import PaddedConvolutionPort
from rnnstate.state.state import Array

_POOLS: dict[Any, Any] = {layers.AveragePooling1D: ops.average_pool, layers.MaxPooling1D: ops.max_pool}


def is_pooling(layer: Any) -> bool:
    """True for the pooling layers of Keras that this port carries, as they are configured."""
    return type(layer) in _POOLS and PoolingPort.refuses(layer) is None


class PoolingPort(PaddedConvolutionPort):
    """Port of `AveragePooling1D` and `MaxPooling1D` after a `ZeroPadding1D` that adds all that they read on the left."""

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        if layer.padding == "valid" and layer.data_format == "channels_last" and layer.strides[0] == 1:
            return None
        return 'it is not causal. Use `padding="valid"`, `strides=1` and `data_format="channels_last"`'

    def _channels(self) -> int:
        # A pooling layer has no weights, so nothing but its first input in the network tells the number of channels.
        return int(self.layer.input.shape[-1])

    def _convolve(self, x: Array, dilation: int, strides: int = 1) -> Array:
        """Pool `x`, without padding. The dilation of a pool is 1."""
        pool = _POOLS[type(self.layer)]
        return pool(x, self.layer.pool_size[0], strides=strides, padding="valid", data_format="channels_last")
