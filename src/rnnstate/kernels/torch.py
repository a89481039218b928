"""PyTorch: rows are written in place; assigning a whole new bank would copy it at every step."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from keras import ops

from rnnstate.kernels.feed_torch import Batches
from rnnstate.kernels.loops.torch import has_loop, no_loop_because, recurrent_loop
from rnnstate.kernels.reference import (
    FED_AT_ONCE,
    FEED_ERRORS,
    LOADS_AHEAD,
    TAKES_STACKS,
    TRACES_AGAIN_FOR_VARIABLES,
    copies,
    has_replicas,
    register_state,
    steps_of,
)
from rnnstate.kernels.step.torch import CompiledStep
from rnnstate.kernels.step.training_torch import TrainingStep

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

# A compiled loop would be a graph of all its steps.
LOOPS_IN_PYTHON = True

# The largest block that lets glibc raise its limits: above, it gives memory back as soon as it is freed.
_BLOCK = 31 * 2**20


def feed(batches: Any, count: int) -> Any:
    """Return a loader of PyTorch that yields the batches as tensors."""
    del count
    return Batches(batches)


def many_steps(
    model: Any, keras_steps: Callable[..., Any], is_stacked: Callable[[Any], bool], stack_of: Callable[[Any], Any]
) -> Callable[..., Any]:
    """Return the training function: Keras' own, traced where it can be, on memory that is kept from step to step.

    A step frees megabytes at its end. Given back to the system, they come back page by page in the next step, which takes
    as long as the step itself. Freeing one large block lets glibc keep up to twice as much; elsewhere it changes nothing.
    """
    del is_stacked, stack_of
    torch.empty(_BLOCK, dtype=torch.uint8, device="cpu")
    traceable = model.is_plain() and model.optimizer is not None
    return TrainingStep(model, keras_steps) if traceable else keras_steps


def take_rows(variables: Sequence[Any], slots: Any) -> list[Any]:
    """Return copies of the rows `slots` of each variable."""
    index = slots.long()
    return [variable.value.detach().index_select(0, index) for variable in variables]


def put_rows(variables: Sequence[Any], slots: Any, rows: Sequence[Any]) -> None:
    """Write rows to the rows `slots` of each variable, in place."""
    index = slots.long()
    for variable, new in zip(variables, rows, strict=True):
        value = variable.value
        value.detach().index_copy_(0, index, new.detach().to(value.dtype))


def is_synchronous() -> bool:
    """Return whether Keras computes on the CPU."""
    return bool(ops.convert_to_tensor(0.0).device.type == "cpu")


def random_state() -> dict[str, Any]:
    """Return the state of PyTorch's global generators: Keras draws unseeded dropout from them, not from a variable."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state().numpy(), "cuda": [state.numpy() for state in cuda]}


def set_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back to what `random_state` returned."""
    torch.set_rng_state(torch.from_numpy(state["cpu"].copy()))
    for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(torch.from_numpy(one.copy()), device)


def arrays(tensors: Iterable[Any]) -> list[Any]:
    """Return tensors as NumPy arrays. On the CPU they are views. Keras turns bfloat16, which NumPy lacks, into float32."""
    return [_array(tensor) for tensor in tensors]


def _array(tensor: Any) -> Any:
    return ops.convert_to_numpy(tensor) if tensor.dtype is torch.bfloat16 else tensor.detach().cpu().numpy()


def without_gradients() -> AbstractContextManager[Any]:
    """Return a context in which no gradients are kept. Steps are compiled only there."""
    context: AbstractContextManager[Any] = torch.no_grad()
    return context
