"""`Watch`: notices that a layer has changed since a call of the network was compiled.

A compiled call keeps the computation of the moment in which it was compiled. Values of variables are arguments of it, so
they may change. Everything else that a layer computes with is one of its attributes: its variables, its dtype policy,
`trainable`, its activation, the cell of a recurrent layer. So a watch keeps the attributes and compares them at each call:

    seen       [[units, activation, kernel, ...], [...], ...]    one list for each layer, and for each list in a layer
    now        [[units, activation, kernel, ...], [...], ...]    the same objects, unless something has changed

Python compares the entries of lists by identity first. Most calls need not compare them: where Python counts the changes of
a dict (`dict_version`), equal counts tell that no attribute of a layer has changed.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

import keras

from rnnstate.network.clone import Network, sublayers, walk
from rnnstate.network.dict_version import Versions
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
        layers = list(self._layers())
        self._versions = Versions(map(vars, layers))
        self._version = self._versions.now()
        self._attributes, self._seen = _noted(_attributes(layer) for layer in layers)
        self._lists, self._entries = _noted(part for layer in layers for part in _lists(layer, own))

    def changed(self) -> bool:
        """Tell whether an attribute is another object than before, or a list has other entries."""
        version = self._versions.now()
        try:
            if self._entries != [*map(list, self._lists)]:
                return True
            if version != self._version and self._seen != [*map(list, self._attributes)]:
                return True
        except Exception:  # arrays of several values have no truth: one has replaced another
            return True
        self._version = version
        return False


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


def _noted(parts: Iterable[tuple[list[str], Any]]) -> tuple[list[Any], list[list[Any]]]:
    """Return the views of some parts, which follow every change, and their present values."""
    kept = list(parts)
    return [values for _, values in kept], [[_comparable(*pair) for pair in zip_longest(*part)] for part in kept]


def _attributes(layer: Any) -> tuple[list[str], Any]:
    """Return the names and the values of the attributes of a layer."""
    return list(vars(layer)), vars(layer).values()


def _lists(layer: Any, own: set[str]) -> Iterator[tuple[list[str], Any]]:
    """Yield the lists and mappings among the attributes of a layer, without names.

    Lists that every layer has are left out unless they hold layers: Keras notes calls and losses in them.
    """
    for name, value in vars(layer).items():
        for part in _containers(value):
            if name not in own or any(isinstance(one, keras.Layer) for one in part):
                yield [], part


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple, set, dict)):
        part = value.values() if isinstance(value, dict) else value
        yield part
        for one in part:
            yield from _containers(one)
