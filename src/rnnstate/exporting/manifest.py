"""The manifest beside an exported file: all that a program needs to run it, as JSON."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate import __version__
from rnnstate.exporting.chunked_run import Arrays
from rnnstate.exporting.signature import Signature

FORMAT_VERSION = 1
_VERSIONED = (
    "keras",
    "jax",
    "torch",
    "tensorflow-cpu",
    "tensorflow",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "ai-edge-litert",
)


def manifest_path(path: Path) -> Path:
    """Return the place of a file's manifest: beside it, with `.json` added."""
    return path.with_name(f"{path.name}.json")


def initial_path(path: Path) -> Path:
    """Return the place of the second file, for an initial state that is computed: `model.initial.onnx`."""
    return path.with_name(f"{path.stem}.initial{path.suffix}")


def manifest_of(path: Path, form: str, signature: Signature, initial: Arrays | None, **fields: Any) -> dict[str, Any]:
    """Return the manifest of an exported file.

    Args:
        path: The file; that of the initial state lies beside it.
        form: Its format.
        signature: Its inputs and outputs.
        initial: One row of the initial state, or `None` if it depends on observed values.
        fields: What else it says: fingerprint, backend, verification.
    """
    return {
        "format": "rnnstate-export",
        "format_version": FORMAT_VERSION,
        "rnnstate_version": __version__,
        "kind": form,
        "file": path.name,
        "sha256": _hash(path),
        "batch": signature.batch or "any",
        "time": signature.time or "any",
        "inputs": [tensor_json(tensor) for tensor in signature.inputs],
        "outputs": [tensor_json(tensor) for tensor in signature.outputs],
        "state": [_leaf_json(name, signature, initial) for name in signature.leaves],
        "initial": _initial_json(initial_path(path), signature),
        "versions": _versions(),
        **fields,
    }


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest as JSON."""
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def tensor_json(tensor: Any) -> dict[str, Any]:
    """Return name, shape and dtype of an input or output."""
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def _initial_json(path: Path, signature: Signature) -> dict[str, Any] | None:
    if signature.observed is None:
        return None
    return {"file": path.name, "sha256": _hash(path), "inputs": [tensor_json(signature.observed)]}


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _leaf_json(name: str, signature: Signature, initial: Arrays | None) -> dict[str, Any]:
    tensor = signature.state_inputs[name]
    return {
        "leaf": name,
        "input": tensor.name,
        "output": signature.state_outputs[name].name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "initial": None if initial is None else _constant(initial[name][0]),
    }


def _constant(row: np.ndarray) -> Any:
    """Return the values of one row; a single number where all are the same, as for zeros."""
    row = row.astype("float64")
    return float(row.flat[0]) if row.size and (row == row.flat[0]).all() else row.tolist()


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
