"""JAX: many training steps in one compiled call, and one step of a model compiled once and kept."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from rnnstate.kernels.step.values import Values


def many_steps(
    model: Any, keras_steps: Callable[..., Any], is_stacked: Callable[[Any], bool], stack_of: Callable[[Any], Any]
) -> Callable[..., Any]:
    """Return a training function that scans `steps_per_execution` training steps in one compiled call.

    Keras 3.15 hands over one batch at a time and dispatches each step from Python. The scan gives the same result, bit for
    bit. Keras 3.16 stacks the batches of a call and scans them itself, so its own function runs those.

    Args:
        model: A compiled model.
        keras_steps: Keras' training function.
        is_stacked: Returns whether Keras put the batches of several steps together.
        stack_of: Returns a list of batches as one, stacked along a new first axis, if there is such a stack, else `None`.
    """
    count = model.steps_per_execution
    if count == 1 or model.run_eagerly or not model.jit_compile or keras.distribution.distribution() is not None:
        return keras_steps

    def one_step(state: Any, batch: Any) -> Any:
        logs, state = model.train_step(state, batch)
        return state, logs

    @partial(jax.jit, donate_argnums=0)
    def steps(state: Any, batches: Any) -> Any:
        state, logs = jax.lax.scan(one_step, state, batches)
        return jax.tree.map(lambda log: log[-1], logs), state

    # A call that is not full runs step by step. Keras 3.16 would take the rows of a single batch for steps.
    single = jax.jit(one_step, donate_argnums=0)

    def train(state: Any, iterator: Iterator[Any]) -> Any:
        first = next(iterator)
        if is_stacked(first):
            return keras_steps(state, chain([first], iterator))
        batches = [first, *islice(iterator, count - 1)]
        stack = stack_of(batches) if len(batches) == count else None
        if stack is None and len(batches) == count and _alike(batches):
            stack = jax.tree.map(_stacked, *batches)
        if stack is not None:
            # The call transfers the arrays itself, which takes a tenth of the time of `device_put`.
            with jax.transfer_guard_host_to_device("allow"):
                return steps(state, stack)
        for batch in batches:
            state, logs = single(state, batch)
        return logs, state

    return train


def _alike(batches: list[Any]) -> bool:
    shapes = [(jax.tree.structure(batch), [np.shape(leaf) for leaf in jax.tree.leaves(batch)]) for batch in batches]
    return all(shape == shapes[0] for shape in shapes)


def _stacked(*parts: Any) -> Any:
    return np.stack(parts) if isinstance(parts[0], np.ndarray) else jnp.stack(parts)


class CompiledStep:
    """A function of arrays and of a model's variables, compiled once for each shape.

    Args:
        function: What to run. It may read and assign the variables.
        served: The variables that it uses, and their values for the thread that asks.
    """

    def __init__(self, function: Callable[..., Any], served: Any) -> None:
        self._function, self._served, self._variables = function, served, served.variables
        self._compiled = jax.jit(self._pure)
        self._values = Values(self._variables)  # those of the last call, none of which was a tracer
        self._concrete: set[type] = {type(None)}  # types of arrays that are no tracers

    def __call__(self, *args: Any) -> Any:
        while True:
            changes = self._served.changes
            try:
                return self._run(args)
            except Exception:
                # A thread that trains empties the variables. The call then runs again, from copies.
                if not self._served.moved(changes):
                    raise

    def _run(self, args: Any) -> Any:
        if self._served.copies is not None and (copies := self._served.elsewhere()) is not None:
            return self._from_copies(copies, args)
        # The weights of a served model rarely change. If they are the arrays of the last call, their types need no check.
        values, known = self._values.read()
        if not self._are_concrete(args if known else (args, values)):
            return self._function(*args)
        if not known:
            self._values.keep(values)
        result, assigned = self._compiled(values, *args)
        for index, value in assigned.items():
            self._variables[index].assign(value)
        return result

    def _from_copies(self, copies: list[Any], args: Any) -> Any:
        if not self._are_concrete(args):
            with keras.StatelessScope(list(zip(self._variables, copies, strict=True))):
                return self._function(*args)
        result, assigned = self._compiled(tuple(copies), *args)
        for index, value in assigned.items():
            copies[index] = value
        return result

    def _are_concrete(self, arrays: Any) -> bool:
        """Tell whether no array belongs to a trace."""
        # The arguments of `step` are arrays and a list of arrays. Deeper structures are taken apart by JAX, below.
        kinds: set[type] = set()
        for part in arrays:
            kinds.update(map(type, part if type(part) is list else (part,)))
        if not kinds <= self._concrete:
            kinds = set(map(type, jax.tree.leaves(arrays)))
            if any(issubclass(kind, jax.core.Tracer) for kind in kinds):
                return False
            self._concrete |= kinds
        return True

    def _pure(self, values: list[Any], *args: Any) -> tuple[Any, dict[int, Any]]:
        with keras.StatelessScope(list(zip(self._variables, values, strict=True))) as scope:
            result = self._function(*args)
        after = [scope.get_current_value(variable) for variable in self._variables]
        pairs = enumerate(zip(values, after, strict=True))
        return result, {index: new for index, (old, new) in pairs if new is not None and new is not old}
