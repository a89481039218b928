"""Convolutions after zeros on the left: `ZeroPadding1D((n, 0))`, then a valid convolution that reads n steps back.

Both layers together are a causal convolution, which is how causal `DepthwiseConv1D` and `SeparableConv1D` are written. In a
clone the convolution carries the last n steps, and the zeros are left out: at the start of a sequence the memory is zero.
A pool of n + 1 steps takes the place of a convolution in the same way. So does `Cropping1D((0, n))`, which makes a delay.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, tree

from rnnstate.ports.convolution import PaddedConvolutionPort, reach, strides_of
from rnnstate.ports.delay import DelayPort, is_delay
from rnnstate.ports.pooling import PoolingPort, is_pooling

_KINDS = (layers.Conv1D, layers.DepthwiseConv1D, layers.SeparableConv1D)


def left_padded(net: Any, strided: bool = True) -> list[tuple[Any, int | None]]:
    """Return the paddings and the convolutions of a network that together are causal convolutions.

    Each padding must feed such convolutions alone, and each of these convolutions must read such paddings alone.

    Args:
        net: A Functional or Sequential network. Networks nested in it are not searched.
        strided: Whether convolutions with strides count.

    Returns:
        Pairs of a layer and the number of zeros before it, or `None` for a padding.
    """
    if not any(map(_is_left_padding, net.layers)):
        return []
    links = list(_links(net))
    chosen = [
        layer
        for layer in net.layers
        if _is_left_padding(layer) or (_is_valid(layer) and (strided or strides_of(layer) == 1))
    ]
    while True:
        kept = [layer for layer in chosen if _fits(layer, links, chosen)]
        if len(kept) == len(chosen):
            return [(layer, None if _is_left_padding(layer) else _zeros_before(layer, links)) for layer in kept]
        chosen = kept


def _is_left_padding(layer: Any) -> bool:
    left_alone = type(layer) is layers.ZeroPadding1D and layer.padding[0] > 0 and layer.padding[1] == 0
    return left_alone and layer.data_format == "channels_last"


def port_after_padding(layer: Any, zeros: int) -> PaddedConvolutionPort:
    """Return the port of a layer after so many zeros."""
    if is_delay(layer):
        return DelayPort(layer, zeros)
    return (PoolingPort if is_pooling(layer) else PaddedConvolutionPort)(layer, zeros)


def _zeros_before(layer: Any, links: list[tuple[Any, Any]]) -> int:
    return next(int(start.padding[0]) for start, end in links if end is layer)


def _is_valid(layer: Any) -> bool:
    if _has_no_weights(layer):
        return True
    return isinstance(layer, _KINDS) and layer.padding == "valid" and PaddedConvolutionPort.refuses(layer) is None


def _has_no_weights(layer: Any) -> bool:
    return is_pooling(layer) or is_delay(layer)


def _fits(layer: Any, links: list[tuple[Any, Any]], chosen: list[Any]) -> bool:
    """Return whether only fitting convolutions follow a padding, or only fitting paddings feed a convolution."""
    if _is_left_padding(layer):
        after = [end for start, end in links if start is layer]
        return bool(after) and all(_is_one_of(end, chosen) and _pads(layer, end) for end in after)
    before = [start for start, end in links if end is layer]
    if _has_no_weights(layer) and len(before) > 1:  # it may read inputs of different sizes, and no weights tell
        return False
    fits = all(_is_one_of(start, chosen) and _pads(start, layer) for start in before)
    return bool(before) and fits and len({start.padding[0] for start in before}) == 1


def _pads(padding: Any, convolution: Any) -> bool:
    """Return whether a convolution gives one output for each group of steps, and reads no step after the group."""
    if not (_is_left_padding(padding) and _is_valid(convolution)):
        return False
    back = reach(convolution)
    return bool(back - strides_of(convolution) < padding.padding[0] <= back)


def _is_one_of(layer: Any, chosen: list[Any]) -> bool:
    return any(layer is other for other in chosen)


def _links(net: Any) -> Iterator[tuple[Any, Any]]:
    """Yield which layer or operation feeds which, one pair for each tensor; `None` stands for inputs and outputs."""
    if isinstance(net, keras.Sequential):
        chain = [None, *net.layers, None]
        yield from itertools.pairwise(chain)
        return
    makers: dict[int, tuple[Any, Any]] = {}  # by tensor; the tensor is kept, so that its id stays its own
    found: list[tuple[Any, Any]] = []

    def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
        given = [part for part in tree.flatten((args, kwargs)) if isinstance(part, keras.KerasTensor)]
        found.extend((makers.get(id(part), (None, None))[0], operation) for part in given)
        outputs = operation(*args, **kwargs)
        makers.update({id(part): (operation, part) for part in tree.flatten(outputs)})
        return outputs

    clone = keras.models.clone_model(net, clone_function=lambda layer: layer, call_function=record)
    yield from found
    yield from ((makers.get(id(part), (None, None))[0], None) for part in clone.outputs)
