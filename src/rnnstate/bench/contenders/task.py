"""The work of all contenders: the same network from the same weights on the same series, in NumPy.

The network has stacked LSTM layers and an output layer at each step. The loss is the mean squared error, the optimizer
is Adam. Each window starts from the state in which the previous window ended.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
# Repeats the work of a contender a given number of times, in epochs or in calls. Returns the last loss or output.
Repeat = Callable[[int], float]

LEARNING_RATE = 1e-3
# Adam's epsilon. Keras adds it at another place than PyTorch and optax; it is so small that the place does not matter.
EPSILON = 1e-10
PER_CALL = 20  # training steps in one compiled call, where a library can do that


@dataclass(frozen=True)
class Task:
    """The size of the work.

    Args:
        units: Units of each LSTM layer.
        batch: Rows of a batch.
        features: Inputs.
        window: Steps of a window.
        windows: Training steps of an epoch.
        layers: LSTM layers.
        sequences: Number of sequences. `None` means `batch` sequences, each as long as the epoch. More sequences are
            shorter. If there are more sequences than windows in an epoch, each sequence has one window, and an epoch
            uses the first of them.
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
        """Return the fields, so that `Task(**fields)` is the same task."""
        return asdict(self)


def series(task: Task) -> tuple[Array, Array]:
    """Return inputs `(sequences, time, features)` and targets `(sequences, time, 1)`."""
    rng = np.random.default_rng(0)
    shape = (task.batch, task.window * task.windows)
    x, y = (rng.standard_normal((*shape, values), "float32") for values in (task.features, 1))
    return (x, y) if task.sequences is None else (_recut(task, x), _recut(task, y))


def _recut(task: Task, values: Array) -> Array:
    """Return the same numbers cut into `task.sequences` sequences. Repeat them if there are too few."""
    count, total = task.sequences or task.batch, task.batch * task.windows
    cut = values.reshape(min(count, total), -1, values.shape[-1])
    return np.tile(cut, (-(-count // len(cut)), 1, 1))[:count]


def batches(task: Task) -> tuple[Array, Array]:
    """Return the same series cut into windows, `(windows, batch, window, values)`."""
    shape = (task.batch, task.windows, task.window, -1)
    x, y = (np.ascontiguousarray(part.reshape(shape).swapaxes(0, 1)) for part in series(task))
    return x, y


def weights(task: Task) -> list[Array]:
    """Return the weights in Keras' order and layout: three arrays for each LSTM layer, then the output layer."""
    rng, inputs, arrays = np.random.default_rng(1), task.features, []
    for _ in range(task.layers):
        shapes = ((inputs, 4 * task.units), (task.units, 4 * task.units), (4 * task.units,))
        arrays += [(rng.standard_normal(shape, "float32") / task.units**0.5).astype("float32") for shape in shapes]
        inputs = task.units
    output = (rng.standard_normal((task.units, 1), "float32") / task.units**0.5).astype("float32")
    return [*arrays, output, np.zeros(1, "float32")]


def repeated(step: Callable[[Array], Any], task: Task) -> Repeat:
    """Return a function that repeats a step on the same input. Its last output shows whether all steps carried the state."""
    x = np.ones((task.batch, task.window, task.features), "float32")

    def run(calls: int) -> float:
        for _ in range(calls):
            y = step(x)
        return float(np.asarray(y).ravel()[-1])

    return run


def serve_on_jax() -> None:
    """Make JAX run compiled steps in the calling thread, as users do to serve a small model on the CPU.

    By default JAX hands all but the smallest programs to another thread, and waking that thread takes longer than a
    small step. Call this function before the first array is made.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
