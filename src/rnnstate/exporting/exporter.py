"""`export`: write the step model to a file, run the file in its own runtime, keep it only if it does what the model does."""

import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import ExportError
from rnnstate.exporting import chunked_run as chunks
from rnnstate.exporting import verification, worker
from rnnstate.exporting.copy import in_float32, settings_of
from rnnstate.exporting.custom_classes import Custom, custom_of
from rnnstate.exporting.formats import Format, find_format
from rnnstate.exporting.manifest import initial_path, manifest_of, manifest_path, write_manifest
from rnnstate.exporting.plain_keras import plain_initial_model, plain_step_model
from rnnstate.exporting.programs import programs_of
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
    metadata: Mapping[str, Any] | None = None,
) -> Export:
    """Write the step model `(x, state) -> (y, state)` for another runtime, and verify it there.

    The file is run in its own runtime, at several batch sizes and lengths, in chunks that carry the state, and compared
    with the live model. It is kept only if it gives the same. The model and its states are never changed. A network of
    mixed precision is written and compared in float32.

    Args:
        model: A `StatefulModel`, trained or not.
        path: The file to write; a manifest is written beside it, at `path` with `.json` added. An initial state that is
            computed from observed values is a second file, `model.initial.onnx` beside `model.onnx`.
        format: `"onnx"`, `"saved_model"`, `"litert"`, `"stablehlo"` or `"keras"`; by the suffix of `path` if left out.
        time: Number of steps of each call. Any number if left out, where the format allows; LiteRT does not, and takes
            one step at a time.
        force: Whether to replace what is at `path`.
        metadata: What else the manifest is to say, as JSON can hold it.

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
    _check_metadata(metadata)
    with tempfile.TemporaryDirectory() as folder, _random_numbers_kept():
        custom = custom_of(model)
        model = in_float32(model, custom.objects)
        signature = signature_of(model, time if time or form.dynamic_time else 1)
        job = _Job(model, form, signature, Path(folder), custom)
        difference = job.run()
        for name, target in _places(place, signature).items():
            _move(job.artifact(name), target)
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
        metadata=dict(metadata or {}),
    )
    write_manifest(manifest_path(place), manifest)
    return Export(place, manifest_path(place), manifest, difference)


class _Job:
    """The files of one export, made and run in a folder that goes away."""

    def __init__(self, model: Any, form: Format, signature: Signature, folder: Path, custom: Custom) -> None:
        self.model, self.form, self.signature, self.folder = model, form, signature, folder
        self.programs = programs_of(model, signature)
        self.initial = _initial_row(model)
        self.custom = custom

    def artifact(self, name: str) -> Path:
        """Return the place of one program's file."""
        return self.folder / f"{name}{self.form.suffix}"

    def run(self) -> float:
        """Write the files and return how far they are from the model, at most."""
        live = {}
        for program in self.programs:
            runs = verification.runs_of(program, self.signature, self.initial)
            live[program.name] = verification.live_outputs(program, runs)
            chunks.save_runs(self.folder / f"{program.name}.inputs.npz", runs)
        self._write_job()
        try:
            self._work()
        except ExportError:
            raise
        except Exception as error:
            raise self._failure(f"{type(error).__name__}: {error}") from error
        return max(
            verification.largest_difference(runs, chunks.load_runs(self.folder / f"{name}.outputs.npz"))
            for name, runs in live.items()
        )

    def _write_job(self) -> None:
        job = {
            "format": self.form.name,
            "suffix": self.form.suffix,
            "signature": self.signature.to_json(),
            "programs": {program.name: program.links for program in self.programs},
            "model": settings_of(self.model),
            "custom": self.custom.classes,
            "modules": self.custom.modules,
        }
        (self.folder / "job.json").write_text(json.dumps(job))

    def _work(self) -> None:
        if self.form.backend is None:
            self._save_plain()
            self._start([sys.executable, "-P", chunks.__file__], keras.config.backend())
            return
        self.model.net.save(self.folder / "net.keras")
        np.savez(self.folder / "start.npz", *self.model.start.get_weights())
        if self.form.backend == keras.config.backend():
            worker.work(self.folder, self.custom.objects)
        else:
            self._start([sys.executable, "-P", "-m", worker.__name__], self.form.backend)

    def _save_plain(self) -> None:
        plain_step_model(self.model.net, self.signature).save(self.artifact("step"))
        if self.signature.observed is not None:
            plain_initial_model(self.model.start, self.signature).save(self.artifact("initial"))

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
    places = [path, initial_path(path)] if model.start.needs_observed else [path]
    taken = [str(place) for place in places if place.exists()]
    if taken and not force:
        raise ExportError(f"`path` must not exist yet. Received: path={taken[0]!r}. Use `force=True` to replace it.")


def _check_metadata(metadata: Mapping[str, Any] | None) -> None:
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"`metadata` must be what JSON can hold. Received: {metadata!r:.80} ({error}).") from error


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


def _places(path: Path, signature: Signature) -> dict[str, Path]:
    """Return where the file of each program goes."""
    return {"step": path} | ({} if signature.observed is None else {"initial": initial_path(path)})


def _move(artifact: Path, place: Path) -> None:
    """Put a file or folder in its place, which holds a whole one at any moment."""
    place.parent.mkdir(parents=True, exist_ok=True)
    near = place.with_name(f".{secrets.token_hex(4)}{place.name}")
    shutil.move(artifact, near)
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(near, place)
