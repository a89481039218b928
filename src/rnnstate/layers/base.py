"""The base of the linear recurrences: the state, masks, resets, dropout and the configuration."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras
from keras import ops, tree

from rnnstate.errors import StateShapeError
from rnnstate.layers.linear_scan import Number, linear_scan, plus, times
from rnnstate.state.state import Array

Shape = tuple[int | None, ...]


class LinearRecurrence(keras.layers.Layer):
    """Base of `MinGRU`, `MinLSTM` and `LRU`: a state that follows h_t = a_t h_(t-1) + b_t, element by element.

    The factors a_t and the summands b_t depend on the input alone, so all steps are computed in parallel. A step that a mask
    leaves out keeps the state, and its output is read from the kept state.

    Args:
        units: The size of the output.
        return_sequences: Whether to return the output of every step, or the output of the last valid step.
        return_state: Whether to return the final state after the output.
        dropout: The fraction of input features to drop in training. One draw holds for all steps of a window.
        seed: The seed of the dropout.

    Raises:
        ValueError: If `units` is not a positive whole number, or `dropout` is not in 0 to 1.

    Example:

    >>> isinstance(rs.layers.MinGRU(3), rs.layers.LinearRecurrence)
    True
    """

    # The leaves of the state. A complex state has two, the real and the imaginary part.
    state_names: tuple[str, ...] = ("h",)

    def __init__(
        self,
        units: int,
        return_sequences: bool = False,
        return_state: bool = False,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= dropout <= 1:
            raise ValueError(f"`dropout` must be in 0 to 1. Received: dropout={dropout!r}.")
        self.units = whole("units", units)
        self.return_sequences, self.return_state = return_sequences, return_state
        self.dropout, self.seed = dropout, seed
        self._generator = keras.random.SeedGenerator(seed) if dropout else None
        self.supports_masking = True

    @property
    def state_size(self) -> int:
        """The size of each leaf of the state."""
        return self.units

    def coefficients(self, x: Array) -> tuple[Number, Number]:
        """Return the factors a and the summands b of every step, each part `(batch, time, state_size)`."""
        raise NotImplementedError

    def read_out(self, states: Number, x: Array) -> Array:
        """Return the output of every step, `(batch, time, units)`, from the states and the inputs."""
        return states[0]

    def get_initial_state(self, batch_size: Any) -> list[Array]:
        """Return the state at the start of a sequence: zeros `(batch, state_size)` for each leaf."""
        return [ops.zeros((batch_size, self.state_size), dtype=self.variable_dtype) for _ in self.state_names]

    def call(
        self,
        sequences: Array,
        initial_state: Any = None,
        mask: Array | None = None,
        training: bool = False,
        sequences_mask: Array | None = None,
    ) -> Any:
        # Keras hands over the mask as `sequences_mask` if the initial state is a tensor of the network too.
        mask = sequences_mask if mask is None else tree.flatten(mask)[0]
        state = self.get_initial_state(ops.shape(sequences)[0]) if initial_state is None else self._given(initial_state)
        y, final = self.run(sequences, state, mask, training)
        return (y, *(ops.cast(leaf, self.compute_dtype) for leaf in final)) if self.return_state else y

    def run(
        self,
        x: Array,
        state: Sequence[Array],
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: Sequence[Array] | None = None,
    ) -> tuple[Array, Number]:
        """Run a window from a given state.

        Args:
            x: Input `(batch, time, features)`.
            state: The leaves from which the window starts, each `(batch, state_size)`.
            mask: Boolean `(batch, time)` of the valid steps, or `None` if all steps are valid.
            training: Whether dropout is active.
            reset: Boolean `(batch, time)`. Before these steps a row returns to `initial`. A reset makes the decay 0.
            initial: The leaves after a reset. The default is `state`.

        Returns:
            The output, and the leaves after the last valid step in the dtype of the weights.
        """
        start, again = (self._as_weights(leaves) for leaves in (state, initial or state))
        x = self._dropped(x, training) if mask is None else _only(mask, self._dropped(x, training))
        decay, drive = self.coefficients(x)
        if mask is not None:
            decay, drive = _kept(mask, decay), tuple(_only(mask, part) for part in drive)
        if reset is not None:
            decay, drive = _restarted(reset, decay, drive, again)
        states = linear_scan(decay, _started(decay, drive, start))
        y = ops.cast(self.read_out(states, x), self.compute_dtype)
        return y if self.return_sequences else _last_valid(y, mask), tuple(part[:, -1] for part in states)

    def _as_weights(self, leaves: Sequence[Array]) -> Number:
        return tuple(ops.cast(leaf, self.variable_dtype) for leaf in leaves)

    def _dropped(self, x: Array, training: bool) -> Array:
        if not training or self._generator is None:
            return x
        kept = ops.ones((ops.shape(x)[0], 1, x.shape[-1]), dtype=x.dtype)
        return x * keras.random.dropout(kept, self.dropout, seed=self._generator)

    def _given(self, initial_state: Any) -> list[Array]:
        """Return a state that the user gives, as a list of leaves."""
        leaves: list[Array] = tree.flatten(initial_state)
        shapes = [tuple(leaf.shape) for leaf in leaves]
        if len(leaves) != len(self.state_names) or any(shape[1:] != (self.state_size,) for shape in shapes):
            raise StateShapeError(
                f"`initial_state` of layer `{self.name}` must have the leaves {', '.join(self.state_names)}, each of shape "
                f"(batch, {self.state_size}). Received: {len(leaves)} with shapes {shapes}."
            )
        return leaves

    def compute_output_shape(self, sequences_shape: Shape, initial_state_shape: Any = None) -> Any:
        batch, time = sequences_shape[:2]
        y = (batch, time, self.units) if self.return_sequences else (batch, self.units)
        return (y, *((batch, self.state_size) for _ in self.state_names)) if self.return_state else y

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = tree.flatten(previous_mask)[0] if self.return_sequences else None
        return [mask, *(None for _ in self.state_names)] if self.return_state else mask

    def get_config(self) -> dict[str, Any]:
        own = ("units", "return_sequences", "return_state", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def whole(name: str, value: Any) -> int:
    """Return a size.

    Raises:
        ValueError: If it is not a positive whole number.
    """
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"`{name}` must be a positive whole number. Received: {name}={value!r}.")
    return int(value)


def _only(flags: Array, part: Array) -> Array:
    return ops.where(flags[:, :, None], part, ops.zeros_like(part))


def _kept(mask: Array, decay: Number) -> Number:
    """Return factors that are 1 at the steps that are not valid."""
    ones = (ops.ones_like(decay[0]), *(ops.zeros_like(part) for part in decay[1:]))
    return tuple(ops.where(mask[:, :, None], part, one) for part, one in zip(decay, ones, strict=True))


def _restarted(reset: Array, decay: Number, drive: Number, initial: Number) -> tuple[Number, Number]:
    """Return factors that are 0 where a row returns to `initial`, and summands that contain `initial` there."""
    fresh = plus(times(decay, tuple(leaf[:, None] for leaf in initial)), drive)
    flags = reset[:, :, None]
    drive = tuple(ops.where(flags, one, other) for one, other in zip(fresh, drive, strict=True))
    return tuple(ops.where(flags, ops.zeros_like(part), part) for part in decay), drive


def _started(decay: Number, drive: Number, start: Number) -> Number:
    """Return summands whose first step contains the state before the window."""
    first = times(tuple(part[:, :1] for part in decay), tuple(leaf[:, None] for leaf in start))
    return tuple(
        ops.concatenate([part[:, :1] + own, part[:, 1:]], axis=1) for part, own in zip(drive, first, strict=True)
    )


def _last_valid(y: Array, mask: Array | None) -> Array:
    """Return the output of the last valid step, `(batch, units)`, or of the first step of a row without any."""
    if mask is None:
        return y[:, -1]
    steps = ops.arange(ops.shape(y)[1], dtype="int32") * ops.cast(mask, "int32")
    index = ops.broadcast_to(ops.max(steps, axis=1)[:, None, None], (ops.shape(y)[0], 1, y.shape[-1]))
    return ops.take_along_axis(y, index, axis=1)[:, 0]
