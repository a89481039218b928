"""The losses of Keras that pair each number of a target with one number of an output.

Keras pairs a target of another shape by the rules of broadcasting, without an error: two columns of targets count against
one column of an output. All other losses decide for themselves which shapes they take: class numbers, CTC, your own.
"""

from collections.abc import Mapping
from typing import Any

from keras import losses, tree

from rnnstate.network.outputs import output_names

_CLASSES = (
    losses.BinaryCrossentropy,
    losses.BinaryFocalCrossentropy,
    losses.CategoricalCrossentropy,
    losses.CategoricalFocalCrossentropy,
    losses.CategoricalHinge,
    losses.CosineSimilarity,
    losses.Hinge,
    losses.Huber,
    losses.KLDivergence,
    losses.LogCosh,
    losses.MeanAbsoluteError,
    losses.MeanAbsolutePercentageError,
    losses.MeanSquaredError,
    losses.MeanSquaredLogarithmicError,
    losses.Poisson,
    losses.SquaredHinge,
)
_FUNCTIONS = (
    losses.binary_crossentropy,
    losses.binary_focal_crossentropy,
    losses.categorical_crossentropy,
    losses.categorical_focal_crossentropy,
    losses.categorical_hinge,
    losses.cosine_similarity,
    losses.hinge,
    losses.huber,
    losses.kl_divergence,
    losses.log_cosh,
    losses.mean_absolute_error,
    losses.mean_absolute_percentage_error,
    losses.mean_squared_error,
    losses.mean_squared_logarithmic_error,
    losses.poisson,
    losses.squared_hinge,
)


def elementwise_losses(net: Any, given: Any) -> list[str | None]:
    """Return, for each output of a network, the name of a loss that needs a target of the output's shape, else `None`.

    Args:
        net: The network.
        given: The losses as `compile` got them.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
    >>> elementwise_losses(net, "mse"), elementwise_losses(net, "sparse_categorical_crossentropy")
    (['mean_squared_error'], [None])
    """
    return [next(filter(None, map(_name, tree.flatten(part))), None) for part in _by_output(net, given)]


def _by_output(net: Any, given: Any) -> list[Any]:
    """Return what is given for each output. Keras itself refuses losses of another structure."""
    count = len(net.outputs)
    if isinstance(given, Mapping):
        return list(given.values()) if count == len(given) == 1 else [given.get(name) for name in output_names(net)]
    return list(given) if isinstance(given, (list, tuple)) and len(given) == count else [given] * count


def _name(given: Any) -> str | None:
    if given is None or str(given).lower() in ("ce", "crossentropy"):  # Keras chooses by the shapes
        return None
    loss = losses.get(given) if isinstance(given, str) else given
    if any(loss is function for function in _FUNCTIONS):
        return str(loss.__name__)
    kind = loss if isinstance(loss, type) else type(loss)
    return kind.__name__ if kind in _CLASSES else None
