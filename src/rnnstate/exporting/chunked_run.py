"""Run a step model chunk by chunk, each from the state in which the one before ended: how files are verified.

As a program, `python -P chunks.py FOLDER` does so for a plain `.keras` file, in a process that never imports rnnstate.
Imports NumPy alone, so that nothing but the file's own runtime is at work.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Step = Callable[[Arrays], Mapping[str, Any]]


def run_chunks(step: Step, runs: list[list[Arrays]], links: Mapping[str, str]) -> list[list[Arrays]]:
    """Return the named outputs for every chunk of every run.

    Args:
        step: Takes named inputs, gives named outputs.
        runs: Named inputs for each chunk; those of a run's first chunk include the state.
        links: Name of each leaf coming out to its name going in.
    """
    outputs: list[list[Arrays]] = []
    for chunks in runs:
        state: Arrays = {}
        outputs.append([])
        for inputs in chunks:
            named = {name: np.asarray(value) for name, value in step({**state, **inputs}).items()}
            outputs[-1].append(named)
            state = {links[name]: value for name, value in named.items() if name in links}
    return outputs


def save_runs(path: Path, runs: list[list[Arrays]]) -> None:
    """Write named arrays of chunks of runs to one file."""
    arrays: dict[str, Any] = {
        f"{i}/{j}/{name}": value
        for i, chunks in enumerate(runs)
        for j, chunk in enumerate(chunks)
        for name, value in chunk.items()
    }
    np.savez(path, **arrays)


def load_runs(path: Path) -> list[list[Arrays]]:
    """Read what `save_runs` wrote."""
    runs: list[list[Arrays]] = []
    with np.load(path) as file:
        for key in file.files:
            i, j, name = key.split("/", 2)
            runs += [[] for _ in range(int(i) + 1 - len(runs))]
            chunks = runs[int(i)]
            chunks += [{} for _ in range(int(j) + 1 - len(chunks))]
            chunks[int(j)][name] = file[key]
    return runs


def run_job(folder: Path, name: str, step: Step, links: Mapping[str, str]) -> None:
    """Run one program of a job on its inputs, and leave its outputs beside them."""
    save_runs(folder / f"{name}.outputs.npz", run_chunks(step, load_runs(folder / f"{name}.inputs.npz"), links))


def main(folder: Path) -> None:
    """Run the plain `.keras` file of a job."""
    import importlib

    import keras

    job = json.loads((folder / "job.json").read_text())
    for module in job["modules"]:
        importlib.import_module(module)
    for name, links in job["programs"].items():
        model = keras.saving.load_model(folder / f"{name}.keras", safe_mode=False)
        if "rnnstate" in sys.modules:
            raise RuntimeError("The plain model must load without rnnstate, which one of its modules imports.")
        run_job(folder, name, model.predict_on_batch, links)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
