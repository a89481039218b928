"""A RUN or an ONNX file as a function of columns: the model that each worker of an engine loads.

`Layout` is small and can be sent to workers. `Scorer` holds the loaded model, one in each process.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.messages import quoted
from rnnstate.streaming.batches import Batches
from rnnstate.streaming.engine import Engine
from rnnstate.streaming.items import Item
from rnnstate.windows.scaling import Scaling

Array = NDArray[np.float64]
Leaves = dict[str, NDArray[Any]]
_ROWS, _STEPS = 256, 64


@dataclass(frozen=True)
class Layout:
    """A model and its columns, without the model itself.

    Args:
        path: The RUN or the ONNX file. Every worker must be able to read it.
        inputs: The columns that the model reads, in order.
        outputs: The columns that it computes, in order.
        key: The column that names the sequence.
        time: The column of times, if there is one.
        is_run: Whether `path` is a RUN.
        backend: The backend of Keras in the workers of a RUN.
    """

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    key: str
    time: str | None
    is_run: bool
    backend: str | None = None


def layout_of(
    path: str | os.PathLike[str],
    key: str | None = None,
    time: str | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Layout:
    """Return the columns of a RUN or an ONNX file. This reads its description alone, and does not start Keras.

    Args:
        path: The RUN or the ONNX file.
        key: The column that names the sequence. A RUN knows it.
        time: The column of times. A RUN knows it.
        inputs: The columns that an ONNX file reads, in the order of its features. A RUN knows them.
        outputs: Names for the outputs of an ONNX file. The default is `y_0`, `y_1`, and so on. A RUN knows them.

    Raises:
        DataError: If a column is missing that the file does not know, or is given for a RUN.
    """
    place = Path(path).absolute()
    if place.is_dir():
        return _run_layout(place, {"key": key, "time": time, "inputs": inputs, "outputs": outputs})
    if key is None or not inputs:
        raise DataError(
            "An ONNX file does not know its columns, so `key` and `inputs` must be given. Received: "
            f"key={key!r}, inputs={inputs!r}."
        )
    width = _width(place)
    names = tuple(outputs) if outputs else tuple(f"y_{at}" for at in range(width[1]))
    if (len(inputs), len(names)) != width:
        raise DataError(
            f"`{place.name}` has {width[0]} features and {width[1]} outputs, so there must be as many columns. Received: "
            f"inputs {quoted(inputs)} and outputs {quoted(names)}."
        )
    return Layout(os.fspath(place), tuple(inputs), names, key, time, is_run=False)


def array_layout(path: str | os.PathLike[str]) -> Layout:
    """Return the layout of a model that gets arrays, so that its columns need no names.

    Raises:
        DataError: If the path is neither a RUN nor an ONNX file with its manifest.
    """
    place = Path(path).absolute()
    if place.is_dir():
        return _run_layout(place, {}, needs_key=False)
    inputs, outputs = _width(place)
    names = tuple(f"x_{at}" for at in range(inputs))
    return Layout(os.fspath(place), names, tuple(f"y_{at}" for at in range(outputs)), "key", None, is_run=False)


@cache
def scorer_of(layout: Layout) -> "Scorer":
    """Return the loaded model of a layout, one for each process."""
    return Scorer(layout)


class Scorer:
    """A loaded model that runs series of many keys at once.

    Args:
        layout: The model and its columns.

    Raises:
        UnsupportedModelError: If the model has several inputs or outputs, looks at later steps, or starts from observed
            values.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        if layout.backend is not None:
            os.environ.setdefault("KERAS_BACKEND", layout.backend)
        self.engine: Engine
        self._scaling: Scaling | None
        self.engine, self._scaling = _load_run(layout) if layout.is_run else (_load_onnx(layout), None)
        _check(self.engine, layout)
        self.card = self.engine.card
        self._batches = Batches(self.engine, _ROWS, _STEPS)

    def initial(self, count: int) -> Leaves:
        """Return the initial state of new sequences, leaves `(count, *shape)`."""
        return {name: np.array(leaf) for name, leaf in self.engine.initial(count, None).items()}

    def advance(self, series: Sequence[Array], leaves: Leaves) -> list[Array]:
        """Run one series of each key, and return the outputs `(time, outputs)` in the units of the data.

        Args:
            series: For each key its complete rows, `(time, inputs)`, in the units of the data.
            leaves: The state of each key, `(keys, *shape)`. It is replaced by the state after the last step.
        """
        items = [Item(at, str(at), (self.scaled(one),), len(one), False) for at, one in enumerate(series)]
        outputs = self._batches.advance(items, leaves)
        return [self.unscaled(np.asarray(outputs.row(at)[0], np.float64)) for at in range(len(items))]

    def scaled(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return inputs in the units of the data as the model takes them."""
        with np.errstate(over="ignore"):
            return np.asarray(values if self._scaling is None else self._scaling.scale(values), np.float32)

    def unscaled(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return outputs of the model in the units of the data."""
        return outputs if self._scaling is None else np.asarray(self._scaling.unscale(np.asarray(outputs, np.float64)))


def _run_layout(path: Path, given: dict[str, Any], needs_key: bool = True) -> Layout:
    from rnnstate.forecasting.run_folder import read_settings

    if extra := [name for name, value in given.items() if value is not None]:
        raise DataError(f"A RUN knows its columns. Received: {quoted(extra)}. Leave them out.")
    settings = read_settings(path)
    if settings.key is None and needs_key:
        raise DataError(
            f"A RUN that is scored on an engine must have a key, which tells sequences apart. Received: {path}, trained "
            "without one. Train it with --key, or use `rnnstate predict`."
        )
    outputs = tuple(f"{target}_in_{settings.horizon}" for target in settings.targets)
    columns = settings.columns.inputs
    backend = os.environ.get("KERAS_BACKEND")
    return Layout(os.fspath(path), columns, outputs, settings.key or "", settings.time, True, backend)


def _width(path: Path) -> tuple[int, int]:
    """Return how many features and outputs an ONNX file has, from its manifest."""
    try:
        manifest = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        (x,), (y,) = manifest["inputs"], manifest["outputs"]
        return int(x["shape"][-1]), int(y["shape"][-1])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The model must be a RUN, or an ONNX file with one input, one output and its manifest next to it. Received: "
            f"{path} ({error})."
        ) from error


def _load_onnx(layout: Layout) -> Engine:
    from rnnstate.streaming.onnx_engine import OnnxEngine

    return OnnxEngine(layout.path)


def _load_run(layout: Layout) -> tuple[Engine, Scaling]:
    from rnnstate.forecasting.run_folder import read_run
    from rnnstate.streaming.keras_engine import KerasEngine

    run = read_run(Path(layout.path))
    return KerasEngine(run.model), run.scaling


def _check(engine: Engine, layout: Layout) -> None:
    """Refuse a model for which a row is not one step of one sequence."""
    one = len(engine.inputs) == len(engine.outputs) == 1 and engine.inputs[0].per_step and engine.outputs[0].per_step
    flat = one and len(engine.inputs[0].shape) == len(engine.outputs[0].shape) == 1
    if not flat or engine.whole or engine.needs_observed or engine.steps not in (None, 1):
        raise UnsupportedModelError(
            "A model that is scored row by row must have one input and one output for each step, must not look at later "
            f"steps, and must start without observed values. Received: {layout.path}. Push chunks to a `Streamer` instead."
        )
