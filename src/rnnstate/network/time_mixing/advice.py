"""Why Keras' own layers without a port cannot be carried as they are configured, and what to use instead."""

from collections.abc import Callable
from typing import Any

from keras import layers

_PER_STEP = "and a network must give one output for each step"


def advice(layer: Any) -> str | None:
    """Return why a layer without a port mixes time, with the way out. `None` if nothing is known about its class.

    Args:
        layer: A layer, or an operation of `keras.ops`.
    """
    if not isinstance(layer, layers.Layer):
        return _OPERATIONS.get(type(layer).__name__) if type(layer).__module__.startswith("keras.") else None
    words = next((_WORDS[kind] for kind in type(layer).__mro__ if kind in _WORDS), None)
    return words(layer) if callable(words) else words


def _several_steps(layer: Any) -> str:
    return f"it makes several steps of one, {_PER_STEP}. Repeat the steps of the data before `Windows`"


_WORDS: dict[Any, str | Callable[[Any], str]] = {
    **dict.fromkeys((layers.UpSampling1D, layers.Conv1DTranspose), _several_steps),
    layers.Cropping1D: (
        f"it removes steps, {_PER_STEP}. Crop the data before `Windows`. A delay by n steps is `ZeroPadding1D((n, 0))`, "
        "and right after it `Cropping1D((0, n))`"
    ),
    layers.ZeroPadding1D: (
        "it moves all steps. Put it right before a convolution or a pool that reads back as many steps as it adds on the "
        'left, and give that layer `padding="valid"`. A delay by n steps is `ZeroPadding1D((n, 0))`, and right after it '
        "`Cropping1D((0, n))`"
    ),
    layers.GroupNormalization: (
        "its mean and variance are over all steps of the window. Use `LayerNormalization` or `RMSNormalization`"
    ),
    **dict.fromkeys(
        (layers.Attention, layers.AdditiveAttention),
        "it keeps no bounded memory. Use `MultiHeadAttention` or `GroupQueryAttention`, called with "
        "`use_causal_mask=True`, in `StatefulModel(net, attention_window=W)`",
    ),
    **dict.fromkeys(
        (layers.UnitNormalization, layers.Softmax, layers.LayerNormalization, layers.BatchNormalization),
        "it works along the time axis. Use `axis=-1`",
    ),
    layers.PReLU: "it has another slope for each step of a window. Use `shared_axes=[1]`",
}

_DELAY = "A delay by n steps, `ZeroPadding1D((n, 0))` and right after it `Cropping1D((0, n))`, is carried"
_OPERATIONS = {
    "Diff": f"it gives fewer outputs than steps, {_PER_STEP}. {_DELAY}: subtract it from the series",
    "Pad": f"it moves all steps. {_DELAY}",
    "GetItem": f"it takes some of the steps of a window. {_DELAY}",
    "Roll": f"it moves the last steps of a window to its start. {_DELAY}",
    "Cumsum": (
        "it is carried as a sum of floating numbers over axis 1 of a series `(batch, time, ...)` alone, in a Functional "
        "network. Cast the series before, and leave out `dtype`"
    ),
}
