"""Padded steps carry no loss and no metric: how the mask of a window reaches inputs, losses and metrics."""

from typing import Any

import keras
from keras import ops

from rnnstate.state.state import Array


class _Masked(keras.layers.Layer):
    """Returns the first of two tensors with the second attached as its mask, as Keras' own masking layers do."""

    def __init__(self) -> None:
        super().__init__(name="masked", autocast=False)
        self.supports_masking = True

    def call(self, pair: tuple[Array, Array]) -> Array:
        return ops.copy(pair[0])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return inputs[1]


class _MaskOf(keras.layers.Layer):
    """Returns the mask attached to a tensor, or `None`: on JAX it is no attribute of the tensor."""

    def __init__(self) -> None:
        super().__init__(name="mask_of", autocast=False)
        self.supports_masking = True

    def call(self, x: Array, mask: Array | None = None) -> Array | None:
        return mask


_masked, mask_of = _Masked(), _MaskOf()


def is_series(tensor: Array, time: int) -> bool:
    """True for an input with one entry per step: static inputs are float vectors."""
    aligned = len(tensor.shape) > 1 and tensor.shape[1] == time
    return aligned and (
        len(tensor.shape) > 2 or not keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
    )


def mask_input(tensor: Array, mask: Array) -> Array:
    """Return an input with the mask of its window, `(batch, time)`; static inputs have none."""
    return _masked((tensor, mask)) if is_series(tensor, mask.shape[1]) else tensor


def mask_output(tensor: Array, mask: Array) -> Array:
    """Return predictions, per step or one per window, with the part of a window's mask that belongs to them."""
    per_step = len(tensor.shape) > 2 and tensor.shape[1] == mask.shape[1]
    return _masked((tensor, combine(tensor, mask if per_step else ops.any(mask, axis=1))))


def combine(tensor: Array, mask: Array | None) -> Array | None:
    """Return the steps that are valid in `mask` and in the mask that the network itself attached to `tensor`."""
    own = mask_of(tensor)
    if own is None or mask is None or len(own.shape) != len(mask.shape):
        return mask if mask is not None else own
    return ops.logical_and(own, mask)


class MaskedMetric(keras.metrics.Metric):
    """Feeds the mask of the predictions to a metric that would count padded steps.

    Keras' mean metrics (`"mae"`, `"accuracy"`) honour masks; AUC, RootMeanSquaredError and many others do not.

    Args:
        metric: The metric to feed.
    """

    def __init__(self, metric: Any, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name or metric.name, dtype=dtype)
        self.metric = metric

    def update_state(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> None:
        mask = mask_of(y_pred)
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
