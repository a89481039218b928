"""Measure what `StateLog` costs in relation to training: `python benchmarks/state_log.py [--backend jax]`.

The time that the callback takes is measured inside of `fit`, and divided by the time of the other steps. So one run has
both numbers, and a busy machine slows both alike. The first epoch does not count, because it compiles.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

LENGTH, FEATURES = 96, 2
# units, sequences, windows of each sequence, epochs
CASES = ((8, 10, 40, 101), (64, 32, 20, 21))


def measure(units, sequences, count, epochs):
    """Return the milliseconds of a training step, and of the callback per step."""
    import numpy as np

    import rnnstate as rs

    import keras  # isort: skip

    class Timed(rs.StateLog):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            self.spent, self.begun, self.ends = [], [], []

        def on_epoch_begin(self, epoch, logs=None):
            self.begun.append(time.perf_counter())
            super().on_epoch_begin(epoch, logs)
            self.spent.append(time.perf_counter() - self.begun[-1])

        def on_epoch_end(self, epoch, logs=None):
            start = time.perf_counter()
            super().on_epoch_end(epoch, logs)
            self.ends.append(time.perf_counter())
            self.spent[-1] += self.ends[-1] - start

        def on_train_end(self, logs=None):
            start = time.perf_counter()
            super().on_train_end(logs)
            self.spent.append(time.perf_counter() - start)

    layers = [keras.layers.LSTM(units, return_sequences=True), keras.layers.Dense(1)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, FEATURES)), *layers]))
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((sequences, LENGTH * count, size), "float32") for size in (FEATURES, 1))
    windows = rs.Windows(x, y, length=LENGTH, batch_size=min(sequences, 32))
    with tempfile.TemporaryDirectory() as folder:
        log = Timed(windows, csv=Path(folder) / "states.csv", tensorboard=Path(folder) / "logs")
        model.fit(windows, epochs=epochs, callbacks=[log], verbose=0)
    spent = sum(log.spent[1:])
    steps = log.ends[-1] - log.begun[1] - sum(log.spent[1:-1])
    return [1e3 * seconds / (epochs - 1) / len(windows) for seconds in (steps, spent)]


def main():
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="jax")
    os.environ["KERAS_BACKEND"] = parser.parse_args().backend
    for case in CASES:
        step, log = measure(*case)
        print(
            f"{case[0]:>3} units, {case[1]:>4} sequences, {case[2]:>2} windows each: a step takes {step:.2f} ms, the log "
            f"{log:.3f} ms per step, {100 * log / step:.2f} %"
        )


if __name__ == "__main__":
    main()
