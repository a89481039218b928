"""`trace` and `rollout`: a network one step at a time, inside one compiled loop."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops, tree

from rnnstate.errors import DataError, StateShapeError, UnsupportedModelError
from rnnstate.inplace.discover import recurrent_layers
from rnnstate.network.masks import is_series
from rnnstate.network.step import run
from rnnstate.ports.protocol import runs_backward
from rnnstate.state.checks import checked
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


class Unrolling:
    """The methods of `StatefulModel` that run step by step."""

    _carrier: Any

    @property
    def net(self) -> Any:
        """The network that this model was made from. The model shares its weights."""
        raise UnsupportedModelError(f"A model must know its network. Received: {type(self)} without `net`.")

    @property
    def state_spec(self) -> StateSpec:
        """The leaves of this model's state, in the order in which the network computes them."""
        raise UnsupportedModelError(f"A model must know its leaves. Received: {type(self)} without `state_spec`.")

    def trace(self, x: Any, state: Mapping[str, Array], mask: Array | None = None) -> tuple[Any, State, State]:
        """Run a window and return the state after every step.

        Args:
            x: Input `(batch, time, features)`, or a mapping or list for networks with several inputs.
            state: State that each row starts from, leaves `(batch, *shape)`.
            mask: Boolean `(batch, time)` of the valid steps.

        Returns:
            The outputs `(batch, time, ...)`, the final `State`, and a `State` with leaves `(batch, time, *shape)`. They
            equal the results of calling `step` once for each step.

        Raises:
            UnsupportedModelError: If a layer runs backward, because it has no state after a step.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru", return_sequences=True)])
        >>> model = StatefulModel(net)
        >>> y, state, trace = model.trace(np.ones((4, 5, 2)), model.initial_state(4))
        >>> tuple(trace["gru/h"].shape)
        (4, 5, 3)
        """
        _check_forward(self.net)
        x = tree.map_structure(ops.convert_to_tensor, x)
        batch_size, time = tree.flatten(x)[0].shape[:2]
        start = checked(self.state_spec, state, batch_size=batch_size).map(ops.convert_to_tensor)
        valid = ops.ones((batch_size, time), dtype="bool") if mask is None else ops.cast(mask, "bool")

        def one_step(leaves: list[Array], index: Array) -> tuple[Any, Any]:
            # The outputs are carried too: TensorFlow wants stacked and carried parts to have one structure.
            x_t = tree.map_structure(lambda part: _at(part, index, time), x)
            given = State.unchecked(start, leaves[: len(start)])
            y, final = run(self._carrier, x_t, given, _at(valid, index, time) if mask is not None else None, False)
            kept = [*(final[name] for name in start), *(_without_time(part) for part in tree.flatten(y))]
            return kept, kept

        outputs = self._carrier.compute_output_spec(tree.map_structure(lambda part: _symbol(part, time), x))
        empty = [ops.zeros((batch_size, *_step_shape(part)), dtype=part.dtype) for part in tree.flatten(outputs)]
        _, stacked = ops.scan(one_step, [*start.values(), *empty], ops.arange(time))
        by_row = [ops.swapaxes(part, 0, 1) for part in stacked]
        states = State.unchecked(start, by_row[: len(start)])
        final = states.map(lambda leaf: leaf[:, -1])
        return tree.pack_sequence_as(outputs, by_row[len(start) :]), final, states

    def rollout(
        self,
        x0: Array,
        state: Mapping[str, Array],
        steps: int,
        inputs: Array | None = None,
        targets: Array | None = None,
        teacher: float = 0.0,
        seed: int | None = None,
    ) -> tuple[Array, State]:
        """Run free: the output of each step is the input of the next step.

        Args:
            x0: First input `(batch, outputs)`. The network must take as many features as it has outputs, plus those in
                `inputs`.
            state: State that each row starts from.
            steps: How many steps to run.
            inputs: Known inputs `(batch, steps, known)` of every step. They follow the fed-back features.
            targets: True outputs `(batch, steps, outputs)`, for `teacher`.
            teacher: Probability, for each row and step, that the true output is fed back instead of the computed one.
            seed: Seed of this choice.

        Returns:
            The outputs `(batch, steps, outputs)`, and the `State` after the last step. Gradients flow through both.

        Raises:
            DataError: If `x0` or `inputs` have the wrong size, or `targets` are missing.

        Example:

        >>> net = keras.Sequential([
        ...     keras.Input((None, 1)), keras.layers.GRU(3, return_sequences=True), keras.layers.Dense(1)
        ... ])
        >>> model = StatefulModel(net)
        >>> y, state = model.rollout(np.ones((4, 1)), model.initial_state(4), steps=96)
        >>> tuple(y.shape)
        (4, 96, 1)

        References:
            - Feeding back true and own outputs at random: Bengio et al., "Scheduled sampling", NeurIPS 2015.
        """
        x0 = _first_input(x0)
        batch_size, width = x0.shape
        known = (
            ops.zeros((batch_size, steps, 0), x0.dtype) if inputs is None else ops.convert_to_tensor(inputs, x0.dtype)
        )
        _check_sizes(self.net, width, known.shape, (batch_size, steps), teacher, targets)
        truth = ops.zeros((batch_size, steps, width), x0.dtype) if targets is None else ops.cast(targets, x0.dtype)
        choice = _draw((batch_size, steps, 1), teacher, seed)
        start = checked(self.state_spec, state, batch_size=batch_size).map(ops.convert_to_tensor)

        def one_step(carried: list[Array], index: Array) -> tuple[Any, Any]:
            feed, _, *leaves = carried
            x = ops.concatenate([feed[:, None], _at(known, index, steps)], axis=-1)
            y, final = run(self._carrier, x, State.unchecked(start, leaves), None, False)
            y = ops.cast(_without_time(y), x0.dtype)
            feed = ops.where(_without_time(_at(choice, index, steps)), _without_time(_at(truth, index, steps)), y)
            kept = [feed, y, *(final[name] for name in start)]
            return kept, kept

        last, stacked = ops.scan(one_step, [x0, ops.zeros_like(x0), *start.values()], ops.arange(steps))
        return ops.swapaxes(stacked[1], 0, 1), State.unchecked(start, last[2:])


def _draw(shape: tuple[int, ...], teacher: float, seed: int | None) -> Array:
    """Draw where the truth is fed back, bool of `shape`. Without a `teacher` nothing is drawn: drawing has side effects."""
    return keras.random.uniform(shape, seed=seed) < teacher if teacher else ops.zeros(shape, dtype="bool")


def _check_forward(net: Any) -> None:
    for path, layer in recurrent_layers(net):
        if runs_backward(layer) or isinstance(layer, keras.layers.Bidirectional):
            raise UnsupportedModelError(
                f"Every layer must run forward to have a state after each step. Received: `{path}`, which runs backward. "
                "Use `step` for whole windows."
            )


def _first_input(x0: Any) -> Array:
    x0 = ops.convert_to_tensor(x0)
    x0 = x0[:, 0] if len(x0.shape) == 3 and x0.shape[1] == 1 else x0
    if len(x0.shape) != 2:
        raise StateShapeError(f"`x0` must have shape (batch, features). Received: shape={tuple(x0.shape)}.")
    return x0 if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x0.dtype)) else ops.cast(x0, "float32")


def _check_sizes(net: Any, width: int, known: Any, rows: tuple[int, int], teacher: float, targets: Any) -> None:
    if len(net.inputs) != 1 or len(net.outputs) != 1:
        raise DataError(
            "`rollout` feeds one output back into one input. "
            f"Received: a network with {len(net.inputs)} inputs and {len(net.outputs)} outputs. Use `step` in a loop."
        )
    outputs, features = net.outputs[0].shape[-1], net.inputs[0].shape[-1]
    if tuple(known[:2]) != rows or width != outputs or width + known[2] != features:
        raise DataError(
            f"`rollout` feeds {outputs} outputs back into {features} features, so `x0` must have shape (batch, {outputs}) "
            f"and `inputs` (batch, steps, {features - outputs}). "
            f"Received: x0 with {width} features, inputs of shape {tuple(known)}."
        )
    if teacher and targets is None:
        raise DataError(
            "`teacher` needs the true outputs. Received: no `targets`. Give `targets=` (batch, steps, outputs)."
        )


def _at(part: Array, index: Array, time: int) -> Array:
    """Return step `index` of a series, `(batch, 1, ...)`. Static inputs stay as they are."""
    return ops.take(part, ops.reshape(index, (1,)), axis=1) if is_series(part, time) else part


def _symbol(part: Array, time: int) -> Any:
    shape = (part.shape[0], 1, *part.shape[2:]) if is_series(part, time) else part.shape
    return keras.KerasTensor(shape, dtype=keras.backend.standardize_dtype(part.dtype))


def _step_shape(output: Any) -> tuple[int, ...]:
    return tuple(output.shape[2:] if len(output.shape) > 2 else output.shape[1:])


def _without_time(y: Array) -> Array:
    return y[:, 0] if len(y.shape) > 2 else y
