"""Compare two commits of this project side by side in one run: training at 8, 64 and 256 units, and a step of one row.

    python benchmarks/guard.py OLD [NEW] [--backend jax] [--rounds 5] [--cases "step 64" ...]

OLD and NEW are commits. Without NEW the working tree is measured. Each commit runs in a process with a separate worktree.
The processes take turns, so that noise affects both alike. The last column is NEW / OLD: below 1, NEW is faster.
The program uses the Python environment that it runs in, and only names that both commits must have.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Units, rows, windows of an epoch. Larger networks have shorter epochs.
TRAIN = {"train 8": (8, 10, 40), "train 64": (64, 32, 20), "train 256": (256, 32, 4)}
CASES = (*TRAIN, "step 64")
WINDOW, FEATURES, STEPS = 96, 2, 300


def train(units: int, rows: int, windows: int) -> Callable[[], float]:
    """Return a function that trains for one epoch and returns milliseconds per training step."""
    import numpy as np

    import rnnstate as rs

    model = network(units)
    model.compile("adam", "mse", steps_per_execution=1)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((rows, WINDOW * windows, values), "float32") for values in (FEATURES, 1))
    data = rs.Windows(x, y, length=WINDOW, batch_size=rows)

    def run() -> float:
        start = time.perf_counter()
        model.fit(data, epochs=1, verbose=0)
        return (time.perf_counter() - start) * 1e3 / windows

    return run


def step(units: int) -> Callable[[], float]:
    """Return a function that takes many steps of one row and returns milliseconds per step."""
    import numpy as np

    model = network(units)

    from keras import ops  # after the backend was chosen

    x = np.ones((1, 1, FEATURES), "float32")

    def run() -> float:
        state = model.initial_state(1)
        start = time.perf_counter()
        for _ in range(STEPS):
            y, state = model.step(x, state)
        ops.convert_to_numpy(y)  # wait for the last one
        return (time.perf_counter() - start) * 1e3 / STEPS

    return run


def network(units: int) -> object:
    """Return a model of two LSTM layers and an output at each step."""
    import rnnstate as rs  # isort: skip
    import keras

    keras.utils.set_random_seed(0)
    lstms = [keras.layers.LSTM(units, return_sequences=True) for _ in range(2)]
    return rs.StatefulModel(keras.Sequential([keras.Input((None, FEATURES)), *lstms, keras.layers.Dense(1)]))


def serve(case: str) -> None:
    """Measure once for each line of standard input."""
    run = train(*TRAIN[case]) if case in TRAIN else step(int(case.split()[1]))
    run(), run()  # compile
    for _ in sys.stdin:
        print(run(), flush=True)


@contextlib.contextmanager
def source(commit: str | None) -> Iterator[Path]:
    """Yield the folder `src` of a commit, or of the working tree."""
    if commit is None:
        yield ROOT / "src"
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree / "src"
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def worker(folder: Path, backend: str, case: str) -> "subprocess.Popen[str]":
    """Start a process that measures a case with the sources of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--serve", case]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def compare(folders: list[Path], backend: str, case: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the times of OLD and NEW, one of each for a round."""
    workers = [worker(folder, backend, case) for folder in folders]
    times: tuple[list[float], list[float]] = ([], [])
    try:
        for _ in range(rounds):
            for process, kept in zip(workers, times, strict=True):
                process.stdin.write("\n")
                process.stdin.flush()
                kept.append(float(process.stdout.readline()))
    finally:
        for process in workers:
            process.kill()
            process.wait()
    return times


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--backend", default="jax", choices=("jax", "torch", "tensorflow"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    asked = parser.parse_args()
    with source(asked.old) as old, source(asked.new) as new:
        print(f"{'case':10} {'OLD ms':>9} {'NEW ms':>9}  NEW / OLD (least to greatest)", flush=True)
        for case in asked.cases:
            before, after = compare([old, new], asked.backend, case, asked.rounds)
            ratios = sorted(b / a for a, b in zip(before, after, strict=True))
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(
                f"{case:10} {statistics.median(before):9.3f} {statistics.median(after):9.3f}  "
                f"{statistics.median(ratios):.2f} ({spread})",
                flush=True,
            )


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["--serve"] else main()
