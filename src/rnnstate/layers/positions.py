"""Layers that tell each step its position in the sequence: `PositionEmbedding` and `RotaryPosition`.

A layer of this kind counts the steps of its window from 0. In `StatefulModel` a port carries the count, so a step has the
same position in any window.
"""

from typing import Any

import keras
from keras import ops


class Positioned(keras.layers.Layer):
    """Base of the layers that need the position of each step.

    Args:
        kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Keras would cast the positions to the compute dtype, and float16 has no 2049.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def call(self, x: Any, position: Any = None) -> Any:
        if position is None:
            position = ops.arange(ops.shape(x)[1], dtype="float32")[None]
        return self.at(ops.cast(x, self.compute_dtype), position)

    def at(self, x: Any, position: Any) -> Any:
        """Return the output for steps at the positions `(batch or 1, time)`, float32."""
        raise NotImplementedError(f"{type(self).__name__} must have a method `at`.")

    def compute_output_shape(self, input_shape: Any, *args: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable("rnnstate")
class PositionEmbedding(Positioned):
    """Adds a vector to each step that depends on the position of the step in its sequence.

    Without `period`, the vector holds sines and cosines of several wavelengths. They are fixed, and the sequence may have
    any length up to 2**24 steps. With `period`, the vector is learned, one for each of `period` positions: step t gets the
    vector t mod period, such as the hour of the day for `period=24`.

    Args:
        period: The number of learned vectors, or `None` for sines and cosines.
        base: The ratio of the longest to the shortest wavelength, without `period`.
        kwargs: Arguments of `keras.layers.Layer`.

    Example:

    >>> x = keras.Input((None, 4))
    >>> h = rs.layers.PositionEmbedding(name="place")(x)
    >>> h = keras.layers.MultiHeadAttention(2, 4)(h, h, use_causal_mask=True)
    >>> model = rs.StatefulModel(keras.Model(x, h), attention_window=8)
    >>> _, state = model.step(np.zeros((1, 3, 4)), model.initial_state(1))
    >>> float(state["place/position"][0, 0])
    3.0

    References:
        - Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    def __init__(self, period: int | None = None, base: float = 10000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if period is not None and (isinstance(period, bool) or not isinstance(period, int) or period < 1):
            raise ValueError(
                f"`period` must be a whole number of steps from 1 up, or `None`. Received: period={period!r}."
            )
        self.period, self.base = period, base

    def build(self, input_shape: Any) -> None:
        if self.period is not None:
            self.table = self.add_weight(shape=(self.period, input_shape[-1]), initializer="uniform", name="table")

    def at(self, x: Any, position: Any) -> Any:
        if self.period is not None:
            vectors = ops.take(self.table, ops.cast(ops.mod(position, self.period), "int32"), axis=0)
        else:
            angles = _angles(position, (x.shape[-1] + 1) // 2, self.base)
            vectors = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)[..., : x.shape[-1]]
        return x + ops.cast(vectors, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "period": self.period, "base": self.base}


@keras.saving.register_keras_serializable("rnnstate")
class RotaryPosition(Positioned):
    """Rotates the features of each step by angles that grow with the position of the step in its sequence.

    The dot product of two rotated vectors depends on the distance of their steps alone. So use the layer on the queries and
    keys of attention of your own: `(batch, time, size)` or `(batch, time, heads, size)`, with an even size.

    Args:
        base: The ratio of the longest to the shortest wavelength.
        kwargs: Arguments of `keras.layers.Layer`.

    Example:

    >>> x = keras.Input((None, 4))
    >>> model = rs.StatefulModel(keras.Model(x, rs.layers.RotaryPosition(name="rotary")(x)))
    >>> y, state = model.step(np.ones((1, 3, 4)), model.initial_state(1))
    >>> float(state["rotary/position"][0, 0])
    3.0

    References:
        - Su et al., "RoFormer: Enhanced transformer with rotary position embedding", Neurocomputing 2024.
    """

    def __init__(self, base: float = 10000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = base

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] % 2:
            raise ValueError(
                f"Layer `{self.name}` must get an even number of features, (batch, time, ..., size). "
                f"Received: input_shape={tuple(input_shape)}."
            )

    def at(self, x: Any, position: Any) -> Any:
        half = x.shape[-1] // 2
        angles = _angles(position, half, self.base)
        for _ in range(len(x.shape) - 3):
            angles = ops.expand_dims(angles, 2)
        sin, cos = ops.cast(ops.sin(angles), x.dtype), ops.cast(ops.cos(angles), x.dtype)
        one, other = x[..., :half], x[..., half:]
        return ops.concatenate([one * cos - other * sin, one * sin + other * cos], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "base": self.base}


def _angles(position: Any, count: int, base: float) -> Any:
    """Return the angle of each position at each of `count` wavelengths, `(batch, time, count)`."""
    rates = base ** -(ops.arange(count, dtype="float32") / count)
    return position[..., None] * rates
