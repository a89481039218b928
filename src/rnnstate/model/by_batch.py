"""`train_on_batch`, `test_on_batch` and `predict_on_batch`: a loop of one's own over the batches of `Windows`.

A batch of `Windows` numbers its sequences. It is bound to rows of a bank, as in `fit`: training to the row of each key in
`model.states`, testing and predicting to rows of the inference bank.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.kernels.ranks.group import group
from rnnstate.model.bank import CARRIED
from rnnstate.model.compiled import drop_outdated, forget_compiled
from rnnstate.model.fitting import Fitting
from rnnstate.model.guarded import alone
from rnnstate.model.progress import Progress, rows_of
from rnnstate.training.building import build_before_tracing
from rnnstate.training.class_weights import ClassWeights
from rnnstate.training.fit_checks import check_windows, prepare_start
from rnnstate.training.fit_hooks import variables_kept
from rnnstate.windows.batch import Batch, Slots, WindowDataset, is_batch


class ByBatch(Fitting):
    """The methods of `StatefulModel` that take one batch of windows."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs: Any = args[0] if args else None
        if is_batch(inputs) and isinstance(inputs["slot"], Slots):
            raise DataError(
                "A call of the model takes plain inputs, and runs them from the initial state. Received: a batch of "
                "`Windows`, which numbers sequences but has no states. Use `predict_on_batch(*windows[0])`, "
                "`train_on_batch(*windows[0])`, or `step` with a state."
            )
        return super().__call__(*args, **kwargs)

    @alone
    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Train on one batch of `Windows`: `model.train_on_batch(*windows[0])`.

        Each row starts from the state of its key in `model.states`, and leaves the state there in which its window ends.
        Take the batches in order, `windows[0]`, `windows[1]` and so on. In the next epoch begin again with `windows[0]`,
        whose sequences then start from their initial states.

        Args:
            x: The inputs of a batch of `Windows`.
            y: Its targets.
            sample_weight: Its weights.
            class_weight: As in `fit`.
            return_dict: Whether to return the results by name.

        Returns:
            As `keras.Model.train_on_batch`.

        Raises:
            DataError: If `x` is not the inputs of a batch of `Windows`, has no targets, or does not go on where the loop
                has left a sequence.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(3, return_sequences=True)])
        >>> model = rs.StatefulModel(net)
        >>> model.compile("adam", "mse")
        >>> windows = rs.Windows({"north": np.ones((6, 1))}, {"north": np.ones((6, 3))}, length=2, batch_size=1)
        >>> losses = [model.train_on_batch(*windows[i]) for i in range(len(windows))]
        >>> model.states.keys
        ('north',)
        """
        weights = sample_weight if class_weight is None else ClassWeights(self.net, class_weight)(y, sample_weight)
        train = partial(super().train_on_batch, y=y, sample_weight=weights, return_dict=return_dict)
        return self._on_batch("train_on_batch", train, x, y, targets=True)

    @alone
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Evaluate one batch of `Windows`: `model.test_on_batch(*windows[0])`.

        Each row starts where the previous call of `test_on_batch` or `predict_on_batch` has left its sequence. Take the
        batches in order, each once. The training states stay as they are. `evaluate` and `predict` end such a loop.

        Args:
            x: The inputs of a batch of `Windows`.
            y: Its targets.
            sample_weight: Its weights.
            return_dict: Whether to return the results by name.

        Returns:
            As `keras.Model.test_on_batch`.

        Raises:
            DataError: As in `train_on_batch`.
        """
        test = partial(super().test_on_batch, y=y, sample_weight=sample_weight, return_dict=return_dict)
        return self._on_batch("test_on_batch", test, x, y, targets=True)

    @alone
    def predict_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the outputs for one batch of `Windows`: `model.predict_on_batch(*windows[0])`.

        Rows start as in `test_on_batch`. The outputs are those of the whole batch, with padded steps and empty rows, where
        `x["mask"]` is false. `predict` returns the outputs by key instead.

        Args:
            x: The inputs of a batch of `Windows`.
            y: Not used, so that `*windows[0]` can be given.
            sample_weight: Not used.

        Returns:
            NumPy arrays `(batch, length, ...)`, or `(batch, ...)` for an output per window, in the structure of the outputs.

        Raises:
            DataError: As in `train_on_batch`.
        """
        return self._on_batch("predict_on_batch", super().predict_on_batch, x, y, targets=False)

    def _on_batch(self, method: str, call: Callable[[Any], Any], x: Any, y: Any, targets: bool) -> Any:
        """Call a method of Keras on a batch whose slots are rows of a bank."""
        slot = _slots_of(method, x, y, targets)
        training = method == "train_on_batch"
        progress = self._parts.trained if training else self._parts.inferred
        if group().ranks > 1:
            raise UnsupportedModelError(
                f"Each of {group().ranks} processes must take its own rows of a batch, as `fit` and `evaluate` do. "
                f"Received: `{method}`, which would run all rows in each process. Use one of these methods."
            )
        self._sync()
        if progress.is_new(slot.windows, targets):
            self._prepare(slot.windows, progress, targets, training)
        progress.check(method, slot, self._is_given if training else self._needs_none)
        rows = self._training_rows(slot) if training else self._inference_rows(slot)
        names = ("train_function",) if training else ("test_function", "predict_function")
        drop_outdated(self, self._parts.made_for, slot.windows, *names)
        inputs = replace(Batch.from_keras(x), slot=rows).to_keras()
        with variables_kept(self):
            result = call(inputs)
        progress.advance(slot)
        return result

    def _prepare(self, windows: WindowDataset, progress: Progress, targets: bool, training: bool) -> None:
        """Check windows that come for the first time, and make room for all their sequences: larger banks cost a compile."""
        source = check_windows(self, windows, argument="x", targets=targets, training=training)
        prepare_start(self.start, source)
        if training:
            build_before_tracing(self, source.first())
            self.states.make_room(windows.keys)
        elif self._parts.inference.reserve(len(progress.slots) + len(windows.keys)):
            forget_compiled(self, "test", "predict")

    def _needs_none(self, key: Any = None) -> bool:
        """Return whether no window needs the state of the window before: the initial state acts at each."""
        return bool(self.start.at == "window")

    def _is_given(self, key: Any) -> bool:
        """Return whether the user has written or reset the training state of a key."""
        states = self.states
        return self._needs_none() or (
            key in states and bool(states.bank.read_flags(states.reserve([key]))[0] != CARRIED)
        )

    def _training_rows(self, slot: Slots) -> np.ndarray:
        """Return the row of each window in the training bank, int `(batch,)`; 0 for empty rows."""
        return _placed(slot, self.states.reserve([key for key, _, _ in rows_of(slot)]))

    def _inference_rows(self, slot: Slots) -> np.ndarray:
        """Return the row of each window in the inference bank, int `(batch,)`; 0 for empty rows."""
        slots = self._parts.inferred.slots
        if not slots:
            self._parts.inference.clear_flags()
        found = [slots.setdefault(key, len(slots) + 1) for key, _, _ in rows_of(slot)]
        return _placed(slot, np.array(found, np.int32))


def _placed(slot: Slots, rows: np.ndarray) -> np.ndarray:
    """Return the rows of the windows at the places of the windows in the batch."""
    placed = np.zeros(len(slot), np.int32)
    placed[np.asarray(slot) >= 0] = rows
    return placed


def _slots_of(method: str, x: Any, y: Any, targets: bool) -> Slots:
    """Return the sequences of a batch of `Windows`.

    Raises:
        DataError: If `x` is not the inputs of such a batch, or targets are missing.
    """
    call = f"`model.{method}(*windows[0])`"
    if not is_batch(x):
        received = f"an array of shape {tuple(x.shape)}" if hasattr(x, "shape") else type(x).__name__
        raise DataError(
            f"`{method}` takes a batch of `rnnstate.Windows`, which names the sequence of each row. Received: {received}. "
            f"Write {call} with windows = rnnstate.Windows(...). `fit` trains on all windows, and `step` runs plain arrays "
            "from a state that you give."
        )
    slot = x["slot"]
    if not isinstance(slot, Slots) or slot.windows is None:
        raise DataError(
            f"`{method}` takes the batches of `rnnstate.Windows` as they come. Received: a batch whose `slot` does not know "
            f"its windows, as that of a dataset of your own. Write {call}. `fit` and `evaluate` take a dataset of your own, "
            "and `step` takes a state."
        )
    if targets and y is None:
        raise DataError(
            f"`{method}` must get targets. Received: no `y`. Write {call} with windows = Windows(x, y, ...)."
        )
    return slot
