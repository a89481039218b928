"""The work that all contenders do: the same network from the same weights on the same series. NumPy alone.

Stacked LSTM layers and a read-out per step, mean squared error, Adam; each window starts from the state in which the one
before it ended.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
# Runs a number of epochs, or of calls, and returns what the last one gave: a loss, or an output.
Run = Callable[[int], float]

LEARNING_RATE = 1e-3
# Of Adam. So small that it does not matter that Keras adds it at another place than PyTorch and optax do.
EPSILON = 1e-10
PER_CALL = 20  # training steps in one compiled call, where a library can do that


@dataclass(frozen=True)
class Task:
    """How large the work is.

    Args:
        units: Units of each LSTM layer.
        batch: Rows of a batch.
        features: Inputs.
        window: Steps of a window.
        windows: Training steps of an epoch.
        layers: LSTM layers.
        sequences: Number of sequences; `None` is `batch`, each as long as the epoch. More are shorter, and more than
            an epoch has windows have one window each, of which an epoch meets the first.
    """

    units: int
    batch: int
    features: int
    window: int = 96
    windows: int = 40
    layers: int = 2
    sequences: int | None = None

    @property
    def per_call(self) -> int:
        """Training steps in one compiled call."""
        return min(PER_CALL, self.windows)

    def to_json(self) -> dict[str, Any]:
        """Return what `Task(**fields)` takes."""
        return asdict(self)


def series(task: Task) -> tuple[Array, Array]:
    """Return inputs `(sequences, time, features)` and targets `(sequences, time, 1)`."""
    rng = np.random.default_rng(0)
    shape = (task.batch, task.window * task.windows)
    x, y = (rng.standard_normal((*shape, values), "float32") for values in (task.features, 1))
    return (x, y) if task.sequences is None else (_recut(task, x), _recut(task, y))


def _recut(task: Task, values: Array) -> Array:
    """Return the same numbers as so many sequences, repeated if they are too few."""
    count, total = task.sequences or task.batch, task.batch * task.windows
    cut = values.reshape(min(count, total), -1, values.shape[-1])
    return np.tile(cut, (-(-count // len(cut)), 1, 1))[:count]


def batches(task: Task) -> tuple[Array, Array]:
    """Return the same series cut into windows, `(windows, batch, window, values)`."""
    shape = (task.batch, task.windows, task.window, -1)
    x, y = (np.ascontiguousarray(part.reshape(shape).swapaxes(0, 1)) for part in series(task))
    return x, y


def weights(task: Task) -> list[Array]:
    """Return the weights in Keras' order and layout: kernel, recurrent kernel and bias of each layer, then the read-out."""
    rng, inputs, arrays = np.random.default_rng(1), task.features, []
    for _ in range(task.layers):
        shapes = ((inputs, 4 * task.units), (task.units, 4 * task.units), (4 * task.units,))
        arrays += [(rng.standard_normal(shape, "float32") / task.units**0.5).astype("float32") for shape in shapes]
        inputs = task.units
    read_out = (rng.standard_normal((task.units, 1), "float32") / task.units**0.5).astype("float32")
    return [*arrays, read_out, np.zeros(1, "float32")]


def repeated(step: Callable[[Array], Any], task: Task) -> Run:
    """Return a run of many calls on the same input; the last output tells whether all of them carried alike."""
    x = np.ones((task.batch, task.window, task.features), "float32")

    def run(calls: int) -> float:
        for _ in range(calls):
            y = step(x)
        return float(np.asarray(y).ravel()[-1])

    return run
