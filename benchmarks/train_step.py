"""Compare training steps side by side: contenders in processes of their own take turns, so that noise hits all alike.

Run: python benchmarks/train_step.py [--sizes 8,64,256] [--rounds 7] [--contenders rnnstate-jax,torch-lstm] [--json FILE]
Prints a table per size: median milliseconds per training step, and the ratio to `rnnstate-jax` in the same round, with
the quartiles of that ratio. The floor is the arithmetic alone at the rate of a large matrix product on this machine.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from contender import CONTENDERS, OTHER_RESULTS

SIZES = {
    8: {"batch": 10, "window": 96, "features": 2, "units": 8},
    64: {"batch": 32, "window": 96, "features": 8, "units": 64},
    256: {"batch": 64, "window": 96, "features": 32, "units": 256},
}
US = "rnnstate-jax"


class Contender:
    """A process that trains when told to."""

    def __init__(self, name, size, script="contender.py"):
        here = Path(__file__).parent
        command = [sys.executable, str(here / script), name, json.dumps(size)]
        pipe = subprocess.PIPE
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=here
        )
        self.ready = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def time(self, runs):
        """Return the milliseconds per step."""
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        return self._answer()["ms"]

    def end(self):
        """Let the process finish."""
        self.process.stdin.close()
        self.process.wait()


def floor(size):
    """Return the milliseconds of the matrix products of a training step at the rate of a large one."""
    left = np.random.default_rng(0).normal(size=(2048, 2048)).astype("float32")
    times = []
    for _ in range(7):
        start = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - start)
    rate = 2 * 2048**3 / min(times)
    rows, gates = size["batch"] * size["window"], 4 * size["units"]
    widths = [size["features"], *[size["units"]] * 3]
    # forward, and two products backward; the gradient of the input itself is not needed
    work = sum(2 * rows * width * gates * 3 for width in widths) - 2 * rows * size["features"] * gates
    return 1e3 * work / rate, rate / 1e9


def compare(size, names, rounds, runs, script="contender.py"):
    """Return the milliseconds of each contender in each round, once their results have been found equal."""
    contenders = [contender for name in names if (contender := Contender(name, size, script)).ready is not None]
    print("did not run:", sorted(set(names) - {c.name for c in contenders}) or "none")
    expected = next(c for c in contenders if c.name not in OTHER_RESULTS).ready["first"]
    for contender in contenders:
        if contender.name not in OTHER_RESULTS:
            np.testing.assert_allclose(contender.ready["first"], expected, rtol=2e-3, err_msg=contender.name)
    times = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            times[contender.name].append(contender.time(runs))
    for contender in contenders:
        contender.end()
    return times


def table(size, times, unit="ms per step"):
    """Print medians, and ratios within the rounds, as a Markdown table."""
    print(f"\n### {size['units']} units, batch {size['batch']}, window {size['window']}, {size['features']} inputs\n")
    print(f"| contender | {unit} | times ours (quartiles) |\n|---|---|---|")
    for name, ms in times.items():
        low, ratio, high = np.percentile(np.array(ms) / times.get(US, ms), [25, 50, 75])
        print(f"| {name} | {np.median(ms):.3g} | {ratio:.2f} ({low:.2f} to {high:.2f}) |")


def versions():
    """Print what ran on what."""
    found = []
    for name in ("keras", "jax", "torch", "tensorflow_cpu", "tensorflow", "flax", "numpy"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    print(
        f"{', '.join(found)}; Python {platform.python_version()}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}"
    )


def main():
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8,64,256")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of 20 steps in each turn")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--json", help="write all times there")
    options = parser.parse_args()
    versions()
    kept = {}
    for units in map(int, options.sizes.split(",")):
        kept[units] = compare(SIZES[units], options.contenders.split(","), options.rounds, options.epochs)
        table(SIZES[units], kept[units])
        lowest, rate = floor(SIZES[units])
        print(f"| floor, at {rate:.0f} GF/s | {lowest:.2f} | |\n")
    if options.json:
        Path(options.json).write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
