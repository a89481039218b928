"""The hooks around Keras' `fit`: the epoch of the windows, the learning rate of each batch, and safe variables.

Windows of drawn lengths get learning rates to match: a short window has fewer steps to learn from, and would otherwise
count as much as a long one. On JAX, Keras empties the variables of a model while it runs, so a run that fails must
restore them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from rnnstate.errors import DataError
from rnnstate.kernels import kernels
from rnnstate.state.state import to_numpy


class Epochs(keras.callbacks.Callback):
    """Sets the epoch of the windows, keeps the weights of the epoch's begin for the steps of other threads, and lets
    several processes exchange their states.

    It has no method for the end of a batch. With one, Keras would wait for the result of each batch to hand over the logs,
    and would prepare the next batch only then. Where no device needs waiting, `direct` gives it one.

    Args:
        windows: The `Windows` that are trained on.
    """

    def __init__(self, windows: Any) -> None:
        super().__init__()
        self._windows = windows

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._windows.epoch = epoch
        self.model.keep_served()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.exchange_states(self._windows)

    def direct(self) -> None:
        """Let Keras call the end of a batch in this thread, and not in another one, which takes longer than the call."""
        self.__dict__["on_train_batch_end"] = lambda batch, logs=None: None

    def put_back(self) -> None:
        """Do nothing: the optimizer always has its usual learning rate here."""


class Pace(Epochs):
    """Sets the epoch of the windows, and scales the learning rate by the steps of each batch.

    The optimizer has its usual rate between batches, so other callbacks read and set the usual rate.

    Args:
        windows: The `Windows` that are trained on.

    References:
        - The learning rate scaled by the steps of the window: AWD-LSTM, Merity et al. (2017), arXiv:1708.02182.
    """

    def __init__(self, windows: Any) -> None:
        super().__init__(windows)
        self._rate: float | None = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        scale = float(self._windows.scales[batch])
        if scale != 1.0:
            self._sync()
            self._rate = float(to_numpy(self.model.optimizer.learning_rate))
            self.model.optimizer.learning_rate = self._rate * scale

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.put_back()

    def put_back(self) -> None:
        """Restore the usual learning rate of the optimizer."""
        if self._rate is not None:
            self._sync()
            self.model.optimizer.learning_rate = self._rate
            self._rate = None

    def _sync(self) -> None:
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()


@contextmanager
def paced(model: Any, windows: Any, callbacks: Any) -> Iterator[Any]:
    """Put a callback for the windows before those of the user, and restore the learning rate at the end.

    Raises:
        DataError: If the windows have drawn lengths and the learning rate of the compiled model cannot be scaled.
    """
    if windows.varies and getattr(model, "optimizer", None) is not None:
        _check_rate(model)
    pace = Pace(windows) if windows.varies else Epochs(windows)
    if not windows.varies and kernels().is_synchronous():
        pace.direct()
    if isinstance(callbacks, keras.callbacks.CallbackList):
        pace.set_model(model)
        callbacks.callbacks.append(pace)
        together: Any = callbacks
    else:
        together = [pace, *keras.tree.flatten(callbacks or [])]
    try:
        yield together
    finally:
        pace.put_back()
        if together is callbacks:
            callbacks.callbacks.remove(pace)


def _check_rate(model: Any) -> None:
    if model.steps_per_execution > 1:
        raise DataError(
            "With `vary`, the learning rate differs from batch to batch, so each must be a call of its own. "
            f"Received: steps_per_execution={model.steps_per_execution}. Compile with `steps_per_execution=1`."
        )
    rate = model.optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        raise DataError(
            "With `vary`, the learning rate is scaled by the steps of each window, so it must be a number. "
            f"Received: {rate['class_name']}. Compile with a number, and change it by a callback."
        )


@contextmanager
def variables_kept(model: Any) -> Iterator[None]:
    """Restore the variables of a model if `fit`, `evaluate` or `predict` is interrupted or fails.

    The values are those after the last finished step, or those from before the call if no step was finished.
    """
    if not hasattr(model, "jax_state_sync"):
        yield
        return
    variables = _variables(model)
    before = [(variable, variable.value) for variable in variables]
    try:
        yield
    except BaseException:
        model.jax_state_sync()
        for variable, value in before:
            if _is_empty(variable):
                variable.assign(value)
        raise


def _variables(model: Any) -> list[Any]:
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *model.metrics_variables, *(optimizer.variables if optimizer is not None else [])]


def _is_empty(variable: Any) -> bool:
    try:
        return variable.value is None
    except (TypeError, AttributeError):  # Keras itself cannot read a variable that it has emptied
        return True
