"""`StateLog`: a callback that writes statistics and histograms of the carried states after each epoch."""

import csv as tables
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.trackers import trackers_of
from rnnstate.state.state import State
from rnnstate.windows.counts import check_count

_BINS = 20
_ROWS = 1024
_STATISTICS = ("mean", "std", "min", "max", "not_finite")
_COLUMNS = ("epoch", "leaf", "rows", *_STATISTICS, *(f"bin_{number}" for number in range(1, _BINS + 1)))


class StateLog(keras.callbacks.Callback):
    """Callback that logs how windows started, and what the carried states look like after each epoch.

    The logs of each epoch, and so the line of `fit`, get the shares of its windows that were `carried`, `reset` and `fresh`.
    After an epoch the states of at most 1024 sequences are read, so a training step costs what it cost before. Where epochs
    take less than a second, `every` keeps the cost small.

    Args:
        windows: The `Windows` that are trained on.
        csv: A file for one line per epoch and leaf: `mean`, `std`, `min`, `max`, how many values are `not_finite`, and a
            histogram of the finite values, 20 bins of equal width from `min` to `max`.
        tensorboard: A folder for the same as scalars and histograms. This needs `pip install "rnnstate[tensorboard]"`.
        track: Where to send the numbers too: `"mlflow"`, `"wandb"`, or both in a list. The packages must be installed. The
            numbers go to the active run of MLflow, and to the run that `wandb.init` has begun.
        every: After how many epochs the states are read. The shares are logged in each epoch.
        append: Whether to keep the lines that `csv` has already, as for a run that resumes.

    Raises:
        DataError: If `windows` is not `Windows`, `every` is no count, `track` names another tracker, a package is needed
            and not installed, or no run of Weights & Biases has begun.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(3, return_sequences=True, name="gru")])
    >>> model = StatefulModel(net)
    >>> model.compile("sgd", "mse")
    >>> windows = Windows(np.ones((2, 6, 1)), np.ones((2, 6, 3)), length=3, batch_size=2)
    >>> history = model.fit(windows, callbacks=[StateLog(windows, csv="states.csv")], verbose=0)
    >>> history.history["carried"], history.history["fresh"]
    ([0.5], [0.5])
    >>> Path("states.csv").read_text().splitlines()[1].split(",")[:3]
    ['1', 'gru/h', '2']
    """

    def __init__(
        self,
        windows: Any,
        csv: str | Path | None = None,
        tensorboard: str | Path | None = None,
        every: int = 1,
        append: bool = False,
        track: str | Iterable[str] = (),
    ) -> None:
        super().__init__()
        if not hasattr(windows, "starts"):
            raise DataError(f"`windows` must be `rnnstate.Windows`. Received: {type(windows).__name__}.")
        self.windows, self.append, self.every = windows, append, check_count("every", every)
        self.csv = None if csv is None else Path(csv)
        self.tensorboard = tensorboard
        self._trackers = trackers_of(track)
        self._open = None if tensorboard is None else _event_writer()
        self._writer: Any = None
        self._starts: dict[str, float] = {}
        self._counted: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.csv is not None and not (self.append and self.csv.is_file()):
            self._write([_COLUMNS], "w")
        if self._open is not None:
            self._writer = self._open(str(self.tensorboard))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Windows with one plan for all epochs are counted once.
        if self._counted is not self.windows.plan:
            self._starts, self._counted = self.windows.starts(), self.windows.plan

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self._starts)
        wanted = self.csv is not None or self._writer is not None or self._trackers
        if not wanted or (epoch + 1) % self.every:
            return
        keys = self.windows.keys
        chosen = np.unique(np.linspace(0, len(keys) - 1, min(len(keys), _ROWS)).round().astype(int))
        state = self.model.states.read([keys[index] for index in chosen])
        self._log(epoch + 1, State(state).numpy(), len(chosen))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _log(self, epoch: int, state: Mapping[str, Any], rows: int) -> None:
        lines, numbers, histograms = [], {f"windows/{name}": share for name, share in self._starts.items()}, {}
        for leaf, values in state.items():
            finite = values[np.isfinite(values)].astype(np.float64)
            found = _statistics(values, finite)
            counts, edges = np.histogram(finite, bins=_BINS) if len(finite) else (np.zeros(_BINS, int), np.zeros(1))
            lines.append((epoch, leaf, rows, *(found[name] for name in _STATISTICS), *counts.tolist()))
            numbers |= {f"state/{leaf}/{name}": value for name, value in found.items()}
            if len(finite):
                histograms[f"state/{leaf}"] = counts, edges
            if self._writer is not None:
                self._add_histogram(epoch, leaf, found, finite, counts, edges)
        if self.csv is not None:
            self._write(lines, "a")
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, epoch)
        for track in self._trackers:
            track(numbers, histograms, epoch)

    def _add_histogram(
        self, epoch: int, leaf: str, found: dict[str, float], finite: Any, counts: Any, edges: Any
    ) -> None:
        if len(finite):
            limits = {"bucket_limits": edges[1:].tolist(), "bucket_counts": counts.tolist(), "global_step": epoch}
            sums = {"num": len(finite), "sum": float(finite.sum()), "sum_squares": float(finite @ finite)}
            ends = {"min": found["min"], "max": found["max"]}
            self._writer.add_histogram_raw(f"state/{leaf}", **ends, **sums, **limits)

    def _write(self, lines: list[tuple[Any, ...]], mode: str) -> None:
        with Path(self.csv or "").open(mode, newline="", encoding="utf-8") as file:
            tables.writer(file).writerows(lines)


def _statistics(values: Any, finite: Any) -> dict[str, float]:
    measured = [finite.mean(), finite.std(), finite.min(), finite.max()] if len(finite) else [np.nan] * 4
    return dict(zip(_STATISTICS, [*map(float, measured), float(values.size - finite.size)], strict=True))


def _event_writer() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise DataError(
            "Events for TensorBoard need tensorboardX. Received: no such package. "
            'Run `pip install "rnnstate[tensorboard]"`.'
        ) from error
    return SummaryWriter
