"""What streaming needs of a model: its inputs and outputs, where sessions start, and a step on NumPy arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from rnnstate.errors import UnsupportedModelError
from rnnstate.state.spec import StateSpec
from rnnstate.streaming.stores.records import Card

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class ArraySpec:
    """One input or output of a model, as one session sees it.

    Args:
        name: Its name.
        shape: The shape of one step, `(features,)`, or of the whole if it has no time axis.
        dtype: The dtype in which arrays reach the model.
        per_step: Whether it has a time axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    per_step: bool


class Engine(Protocol):
    """A model that steps many sessions at once.

    Attributes:
        spec: The leaves of its state.
        card: Which model it is, for stores.
        inputs: Its inputs, in the order in which `run` takes them.
        outputs: Its outputs, in the order in which `run` returns them.
        whole: Whether a push must run as one window, because a layer looks at later steps of a window.
        steps: The number of steps of each window, if the model fixes it, as by strides over time.
        rows: The number of rows of each batch, if the model fixes it.
        needs_observed: Whether new sessions need observed values.
    """

    spec: StateSpec
    card: Card
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    whole: bool
    steps: int | None
    rows: int | None
    needs_observed: bool

    def initial(self, count: int, observed: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        """Return the initial state of new sessions, leaves `(count, *shape)`."""

    def run(self, inputs: Arrays, leaves: Arrays) -> tuple[Arrays, Arrays]:
        """Run a window. Inputs `(batch, time, ...)` or `(batch, ...)`; leaves `(batch, *shape)` in the order of the spec."""

    def packed(self, outputs: Sequence[NDArray[Any]]) -> Any:
        """Return the outputs of one session in the structure in which the model returns them."""

    def rollout(self, x0: Any, state: Mapping[str, Any], steps: int, **options: Any) -> Any:
        """Return the outputs of a free run, `(1, steps, ...)`."""


def card_of(spec: StateSpec, weights: str, inputs: Sequence[ArraySpec], outputs: Sequence[ArraySpec]) -> Card:
    """Return the card of a model.

    Args:
        spec: The leaves of its state.
        weights: A hash of its weights, as hexadecimal text.
        inputs: Its inputs.
        outputs: Its outputs. Records keep the last output if the model can run free from it.
    """
    leaves = tuple((name, leaf.shape, kept_dtype(leaf.dtype)) for name, leaf in spec.items())
    free = len(inputs) == len(outputs) == 1 and outputs[0].per_step and inputs[0].shape == outputs[0].shape
    return Card(f"{spec.fingerprint}-{weights[:16]}", leaves, outputs[0].shape if free else None)


def kept_dtype(dtype: str) -> str:
    """Return the dtype in which NumPy keeps a leaf. bfloat16 is no NumPy dtype; float32 holds its values exactly."""
    return "float32" if dtype == "bfloat16" else dtype


def fixed_shape(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """Return a shape without free axes.

    Raises:
        UnsupportedModelError: If an axis other than batch and time is free.
    """
    if not all(isinstance(size, int) for size in shape):
        raise UnsupportedModelError(
            f"Streaming needs an input whose only free axes are batch and time. Received: `{name}` with {tuple(shape)} "
            "after them. Give the network a fixed size."
        )
    return tuple(shape)
