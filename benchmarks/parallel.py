"""Seconds per epoch in one process and in two, on the same batches: `KERAS_BACKEND=jax python benchmarks/parallel.py`.

Two processes share the cores of the machine. The program therefore compares three ways: one process on one core, one
process on all cores, and two processes. `--steps 10` runs ten training steps in one compiled call (`steps_per_execution`).
Other work on the machine disturbs the figures. The ways take turns, and each figure is the median of all rounds and epochs.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rnnstate.scale.launch import launch

BATCH, LENGTH = 64, 96
WAYS = {"one process on one core": (1, 1), "one process on all cores": (1, None), "two processes": (2, None)}


def train(given, cores, path):
    """Write the seconds of each epoch by units and steps per call, after a first epoch that compiles."""
    if cores != "None":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
        os.environ["OMP_NUM_THREADS"] = cores
    import keras
    import numpy as np

    import rnnstate as rs

    if keras.config.backend() != "tensorflow":
        sys.modules["tensorflow"] = None  # Keras would import it to write the config of a model
    rs.scale.initialize()
    given, seconds = json.loads(given), {}
    x = np.random.default_rng(1).normal(size=(BATCH, LENGTH * given["batches"], 2)).astype("float32")
    windows = rs.Windows(x, x[..., :1], length=LENGTH, batch_size=BATCH)
    for units in given["units"]:
        for steps in given["steps"]:
            layers = [keras.layers.LSTM(units, return_sequences=True), keras.layers.Dense(1)]
            model = rs.StatefulModel(keras.Sequential([keras.Input((None, 2)), *layers]))
            model.compile("adam", "mse", steps_per_execution=steps)
            taken = []
            for _ in range(1 + given["epochs"]):
                begin = time.perf_counter()
                model.fit(windows, epochs=1, verbose=0)
                taken.append(time.perf_counter() - begin)
            seconds[f"{units} units, {steps} steps per call"] = taken[1:]
    if rs.scale.rank() == 0:
        Path(path).write_text(json.dumps(seconds))


def measured(way, given):
    """Return what `train` writes, in one of the ways."""
    processes, cores = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seconds.json"
        launch([sys.executable, __file__, "--child", json.dumps(given), str(cores), str(path)], processes)
        return json.loads(path.read_text())


def main():
    """Print a line for each size and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[32, 128])
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[1, 10], help="steps per call, which JAX alone combines"
    )
    parser.add_argument(
        "--batches", type=int, default=20, help=f"batches per epoch, of {BATCH} rows and {LENGTH} steps"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    given = vars(parser.parse_args())
    found = {}
    for _ in range(given["rounds"]):
        for way in WAYS:
            for name, seconds in measured(way, given).items():
                found.setdefault(name, {}).setdefault(way, []).extend(seconds)
    for name, ways in found.items():
        medians = {way: statistics.median(seconds) for way, seconds in ways.items()}
        for way, median in medians.items():
            ratio = medians["one process on all cores"] / median
            times = " ".join(f"{second:.2f}" for second in sorted(ways[way]))
            print(f"{name}: {way}: {median:.2f} s, {ratio:.2f} times as fast as one on all cores ({times})")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    train(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
