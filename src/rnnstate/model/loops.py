"""The loops of `trace` and `rollout` over single steps, compiled once for each structure and shape, and kept.

On JAX and TensorFlow the whole loop is one compiled call. On PyTorch the loop runs in Python, and each step is the compiled
one of `step`. Every array that differs from step to step has time as its first axis here.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Any

import keras
from keras import ops, tree

from rnnstate.kernels import kernels
from rnnstate.network.step import Stepper
from rnnstate.state.state import Array

# One step of a loop: (advance, carried, arrays of this step, arrays of every step) -> (outputs, carried)
Body = Callable[[Callable[..., Any], list[Array], list[Array], list[Array]], tuple[Any, list[Array]]]
# What a loop returns: outputs and leaves by step, (batch, time, ...), and what is carried at the end.
Looped = tuple[Any, list[Array], list[Array]]

_KEPT = 16


class Loops:
    """The compiled loops of a model. The ones used least recently are dropped."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._adding = Lock()

    def run(
        self, stepper: Stepper, key: Hashable, body: Body, carried: list[Array], xs: list[Array], fixed: list[Array]
    ) -> Looped:
        """Run `body` once for each step.

        Args:
            stepper: Runs the steps of the network.
            key: Everything that `body` depends on.
            body: One step.
            carried: The arrays from which the first step starts.
            xs: Arrays `(time, batch, ...)`.
            fixed: Arrays that every step takes whole.
        """
        version = stepper.version()
        if kernels().LOOPS_IN_PYTHON:
            return _in_python(partial(body, stepper.advance), carried, xs, fixed)
        shapes = tuple((tuple(part.shape), str(part.dtype)) for part in (*carried, *xs, *fixed))
        loop = self._find((key, version, len(carried), len(xs), shapes), stepper, body)
        outputs, stacked, last = loop(carried, xs, fixed)
        return outputs, stacked, last

    def _find(self, key: Hashable, stepper: Stepper, body: Body) -> Any:
        with self._adding:
            if key not in self._made:
                whole = partial(_scanned, partial(body, stepper.plain), stepper.served)
                self._made[key] = kernels().CompiledStep(whole, stepper.served)
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]


def _in_python(step: Callable[..., Any], carried: list[Array], xs: list[Array], fixed: list[Array]) -> Looped:
    outputs, states = [], []
    for t in range(xs[0].shape[0]):
        y, carried = step(carried, [part[t] for part in xs], fixed)
        outputs.append(y)
        states.append(carried)
    stacked = [ops.stack(parts, axis=1) for parts in zip(*states, strict=True)]
    return tree.map_structure(lambda *parts: ops.stack(parts, axis=1), *outputs), stacked, carried


def _scanned(
    step: Callable[..., Any], served: Any, carried: list[Array], xs: list[Array], fixed: list[Array]
) -> Looped:
    with served.lock:
        y, moved = _first(step, served.variables, carried, [part[0] for part in xs], fixed)
        count, last = len(tree.flatten(y)), len(carried)

        def one_step(kept: list[Array], x_t: list[Array]) -> tuple[Any, Any]:
            # The outputs are carried too: TensorFlow wants stacked and carried parts to have one structure.
            given, values = kept[count : count + last], kept[count + last :]
            with _given(served.variables, moved, values) as scope:
                y_t, after = step(given, x_t, fixed)
            new = [scope.get_current_value(variable) for variable in moved]
            made = [*tree.flatten(y_t), *after, *new]
            return made, made

        empty = [ops.zeros_like(part) for part in tree.flatten(y)]
        end, stacked = ops.scan(one_step, [*empty, *carried, *[variable.value for variable in moved]], xs)
        for variable, value in zip(moved, end[count + last :], strict=True):
            variable.assign(value)
    by_row = [ops.swapaxes(part, 0, 1) for part in stacked[: count + last]]
    return tree.pack_sequence_as(y, by_row[:count]), by_row[count:], list(end[count : count + last])


def _first(
    step: Callable[..., Any], variables: list[Any], carried: list[Array], x_0: list[Array], fixed: list[Array]
) -> tuple[Any, list[Any]]:
    """Try one step. Return its outputs, and the variables that a step assigns: a loop must carry them."""
    with _given(variables, [], []) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        y, _ = step(carried, x_0, fixed)
    pairs = zip(variables, before, strict=True)
    return y, [variable for variable, old in pairs if scope.get_current_value(variable) is not old]


def _given(variables: list[Any], moved: list[Any], values: list[Array]) -> keras.StatelessScope:
    """Return a scope with the present values of all variables, and the given values of those that a loop carries."""
    present = [(variable, variable.value) for variable in variables]
    return keras.StatelessScope([*present, *zip(moved, values, strict=True)])
