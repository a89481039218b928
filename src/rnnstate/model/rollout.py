"""`trace` and `rollout`: a network one step at a time, inside one compiled loop that is kept."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops, tree

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.inplace.discover import recurrent_layers
from rnnstate.model.feedback import Draws, FreeRun, seeds_of, takes_seed
from rnnstate.model.parts import Parts
from rnnstate.network.inputs import Inputs
from rnnstate.network.masks import is_series
from rnnstate.ports.recurrent import runs_backward
from rnnstate.state.checks import checked, checked_flags
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


class Unrolling:
    """The methods of `StatefulModel` that run step by step."""

    _parts: Parts

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
            equal the results of calling `step` once for each step. With strides over time the state is known after each
            group of steps, and its leaves are `(batch, time / strides, *shape)`.

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
        inputs = Inputs(self.net)
        x = inputs.arrays(x)
        inputs.check(x)
        strides = self._parts.strides
        strides.check_input(x)
        x = tree.map_structure(ops.convert_to_tensor, x)
        parts = tree.flatten(x)
        batch_size, time = parts[0].shape[:2]
        start = self._leaves(state, batch_size)
        series = tuple(is_series(part, time) for part in parts)
        flags = [] if mask is None else [ops.cast(checked_flags("mask", mask, (batch_size, time)), "bool")]
        strides.check_flags(mask if mask is None else flags[0], None)
        size = strides.total

        def one_step(
            advance: Any, leaves: list[Array], x_t: list[Array], fixed: list[Array]
        ) -> tuple[Any, list[Array]]:
            left, whole = iter(x_t), iter(fixed)
            taken = [next(left) if by_step else next(whole) for by_step in series]
            y, final = advance(tree.pack_sequence_as(x, taken), leaves, next(left) if flags else None)
            return y if size > 1 else tree.map_structure(_without_time, y), final

        by_step = [*(part for part, flag in zip(parts, series, strict=True) if flag), *flags]
        xs = [_in_groups(part, size) for part in by_step]
        fixed = [part for part, by_step in zip(parts, series, strict=True) if not by_step]
        key = "trace", repr(tree.map_structure(lambda part: None, x)), series, len(flags)
        y, states, last = self._parts.loops.run(self._parts.stepper, key, one_step, start, xs, fixed)
        y = y if size == 1 else tree.pack_sequence_as(y, list(map(_in_a_row, tree.flatten(y), strides.outputs)))
        return y, State.unchecked(self.state_spec, last), State.unchecked(self.state_spec, states)

    def _leaves(self, state: Mapping[str, Array], batch_size: int) -> list[Array]:
        """Return the leaves of a state as tensors in the dtypes of the spec, in its order."""
        given = checked(self.state_spec, state, batch_size=batch_size)
        return [ops.convert_to_tensor(given[name], dtype=leaf.dtype) for name, leaf in self.state_spec.items()]

    def rollout(
        self,
        x0: Any,
        state: Mapping[str, Array],
        steps: int,
        inputs: Any = None,
        targets: Any = None,
        teacher: float = 0.0,
        seed: int | None = None,
        feedback: Callable[..., Any] | None = None,
    ) -> tuple[Any, State]:
        """Run free: the output of each step is the input of the next step.

        Args:
            x0: First input `(batch, outputs)`, or `(batch,)` of a network that takes tokens. For a network with several
                inputs, a mapping of the inputs that are fed back. Without `feedback`, the network must take as many features
                as it has outputs, plus those in `inputs`.
            state: State that each row starts from.
            steps: How many steps to run.
            inputs: Known inputs of every step, `(batch, steps, known)`. They follow the fed-back features. For a network
                with several inputs, a mapping of known inputs. Inputs without a time axis are `(batch, features)`.
            targets: True values of the fed-back inputs, `(batch, steps, ...)`, for `teacher`.
            teacher: Probability, for each row and step, that the true value is fed back instead of the computed one.
            seed: Seed of this choice, and of a `feedback` that draws. Without it each call draws anew.
            feedback: Function from the outputs of a step, `(batch, ...)`, to the next fed-back inputs, shaped as `x0`. A
                parameter named `seed` gets the seed of the step, for the functions of `keras.random`. The function is
                compiled and kept, so define it once, with `keras.ops`.

        Returns:
            The outputs `(batch, steps, outputs)`, and the `State` after the last step. Gradients flow through both.

        Raises:
            DataError: If `x0`, `inputs` or the results of `feedback` do not fit the network, or `targets` are missing.
            UnsupportedModelError: If the network has strides over time: no step of it gives an output alone.

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
        if self._parts.strides.total > 1:
            raise UnsupportedModelError(
                "A free run needs a network that gives an output for each step, which becomes the next input. Received: "
                f"{self._parts.strides.described}. Call `step` with windows of {self._parts.strides.total} steps."
            )
        run = FreeRun(self.net, x0, inputs, steps, feedback)
        feeds, known, draws = list(run.feed.values()), list(run.series.values()), takes_seed(feedback)
        truth = self._truth(run, targets) if teacher else []
        choice = [_draw((steps, run.batch_size), teacher, seed)] if teacher else []
        start = self._leaves(state, run.batch_size)

        def one_step(
            advance: Any, carried: list[Array], x_t: list[Array], fixed: list[Array]
        ) -> tuple[Any, list[Array]]:
            feed, leaves = carried[: len(feeds)], carried[len(feeds) :]
            known_t, (_, *left) = x_t[: len(known)], x_t[len(known) :]
            y, final = advance(run.step_input(feed, known_t, fixed), leaves, None)
            y = tree.map_structure(_without_time, y)
            if feedback is None:
                y = ops.cast(y, feeds[0].dtype)
            seeded = {"seed": Draws(left.pop())} if draws else {}
            feed = run.next_feed(y if feedback is None else feedback(y, **seeded))
            if teacher:
                picked, *true_t = left
                feed = [_chosen(picked, true, own) for true, own in zip(true_t, feed, strict=True)]
            return y, [*feed, *final]

        by_time = [ops.swapaxes(part, 0, 1) for part in known]
        chosen = [*choice, *(ops.swapaxes(part, 0, 1) for part in truth)]
        xs = [*by_time, ops.arange(steps), *chosen, *([seeds_of(seed, steps)] if draws else [])]
        key = "rollout", feedback, tuple(run.feed), tuple(run.series), tuple(run.fixed), bool(teacher)
        fixed = list(run.fixed.values())
        y, _, last = self._parts.loops.run(self._parts.stepper, key, one_step, [*feeds, *start], xs, fixed)
        return y, State.unchecked(self.state_spec, last[len(feeds) :])

    def _truth(self, run: FreeRun, targets: Any) -> list[Array]:
        """Return the true values of the fed-back inputs, each `(batch, steps, ...)`."""
        if targets is None:
            raise DataError(
                "`teacher` needs the true outputs. Received: no `targets`. Give `targets=` (batch, steps, outputs)."
            )
        given = targets if isinstance(targets, Mapping) else dict.fromkeys(run.feed, targets)
        truth = [ops.cast(given[name], first.dtype) for name, first in run.feed.items()]
        for part, (name, first) in zip(truth, run.feed.items(), strict=True):
            expected = (run.batch_size, run.steps, *first.shape[1:])
            if tuple(part.shape) != expected:
                raise DataError(
                    f"`targets` must have shape {expected} for input `{name}`. Received: shape={tuple(part.shape)}."
                )
        return truth


def _in_groups(part: Array, size: int) -> Array:
    """Return a series `(batch, time, ...)` as `(time / size, batch, size, ...)`."""
    batch, time, *rest = ops.shape(part)
    return ops.swapaxes(ops.reshape(part, (batch, time // size, size, *rest)), 0, 1)


def _in_a_row(y: Array, rate: int) -> Array:
    """Return the outputs of all groups, `(batch, groups, steps, ...)`, in a row. An output per window stays as it is."""
    if not rate:
        return y
    batch, groups, steps, *rest = ops.shape(y)
    return ops.reshape(y, (batch, groups * steps, *rest))


def _chosen(picked: Array, true: Array, own: Array) -> Array:
    """Choose rows: the true value where `picked`, `(batch,)`, is true, the computed one elsewhere."""
    return ops.where(ops.reshape(picked, (-1, *[1] * (len(own.shape) - 1))), true, own)


def _draw(shape: tuple[int, ...], teacher: float, seed: int | None) -> Array:
    """Draw where the truth is fed back, bool of `shape`."""
    return keras.random.uniform(shape, seed=seed) < teacher


def _check_forward(net: Any) -> None:
    for path, layer in recurrent_layers(net):
        if runs_backward(layer) or isinstance(layer, keras.layers.Bidirectional):
            raise UnsupportedModelError(
                f"Every layer must run forward to have a state after each step. Received: `{path}`, which runs backward. "
                "Use `step` for whole windows."
            )


def _without_time(y: Array) -> Array:
    return y[:, 0] if len(y.shape) > 2 else y
