"""Contenders on Keras, with the backend of the process: this project, and Keras' own stateful layers."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from rnnstate.bench.contenders.task import (
    EPSILON,
    LEARNING_RATE,
    Array,
    Repeat,
    Task,
    batches,
    repeated,
    series,
    serve_on_jax,
    weights,
)
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.windows.windows import Windows


def network(task: Task, stateful: bool = False) -> Any:
    """Return the network with the weights of the task. Stateful layers have a fixed batch size."""
    # PyTorch cannot train stateful layers with `use_cudnn=True`. On a CPU the argument changes nothing elsewhere.
    options = {"stateful": True, "use_cudnn": False} if stateful else {}
    inputs = keras.Input(batch_shape=(task.batch if stateful else None, task.window, task.features))
    loops = [keras.layers.LSTM(task.units, return_sequences=True, **options) for _ in range(task.layers)]
    net = keras.Sequential([inputs, *loops, keras.layers.Dense(1)])
    net.set_weights(weights(task))
    return net


def _compile(model: Any, per_call: int, jit: Any) -> None:
    # Keras refuses several steps per call on PyTorch.
    count = 1 if keras.config.backend() == "torch" else per_call
    adam = keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON)
    model.compile(adam, "mse", steps_per_execution=count, jit_compile=jit)


def ours(
    task: Task, kernels: str = "auto", per_call: int | None = None, jit: Any = "auto", native: bool = True
) -> Repeat:
    """Return `StatefulModel.fit` on windows. A bank keeps the state of each sequence by its key.

    `native` tells whether the native loops may run.
    """
    if not native:
        os.environ["RNNSTATE_NATIVE"] = "off"
    return _with_best_threads(lambda task: _ours(task, kernels, per_call, jit), task)


def _with_best_threads(build: Callable[[Task], Repeat], task: Task) -> Repeat:
    if keras.config.backend() == "torch":
        from rnnstate.bench.contenders import torch_lstm

        torch_lstm.choose_threads(build, task)
    return build(task)


def _ours(task: Task, kernels: str, per_call: int | None, jit: Any) -> Repeat:
    model = StatefulModel(network(task), kernels=kernels)
    _compile(model, per_call or task.per_call, jit)
    windows = Windows(*series(task), length=task.window, batch_size=task.batch)
    _scatter(model, windows.keys)
    steps = None if task.sequences is None else min(task.windows, len(windows))
    return lambda epochs: float(model.fit(windows, epochs=epochs, steps_per_epoch=steps, verbose=0).history["loss"][-1])


def _scatter(model: Any, keys: Sequence[Any]) -> None:
    """Give the sequences rows of the bank in random order, so that the rows of a batch lie far apart."""
    leaf, spec = next(iter(model.state_spec.items()))
    order = np.random.default_rng(2).permutation(len(keys))
    model.states.write([keys[index] for index in order], {leaf: np.zeros((len(keys), *spec.shape), "float32")})
    model.states.reset()


def ours_not_carried(task: Task, jit: Any = "auto") -> Repeat:
    """Return Keras' own `fit` of the same model. Each window starts from zeros, and no bank is read."""
    return _with_best_threads(lambda task: _not_carried(task, jit), task)


def _not_carried(task: Task, jit: Any) -> Repeat:
    model = StatefulModel(network(task))
    _compile(model, task.per_call, jit)
    cut = _Cut(*batches(task))
    return lambda epochs: float(
        keras.Model.fit(model, cut, epochs=epochs, shuffle=False, verbose=0).history["loss"][-1]
    )


def stock(task: Task, stateful: bool = True, jit: Any = "auto") -> Repeat:
    """Return Keras' own `fit` with stateful layers. The layers are reset at the start of each epoch."""
    return _with_best_threads(lambda task: _stock(task, stateful, jit), task)


def _stock(task: Task, stateful: bool, jit: Any) -> Repeat:
    net = network(task, stateful)
    _compile(net, task.per_call, jit)
    # Keras feeds plain arrays faster than a dataset of batches.
    x, y = (np.concatenate(part) for part in batches(task))
    callbacks = [_Reset()] if stateful else []
    options = {"batch_size": task.batch, "shuffle": False, "callbacks": callbacks, "verbose": 0}
    return lambda epochs: float(net.fit(x, y, epochs=epochs, **options).history["loss"][-1])


class _Cut(keras.utils.PyDataset):
    """A dataset of batches that are ready in memory."""

    def __init__(self, x: Array, y: Array) -> None:
        super().__init__()
        self._x, self._y = x, y

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        return self._x[index], self._y[index]


class _Reset(keras.callbacks.Callback):
    """A callback that resets stateful layers at the start of each epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for layer in self.model.layers:
            if hasattr(layer, "reset_states"):
                layer.reset_states()


def ours_step(task: Task) -> Repeat:
    """Return `StatefulModel.step`, with its output as a NumPy array."""
    _serve_only()
    model = StatefulModel(network(task))
    kept = [model.initial_state(task.batch)]

    def step(x: Array) -> Any:
        y, kept[0] = model.step(x, kept[0])
        return np.asarray(y)

    return repeated(step, task)


def _serve_only() -> None:
    """Set up the backend as users do to serve a small model."""
    if keras.config.backend() == "torch":
        from rnnstate.bench.contenders import torch_lstm

        torch_lstm.serve_only()
    elif keras.config.backend() == "jax":
        serve_on_jax()


def stock_step(task: Task) -> Repeat:
    """Return `predict_on_batch` of a stateful Keras model, with its output as a NumPy array."""
    _serve_only()
    net = network(task, stateful=True)
    return repeated(lambda x: np.asarray(net.predict_on_batch(x)), task)
