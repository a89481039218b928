"""TensorFlow: rows are gathered from and scattered into the resource itself, which copies nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras import tree

from rnnstate.kernels.feed_tensorflow import FED_AT_ONCE, feed
from rnnstate.kernels.loops.native_tensorflow import without_xla
from rnnstate.kernels.loops.tensorflow import has_loop, no_loop_because, recurrent_loop
from rnnstate.kernels.reference import (
    LOOPS_IN_PYTHON,
    TAKES_STACKS,
    arrays,
    copies,
    is_synchronous,
    random_state,
    register_state,
    set_random_state,
    without_gradients,
)

__all__ = [
    "FED_AT_ONCE",
    "FEED_ERRORS",
    "LOADS_AHEAD",
    "LOOPS_IN_PYTHON",
    "TAKES_STACKS",
    "TRACES_AGAIN_FOR_VARIABLES",
    "CompiledStep",
    "arrays",
    "copies",
    "feed",
    "has_loop",
    "has_replicas",
    "is_synchronous",
    "many_steps",
    "no_loop_because",
    "put_rows",
    "random_state",
    "recurrent_loop",
    "register_state",
    "set_random_state",
    "steps_of",
    "take_rows",
    "without_gradients",
]

# A pipeline tells of an error of its data in a text of its own.
FEED_ERRORS: tuple[type[Exception], ...] = (tf.errors.OpError,)

LOADS_AHEAD = True

TRACES_AGAIN_FOR_VARIABLES = True


def take_rows(variables: Sequence[Any], slots: Any) -> list[Any]:
    """Return copies of the rows `slots` of each variable."""
    return [tf.stop_gradient(tf.gather(variable.value, slots)) for variable in variables]


def put_rows(variables: Sequence[Any], slots: Any, rows: Sequence[Any]) -> None:
    """Write rows to the rows `slots` of each variable, in place."""
    for variable, new in zip(variables, rows, strict=True):
        new = tf.cast(tf.stop_gradient(new), variable.dtype)
        if isinstance(variable.value, tf.Variable):
            variable.value.scatter_nd_update(slots[:, None], new)
        else:  # a stateless scope has put a tensor in the variable's place
            variable.assign(tf.tensor_scatter_nd_update(variable.value, slots[:, None], new))


def has_replicas() -> bool:
    """True inside a strategy whose replicas would keep banks of their own, such as `MirroredStrategy`."""
    return bool(tf.distribute.get_strategy().num_replicas_in_sync > 1)


def steps_of(model: Any, keras_steps: Callable[..., Any]) -> Callable[..., Any]:
    """Return Keras' function of the steps of a model. What it traces may hold native loops, unless XLA compiles it."""

    def steps(*args: Any) -> Any:
        with without_xla():
            return keras_steps(*args)

    return keras_steps if model.jit_compile else steps


def many_steps(model: Any, keras_steps: Callable[..., Any], *stacks: Any) -> Callable[..., Any]:
    """Return Keras' training function, which runs several steps in a call itself."""
    return steps_of(model, keras_steps)


class CompiledStep:
    """A function of arrays and of a model's variables, compiled once for each shape.

    Args:
        function: What to run. It may read and assign the variables.
        served: The variables that it uses; the compiled function finds them itself.
    """

    def __init__(self, function: Callable[..., Any], served: Any) -> None:
        self._function = function
        self._made: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        if not tf.executing_eagerly():
            return self._function(*args)
        # Finding the function of these shapes takes TensorFlow itself longer than running it.
        flat = [None if leaf is None else tf.convert_to_tensor(leaf) for leaf in tree.flatten(args)]
        empty = tree.map_structure(lambda leaf: None, args)
        key = (repr(empty), *(None if leaf is None else (leaf.shape, leaf.dtype) for leaf in flat))
        if key not in self._made:
            self._made[key] = self._make(empty, flat)
        return self._made[key](*[leaf for leaf in flat if leaf is not None])

    def _make(self, empty: Any, flat: list[Any]) -> Any:
        def run(*arrays: Any) -> Any:
            left = iter(arrays)
            packed = [None if leaf is None else next(left) for leaf in flat]
            return self._function(*tree.pack_sequence_as(empty, packed))

        specs = [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in flat if leaf is not None]
        with without_xla():
            return tf.function(run, autograph=False).get_concrete_function(*specs)
