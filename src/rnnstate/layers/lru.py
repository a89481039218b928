"""LRU: the linear recurrent unit, a complex state with a learned decay that does not depend on the input."""

import math
from typing import Any

import keras
from keras import initializers, layers, ops

from rnnstate.layers.base import LinearRecurrence, Shape, whole
from rnnstate.layers.linear_scan import Number
from rnnstate.state.state import Array


@keras.saving.register_keras_serializable("rnnstate")
class LRU(LinearRecurrence):
    """The linear recurrent unit, parallel in time.

        s_t = lambda * s_(t-1) + gamma * (x_t B)         complex, (batch, state_size)
        y_t = Re(s_t C) + x_t D                          real, (batch, units)
        lambda = exp(-exp(nu) + i exp(theta))            complex, (state_size,)

    The absolute value of lambda is always below 1, so the state cannot overflow. The complex state is kept as two real
    leaves, `real` and `imaginary`. The layer is linear in x: put a nonlinear layer after it, as the paper does.

    Args:
        units: The size of the output.
        state_size: The size of the complex state. The default is `units`.
        r_min: The smallest absolute value of lambda at the start of training.
        r_max: The largest one. For dependencies over hundreds of steps, use values such as 0.9 and 0.999.
        max_phase: The largest angle of lambda at the start of training. A small one favours slow oscillations.
        return_sequences: Whether to return the output of every step, `(batch, time, units)`, or of the last valid step.
        return_state: Whether to return the final state, the real and the imaginary part, after the output.
        dropout: The fraction of input features to drop in training. One draw holds for all steps of a window.
        seed: The seed of the dropout and of the initial weights.

    Returns:
        The output; with `return_state`, a tuple of the output, the real and the imaginary part of the state.

    Raises:
        ValueError: If a size is not a positive whole number, if not 0 <= r_min < r_max <= 1, if `max_phase` is not
            positive, or if `dropout` is not in 0 to 1.
        StateShapeError: If `initial_state` in a call is not two leaves `(batch, state_size)`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), rs.layers.LRU(3, state_size=5, name="lru")])
    >>> rs.StatefulModel(net).state_spec
    StateSpec(lru/real: (batch, units=5) float32, lru/imaginary: (batch, units=5) float32)

    References:
        - Orvieto et al., "Resurrecting recurrent neural networks for long sequences", ICML 2023.
    """

    state_names = ("real", "imaginary")

    def __init__(
        self,
        units: int,
        state_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(f"0 <= r_min < r_max <= 1 must hold. Received: r_min={r_min!r}, r_max={r_max!r}.")
        if not max_phase > 0:
            raise ValueError(f"`max_phase` must be positive. Received: max_phase={max_phase!r}.")
        self._size = whole("state_size", units if state_size is None else state_size)
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase

    @property
    def state_size(self) -> int:
        return self._size

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        self.features = features = int(sequences_shape[-1] or 0)
        self.input_spec = layers.InputSpec(ndim=3, axes={-1: features})
        size, units = self.state_size, self.units
        squares = self._uniform(0, self.r_min**2, self.r_max**2)  # uniform on the ring from r_min to r_max

        def log_decay(shape: Any, dtype: Any) -> Array:
            return -0.5 * ops.log(ops.clip(squares(shape, dtype), 1e-6, 1 - 1e-6))

        self.nu = self._exact("nu", lambda shape, dtype=None: ops.log(log_decay(shape, dtype)))
        angles = self._uniform(1, 1e-6 * self.max_phase, self.max_phase)
        self.theta = self._exact("theta", lambda shape, dtype=None: ops.log(angles(shape, dtype)))
        # The state of white noise then has the variance of the noise, whatever the decay.
        self.log_gamma = self._exact(
            "log_gamma", lambda shape, dtype=None: 0.5 * ops.log(-ops.expm1(-2 * log_decay(shape, dtype)))
        )
        self.input_kernel = self._normal("input_kernel", (features, 2 * size), 2 * features, 2)
        self.output_kernel = self._normal("output_kernel", (2 * size, units), size, 3)
        self.skip_kernel = self._normal("skip_kernel", (features, units), features, 4)

    def _seed(self, number: int) -> int | None:
        return None if self.seed is None else self.seed + number

    def _uniform(self, number: int, low: float, high: float) -> Any:
        # An initializer of Keras gives the same values at each call, so nu and gamma fit together.
        return initializers.RandomUniform(low, high, seed=self._seed(number))

    def _exact(self, name: str, initializer: Any) -> Any:
        """Make a weight `(state_size,)` that stays in whole precision under mixed precision."""
        return self.add_weight(shape=(self.state_size,), name=name, initializer=initializer, autocast=False)

    def _normal(self, name: str, shape: tuple[int, int], fan_in: int, number: int) -> Any:
        initializer = initializers.RandomNormal(stddev=fan_in**-0.5, seed=self._seed(number))
        return self.add_weight(shape=shape, name=name, initializer=initializer)

    def coefficients(self, x: Array) -> tuple[Number, Number]:
        drive = ops.split(ops.cast(ops.matmul(x, self.input_kernel), self.variable_dtype), 2, axis=-1)
        radius, angle, gamma = ops.exp(-ops.exp(self.nu)), ops.exp(self.theta), ops.exp(self.log_gamma)
        shape = (1, ops.shape(x)[1], self.state_size)  # the same for all rows
        decay = tuple(ops.broadcast_to(part, shape) for part in (radius * ops.cos(angle), radius * ops.sin(angle)))
        return decay, tuple(gamma * part for part in drive)

    def read_out(self, states: Number, x: Array) -> Array:
        # The rows of the output kernel are Re(C), then -Im(C): their product with both parts is the real part of s C.
        parts = ops.cast(ops.concatenate(states, axis=-1), self.compute_dtype)
        return ops.matmul(parts, self.output_kernel) + ops.matmul(x, self.skip_kernel)

    def get_config(self) -> dict[str, Any]:
        own = ("state_size", "r_min", "r_max", "max_phase")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
