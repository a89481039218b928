"""Whether a model trains with code of Keras and of this package alone.

A traced step runs Python code once. Code of a user may count, print, or read a value that changes, so it must run at each
step.
"""

from collections.abc import Iterable
from typing import Any

import keras

_KNOWN = ("keras.", "rnnstate.")
_METHODS = ("__call__", "call", "compute_loss", "compute_metrics", "train_step")
# They hold a function or a module of the user.
_OPEN = (keras.layers.Lambda, keras.layers.TorchModuleWrapper)


def is_plain(model: Any, layers: Iterable[Any], losses: Any) -> bool:
    """Return whether all code of a training step is known.

    Args:
        model: A compiled `StatefulModel`, or a subclass.
        layers: The layers that its step runs.
        losses: The losses and metrics as they were given to `compile`.
    """
    if model.run_eagerly or model.jit_compile or any(name in vars(model) for name in _METHODS):
        return False
    methods = all(is_known(getattr(type(model), name)) for name in _METHODS)
    return methods and is_known(losses) and all(map(_is_known_layer, layers))


def _is_known_layer(layer: Any) -> bool:
    hooks = any(vars(layer).get(name) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
    return not hooks and not isinstance(layer, _OPEN) and is_known(layer)


def is_known(given: Any) -> bool:
    """Return whether a loss, a metric, a layer, an optimizer or a function, and the functions that it holds, are known."""
    if given is None or isinstance(given, str):
        return True
    if isinstance(given, (dict, list, tuple)):
        return all(map(is_known, given.values() if isinstance(given, dict) else given))
    if hasattr(given, "__qualname__"):
        return str(given.__module__).startswith(_KNOWN)
    held = [value for value in vars(given).values() if callable(value)]
    return type(given).__module__.startswith(_KNOWN) and all(map(is_known, held))
