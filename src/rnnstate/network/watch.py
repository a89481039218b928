"""`Watch`: notices that a layer has changed since a call of the network was compiled.

A compiled call keeps the computation of the moment in which it was compiled. Values of variables are arguments of it, so
they may change. Everything else that a layer computes with is one of its attributes: its variables, its dtype policy,
`trainable`, its activation, the cell of a recurrent layer. So a watch keeps the attributes and compares them at each call:

    seen       [[units, activation, kernel, ...], [...], ...]    one list for each layer, and for each list in a layer
    now        [[units, activation, kernel, ...], [...], ...]    the same objects, unless something has changed

Python compares lists by identity first, so a comparison of five layers takes less than a microsecond.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

import keras

from rnnstate.network.clone import Network, sublayers, walk
from rnnstate.network.stand_in import PortLayer


class Watch:
    """The attributes of layers, as they were when they were last looked at.

    Args:
        layers: Returns the layers to watch.
    """

    def __init__(self, layers: Callable[[], Iterable[Any]]) -> None:
        self._layers = layers
        self.look()

    def look(self) -> None:
        """Take the present attributes as those to compare with."""
        own = set(vars(keras.Layer()))
        parts = [part for layer in self._layers() for part in _parts(layer, own)]
        self._watched = [values for _, values in parts]
        self._seen = [[_comparable(*pair) for pair in zip_longest(*part)] for part in parts]

    def changed(self) -> bool:
        """Tell whether an attribute is another object than before, or a list has other entries."""
        try:
            return self._seen != [*map(list, self._watched)]
        except Exception:  # arrays of several values have no truth: one has replaced another
            return True


def watched_layers(carrier: Network, start: Any) -> Iterator[Any]:
    """Yield the layers whose attributes decide what a step computes, each once."""
    seen: set[int] = set()
    for layer in [*(layer for _, layer in walk(carrier)), start]:
        layer = layer.layer if isinstance(layer, PortLayer) else layer
        for one in (layer, *sublayers(layer)):
            if id(one) not in seen and not isinstance(one, keras.layers.InputLayer):
                seen.add(id(one))
                yield one


class _Itself:
    """Equals one object only. An array of one value would equal another array with this value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return other is self._value

    __hash__ = None  # type: ignore[assignment]  # compared, never looked up


class _Anything:
    """Equals every object."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # compared, never looked up


def _comparable(name: str | None, value: Any) -> Any:
    if name == "training":  # PyTorch's mark on every module, which `fit` and `predict` set to and fro
        return _Anything()
    shape = getattr(value, "shape", None)
    # A module, such as `keras.ops` in a layer, has a function `shape`.
    return value if not isinstance(shape, Iterable) or any(size != 1 for size in shape) else _Itself(value)


def _parts(layer: Any, own: set[str]) -> Iterator[tuple[list[str], Any]]:
    """Yield the names and values of the attributes of a layer, and the lists and mappings among them without names.

    Lists that every layer has are left out unless they hold layers: Keras notes calls and losses in them.
    """
    attributes = vars(layer)
    yield list(attributes), attributes.values()
    for name, value in attributes.items():
        for part in _containers(value):
            if name not in own or any(isinstance(one, keras.Layer) for one in part):
                yield [], part


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple, set, dict)):
        part = value.values() if isinstance(value, dict) else value
        yield part
        for one in part:
            yield from _containers(one)
