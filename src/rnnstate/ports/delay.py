"""The port of a delay: `ZeroPadding1D((n, 0))`, then `Cropping1D((0, n))`. The layer remembers the last n inputs.

Both layers together move a series by n steps. In a clone the cropping is a kernel of two reads, of the steps t - n and t, of
which the first one is the output:

    window   0 1 2 3
    output  -2-1 0 1      n = 2
"""

from typing import Any

from keras import layers

from rnnstate.ports.convolution import PaddedConvolutionPort
from rnnstate.state.state import Array


def is_delay(layer: Any) -> bool:
    """True for `Cropping1D((0, n))`, which is a delay after zeros on the left."""
    return type(layer) is layers.Cropping1D and layer.cropping[0] == 0 and layer.cropping[1] > 0


class DelayPort(PaddedConvolutionPort):
    """Port of `Cropping1D((0, n))` after a `ZeroPadding1D((n, 0))`."""

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        return None if is_delay(layer) else "it removes steps at the start. Use `Cropping1D((0, n))`"

    def _channels(self) -> int:
        return int(self.layer.input.shape[-1])  # the layer has no weights that tell

    def _convolve(self, x: Array, dilation: int, strides: int = 1) -> Array:
        """Return the earlier read of each pair. With `strides=2`, the pairs stand one after the other."""
        return x[:, ::2] if strides == 2 else x[:, :-dilation]
