"""`export`: write the step model to a file, run the file in its own runtime, keep it only if it does what the model does."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from rnnstate.errors import ExportError
from rnnstate.exporting import chunks, verification, worker
from rnnstate.exporting.custom import Custom, custom_of
from rnnstate.exporting.formats import Format, find_format
from rnnstate.exporting.manifest import manifest_of, manifest_path, write_manifest
from rnnstate.exporting.plain import plain_step_model
from rnnstate.exporting.signature import Signature, signature_of


@dataclass(frozen=True)
class Export:
    """What was exported.

    Args:
        path: The file, or the folder of a SavedModel.
        manifest_path: The JSON file beside it.
        manifest: Its content.
        largest_difference: How far the file is from the model, at most, in what was verified.
    """

    path: Path
    manifest_path: Path
    manifest: dict[str, Any]
    largest_difference: float


def export(
    model: Any,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    time: int | None = None,
    force: bool = False,
) -> Export:
    """Write the step model `(x, state) -> (y, state)` for another runtime, and verify it there.

    The file is run in its own runtime, at several batch sizes and lengths, in chunks that carry the state, and compared
    with the live model. It is kept only if it gives the same. The model and its states are never changed.

    Args:
        model: A `StatefulModel`, trained or not.
        path: The file to write; a manifest is written beside it, at `path` with `.json` added.
        format: `"onnx"`, `"saved_model"`, `"litert"`, `"stablehlo"` or `"keras"`; by the suffix of `path` if left out.
        time: Number of steps of each call. Any number if left out, where the format allows; LiteRT does not, and takes
            one step at a time.
        force: Whether to replace what is at `path`.

    Returns:
        An `Export` with the manifest and the largest difference.

    Raises:
        ExportError: If the format is not known, needs packages that are missing, cannot hold this network, or if the
            file does not give what the model gives.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="lstm", return_sequences=True)])
    >>> done = export(StatefulModel(net), "lstm.keras")
    >>> [leaf["input"] for leaf in done.manifest["state"]]
    ['state.lstm.h', 'state.lstm.c']
    """
    place = Path(path)
    form = find_format(place, format)
    _check_model(model, place, time, force)
    signature = signature_of(model.net, model.state_spec, time if time or form.dynamic_time else 1)
    with tempfile.TemporaryDirectory() as folder, _random_numbers_kept():
        job = _Job(model, form, signature, Path(folder))
        difference = job.run()
        _move(job.artifact, place)
    manifest = manifest_of(
        place,
        form.name,
        signature,
        job.initial,
        fingerprint=model.state_spec.fingerprint,
        backend=keras.config.backend(),
        verified={
            "largest_difference": difference,
            "tolerance": verification.TOLERANCE,
            "batch_sizes": list(verification.batch_sizes(signature)),
            "chunks": list(verification.chunk_lengths(signature)),
        },
    )
    write_manifest(manifest_path(place), manifest)
    return Export(place, manifest_path(place), manifest, difference)


class _Job:
    """One file, made and run in a folder that goes away."""

    def __init__(self, model: Any, form: Format, signature: Signature, folder: Path) -> None:
        self.model, self.form, self.signature, self.folder = model, form, signature, folder
        self.artifact = folder / f"artifact{form.suffix}"
        self.initial = _initial_row(model)
        self.custom = custom_of(model)

    def run(self) -> float:
        """Write the file and return how far it is from the model, at most."""
        runs = verification.make_runs(self.signature, self.initial)
        live = verification.live_outputs(self.model, self.signature, runs)
        chunks.save_runs(self.folder / "inputs.npz", runs)
        self._write_job()
        try:
            self._work()
        except ExportError:
            raise
        except Exception as error:
            raise self._failure(f"{type(error).__name__}: {error}") from error
        return verification.largest_difference(live, chunks.load_runs(self.folder / "outputs.npz"))

    def _write_job(self) -> None:
        job = {
            "format": self.form.name,
            "artifact": self.artifact.name,
            "signature": self.signature.to_json(),
            "links": verification.links_of(self.signature),
            "custom": self.custom.classes,
            "modules": self.custom.modules,
        }
        (self.folder / "job.json").write_text(json.dumps(job))

    def _work(self) -> None:
        if self.form.backend is None:
            plain_step_model(self.model.net, self.signature).save(self.artifact)
            self._start([sys.executable, "-P", chunks.__file__], keras.config.backend())
            return
        self.model.net.save(self.folder / "net.keras")
        if self.form.backend == keras.config.backend():
            worker.work(self.folder, self.custom.objects)
        else:
            self._start([sys.executable, "-P", "-m", worker.__name__], self.form.backend)

    def _start(self, command: list[str], backend: str) -> None:
        """Run a program on the job, under a backend of its own."""
        _check_reachable(self.custom, self.form)
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        done = subprocess.run([*command, str(self.folder)], capture_output=True, text=True, env=environment)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise self._failure(lines[-1] if lines else f"exit status {done.returncode}")

    def _failure(self, reason: str) -> ExportError:
        return ExportError(
            f'The network `{self.model.net.name}` must be of layers that format="{self.form.name}" can hold. '
            f"Received: {' '.join(reason.split())[:300]} Nothing was written. Try another format."
        )


def _check_model(model: Any, path: Path, time: int | None, force: bool) -> None:
    if not hasattr(model, "state_spec"):
        raise ExportError(
            f"`model` must be a `StatefulModel`, whose state is explicit. Received: {type(model).__name__}. "
            "Use `rnnstate.StatefulModel(net)`."
        )
    if time is not None and time < 1:
        raise ExportError(f"`time` must be at least 1. Received: time={time}.")
    if path.exists() and not force:
        raise ExportError(f"`path` must not exist yet. Received: path={str(path)!r}. Use `force=True` to replace it.")


def _check_reachable(custom: Custom, form: Format) -> None:
    if custom.unreachable:
        raise ExportError(
            f'format="{form.name}" is written in a process of its own, which must import every class of the network. '
            f"Received: `{custom.unreachable[0]}`, defined where no module can be imported. Move it to a module."
        )


def _initial_row(model: Any) -> chunks.Arrays | None:
    """Return one row of the initial state; `None` if it depends on observed values."""
    if model.start.needs_observed:
        return None
    state = model.initial_state(batch_size=1)
    return {name: ops.convert_to_numpy(ops.stop_gradient(value)) for name, value in state.items()}


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Leave Python's random numbers as they are: new layers of Keras draw their seeds from them."""
    kept = random.getstate()
    try:
        yield
    finally:
        random.setstate(kept)


def _move(artifact: Path, place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(artifact, place)
