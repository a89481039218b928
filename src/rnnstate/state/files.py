"""State files: safetensors with a signature, opened without Keras or any backend.

Every leaf is one tensor under its name, with one row per sample. The file's metadata hold `format` ("rnnstate"),
`format_version`, `fingerprint` of the spec, `leaves` (their names in order, as JSON), `rnnstate_version`, and `metadata`
(what the user added, as JSON). `versions` of the libraries, and the `sha256` of all values, were added later.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save

from rnnstate import __version__
from rnnstate.durable import write_durably
from rnnstate.errors import DataError, SpecMismatchError
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State
from rnnstate.versions import installed_versions

FORMAT_VERSION = 1

# The fields of the signature; all but text are JSON.
_SIGNATURE: dict[str, type] = {
    "format_version": int,
    "rnnstate_version": str,
    "fingerprint": str,
    "leaves": list,
    "metadata": dict,
}


def save_state(
    path: str | os.PathLike[str], state: Mapping[str, Array], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a state to a file: all of it, or nothing.

    Args:
        path: File to write, usually `*.safetensors`. An existing file is replaced once the new one is complete.
        state: Leaves `(batch, *shape)`.
        metadata: Anything that JSON can hold, kept in the file.

    Raises:
        StateShapeError: If the leaves disagree about the batch.
        OSError: If the file cannot be written.

    Example:

    >>> save_state("state.safetensors", {"lstm/h": np.ones((2, 8), "float32")}, metadata={"keys": ["a", "b"]})
    >>> load_state("state.safetensors")
    State(lstm/h: (2, 8) float32)
    """
    rows = State(state).numpy()
    running = [name for name in ("jax", "torch", "tensorflow") if name in sys.modules]
    header = {
        "format": "rnnstate",
        "format_version": str(FORMAT_VERSION),
        "fingerprint": rows.spec.fingerprint,
        "leaves": json.dumps(list(rows)),
        "rnnstate_version": __version__,
        "metadata": json.dumps(dict(metadata or {})),
        "versions": json.dumps(installed_versions(["keras", "numpy", "safetensors", *running])),
    }
    # safetensors writes the memory of an array, which for a transposed one is not the order of its values.
    leaves = {name: np.ascontiguousarray(value) for name, value in rows.items()}
    header["sha256"] = _hash(header, leaves)
    write_durably(Path(path), save(leaves, metadata=header))


def load_state(path: str | os.PathLike[str], spec: StateSpec | None = None) -> State:
    """Read a state from a file.

    Args:
        path: A file that `save_state` wrote.
        spec: What the state must look like, such as `model.state_spec`; not checked if left out. A state of the same
            architecture under the layer names of another process gets the names of this spec.

    Returns:
        A `State` of NumPy arrays.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.
        SpecMismatchError: If the state belongs to another model.

    Example:

    >>> save_state("run.safetensors", {"gru/h": np.ones((2, 3), "float32")})
    >>> load_state("run.safetensors")
    State(gru/h: (2, 3) float32)
    """
    _, state = _read(Path(path))
    if spec is None or state.spec == spec:
        return state
    if state.spec.fingerprint != spec.fingerprint:
        raise SpecMismatchError(
            f"The state must be of a model with spec {spec.fingerprint}: {spec}. "
            f"Received: `{path}`, written for spec {state.spec.fingerprint}: {state.spec}."
        )
    return State(spec.adopt(state))


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `save_state` was given as `metadata`.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.
    """
    return dict(json.loads(_read(Path(path))[0]["metadata"]))


def load_versions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the versions of the libraries that a file was written with; older files name that of rnnstate alone.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.
    """
    header, _ = _read(Path(path))
    return {"rnnstate": header["rnnstate_version"], **json.loads(header.get("versions", "{}"))}


def _hash(header: Mapping[str, str], leaves: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the names, the user's metadata, and the values of all leaves in order."""
    digest = hashlib.sha256(f"{header['leaves']}\n{header['metadata']}\n".encode())
    for name in json.loads(header["leaves"]):
        digest.update(leaves[name].tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, str], State]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            _check_signature(path, header)
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
    except safetensors.SafetensorError as error:
        raise DataError(
            f"A state file must be complete. Received: `{path}`, which cannot be read ({error}). Write it again."
        ) from error
    names = json.loads(header["leaves"])
    if sorted(names, key=str) == sorted(leaves):
        state = State({name: leaves[name] for name in names})
        if state.spec.fingerprint == header["fingerprint"] and header.get("sha256") in (None, _hash(header, leaves)):
            return header, state
    raise DataError(
        f"A state file must hold the leaves that it was written with, {names}. "
        f"Received: `{path}`, which was changed since: it holds {sorted(leaves)}. Write it again."
    )


def _check_signature(path: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != "rnnstate":
        raise DataError(
            f"A state file must be written by `rnnstate.save_state`. Received: `{path}`, a safetensors file without its "
            "signature."
        )
    if _holds(header, "format_version") and int(header["format_version"]) > FORMAT_VERSION:
        raise DataError(
            f"This release reads state files up to format {FORMAT_VERSION}. Received: `{path}` of format "
            f"{header['format_version']}, written by rnnstate {header.get('rnnstate_version')}. Upgrade rnnstate."
        )
    missing = [field for field in _SIGNATURE if not _holds(header, field)]
    if missing:
        raise DataError(
            f"A state file must have a whole signature. Received: `{path}` without a readable `{missing[0]}`. "
            "Write it again."
        )


def _holds(header: Mapping[str, str], field: str) -> bool:
    """True if a field of the signature is there, and is JSON of the right kind where it is JSON."""
    kind = _SIGNATURE[field]
    try:
        return (kind is str and field in header) or type(json.loads(header[field])) is kind
    except (KeyError, ValueError):
        return False
