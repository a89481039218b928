"""`StateLog`: a callback that writes statistics and histograms of the carried states after each epoch."""

import atexit
import csv as tables
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.events import Events
from rnnstate.insight.numbers.distribution import BINS, Distribution, distributions
from rnnstate.insight.trackers import Tracker, trackers_of
from rnnstate.state.state import State
from rnnstate.windows.counts import check_count

_ROWS = 1024
# Short epochs wait for each other so many seconds, because the statistics of several epochs cost little more than those
# of one.
_PATIENCE = 1.0
_STATISTICS = ("mean", "std", "min", "max", "not_finite")
_COLUMNS = ("epoch", "leaf", "rows", *_STATISTICS, *(f"bin_{number}" for number in range(1, BINS + 1)))


class _Epoch(NamedTuple):
    """An epoch that is not yet written: the shares of the starts of its windows, and the states after it."""

    number: int
    starts: Mapping[str, float]
    state: State


class StateLog(keras.callbacks.Callback):
    """Callback that logs how windows started, and what the carried states look like after each epoch.

    The logs of each epoch, and so the line of `fit`, get the shares of its windows that were `carried`, `reset` and `fresh`.
    After an epoch the states of at most 1024 sequences are read, so a training step costs what it cost before. Epochs that
    end within a second of each other are written together. After Ctrl-C, the last of them are written when Python ends, or
    when the next training begins.

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
        self._events = None if tensorboard is None else Events(tensorboard)
        self._receivers: list[Tracker] = [*trackers_of(track), *([] if self._events is None else [self._events])]
        self._starts: dict[str, float] = {}
        self._counted: Any = None
        self._waiting: list[_Epoch] = []
        self._written = -np.inf

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._finish()
        self._written = -np.inf  # the first epoch does not wait
        atexit.register(self._finish)  # Keras does not tell callbacks that a training was interrupted
        if self.csv is not None and not (self.append and self.csv.is_file()):
            self._write([_COLUMNS], "w")
        if self._events is not None:
            self._events.open()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Windows with one plan for all epochs are counted once.
        if self._counted is not self.windows.plan:
            self._starts, self._counted = self.windows.starts(), self.windows.plan

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self._starts)
        if (self.csv is not None or self._receivers) and not (epoch + 1) % self.every:
            keys = _chosen(self.windows.keys)
            self._waiting.append(_Epoch(epoch + 1, self._starts, self.model.states.read(keys)))
            if time.monotonic() >= self._written + _PATIENCE:
                self._write_waiting()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._finish()

    def _finish(self) -> None:
        """Write the epochs that wait, and end the file of events. After an interrupted training there are some."""
        self._write_waiting()
        if self._events is not None:
            self._events.close()
        atexit.unregister(self._finish)

    def _write_waiting(self) -> None:
        epochs, self._waiting, self._written = self._waiting, [], time.monotonic()
        if not epochs:
            return
        leaves = {leaf: distributions(np.stack([epoch.state[leaf] for epoch in epochs])) for leaf in epochs[0].state}
        found = [dict(zip(leaves, each, strict=True)) for each in zip(*leaves.values(), strict=True)]
        if self.csv is not None:
            self._write([line for epoch, each in zip(epochs, found, strict=True) for line in _lines(epoch, each)], "a")
        for epoch, each in zip(epochs, found, strict=True):
            self._send(epoch, each)
        if self._events is not None:
            self._events.flush()

    def _send(self, epoch: _Epoch, found: Mapping[str, Distribution]) -> None:
        if not self._receivers:
            return
        numbers = {f"windows/{name}": share for name, share in epoch.starts.items()}
        for leaf, one in found.items():
            numbers |= {f"state/{leaf}/{name}": float(getattr(one, name)) for name in _STATISTICS}
        drawn = {f"state/{leaf}": one for leaf, one in found.items() if one.size}
        for receive in self._receivers:
            receive(numbers, drawn, epoch.number)

    def _write(self, lines: list[tuple[Any, ...]], mode: str) -> None:
        with open(self.csv or "", mode, newline="", encoding="utf-8") as file:
            tables.writer(file).writerows(lines)


def _lines(epoch: _Epoch, found: Mapping[str, Distribution]) -> list[tuple[Any, ...]]:
    """Return the lines of an epoch, one for each leaf."""
    return [
        (epoch.number, leaf, len(epoch.state[leaf]), *one[: len(_STATISTICS)], *one.counts.tolist())
        for leaf, one in found.items()
    ]


def _chosen(keys: Sequence[Hashable]) -> Sequence[Hashable]:
    """Return at most 1024 keys, at equal distances."""
    if len(keys) <= _ROWS:
        return keys
    return [keys[index] for index in np.linspace(0, len(keys) - 1, _ROWS).round().astype(int).tolist()]
