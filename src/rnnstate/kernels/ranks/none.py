"""A backend on which several processes cannot train one model."""

from collections.abc import Callable
from typing import Any

import keras

from rnnstate.errors import UnsupportedModelError
from rnnstate.kernels.ranks.group import Group

GONE: tuple[type[Exception], ...] = ()


def connect(address: str | None, rank: int | None, ranks: int | None) -> Group:
    """Refuse.

    Raises:
        UnsupportedModelError: Always.
    """
    del address, rank, ranks
    raise UnsupportedModelError(
        "Several processes train one model on JAX and on PyTorch. Received: "
        f"KERAS_BACKEND={keras.config.backend()}. The replicas of TensorFlow's `MirroredStrategy` would keep separate "
        "states, and nothing would say so. Set KERAS_BACKEND to jax or torch: all backends read the same files of models."
    )


def compiled(keras_function: Callable[..., Any], step: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Return Keras' function."""
    del step, count
    return keras_function


def all_sum(tensors: list[Any]) -> list[Any]:
    """Return the tensors of the only rank."""
    return tensors


def all_gather(data: bytes) -> list[bytes]:
    """Return the bytes of the only rank."""
    return [data]
