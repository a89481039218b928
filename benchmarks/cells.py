"""Training of LSTM, GRU and SimpleRNN on plain windows, padded windows and windows with resets inside, side by side.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/cells.py [--units 8 64 256] [--cells LSTM GRU SimpleRNN] [--rounds 5]
        [--contenders jax torch ...]

The network has two layers of the cell and an output at each step. Each contender runs in a separate process. The processes
take turns, and the table shows the fastest round of each in milliseconds per training step:

    plain     windows of 96 steps
    padded    sequences of different lengths, so that windows end in masked steps
    resets    a reset before one step in a hundred; the last column is the median of resets / plain in the same round

All contenders run on one core if `taskset` says so: JAX does not read `OMP_NUM_THREADS`.
`nn` is PyTorch's `nn.LSTM`, `nn.GRU` or `nn.RNN` with a loop by hand. It has no masks and no resets. `operators` is `torch`
without the native loops. `torchrl` is TorchRL's `LSTMModule` or `GRUModule` (`pip install torchrl`), which splits a window
at its resets, pads the parts, and runs them in PyTorch's layer. It has no masks here, and no SimpleRNN.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

CELLS = ("LSTM", "GRU", "SimpleRNN")
KINDS = ("plain", "padded", "resets")
# Rows, features, windows of an epoch.
SIZES = {8: (10, 2, 40), 64: (32, 8, 20), 256: (64, 32, 4)}
WINDOW, RESETS = 96, 0.01


def ours(units: int, cell: str, kind: str) -> Callable[[], object]:
    """Return an epoch of `StatefulModel.fit` on Keras' backend."""
    import rnnstate as rs  # isort: skip
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    rows, features, windows = SIZES[units]
    loops = [getattr(keras.layers, cell)(units, return_sequences=True) for _ in range(2)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, features)), *loops, keras.layers.Dense(1)]))
    model.compile("adam", "mse", steps_per_execution=1)
    rng, steps = np.random.default_rng(0), WINDOW * windows
    lengths = [steps - int(short) for short in rng.integers(0, WINDOW, rows) * (kind == "padded")]
    x, y = ([rng.standard_normal((length, values), "float32") for length in lengths] for values in (features, 1))
    resets = [rng.random(length) < RESETS for length in lengths] if kind == "resets" else None
    data = rs.Windows(x, y, length=WINDOW, batch_size=rows, resets=resets)
    return lambda: model.fit(data, epochs=1, verbose=0)


def by_hand(units: int, cell: str) -> Callable[[], object]:
    """Return an epoch of PyTorch's layer with a loop by hand."""
    import torch

    torch.manual_seed(0)
    rows, features, windows = SIZES[units]
    loop = getattr(torch.nn, cell.replace("Simple", ""))(features, units, num_layers=2, batch_first=True)
    dense = torch.nn.Linear(units, 1)
    adam = torch.optim.Adam([*loop.parameters(), *dense.parameters()], 1e-3, fused=True)
    x, y = (torch.randn(windows, rows, WINDOW, values) for values in (features, 1))

    def epoch() -> None:
        state = None
        for one, target in zip(x, y, strict=True):
            outputs, state = loop(one, state)
            state = tuple(leaf.detach() for leaf in state) if isinstance(state, tuple) else state.detach()
            adam.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(dense(outputs), target).backward()
            adam.step()

    return epoch


def by_torchrl(units: int, cell: str, kind: str) -> Callable[[], object]:
    """Return an epoch of TorchRL's module, whose state goes on from window to window."""
    import torch
    import torchrl.modules
    from tensordict import TensorDict

    torch.manual_seed(0)
    rows, features, windows = SIZES[units]
    leaves = ["h", "c"] if cell == "LSTM" else ["h"]
    keys = {"in_keys": ["x", *leaves], "out_keys": ["y", *[("next", leaf) for leaf in leaves]]}
    loop = getattr(torchrl.modules, f"{cell}Module")(features, units, num_layers=2, default_recurrent_mode=True, **keys)
    dense = torch.nn.Linear(units, 1)
    adam = torch.optim.Adam([*loop.parameters(), *dense.parameters()], 1e-3, fused=True)
    x, y = (torch.randn(windows, rows, WINDOW, values) for values in (features, 1))
    begins = torch.rand(windows, rows, WINDOW, 1) < (RESETS if kind == "resets" else 0)

    def epoch() -> None:
        state = {leaf: torch.zeros(rows, 2, units) for leaf in leaves}
        for one, target, is_init in zip(x, y, begins, strict=True):
            # The module reads the state at the first step of a window, and wants a place for it at each step.
            starts = {leaf: value[:, None].expand(-1, WINDOW, -1, -1) for leaf, value in state.items()}
            window = loop(TensorDict({"x": one, "is_init": is_init, **starts}, [rows, WINDOW]))
            state = {leaf: window["next", leaf][:, -1].detach() for leaf in leaves}
            adam.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(dense(window["y"]), target).backward()
            adam.step()

    return epoch


def kinds_of(contender: str, cell: str) -> tuple[str, ...]:
    """Return the windows that a contender can run."""
    if (contender, cell) == ("torchrl", "SimpleRNN"):
        return ()
    return {"nn": KINDS[:1], "torchrl": ("plain", "resets")}.get(contender, KINDS)


def run_of(contender: str, units: int, cell: str, kind: str) -> Callable[[], object]:
    """Return an epoch of a contender."""
    if contender == "nn":
        return by_hand(units, cell)
    return by_torchrl(units, cell, kind) if contender == "torchrl" else ours(units, cell, kind)


def serve(contender: str, units: int, cell: str) -> None:
    """Answer each line of standard input, the kind of the windows, with the milliseconds per step of one epoch."""
    if contender == "operators":
        os.environ["RNNSTATE_NATIVE"] = "off"
    runs = {kind: run_of(contender, units, cell, kind) for kind in kinds_of(contender, cell)}
    for run in runs.values():
        run(), run()  # compile, allocate memory
    for line in sys.stdin:
        start = time.perf_counter()
        runs[line.strip()]()
        print((time.perf_counter() - start) * 1e3 / SIZES[units][2], flush=True)


def worker(contender: str, units: int, cell: str) -> "subprocess.Popen[str]":
    """Start the process of a contender."""
    backend = "torch" if contender in ("nn", "operators", "torchrl") else contender
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--serve", contender, str(units), cell]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def compare(contenders: list[str], units: int, cell: str, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the times of all rounds by contender and kind."""
    workers = {contender: worker(contender, units, cell) for contender in contenders}
    times: dict[tuple[str, str], list[float]] = {}
    try:
        for _ in range(rounds):
            for contender, process in workers.items():
                for kind in kinds_of(contender, cell):
                    print(kind, file=process.stdin, flush=True)
                    times.setdefault((contender, kind), []).append(float(process.stdout.readline()))
    finally:
        for process in workers.values():
            process.kill()
            process.wait()
    return times


def main() -> None:
    """Print a line for each cell, size and contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", nargs="+", type=int, default=list(SIZES), choices=SIZES)
    parser.add_argument("--cells", nargs="+", default=CELLS, choices=CELLS)
    parser.add_argument("--contenders", nargs="+", default=["nn", "jax", "torch", "tensorflow"])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print("| cell | units | contender | plain | padded | resets | resets / plain |\n|---|---|---|---|---|---|---|")
    for cell in asked.cells:
        for units in asked.units:
            times = compare(asked.contenders, units, cell, asked.rounds)
            for contender in asked.contenders:
                rounds = [times.get((contender, kind)) for kind in KINDS]
                cells = [f"{min(taken):.2f}" if taken else "" for taken in rounds]
                ratio = f"{_median_ratio(rounds[2], rounds[0]):.2f}" if rounds[0] and rounds[2] else ""
                print("|", " | ".join([cell, str(units), contender, *cells, ratio]), "|", flush=True)


def _median_ratio(ones: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


if __name__ == "__main__":
    serve(sys.argv[2], int(sys.argv[3]), sys.argv[4]) if sys.argv[1:2] == ["--serve"] else main()
