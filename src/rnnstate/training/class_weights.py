"""`class_weight` of `fit` as sample weights: one for each target, also where there is a target per step.

    y              axes    weights
    (batch, time)     2    (batch, time)    classes per step
    (batch, time, 1)  2    (batch, time)
    (batch, time, C)  2    (batch, time)    one-hot
    (batch, C)        1    (batch,)         one-hot, per window or per sequence

Keras does so for one target per sample alone. The weight of a class that is not named is 1, as in Keras.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.network.outputs import by_output, output_names, outputs_per_step


class ClassWeights:
    """Multiplies the weights of batches by those of classes.

    Args:
        net: The network, which says which targets are per step.
        weights: `{class: weight}`, or a mapping of these by output name.

    Raises:
        DataError: If a class is no whole number, a weight is no finite number from 0 on, or there are several outputs
            without names.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True)])
    >>> ClassWeights(net, {1: 5.0})(np.array([[0, 1, 1], [2, 0, 1]])).tolist()
    [[1.0, 5.0, 5.0], [1.0, 1.0, 5.0]]
    """

    def __init__(self, net: Any, weights: Any) -> None:
        self._net = net
        self._named = isinstance(weights, Mapping) and bool(weights) and all(isinstance(n, str) for n in weights)
        self._tables = by_output(net, weights, "class_weight") if self._named else [weights]
        if not self._named and len(net.outputs) > 1:
            raise DataError(
                f"`class_weight` must say which of {len(net.outputs)} outputs it weighs. Received: {weights!r}. "
                "Give `{output name: {class: weight}}`."
            )
        for table in self._tables:
            _check_table(table)

    def __call__(self, y: Any, sample_weight: Any = None) -> Any:
        """Return the weights of a batch, in the structure of `y` if its outputs have weights each.

        Args:
            y: Targets of the batch.
            sample_weight: Weights of the batch so far, or `None`.
        """
        flags = outputs_per_step(self._net)
        if not isinstance(y, Mapping):
            return self._weighed(y, sample_weight, self._tables[0], flags[0])
        names = output_names(self._net) if len(flags) > 1 else list(y)
        tables = dict(zip(names, zip(self._tables, flags, strict=True), strict=True))
        given = sample_weight if isinstance(sample_weight, Mapping) else dict.fromkeys(y, sample_weight)
        return {name: self._weighed(part, given.get(name), *tables[name]) for name, part in y.items()}

    @staticmethod
    def _weighed(y: Any, sample_weight: Any, table: Any, per_step: bool) -> Any:
        axes = 2 if per_step else 1
        own = np.ones(y.shape[:axes], np.float32) if table is None else _looked_up(np.asarray(y), axes, table)
        return own if sample_weight is None else own * np.asarray(sample_weight)


def _check_table(table: Any) -> None:
    if table is None:
        return
    if not isinstance(table, Mapping):
        raise DataError(f"`class_weight` must be a mapping {{class: weight}}. Received: {type(table).__name__}.")
    for name, weight in table.items():
        if not float(name).is_integer():
            raise DataError(f"The classes of `class_weight` must be whole numbers. Received: {name!r}.")
        if not (np.isfinite(weight) and weight >= 0):
            raise DataError(f"The weights of `class_weight` must be finite and at least 0. Received: {weight!r}.")


def _looked_up(y: Any, axes: int, table: Mapping[int, float]) -> Any:
    """Return the weight of each target, float `(batch, ...)` of rank `axes`."""
    if y.ndim > axes + 1:
        raise DataError(
            "With `class_weight`, targets must be whole numbers or one-hot. "
            f"Received: a batch of targets of shape {y.shape}. Weigh the targets by `Windows(..., sample_weight=...)`."
        )
    classes = y.argmax(axis=-1) if y.ndim > axes and y.shape[-1] > 1 else y.reshape(y.shape[:axes])
    found, places = np.unique(classes, return_inverse=True)
    if (found != np.round(found)).any():
        raise DataError(
            f"With `class_weight`, targets must be classes. Received: the target {found[found != np.round(found)][0]}. "
            "Leave `class_weight` out, or give classes 0, 1, 2."
        )
    weights = np.array([table.get(int(name), 1.0) for name in found], np.float32)
    return weights[places].reshape(classes.shape)
