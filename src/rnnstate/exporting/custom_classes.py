"""The user's own classes in a network, and how another process finds them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from rnnstate.network.clone import sublayers, walk

_STOCK = ("keras", "rnnstate", "builtins")


@dataclass
class Custom:
    """Classes that are neither Keras' nor ours.

    Args:
        objects: Each by the names under which Keras may look for it.
        classes: Where each is defined: module and qualified name.
        modules: Modules to import, so that what they register is there.
        unreachable: Classes that no other process can import.
    """

    objects: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, tuple[str, str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)


def custom_of(model: Any) -> Custom:
    """Return the user's own classes in the network of a model."""
    found = Custom()
    for kind in dict.fromkeys(_classes(model)):
        if kind.__module__.partition(".")[0] in _STOCK:
            continue
        if "<locals>" in kind.__qualname__ or not _importable(kind.__module__):
            found.unreachable.append(kind.__qualname__)
        elif kind.__module__ not in found.modules:
            found.modules.append(kind.__module__)
        if issubclass(kind, keras.Layer):
            for name in (kind.__name__, keras.saving.get_registered_name(kind)):
                found.objects[name] = kind
                found.classes[name] = (kind.__module__, kind.__qualname__)
    return found


def _classes(model: Any) -> Iterator[type]:
    """Yield the classes of all layers, their parts, and their ports."""
    for _, layer in walk(model.net):
        yield type(layer)
        for part in sublayers(layer):
            yield type(part)
    for port in model._parts.owners.values():
        yield type(port)
    yield type(model.start)


def _importable(module: str) -> bool:
    return module != "__main__" and getattr(sys.modules.get(module), "__spec__", None) is not None
