"""The functions of `kernels` in `keras.ops` alone. They define what the version of each backend must compute."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from keras import ops

from rnnstate.kernels.loops.definition import has_loop, no_loop_because, recurrent_loop

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

# How many small batches `feed` asks for at once.
FED_AT_ONCE = 1

# The errors that Keras may raise in place of an error of the data.
FEED_ERRORS: tuple[type[Exception], ...] = ()

# Whether the object that `feed` returns loads batches ahead by itself.
LOADS_AHEAD = False

# Whether a loop over steps runs in Python, one compiled step after the other. Else the whole loop is compiled.
LOOPS_IN_PYTHON = False

# Whether the training function takes the batches of a call stacked, and returns while their steps still run.
TAKES_STACKS = False

# Whether a training step that makes variables, as Keras' first one does, is traced a second time.
TRACES_AGAIN_FOR_VARIABLES = False


def take_rows(variables: Sequence[Any], slots: Any) -> list[Any]:
    """Return the rows `slots` of each variable, detached."""
    return [ops.stop_gradient(ops.take(variable, slots, axis=0)) for variable in variables]


def put_rows(variables: Sequence[Any], slots: Any, rows: Sequence[Any]) -> None:
    """Write rows to the rows `slots` of each variable. This version copies the variables, unless XLA compiles it."""
    for variable, new in zip(variables, rows, strict=True):
        new = ops.cast(ops.stop_gradient(new), variable.dtype)
        variable.assign(ops.scatter_update(variable, slots[:, None], new))


def has_replicas() -> bool:
    """True inside a distribution strategy whose replicas would keep separate banks."""
    return False


def is_synchronous() -> bool:
    """Return whether a step returns with its results, and not while a device still computes them."""
    return False


def feed(batches: Any, count: int) -> Any:
    """Return the object from which Keras reads batches. Here it is the dataset itself.

    Args:
        batches: A `keras.utils.PyDataset`.
        count: How many batches the backend may load ahead.
    """
    return batches


def register_state(state_class: Any) -> None:
    """Let the program transformations of the backend see through a `State`."""


def many_steps(
    model: Any, keras_steps: Callable[..., Any], is_stacked: Callable[[Any], bool], stack_of: Callable[[Any], Any]
) -> Callable[..., Any]:
    """Return the training function that runs several steps in a call. Here it is Keras' function."""
    return keras_steps


def steps_of(model: Any, keras_steps: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with which Keras evaluates or predicts a step. Here it is Keras' function."""
    return keras_steps


class CompiledStep:
    """A function of arrays and of a model's variables. Each backend compiles it; this version runs it uncompiled.

    Args:
        function: The function. It may read and assign the variables.
        served: The variables that it uses.
    """

    def __init__(self, function: Callable[..., Any], served: Any) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def random_state() -> dict[str, Any]:
    """Return the state of the backend's global random generator, if training can depend on one, as NumPy arrays."""
    return {}


def set_random_state(state: dict[str, Any]) -> None:
    """Set the backend's global random generator to a state that `random_state` returned."""


def arrays(tensors: Iterable[Any]) -> list[Any]:
    """Return tensors as NumPy arrays, which may be views of their memory. NumPy reports bfloat16 as kind "V"."""
    return [np.asarray(ops.convert_to_numpy(tensor)) for tensor in tensors]


def copies(tensors: list[Any]) -> list[Any]:
    """Return copies of tensors, such as the weights of the moment."""
    return [ops.copy(tensor) for tensor in tensors]


def without_gradients() -> AbstractContextManager[Any]:
    """Return a context in which the backend keeps nothing for gradients. Only PyTorch needs it."""
    return nullcontext()
