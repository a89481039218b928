"""The user's own classes in a network, and the modules from which another process imports them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import sublayers, walk

_STOCK = ("keras", "rnnstate", "builtins")


@dataclass
class Custom:
    """Classes that come neither from Keras nor from this package.

    Args:
        objects: Layer classes, by the names under which Keras may look for them.
        classes: The module and the qualified name of each layer class, by the same names.
        modules: Modules that another process must import, so that Keras knows the classes registered there.
        unreachable: Names of classes that no other process can import.
    """

    objects: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, tuple[str, str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)


def custom_of(model: StatefulModel) -> Custom:
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


def ports_of(model: StatefulModel) -> list[Any]:
    """Return the ports that run the layers of a model."""
    return list(model._parts.owners.values())


def _classes(model: StatefulModel) -> Iterator[type]:
    """Yield the classes of all layers, of their inner layers, of their ports and of the initial state."""
    for _, layer in walk(model.net):
        yield type(layer)
        for part in sublayers(layer):
            yield type(part)
    for port in ports_of(model):
        yield type(port)
    yield type(model.start)


def _importable(module: str) -> bool:
    # A module without a spec was run as a script or typed into a session: there is no file to import.
    return module != "__main__" and getattr(sys.modules.get(module), "__spec__", None) is not None
