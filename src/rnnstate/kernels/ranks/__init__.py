"""Several processes that train one model together: what each backend needs for it.

A rank is the number of a process, from 0 on, as in MPI. Each process runs the whole program on its own sequences. Inside a
training step the processes add up their gradients; between steps they exchange bytes.

| name | what it does |
|---|---|
| `connect` | makes this process a rank |
| `compiled` | returns a training or an evaluation function in which `all_sum` works |
| `all_sum` | adds up tensors over all ranks, inside a step |
| `all_gather` | gives each rank the bytes of all ranks, between steps |
| `GONE` | the errors that a backend raises when another process has ended |
"""

import importlib
from types import ModuleType

import keras

_OWN = ("jax", "torch")


def rank_kernels() -> ModuleType:
    """Return what the active backend has for several processes."""
    name = keras.config.backend()
    return importlib.import_module(f"{__name__}.{name}" if name in _OWN else f"{__name__}.none")
