"""Training steps per second in one process and in two, on the same batches: `python benchmarks/parallel.py`.

Two processes share the cores of the machine. Other work on the machine disturbs the figures, so each ratio is the median
of rounds in which one process and two take turns.
"""

import os
import statistics
import sys
import time
from pathlib import Path

from rnnstate.scale.launch import launch

ROUNDS, BATCH, LENGTH, BATCHES = 3, 64, 96, 30


def train(units):
    """Print the seconds of an epoch, after a first one that compiles."""
    import keras
    import numpy as np

    import rnnstate as rs

    rs.scale.initialize()
    x = np.random.default_rng(1).normal(size=(BATCH, LENGTH * BATCHES, 2)).astype("float32")
    layers = [keras.layers.LSTM(units, return_sequences=True), keras.layers.Dense(1)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, 2)), *layers]))
    model.compile("adam", "mse", steps_per_execution=10 if keras.backend.backend() == "jax" else 1)
    windows = rs.Windows(x, x[..., :1], length=LENGTH, batch_size=BATCH)
    model.fit(windows, epochs=1, verbose=0)
    begin = time.perf_counter()
    model.fit(windows, epochs=1, verbose=0)
    if rs.scale.rank() == 0:
        Path(os.environ["RESULT"]).write_text(str(time.perf_counter() - begin))


def seconds(processes, units, path):
    """Return the seconds of an epoch in so many processes."""
    os.environ["RESULT"] = path
    launch([sys.executable, __file__, str(units)], processes)
    return float(Path(path).read_text())


def main():
    """Compare one process and two."""
    for units in (32, 128):
        ratios = [seconds(1, units, "/tmp/one") / seconds(2, units, "/tmp/two") for _ in range(ROUNDS)]
        print(f"{units} units: two processes are {statistics.median(ratios):.2f} times as fast as one ({ratios})")


if __name__ == "__main__":
    train(int(sys.argv[1])) if len(sys.argv) > 1 else main()
