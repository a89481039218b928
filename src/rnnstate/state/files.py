"""State files: safetensors with a signature, opened without Keras or any backend.

Every leaf is one tensor under its name, with one row per sample. The file's metadata hold `format` ("rnnstate"),
`format_version`, `fingerprint` of the spec, `leaves` (their names in order, as JSON), `rnnstate_version`, `metadata` (what
the user added, as JSON), `versions` of the libraries, and `sha256`, a checksum of the whole file. `signature` reads and
checks these fields. Files of format 1 may lack `versions` and `sha256`.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save

from rnnstate import __version__
from rnnstate.durable import write_durably
from rnnstate.errors import DataError, SpecMismatchError, StateStructureError
from rnnstate.state.signature import check_signature, is_whole, read_signature, seal, unsealed
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State
from rnnstate.versions import installed_versions

# The dtypes of safetensors under the names that NumPy gives them.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "C64": "complex64"}
_DTYPES |= {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


def save_state(
    path: str | os.PathLike[str], state: Mapping[str, Array], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a state to a file: all of it, or nothing.

    Args:
        path: File to write, usually `*.safetensors`. An existing file is replaced once the new one is complete.
        state: Leaves `(batch, *shape)`.
        metadata: Anything that JSON can hold, by name. `load_metadata` reads it back; a tuple becomes a list.

    Raises:
        StateShapeError: If the leaves disagree about the batch.
        StateStructureError: If a leaf has the name `__metadata__`, which the format keeps for itself.
        TypeError: If JSON cannot hold the metadata.
        OSError: If the file cannot be written.

    Example:

    >>> save_state("state.safetensors", {"lstm/h": np.ones((2, 8), "float32")}, metadata={"keys": ["a", "b"]})
    >>> load_state("state.safetensors")
    State(lstm/h: (2, 8) float32)
    >>> load_metadata("state.safetensors")
    {'keys': ['a', 'b']}
    """
    rows = State(state).numpy()
    if "__metadata__" in rows:
        raise StateStructureError(
            "A leaf must not be named `__metadata__` in a state file. Received: it. Rename the leaf."
        )
    running = [name for name in ("jax", "torch", "tensorflow") if name in sys.modules]
    header = {
        "fingerprint": rows.spec.fingerprint,
        "leaves": json.dumps(list(rows)),
        "rnnstate_version": __version__,
        "metadata": _as_json({} if metadata is None else metadata),
        "versions": json.dumps(installed_versions(["keras", "numpy", "safetensors", *running])),
    }
    # safetensors writes the memory of an array, which for a transposed one is not the order of its values.
    leaves = {name: np.ascontiguousarray(value) for name, value in rows.items()}
    write_durably(Path(path), seal(save(leaves, metadata=unsealed(header))))


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
    """Return the metadata that `save_state` kept in a file, such as the keys of the rows.

    Args:
        path: A file that `save_state` wrote.

    Returns:
        The metadata, empty if none was given.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.

    Example:

    >>> save_state("run.safetensors", {"gru/h": np.ones((2, 3), "float32")}, metadata={"keys": ["north", "south"]})
    >>> load_metadata("run.safetensors")["keys"]
    ['north', 'south']
    """
    return dict(json.loads(_read(Path(path))[0]["metadata"]))


def load_versions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the versions of the libraries that a file was written with; older files name that of rnnstate alone.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.
    """
    header, _ = _read(Path(path))
    return {"rnnstate": header["rnnstate_version"], **json.loads(header.get("versions", "{}"))}


def _as_json(metadata: Any) -> str:
    """Return the metadata as JSON, or raise a `TypeError` before anything is written."""
    if not isinstance(metadata, Mapping):
        raise TypeError(f"`metadata` must be a mapping of names to values. Received: {type(metadata).__name__}.")
    odd = [key for key in _keys(metadata) if not isinstance(key, str)]
    if odd:  # JSON would make text of it, and `load_metadata` return another key
        raise TypeError(f"The keys in `metadata` must be text. Received: {odd[0]!r} ({type(odd[0]).__name__}).")
    return json.dumps(dict(metadata))


def _keys(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
    if isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _keys(part)


def _read(path: Path) -> tuple[dict[str, str], State]:
    return parse(path, path.read_bytes())


def parse(path: Path, content: bytes) -> tuple[dict[str, str], State]:
    """Return the signature and the state of a file, after every byte of its content was checked.

    Raises:
        DataError: If the content is no state file, truncated, changed, or of a newer format.
    """
    try:
        header = read_signature(content)
    except ValueError as error:
        raise _incomplete(path, error) from error
    check_signature(path, header)
    try:
        tensors: Any = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        leaves = {name: _array(**tensor) for name, tensor in tensors}
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise _incomplete(path, error) from error
    names = json.loads(header["leaves"])
    if sorted(names, key=str) == sorted(leaves) and is_whole(content, header, leaves):
        state = State({name: leaves[name] for name in names})
        if state.spec.fingerprint == header["fingerprint"]:
            return header, state
    raise DataError(
        f"A state file must hold the leaves that it was written with, {names}. "
        f"Received: `{path}`, which was changed since: it holds {sorted(leaves)}. Write it again."
    )


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":  # a type that NumPy has not itself; Keras installs it
        import ml_dtypes

        return np.frombuffer(data, dtype=ml_dtypes.bfloat16).reshape(shape)
    return np.frombuffer(data, dtype=np.dtype(_DTYPES[dtype]).newbyteorder("<")).reshape(shape)


def _incomplete(path: Path, error: Exception) -> DataError:
    return DataError(
        f"A state file must be complete. Received: `{path}`, which cannot be read ({error}). Write it again."
    )
