"""The manifest: a JSON file next to the export, with everything that a program needs to run the export."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate import __version__
from rnnstate.durable import write_durably
from rnnstate.exporting.chunked_run import Arrays
from rnnstate.exporting.signature import Signature, Tensor
from rnnstate.versions import installed_versions

FORMAT_VERSION = 1
# Every library that can take part in writing or verifying a file.
_LIBRARIES = ("keras", "jax", "torch", "tensorflow", "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert")


def manifest_path(path: Path) -> Path:
    """Return the path of the manifest of a file: the same path with `.json` added."""
    return path.with_name(f"{path.name}.json")


def initial_path(path: Path) -> Path:
    """Return the path of the second file, which computes the initial state: `model.initial.onnx`."""
    return path.with_name(f"{path.stem}.initial{path.suffix}")


def manifest_of(path: Path, form: str, signature: Signature, initial: Arrays | None, **fields: Any) -> dict[str, Any]:
    """Return the manifest of an exported file.

    Args:
        path: The exported file. The file of the initial state, if there is one, lies next to it.
        form: The name of the format.
        signature: The inputs and outputs of the step model.
        initial: One row of the initial state, leaves `(1, *shape)`; `None` if it depends on observed values.
        fields: Further entries: fingerprint, backend, verification, metadata.
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
        **({"strides": signature.strides} if signature.strides > 1 else {}),
        "inputs": [tensor_json(tensor) for tensor in signature.inputs],
        "outputs": [tensor_json(tensor) for tensor in signature.outputs],
        "state": [_leaf_json(name, signature, initial) for name in signature.leaves],
        "initial": _initial_json(initial_path(path), signature),
        "versions": installed_versions(_LIBRARIES),
        **fields,
    }


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest as JSON."""
    write_durably(path, f"{json.dumps(manifest, indent=1)}\n".encode())


def tensor_json(tensor: Tensor) -> dict[str, Any]:
    """Return the name, shape and dtype of an input or output."""
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
    """Return the values of one row, or a single number if all values are equal, as for zeros."""
    row = row.astype("float64")
    return float(row.flat[0]) if row.size and (row == row.flat[0]).all() else row.tolist()
