"""The inputs of a free run: which are fed back, which are known, and whether they fit the network."""

import inspect
import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.errors import DataError, StateShapeError
from rnnstate.network.clone import inputs_of
from rnnstate.state.state import Array


class FreeRun:
    """The inputs of a free run of a network, by name.

    Args:
        net: The network.
        x0: First values of the inputs that are fed back: an array, or a mapping for a network with several inputs.
        known: Known inputs of every step: an array, or a mapping.
        steps: How many steps to run.
        feedback: Makes the next inputs from the outputs.

    Raises:
        DataError: If an input is missing or unknown, or does not fit.
    """

    def __init__(self, net: Any, x0: Any, known: Any, steps: int, feedback: Any) -> None:
        if steps < 1:
            raise DataError(f"`rollout` must run at least one step. Received: steps={steps}.")
        self._structure = inputs_of(net)
        self._symbols = _named(self._structure)
        self._alone = len(self._symbols) == 1
        self._check_feedback(net, feedback)
        self.feed = {name: _first(name, self._symbol(name), value) for name, value in self._by_name("x0", x0).items()}
        self.batch_size, self.steps = next(iter(self.feed.values())).shape[0], steps
        given = self._by_name("inputs", {} if known is None else known)
        arrays = {name: _as(value, self._symbols[name]) for name, value in given.items()}
        self.series = {name: value for name, value in arrays.items() if self._symbols[name].shape[1] is None}
        self.fixed = {name: value for name, value in arrays.items() if name not in self.series}
        if self._alone and feedback is None:
            self._check_sizes(net)
        self._check_known()

    def _by_name(self, argument: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            if not self._alone:
                raise DataError(
                    f"`{argument}` must say by name which inputs it gives, because the network has {len(self._symbols)}: "
                    f"{list(self._symbols)}. Received: {type(given).__name__}. Give a mapping such as "
                    f"`{{{next(iter(self._symbols))!r}: ...}}`."
                )
            return {next(iter(self._symbols)): given}
        unknown = [name for name in given if name not in self._symbols]
        if unknown:
            raise DataError(
                f"`{argument}` must name inputs of the network, {list(self._symbols)}. Received: {unknown}."
            )
        return dict(given)

    def _symbol(self, name: str) -> Any:
        symbol = self._symbols[name]
        if symbol.shape[1] is not None:
            raise DataError(
                f"A fed-back input must have one value for each step. Received: `{name}` of shape {symbol.shape}, which "
                "has no open time axis. Give it in `inputs`."
            )
        return symbol

    def _check_feedback(self, net: Any, feedback: Any) -> None:
        if feedback is not None:
            return
        if not self._alone or len(net.outputs) != 1:
            raise DataError(
                "Without `feedback`, `rollout` feeds one output back into one input. "
                f"Received: a network with {len(net.inputs)} inputs and {len(net.outputs)} outputs. Give `feedback=`, a "
                "function from the outputs of a step to the next inputs."
            )
        if len(net.inputs[0].shape) == 2:
            raise DataError(
                "An output can be fed back as it is only if the input has features. Received: a network that takes one "
                "number for each step, such as a token. Give `feedback=`, a function from the outputs to the next input, "
                "such as `lambda y: keras.ops.argmax(y, axis=-1)`."
            )

    def _check_sizes(self, net: Any) -> None:
        name = next(iter(self.feed))
        outputs, features, width = net.outputs[0].shape[-1], net.inputs[0].shape[-1], self.feed[name].shape[-1]
        known = tuple(self.series[name].shape) if name in self.series else (self.batch_size, self.steps, 0)
        if (
            len(known) != 3
            or known[:2] != (self.batch_size, self.steps)
            or width != outputs
            or width + known[2] != features
        ):
            raise DataError(
                f"`rollout` feeds {outputs} outputs back into {features} features, so `x0` must have shape "
                f"(batch, {outputs}) and `inputs` (batch, steps, {features - outputs}). "
                f"Received: x0 with {width} features, inputs of shape {known}."
            )

    def _check_known(self) -> None:
        for name, symbol in self._symbols.items():
            rest = tuple(symbol.shape[2:])
            if name in self.fixed:
                _check_shape("inputs", name, self.fixed[name], (self.batch_size, *symbol.shape[1:]))
            elif name in self.feed and name in self.series and rest:
                both = self.series[name].shape[-1] + self.feed[name].shape[-1]
                _check_shape("inputs", name, self.series[name], (self.batch_size, self.steps, *rest[:-1], None))
                if both != rest[-1]:
                    raise DataError(
                        f"Input `{name}` must have {rest[-1]} features, fed-back and known ones together. Received: "
                        f"{self.feed[name].shape[-1]} in `x0` and {self.series[name].shape[-1]} in `inputs`."
                    )
            elif name in self.feed:
                _check_shape("x0", name, self.feed[name], (self.batch_size, *rest))
            elif name in self.series:
                _check_shape("inputs", name, self.series[name], (self.batch_size, self.steps, *rest))
            else:
                raise DataError(f"Every input must be in `x0` or in `inputs`. Received: no `{name}` in either.")

    def step_input(self, feed: list[Array], known: list[Array], fixed: list[Array]) -> Any:
        """Return the input of one step, each part `(batch, 1, ...)`, in the structure in which the network takes it."""
        fed, series = dict(zip(self.feed, feed, strict=True)), dict(zip(self.series, known, strict=True))
        whole = dict(zip(self.fixed, fixed, strict=True))
        x = {}
        for name in self._symbols:
            parts = [part[name][:, None] for part in (fed, series) if name in part]
            x[name] = whole[name] if not parts else parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
        return tree.pack_sequence_as(self._structure, list(x.values()))

    def next_feed(self, fed: Any) -> list[Array]:
        """Return what `feedback` made as arrays like those of the first step, in their order.

        Raises:
            DataError: If it does not fit the inputs.
        """
        fed = fed if isinstance(fed, Mapping) or len(self.feed) > 1 else {next(iter(self.feed)): fed}
        if not isinstance(fed, Mapping) or set(fed) != set(self.feed):
            raise DataError(
                f"`feedback` must return the inputs {list(self.feed)}, as `x0` gives them. "
                f"Received: {list(fed) if isinstance(fed, Mapping) else type(fed).__name__}."
            )
        return [_alike(name, fed[name], first) for name, first in self.feed.items()]


def _named(structure: Any) -> dict[str, Any]:
    """Return the symbolic inputs by name, in the order in which Keras flattens them."""
    if isinstance(structure, Mapping):
        return {name: structure[name] for name in sorted(structure)}
    return {symbol.name: symbol for symbol in tree.flatten(structure)}


def _is_float(dtype: Any) -> bool:
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(dtype)))


def _as(value: Any, symbol: Any) -> Array:
    """Return an array as a tensor. Whole numbers become floats where the input has features that are floats."""
    value = ops.convert_to_tensor(value)
    floats = len(symbol.shape) > 2 and _is_float(symbol.dtype)
    return ops.cast(value, "float32") if floats and not _is_float(value.dtype) else value


def _first(name: str, symbol: Any, value: Any) -> Array:
    """Return the first value of an input without its time axis, `(batch, ...)`."""
    value, rank = _as(value, symbol), len(symbol.shape) - 1
    value = value[:, 0] if len(value.shape) == rank + 1 and value.shape[1] == 1 else value
    if len(value.shape) != rank:
        axes = "batch, features" if rank == 2 else "batch" + ", ..." * (rank > 1)
        raise StateShapeError(f"`x0` must have shape ({axes}). Received: shape={tuple(value.shape)}.")
    return value


def _check_shape(argument: str, name: str, value: Array, expected: tuple[Any, ...]) -> None:
    shape = tuple(value.shape)
    if len(shape) != len(expected) or any(e is not None and s != e for s, e in zip(shape, expected, strict=True)):
        raise DataError(f"`{argument}` must have shape {expected} for input `{name}`. Received: shape={shape}.")


def _alike(name: str, fed: Any, first: Array) -> Array:
    fed = ops.convert_to_tensor(fed)
    if tuple(fed.shape) != tuple(first.shape):
        raise DataError(
            f"`feedback` must return shape {tuple(first.shape)} for input `{name}`, as `x0` has. "
            f"Received: shape={tuple(fed.shape)}."
        )
    if _is_float(fed.dtype) and not _is_float(first.dtype):
        raise DataError(
            f"`feedback` must return whole numbers ({keras.backend.standardize_dtype(first.dtype)}) for input `{name}`, as "
            f"`x0` has. Received: dtype={keras.backend.standardize_dtype(fed.dtype)}. Choose one, for example by "
            "`keras.ops.argmax(y, axis=-1)`."
        )
    return ops.cast(fed, first.dtype)


class Draws(keras.random.SeedGenerator):
    """The seed that a `feedback` gets in one step. Each draw takes the next number.

    It holds no variable: the numbers are arguments of the compiled loop, so each call draws anew.

    Args:
        start: The number of this step and a zero, `(2,)`.
    """

    def __init__(self, start: Array) -> None:
        self._start, self._drawn = start, 0

    def next(self, ordered: bool = True) -> Array:
        """Return the next seed, `(2,)`."""
        self._drawn += 1
        return self._start + ops.convert_to_tensor(np.array([0, self._drawn - 1]), dtype=self._start.dtype)


@cache
def _seed_dtype() -> Any:
    return keras.random.SeedGenerator(0).state.dtype


def seeds_of(seed: int | None, steps: int) -> Array:
    """Return one seed for each step, `(steps, 2)`. Without `seed` they differ from call to call."""
    # Python's generator, as Keras uses it, so that `keras.utils.set_random_seed` makes a run repeatable.
    seed = random.randint(1, 2**31 - 1) if seed is None else seed
    numbers = np.random.SeedSequence(seed).generate_state(steps) >> 1
    return ops.convert_to_tensor(np.stack([numbers, np.zeros_like(numbers)], axis=1), dtype=_seed_dtype())


def takes_seed(feedback: Callable[..., Any] | None) -> bool:
    """Tell whether a `feedback` has a parameter `seed`."""
    return feedback is not None and "seed" in inspect.signature(feedback).parameters
