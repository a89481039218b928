"""Runs of a step model chunk by chunk: each chunk starts from the state in which the previous chunk ended.

A *run* is a list of chunks, and a *chunk* is a mapping of named arrays. Runs differ in batch size, and chunks in length.

This file imports NumPy alone, so that a file runs in its runtime without any part of rnnstate. As a program,
`python -P chunked_run.py FOLDER` runs the plain `.keras` file of a job in a process that never imports rnnstate.
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
    """Return the named outputs of every chunk of every run.

    Args:
        step: A function from named inputs to named outputs.
        runs: The named inputs of each chunk. The first chunk of a run includes the state.
        links: The output name of each leaf, mapped to its input name.

    Example:

    >>> def step(inputs):
    ...     return {"y": inputs["x"] + inputs["s"], "next_s": inputs["s"] + 1}
    >>> runs = [[{"s": np.zeros(1), "x": np.ones(1)}, {"x": np.ones(1)}]]
    >>> [chunk["y"].item() for chunk in run_chunks(step, runs, {"next_s": "s"})[0]]
    [1.0, 2.0]
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
    """Write runs to one `.npz` file, each array under `run/chunk/name`."""
    arrays: dict[str, Any] = {
        f"{i}/{j}/{name}": value
        for i, chunks in enumerate(runs)
        for j, chunk in enumerate(chunks)
        for name, value in chunk.items()
    }
    np.savez(path, **arrays)


def load_runs(path: Path) -> list[list[Arrays]]:
    """Read runs from a file that `save_runs` wrote."""
    runs: list[list[Arrays]] = []
    with np.load(path) as file:
        for key in file.files:
            i, j, name = key.split("/", 2)
            # The keys may come in any order: make room for run `i` and chunk `j`.
            runs += [[] for _ in range(int(i) + 1 - len(runs))]
            chunks = runs[int(i)]
            chunks += [{} for _ in range(int(j) + 1 - len(chunks))]
            chunks[int(j)][name] = file[key]
    return runs


def run_job(folder: Path, name: str, step: Step, links: Mapping[str, str]) -> None:
    """Run one program of a job on its inputs, and save its outputs in the same folder."""
    save_runs(folder / f"{name}.outputs.npz", run_chunks(step, load_runs(folder / f"{name}.inputs.npz"), links))


def main(folder: Path) -> None:
    """Run the plain `.keras` files of a job."""
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
