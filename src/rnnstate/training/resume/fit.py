"""`model.fit(checkpoint=...)`: Keras' `fit`, continued bit for bit from a checkpoint in the middle of an epoch.

A continued run consists of at most two calls of Keras' `fit`. The first one trains on the rest of the interrupted epoch, and
the second one on the remaining epochs, which may be none. With a checkpoint before batch 3 of epoch 1:

    epoch        0          1                       2          3
    batches      0 1 2 3 4  0 1 2 | 3 4             0 1 2 3 4  0 1 2 3 4
                 done       done  | first call      second call
                                  ^ checkpoint: epoch=1, batch=3

Keras numbers the batches of the first call from 0, so `_Remaining` and `_Callbacks` add 3 to each number. The snapshot is
restored after `on_train_begin`, and in the middle of an epoch just before its next batch. Until then callbacks may have
changed anything, and the restored values replace these changes.
"""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from rnnstate.errors import DataError
from rnnstate.kernels.ranks.group import group
from rnnstate.training.building import build_all
from rnnstate.training.loader import BoundWindows, Source
from rnnstate.training.ranks import gather
from rnnstate.training.resume.checkpoint import Checkpoint, CheckpointFolder
from rnnstate.training.resume.same_run import check_identity, check_rate, identity_of, rate_of, versions
from rnnstate.training.resume.training_state import put_snapshot, take_snapshot, weigh_losses
from rnnstate.training.roles import Carrying
from rnnstate.windows.own_dataset import UserWindows

Fit = Callable[..., Any]
# With several processes, rank 0 says after so many batches whether the time for a checkpoint has come.
_ASKED = 64


def fit_resumably(
    model: Carrying,
    fit: Fit,
    source: Source,
    validation: BoundWindows | None,
    checkpoint: Checkpoint | str | os.PathLike[str],
    arguments: Mapping[str, Any],
) -> Any:
    """Train from the newest checkpoint, or from the start if there is none, and write checkpoints on the way.

    Args:
        model: A compiled `StatefulModel`.
        fit: Keras' `fit` of this model.
        source: The checked windows, with targets.
        validation: Validation data, bound to the inference bank.
        checkpoint: Where and how often to write.
        arguments: Further arguments of `fit`.

    Returns:
        Keras' `History` of the whole run, with the epochs before the interruption.

    Raises:
        DataError: If an argument contradicts the checkpoint, or no checkpoint in the folder is whole.
        SpecMismatchError: If the checkpoints belong to another run.
    """
    _refuse(arguments)
    policy = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    run = _Run(model, source, validation, policy, arguments)
    epochs = int(arguments.get("epochs", 1))
    run.open(epochs)
    callbacks = _Callbacks(run, arguments, epochs)
    others = {name: value for name, value in arguments.items() if name not in ("epochs", "callbacks")}

    def train(until: int) -> Any:
        bound = BoundWindows(source, run.slots(), begin=run.batch)
        begin = run.epoch
        return fit(bound, initial_epoch=begin, epochs=until, callbacks=callbacks, validation_data=validation, **others)

    if run.batch:
        train(run.epoch + 1)
        run.read()
    callbacks.is_last = True
    return train(run.epoch if run.stopped else epochs)


class _Run:
    """The position of a run, and its folder of checkpoints."""

    def __init__(
        self,
        model: Carrying,
        source: Source,
        validation: BoundWindows | None,
        policy: Checkpoint,
        arguments: Mapping[str, Any],
    ) -> None:
        self.model, self.source, self.windows, self.policy = model, source, source.windows, policy
        self._data = [self.windows, *([] if validation is None else [validation.windows])]
        for data in self._data:
            if isinstance(data, UserWindows):
                data.check_repeatable()
        self.identity = identity_of(model, *self._data, arguments=arguments)
        self.folder = CheckpointFolder(policy.directory, policy.keep)
        self.content: dict[str, Any] | None = None
        self._rate = rate_of(model)
        self._written = time.monotonic()

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return 0 if self.content is None else int(self.content["epoch"])

    @property
    def batch(self) -> int:
        """The number of the next batch in its epoch."""
        return 0 if self.content is None else int(self.content["batch"])

    @property
    def stopped(self) -> bool:
        """Whether a callback has ended the run."""
        return self.content is not None and bool(self.content["stopped"])

    def open(self, epochs: int) -> None:
        """Read the newest checkpoint, and check that this call can continue from it."""
        self.read()
        self.folder.clean()
        if self.content is None:
            return
        if self.epoch + bool(self.batch) > epochs:
            raise DataError(
                f"`epochs` must be at least {self.epoch + bool(self.batch)}, where the run in `{self.folder.path}` "
                f"stands. Received: epochs={epochs}. Name a new folder for a new run."
            )
        self._rate = self.content["rates"][0]
        _warn_of_versions(self.content["versions"])

    def read(self) -> None:
        """Read the newest checkpoint."""
        self.content = self.folder.newest(self._check)

    def slots(self) -> np.ndarray:
        """Return the slot of each sequence, int `(keys,)`, after the keys of the checkpoint have got their slots."""
        if self.content is not None:
            self.model.states.load(self.content["states"])
        slots: np.ndarray = self.model.states.reserve(self.windows.keys)
        return slots

    def at_epoch(self, epoch: int) -> None:
        """Set the epoch of all datasets: a dataset counts only the epochs of this process."""
        for windows in self._data:
            windows.epoch = epoch

    def write(self, callbacks: list[Any], epoch: int, batch: int) -> None:
        """Write a checkpoint from which a run continues with batch `batch` of `epoch`."""
        self.model.exchange_states(self.windows)
        snapshot = take_snapshot(self.model, callbacks)
        if group().rank == 0:
            self.folder.write(
                {
                    "epoch": epoch,
                    "batch": batch,
                    "stopped": bool(self.model.stop_training),
                    "rates": [self._rate, rate_of(self.model)],
                    "identity": self.identity,
                    "versions": versions(),
                    **snapshot,
                }
            )
        gather(None)  # all processes wait for the file, which they may read next
        self._written = time.monotonic()

    def is_due(self, before: int, done: int) -> bool:
        """Return whether a checkpoint is due. `before` and `done` count batches, before and after the last call."""
        every, seconds = self.policy.every_batches, self.policy.every_seconds
        if done >= len(self.windows) or self.model.stop_training:
            return False  # `on_epoch_end` follows, and writes a checkpoint
        if every is not None and before // every != done // every:
            return True
        if seconds is None or (group().ranks > 1 and before // _ASKED == done // _ASKED):
            return False
        return bool(gather(time.monotonic() - self._written >= seconds)[0])

    def _check(self, content: dict[str, Any], name: str) -> None:
        check_identity(content["identity"], self.identity, name)
        if self.content is None:
            check_rate(content["rates"], self._rate, name)


class _Callbacks(keras.callbacks.CallbackList):
    """The callbacks of the user, and the writing of checkpoints. The callbacks see one run without an interruption."""

    def __init__(self, run: _Run, arguments: Mapping[str, Any], epochs: int) -> None:
        verbose = arguments.get("verbose", "auto")
        super().__init__(
            arguments.get("callbacks"),
            add_history=True,
            add_progbar=verbose != 0,
            model=run.model,
            verbose=verbose,
            epochs=epochs,
            steps=len(run.windows),
        )
        self._run, self._begun, self.is_last = run, False, False

    def on_train_begin(self, logs: Any = None) -> None:
        build_all(self.model, self._run.source.first())
        if not self._begun:
            super().on_train_begin(logs)
        self._begun = True
        if self._run.content is None:
            self._run.write(self.callbacks, 0, 0)
        else:
            self._put_back()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._run.at_epoch(epoch)
        super().on_epoch_begin(epoch, logs)
        self._epoch, self._first = epoch, 0 if self.is_last else self._run.batch
        self._done = self._first

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._first and not batch:
            # As late as possible: PyTorch's loader draws from the global generator when an epoch begins.
            self._put_back()
        super().on_train_batch_begin(self._first + batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(self._first + batch, logs)
        before, self._done = self._done, self._first + batch + 1
        if self._run.is_due(before, self._done):
            self._run.write(self.callbacks, self._epoch, self._done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._run.write(self.callbacks, epoch + 1, 0)

    def on_train_end(self, logs: Any = None) -> None:
        if self.is_last:
            super().on_train_end(logs)

    def _put_back(self) -> None:
        put_snapshot(self.model, self.callbacks, self._run.content or {})
        rows = self._run.windows.batch_size
        if self._run.batch and rows is not None and group().rank == 0:
            weigh_losses(self.model, self._run.batch * rows * group().ranks)
        self.model.stop_training = self._run.stopped


def _refuse(arguments: Mapping[str, Any]) -> None:
    """Raise a `DataError` for arguments that set where the run begins or ends."""
    for name in ("initial_epoch", "steps_per_epoch"):
        if arguments.get(name):
            raise DataError(
                f"With `checkpoint`, the checkpoint says where to begin, and an epoch is all windows. Received: "
                f"{name}={arguments[name]!r}. Leave it out."
            )
    callbacks = arguments.get("callbacks")
    rivals = (keras.callbacks.CallbackList, keras.callbacks.BackupAndRestore)
    for callback in [callbacks] if isinstance(callbacks, rivals) else tree.flatten(callbacks or []):
        if isinstance(callback, rivals):
            raise DataError(
                f"With `checkpoint`, `callbacks` must be a list of callbacks that do not resume by themselves. "
                f"Received: {type(callback).__name__}. Leave it out."
            )


def _warn_of_versions(kept: Mapping[str, str]) -> None:
    changed = [f"{name} {kept.get(name)} -> {now}" for name, now in versions().items() if kept.get(name) != now]
    if changed:
        warnings.warn(
            f"The run goes on with other versions than it began with ({', '.join(changed)}), so its result may differ in "
            "the last bits from that of an uninterrupted run.",
            RuntimeWarning,
            stacklevel=2,
        )
