"""Compare the cost of one more output: a step with a carried state, or the network on its whole receptive field.

The network comes from `examples/03_streaming_tcn.py`. It has eight dilated causal convolutions, then causal attention,
and a receptive field of 512 steps. Four ways take turns, one row at a time:

- a step of `StatefulModel`, and the whole receptive field in Keras' own compiled `predict_on_batch`;
- the exported ONNX file in onnxruntime, one step with a carried state, and 512 steps from the initial state.

A ratio is taken within one round. Processor time is the time of all threads; other programs on the machine disturb it least.
Run it: `KERAS_BACKEND=jax python benchmarks/streaming_cost.py --docs
docs/causal-layers.md` (without `--docs` it only prints).
"""

import argparse
import os
import runpy
import tempfile
import time
from pathlib import Path

import numpy as np

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

ROUNDS, SECONDS = 15, 0.2
EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "03_streaming_tcn.py"))
FIELD, MEMORY = EXAMPLE["receptive_field"](), EXAMPLE["MEMORY"]
WAYS = {
    "step": "`model.step`, carried state",
    "recompute": "`predict_on_batch` on 512 steps",
    "onnx step": "ONNX file, carried state",
    "onnx recompute": "ONNX file on 512 steps",
}
MARK, END = "<!-- measured: streaming -->\n", "<!-- end of streaming -->"


def contenders(channels, folder):
    """Return the ways to compute one more output, by name. All of them give the same number."""
    net = EXAMPLE["network"](channels)
    keras.utils.set_random_seed(1)
    net.get_layer("read_out").kernel.assign(keras.random.normal((channels, 1)))  # the example begins with zeros
    model = rs.StatefulModel(net)
    file = folder / f"step-{channels}.onnx"
    rs.export(model, file, format="onnx")
    loaded = rs.onnx_step.load(file)
    x = np.random.default_rng(0).normal(size=(1, FIELD, 2)).astype("float32")
    last = x[:, -1:]
    state = model.step(x[:, :-1], model.initial_state(1))[1]
    start = loaded.initial_state(1)
    onnx_state = loaded.step(x[:, :-1], start)[1]
    ways = {
        "step": lambda: model.step(last, state)[0],
        "recompute": lambda: net.predict_on_batch(x),
        "onnx step": lambda: loaded.step(last, onnx_state)[0],
        "onnx recompute": lambda: loaded.step(x, start)[0],
    }
    check({name: call() for name, call in ways.items()})
    return ways


def check(outputs):
    """Raise if the last outputs differ."""
    last = {name: float(keras.ops.convert_to_numpy(y)[0, -1, 0]) for name, y in outputs.items()}
    if max(last.values()) - min(last.values()) > 1e-4:
        raise SystemExit(f"All ways must give the same output. Received: {last}.")


def turn(call):
    """Return the milliseconds of a call over many calls: processor time of all threads, and time on the clock."""
    count, start, processor = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < SECONDS:
        np.asarray(keras.ops.convert_to_numpy(call()))
        count += 1
    return 1000 * (time.process_time() - processor) / count, 1000 * (time.perf_counter() - start) / count


def row(channels, name, times, work):
    """Return a line of the table: multiply-adds, times, and the ratios to the step in the same runtime."""
    step = times["onnx step" if "onnx" in name else "step"]
    ratios = ["1", "1"]
    if times[name] is not step:
        quartiles = np.quantile(times[name] / step, (0.25, 0.5, 0.75), axis=0)
        ratios = [f"{middle:.1f} ({low:.1f} to {high:.1f})" for low, middle, high in quartiles.T]
    processor, clock = np.median(times[name], axis=0)
    return f"| {channels} | {WAYS[name]} | {work:,} | {processor:.3f} | {ratios[0]} | {clock:.3f} | {ratios[1]} |"


def measure(channels, folder):
    """Return the lines of one size."""
    ways = contenders(channels, folder)
    rounds = [{name: turn(call) for name, call in ways.items()} for _ in range(ROUNDS + 1)][1:]
    times = {name: np.array([one[name] for one in rounds]) for name in ways}
    count = EXAMPLE["multiply_adds"]
    work = dict.fromkeys(("step", "onnx step"), count(channels, 1, MEMORY + 1))
    work["recompute"] = count(channels, FIELD, FIELD)
    work["onnx recompute"] = count(channels, FIELD, MEMORY + FIELD)  # the initial memory has scores too, all masked
    return [row(channels, name, times, work[name]) for name in ways]


def main():
    """Measure each size, print the table, and put it into a page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--docs", type=Path, help="write the table between the marks of this page")
    arguments = parser.parse_args()
    names = (
        "channels",
        "way",
        "multiply-adds",
        "processor ms",
        "times the step (quartiles)",
        "clock ms",
        "times the step",
    )
    head = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        lines = [line for channels in arguments.channels for line in measure(channels, Path(folder))]
    load = f"{os.cpu_count()} cores, load {before:.1f} before the run and {os.getloadavg()[0]:.1f} after it"
    conditions = f"Measured on {load}; {keras.config.backend()}, float32, one row, medians of {ROUNDS} rounds."
    table = "\n".join([conditions, "", *head, *lines]) + "\n"
    print(table)
    if arguments.docs:
        start, rest = arguments.docs.read_text().split(MARK, 1)
        arguments.docs.write_text(f"{start}{MARK}\n{table}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
