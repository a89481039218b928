"""Writes a file of a job and runs it, in this process or, for a format that wants another backend, in one of its own.

A job is a folder: `job.json` (format, signature, initial state, the user's own classes), `net.keras` (the network with its
weights), `start.npz` (weights of the initial state), `step.inputs.npz` (the chunks to run); the worker adds the artifact and
`step.outputs.npz`, and the same for `initial` if that is computed. The network is always loaded from its file, so the live
model is never touched, and `python -m rnnstate.exporting.worker FOLDER` does exactly what a call does.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from rnnstate.exporting.chunked_run import run_job
from rnnstate.exporting.copy import rebuilt
from rnnstate.exporting.programs import programs_of
from rnnstate.exporting.signature import Signature
from rnnstate.network.clone import walk
from rnnstate.ports.protocol import Port, is_recurrent

_ENGINES = {"tensorflow": "on_tensorflow", "jax": "on_jax"}


def work(folder: Path, custom_objects: dict[str, Any] | None = None) -> None:
    """Write the artifacts of a job and what they make of the chunks."""
    job = json.loads((folder / "job.json").read_text())
    own = custom_objects or _custom_objects(job)
    net = keras.saving.load_model(folder / "net.keras", custom_objects=own, compile=False, safe_mode=False)
    with np.load(folder / "start.npz") as start_weights:
        model = rebuilt(net, job["model"], list(start_weights.values()), own)
    _make_portable(model, unroll=job["format"] == "litert")
    for program in programs_of(model, Signature.from_json(job["signature"])):
        step = _engine().write(job["format"], folder / f"{program.name}{job['suffix']}", model, program)
        run_job(folder, program.name, step, program.links)


def _engine() -> ModuleType:
    return importlib.import_module(f"rnnstate.exporting.{_ENGINES[keras.config.backend()]}")


def _custom_objects(job: dict[str, Any]) -> dict[str, Any]:
    """Import the user's own layers, and the modules that register anything for them."""
    for module in job["modules"]:
        importlib.import_module(module)
    found = {}
    for name, (module, qualified) in job["custom"].items():
        value: Any = importlib.import_module(module)
        for part in qualified.split("."):
            value = getattr(value, part)
        found[name] = value
    return found


def _make_portable(model: Any, unroll: bool) -> None:
    """Keep operations out of the file that run on one kind of device alone, or that the format does not have."""
    for layer in _loops(model):
        layer.unroll = unroll or layer.unroll
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False


def _loops(model: Any) -> list[Any]:
    found = [layer for _, layer in walk(model.net) if is_recurrent(layer)]
    found += [layer for port in model._parts.owners.values() for layer in _loops_of(port)]
    inner = [
        side
        for layer in found
        if hasattr(layer, "forward_layer")
        for side in (layer.forward_layer, layer.backward_layer)
    ]
    return [layer for layer in [*found, *inner] if hasattr(layer, "unroll")]


def _loops_of(port: Any) -> list[Any]:
    """Return the recurrent layers that a port keeps."""
    found = []
    for value in vars(port).values():
        if isinstance(value, Port):
            found += _loops_of(value)
        elif is_recurrent(value):
            found.append(value)
    return found


if __name__ == "__main__":
    work(Path(sys.argv[1]))
