"""`export`: write the step model to a file, run the file in its runtime, and keep it only if it agrees with the model."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from rnnstate.durable import replacing, replacing_folder
from rnnstate.errors import ExportError
from rnnstate.exporting import verification
from rnnstate.exporting.copy import in_float32
from rnnstate.exporting.custom_classes import custom_of
from rnnstate.exporting.formats import find_format
from rnnstate.exporting.job import Job
from rnnstate.exporting.manifest import initial_path, manifest_of, manifest_path, write_manifest
from rnnstate.exporting.signature import Signature, signature_of
from rnnstate.model.stateful_model import StatefulModel


@dataclass(frozen=True)
class Export:
    """The result of `export`.

    Args:
        path: The exported file, or the folder of a SavedModel.
        manifest_path: The JSON file next to it.
        manifest: The content of the JSON file.
        largest_difference: The largest difference between an output of the file and the same output of the model.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> done = export(StatefulModel(net), "gru.keras")
    >>> done.path.name, done.manifest_path.name, done.largest_difference < 1e-5
    ('gru.keras', 'gru.keras.json', True)
    """

    path: Path
    manifest_path: Path
    manifest: dict[str, Any]
    largest_difference: float


def export(
    model: StatefulModel,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    time: int | None = None,
    force: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Export:
    """Write the step model `(x, state) -> (y, state)` for another runtime, and verify it there.

    The file runs in its runtime at several batch sizes and lengths, in chunks that carry the state. Its outputs are
    compared with the outputs of the live model, and the file is kept only if they agree. The model and its states never
    change. A network in mixed precision is written and compared in float32.

    Args:
        model: A `StatefulModel`, trained or not.
        path: The file to write. A manifest is written next to it, at `path` with `.json` added. An initial state that
            is computed from observed values becomes a second file, `model.initial.onnx` next to `model.onnx`.
        format: `"onnx"`, `"saved_model"`, `"litert"`, `"stablehlo"` or `"keras"`. The default depends on the suffix of
            `path`.
        time: The number of steps of each call. The default is any number, if the format allows it. LiteRT does not,
            and its default is one step, or the total stride of a network with strides over time.
        force: Whether to replace an existing file at `path`.
        metadata: Further entries for the manifest, of types that JSON can hold.

    Returns:
        An `Export` with the manifest and the largest difference.

    Raises:
        ExportError: If the format is unknown, needs packages that are missing or cannot hold this network, or if the
            file and the model give different outputs.

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
        signature = signature_of(model, time if time or form.dynamic_time else model.strides.total)
        job = Job(model, form, signature, Path(folder), custom)
        difference = job.run()
        for name, target in _places(place, signature).items():
            _keep(job.artifact(name), target)
    manifest = manifest_of(
        place,
        form.name,
        signature,
        job.initial,
        fingerprint=model.state_spec.fingerprint,
        backend=keras.config.backend(),
        verified=_verified(signature, difference),
        metadata=dict(metadata or {}),
    )
    write_manifest(manifest_path(place), manifest)
    return Export(place, manifest_path(place), manifest, difference)


def _verified(signature: Signature, difference: float) -> dict[str, Any]:
    """Return the part of the manifest that says how the file was verified."""
    return {
        "largest_difference": difference,
        "tolerance": verification.TOLERANCE,
        "batch_sizes": list(verification.batch_sizes(signature)),
        "chunks": list(verification.chunk_lengths(signature)),
    }


def _check_model(model: Any, path: Path, time: int | None, force: bool) -> None:
    if not isinstance(model, StatefulModel):
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
        raise ExportError(
            f"`metadata` must hold only values that JSON can hold. Received: {metadata!r:.80} ({error}). "
            "Convert them to numbers, texts, lists and mappings."
        ) from error


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Restore the state of Python's random numbers: every new Keras layer draws a seed from them."""
    kept = random.getstate()
    try:
        yield
    finally:
        random.setstate(kept)


def _places(path: Path, signature: Signature) -> dict[str, Path]:
    """Return the final path for the file of each program."""
    return {"step": path} | ({} if signature.observed is None else {"initial": initial_path(path)})


def _keep(artifact: Path, place: Path) -> None:
    """Copy a verified file or folder to its final path. At any moment the path holds the old or the new one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if artifact.is_dir():
        with replacing_folder(place) as folder:
            shutil.copytree(artifact, folder, dirs_exist_ok=True)
        return
    with replacing(place) as temporary:
        shutil.copyfile(artifact, temporary)
        if place.is_dir():  # a rename cannot put a file over a folder
            shutil.rmtree(place)
