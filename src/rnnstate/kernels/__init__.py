"""The few operations that each backend does best in its own way, chosen by the active backend.

Only this package may import a backend. `reference.py` defines each operation with `keras.ops`; the others must agree
with it.
"""

import importlib
from types import ModuleType

import keras

_OWN = ("jax", "torch", "tensorflow")


def kernels() -> ModuleType:
    """Return the kernels of the active backend."""
    name = keras.config.backend()
    return importlib.import_module(f"{__name__}.{name}" if name in _OWN else f"{__name__}.reference")
