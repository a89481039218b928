"""A program that several processes run: it trains a small model, and each rank writes what it knows at the end.

`python ranked.py OUT CHECKPOINT [DYING_RANK DYING_BATCH]`: one rank may end in the middle of epoch 1. On PyTorch, ranks that
have trained wrap another model in DDP. `python ranked.py OUT devices` is one process on four devices.
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import rnnstate as rs

EPOCHS = 3
# Seven sequences of other lengths: 2, 3 and 4 processes get other numbers of rows, and some rows end early.
LENGTHS = (13, 5, 17, 3, 11, 7, 2)


def make_windows(batch_size=5, **kwargs):
    """Return windows of seven sequences."""
    rng = np.random.default_rng(7)
    x = {f"k{index}": rng.normal(size=(length, 3)).astype("float32") for index, length in enumerate(LENGTHS)}
    y = {key: rng.normal(size=(len(rows), 2)).astype("float32") for key, rows in x.items()}
    return rs.Windows(x, y, length=4, batch_size=batch_size, **kwargs)


def make_model(seed=11, **kwargs):
    """Return a compiled model with weights from a seed."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.LSTM(5, return_sequences=True, name="lstm"), keras.layers.Dense(2, kernel_regularizer="l2")]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, 3)), *layers]))
    # On JAX two steps are one compiled call. The last call of an epoch is not full.
    steps = 2 if keras.config.backend() == "jax" else 1
    adam = keras.optimizers.Adam(0.01, clipnorm=1.0)
    model.compile(adam, "mse", metrics=["mae"], steps_per_execution=steps, **kwargs)
    return model


class Dies(keras.callbacks.Callback):
    """Ends the process of one rank before a batch of epoch 1, as a crash does."""

    def __init__(self, rank, batch):
        super().__init__()
        self._rank, self._batch, self._epoch = rank, batch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (rs.scale.rank(), self._epoch, self._batch) == (self._rank, 1, batch):
            os.kill(os.getpid(), signal.SIGKILL)


def fitted(checkpoint=None, callbacks=(), rows=5, validation_rows=3, epochs=EPOCHS, **kwargs):
    """Return a trained model and the history. The weights that count are those of rank 0."""
    model = make_model(seed=11 + rs.scale.rank(), **kwargs)
    if checkpoint is not None:
        checkpoint = rs.Checkpoint(checkpoint, every_batches=1)
    data = {"validation_data": make_windows(validation_rows), "callbacks": [*callbacks], "checkpoint": checkpoint}
    return model, model.fit(make_windows(rows), epochs=epochs, verbose=0, **data).history


def known(model, history, rows=5):
    """Return all that a rank knows after training, as arrays by name."""
    windows = make_windows(rows)
    found = {f"history {name}": np.array(values) for name, values in history.items()}
    found |= {f"weight {index}": value for index, value in enumerate(model.get_weights())}
    found |= {f"state {leaf}": np.asarray(rows) for leaf, rows in model.states.read(windows.keys).items()}
    scores = model.evaluate(windows, verbose=0, return_dict=True)
    found |= {f"score {name}": np.array(value) for name, value in scores.items()}
    outputs, end = model.predict(windows, verbose=0, return_state=True)
    found |= {f"output {key}": rows for key, rows in outputs.items()}
    return found | {f"end {leaf}": np.asarray(rows) for leaf, rows in end.items()}


def wrapped(out):
    """Write which rows a rank has after DistributedDataParallel wraps a model, and after steps with it."""
    import torch  # noqa: TID251 - the wrapper is PyTorch's own

    rank, model = rs.scale.rank(), make_model()

    def write(value):
        model.states.write(["k0"], {"lstm/h": np.full((1, 5), value), "lstm/c": np.full((1, 5), -value)})

    def read():
        return np.concatenate([np.asarray(leaf) for leaf in model.states.read(["k0"]).values()])

    write(rank + 1.0)
    own = torch.nn.parallel.DistributedDataParallel(model)
    before = read()
    store = {}
    write(rank + 3.0)
    model.states.save(store)
    model.states.reset()
    model.states.load(store)
    for _ in range(2):
        own(torch.full((2, 4, 3), rank + 1.0)).sum().backward()
    gradients = {f"gradient {v.name}": v.value.grad.numpy() for v in model.trainable_variables}
    np.savez(Path(out) / f"ddp-{rank}.npz", wrapped_after=before, wrapped_before=read(), **gradients)


def count_native_loops():
    """Return a list that gets an entry whenever JAX traces a native loop."""
    from rnnstate.kernels.loops import jax as loops

    traced, native = [], loops.native_loop

    def counting(loop):
        traced.append(loop.kind)
        return native(loop)

    loops.native_loop = counting
    return traced


def on_devices(out):
    """Train in one process on four devices of JAX."""
    traced = count_native_loops()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    np.savez(
        Path(out) / "0.npz",
        devices=len(keras.distribution.list_devices()),
        **known(*fitted(rows=4, validation_rows=4), rows=4),
        native_loops=len(traced),
    )


def main(out, checkpoint, rank=-1, batch=0):
    """Train as one of several processes, and write what this one knows."""
    rs.scale.initialize()
    traced = count_native_loops() if keras.config.backend() == "jax" else []
    model, history = fitted(checkpoint, [Dies(int(rank), int(batch))])
    np.savez(Path(out) / f"{rs.scale.rank()}.npz", **known(model, history))
    (Path(out) / f"native-loops-{rs.scale.rank()}").write_text(str(len(traced)))
    if keras.config.backend() == "torch":
        wrapped(out)


def without_tensorflow():
    """Keep Keras from importing TensorFlow to write the config of a model, which takes seconds."""
    if keras.config.backend() != "tensorflow":
        sys.modules["tensorflow"] = None


if __name__ == "__main__":
    without_tensorflow()
    on_devices(sys.argv[1]) if sys.argv[2] == "devices" else main(*sys.argv[1:])
