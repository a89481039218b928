"""The worker: writes the files of a job and runs them, under the backend that writes the format.

A job is a folder:

| file | content |
|---|---|
| `job.json` | format, suffix, signature, programs with their links, settings of the model, the user's own classes |
| `net.keras` | the network with its weights |
| `start.npz` | the weights of the initial state |
| `step.inputs.npz`, `initial.inputs.npz` | the runs |
| `step.outputs.npz`, `initial.outputs.npz` | the outputs of the files, which the worker adds |
| `step.onnx`, `initial.onnx` | the files, which the worker adds (the suffix depends on the format) |

The worker always loads the network from its file, so it never touches the live model. `python -m rnnstate.exporting.worker
FOLDER` does exactly the same as a call of `work`.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from rnnstate.exporting.chunked_run import run_job
from rnnstate.exporting.copy import rebuilt
from rnnstate.exporting.custom_classes import ports_of
from rnnstate.exporting.programs import Writer, programs_of
from rnnstate.exporting.signature import Signature
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import walk
from rnnstate.ports.protocol import Port
from rnnstate.ports.recurrent import is_recurrent

_WRITERS = {"tensorflow": "on_tensorflow", "jax": "on_jax"}


def work(folder: Path, custom_objects: dict[str, Any] | None = None) -> None:
    """Write the files of a job and their outputs.

    Args:
        folder: The folder of the job.
        custom_objects: The user's own classes. The default is to import them, as another process must.
    """
    job = json.loads((folder / "job.json").read_text())
    classes = custom_objects or _custom_objects(job)
    net = keras.saving.load_model(folder / "net.keras", custom_objects=classes, compile=False, safe_mode=False)
    with np.load(folder / "start.npz") as start_weights:
        model = rebuilt(net, job["model"], list(start_weights.values()), classes)
    _make_portable(model, unroll=job["format"] == "litert")
    for program in programs_of(model, Signature.from_json(job["signature"])):
        step = _writer().write(job["format"], folder / f"{program.name}{job['suffix']}", model, program)
        run_job(folder, program.name, step, program.links)


def _writer() -> Writer:
    name = _WRITERS[keras.config.backend()]
    return cast(Writer, importlib.import_module(f"rnnstate.exporting.{name}"))


def _custom_objects(job: dict[str, Any]) -> dict[str, Any]:
    """Import the user's own classes, and the modules that register something for them."""
    for module in job["modules"]:
        importlib.import_module(module)
    found = {}
    for name, (module, qualified) in job["custom"].items():
        value: Any = importlib.import_module(module)
        for part in qualified.split("."):
            value = getattr(value, part)
        found[name] = value
    return found


def _make_portable(model: StatefulModel, unroll: bool) -> None:
    """Avoid operations that only one kind of device can run, and loops if the format has none."""
    for layer in _loops(model):
        layer.unroll = unroll or layer.unroll
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False


def _loops(model: StatefulModel) -> list[Any]:
    """Return all recurrent layers: in the network, inside ports, and both directions of each `Bidirectional`."""
    found = [layer for _, layer in walk(model.net) if is_recurrent(layer)]
    found += [layer for port in ports_of(model) for layer in _loops_of(port)]
    inner = [
        side
        for layer in found
        if hasattr(layer, "forward_layer")
        for side in (layer.forward_layer, layer.backward_layer)
    ]
    return [layer for layer in [*found, *inner] if hasattr(layer, "unroll")]


def _loops_of(port: Any) -> list[Any]:
    """Return the recurrent layers among the attributes of a port, and of the ports inside it."""
    found = []
    for value in vars(port).values():
        if isinstance(value, Port):
            found += _loops_of(value)
        elif is_recurrent(value):
            found.append(value)
    return found


if __name__ == "__main__":
    work(Path(sys.argv[1]))
