"""The rules for masks, and the code that hands the mask of a window to inputs, layers, losses and metrics.

A mask is boolean, `(batch, time)`, and true for the valid steps. Padding may stand at any place of a window:

    steps of a row   0 1 2 3 4
    mask             1 1 0 1 0    the state after this window is the state after step 3

1. A step that is not valid leaves every leaf of its row as it was. A layer then repeats its last output.
2. The mask of the window and the mask that the network makes itself (`Masking`, `Embedding`) are joined: a step is valid
   if both say so.
3. A layer that drops the mask does not end it: the scope holds the mask for later layers with a memory.
4. A step that is not valid has no loss and counts in no metric. An output per window counts if any step is valid.
"""

from typing import Any

import keras
from keras import ops, tree

from rnnstate.ports.protocol import both
from rnnstate.state.state import Array


class _Masked(keras.layers.Layer):
    """Returns the first of two tensors, with the second tensor attached as its mask, as Keras' `Masking` does."""

    def __init__(self) -> None:
        super().__init__(name="masked", autocast=False)
        self.supports_masking = True

    def call(self, pair: tuple[Array, Array]) -> Array:
        return ops.copy(pair[0])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return inputs[1]


class _AttachedMask(keras.layers.Layer):
    """Returns the mask that Keras attached to a tensor, or `None`. Only a layer can ask: JAX' tensors have no attributes."""

    def __init__(self) -> None:
        super().__init__(name="attached_mask", autocast=False)
        self.supports_masking = True

    def call(self, x: Array, mask: Array | None = None) -> Array | None:
        return mask


_masked, attached_mask = _Masked(), _AttachedMask()


def is_series(tensor: Array, time: int) -> bool:
    """True for an input with one entry per step. A static input is a float vector `(batch, features)`."""
    aligned = len(tensor.shape) > 1 and tensor.shape[1] == time
    return aligned and (
        len(tensor.shape) > 2 or not keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
    )


def mask_input(tensor: Array, mask: Array) -> Array:
    """Return an input with the mask of its window, `(batch, time)`, attached. A static input has no mask."""
    return _masked((tensor, mask)) if is_series(tensor, mask.shape[1]) else tensor


def mask_output(tensor: Array, mask: Array | None, per_step: int, counts: Array | None = None) -> Array:
    """Return predictions with their mask attached.

    Args:
        tensor: Predictions `(batch, time / per_step, ...)`, or `(batch, ...)` if `per_step` is 0.
        mask: The valid steps, `(batch, time)`, or `None` if all are.
        per_step: For how many steps there is one prediction, or 0 for one prediction per window.
        counts: Which of the predictions per window count, bool `(batch,)`, or `None` if all do.
    """
    own = None if mask is None else every(mask, per_step) if per_step else ops.any(mask, axis=1)
    own = both(own, counts)
    return tensor if own is None else _masked((tensor, combine(tensor, own)))


def combine(tensor: Array, mask: Array | None) -> Array | None:
    """Return the steps that are valid both in `mask` and in the mask that the network attached to `tensor`."""
    own = attached_mask(tensor)
    if own is not None and mask is not None and len(own.shape) != len(mask.shape):
        return mask
    return both(own, mask)


def every(flags: Array, rate: int) -> Array:
    """Return flags, `(batch, time / rate)`, for groups of `rate` steps. All steps of a group have the same mask."""
    return flags if rate == 1 else flags[:, ::rate]


def window_flags(flags: Array | None, x: Any, rate: int = 1) -> Array | None:
    """Return flags of the window, `(batch, time)`, if `x` still has the time axis of the window; else `None`.

    Args:
        flags: Flags of the steps of the window.
        x: A tensor of the network.
        rate: How many steps of the window make one entry of `x`. Each such group of steps gets one flag.
    """
    shape = tree.flatten(x)[0].shape
    if flags is None or len(shape) < 3:
        return None
    flags = every(flags, rate)
    return flags if shape[1] == flags.shape[1] else None


class MaskedMetric(keras.metrics.Metric):
    """Hands the mask of the predictions to a metric that would otherwise count padded steps.

    Keras' mean metrics (`"mae"`, `"accuracy"`) honour masks; AUC, RootMeanSquaredError and many others do not.

    Args:
        metric: A metric that takes `sample_weight`.
    """

    def __init__(self, metric: Any, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name or metric.name, dtype=dtype)
        self.metric = metric

    def update_state(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> None:
        mask = attached_mask(y_pred)
        if mask is not None:
            valid = ops.cast(mask, self.dtype)
            sample_weight = valid if sample_weight is None else ops.cast(sample_weight, self.dtype) * valid
        self.metric.update_state(y_true, y_pred, sample_weight=sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "metric": keras.saving.serialize_keras_object(self.metric)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedMetric":
        config["metric"] = keras.saving.deserialize_keras_object(config["metric"])
        return cls(**config)


keras.saving.register_keras_serializable("rnnstate")(MaskedMetric)
# Checkpoints record the module of this class in their identity. It stays the module of release 0.1.0, so that they go on.
MaskedMetric.__module__ = "rnnstate.masking"


def honouring_masks(metrics: Any) -> Any:
    """Return the `metrics` argument of `compile` with every metric that ignores masks wrapped."""
    if isinstance(metrics, dict):
        return {name: honouring_masks(part) for name, part in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [honouring_masks(part) for part in metrics]
    metric = _named(metrics)
    ignores = isinstance(metric, keras.metrics.Metric) and not isinstance(
        metric, (keras.metrics.MeanMetricWrapper, MaskedMetric)
    )
    return MaskedMetric(metric) if ignores else metrics


def _named(metric: Any) -> Any:
    """Return the metric behind a name, unless the name stands for one of Keras' own mean metrics."""
    if not isinstance(metric, str) or metric.lower() in ("accuracy", "acc", "crossentropy", "ce"):
        return metric
    return keras.metrics.get(metric)
