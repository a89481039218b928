"""State files of other formats: `.npz` with one array per leaf, and `.h5` with one data set per leaf.

Both hold the leaves under their own names. A signature, JSON, keeps their order, the user's metadata and a checksum; files
of release 0.1.0 have no checksum, and files of other programs have no signature. A file that is converted to another
format and back holds the same state.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.durable import replacing
from rnnstate.errors import DataError
from rnnstate.messages import quoted
from rnnstate.state.files import load_metadata, load_state, save_state
from rnnstate.state.state import State

SUFFIXES = (".safetensors", ".npz", ".h5")
# No leaf can have this name in a `.npz`: it is the entry that holds order and metadata.
_SIGNATURE = "__rnnstate__"


def read_any(path: Path) -> tuple[State, dict[str, Any]]:
    """Read a state and its metadata from a file with one of `SUFFIXES`.

    Raises:
        DataError: If the file cannot be read as a state.
    """
    read = _by_suffix(path, _READERS)
    try:
        result: tuple[State, dict[str, Any]] = read(path)
        return result
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, (DataError, FileNotFoundError)):
            raise
        raise DataError(f"A state file must be whole. Received: `{path}`, which cannot be read ({error}).") from error


def write_any(path: Path, state: State, metadata: Mapping[str, Any]) -> None:
    """Write a state and its metadata. The suffix of `path` names the format. The file appears whole, or not at all.

    Raises:
        DataError: If the suffix is none of `SUFFIXES`, or the format cannot hold the dtype of a leaf.
    """
    write = _by_suffix(path, _WRITERS)
    if path.suffix != ".safetensors":
        _check_floats(path, state)
    with replacing(path) as temporary:
        write(temporary, state, metadata)


def check_suffix(path: Path) -> None:
    """Raise a `DataError` unless the suffix of `path` is one of `SUFFIXES`."""
    _by_suffix(path, _WRITERS)


def _by_suffix(path: Path, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if path.suffix not in functions:
        raise DataError(f"A state file must be one of {quoted(SUFFIXES)}. Received: `{path}`.")
    return functions[path.suffix]


def _read_safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    return load_state(path), load_metadata(path)


def _read_npz(path: Path) -> tuple[State, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        if not hasattr(file, "files"):  # a bare `.npy` under another name
            raise DataError(f"A `.npz` must hold one array per leaf. Received: `{path}`, a single array.")
        arrays = {name: file[name] for name in file.files}
    return _signed(path, arrays, str(arrays.pop(_SIGNATURE, "{}")))


def _write_npz(path: Path, state: State, metadata: Mapping[str, Any]) -> None:
    with open(path, "wb") as file:
        arrays: dict[str, Any] = {_SIGNATURE: np.array(_signature(state, metadata)), **state}
        np.savez(file, **arrays)


def _read_h5(path: Path) -> tuple[State, dict[str, Any]]:
    h5py = _h5py()
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item)

    with h5py.File(path, "r") as file:
        file.visititems(keep)
        return _signed(path, arrays, str(file.attrs.get(_SIGNATURE, "{}")))


def _write_h5(path: Path, state: State, metadata: Mapping[str, Any]) -> None:
    with _h5py().File(path, "w") as file:
        file.attrs[_SIGNATURE] = _signature(state, metadata)
        for name, value in state.items():
            file.create_dataset(name, data=value)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise DataError('`.h5` files need h5py. Install it with: pip install "rnnstate[h5]".') from error
    return h5py


def _signature(state: State, metadata: Mapping[str, Any]) -> str:
    text = json.dumps({"leaves": list(state), "metadata": dict(metadata)})
    return json.dumps({**json.loads(text), "sha256": _hash(text, state)})


def _hash(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the signature without its hash, and of every leaf: `.h5` files have no checksum of their own."""
    digest = hashlib.sha256(text.encode())
    for name, value in arrays.items():
        digest.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _signed(path: Path, arrays: dict[str, np.ndarray], signature: str) -> tuple[State, dict[str, Any]]:
    """Return the leaves in the order of the signature; a file of someone else has none, and keeps its own order."""
    signed = json.loads(signature)
    names = signed.get("leaves", list(arrays))
    if sorted(names) != sorted(arrays):
        raise DataError(
            f"A state file must hold the leaves that it was written with, {quoted(names)}. "
            f"Received: `{path}` with {quoted(sorted(arrays))}."
        )
    _check_floats(path, arrays)
    state = State({name: arrays[name] for name in names})
    kept = signed.pop("sha256", None)
    if kept is not None and kept != _hash(json.dumps(signed), state):
        raise DataError(
            f"A state file must be as it was written. Received: `{path}`, which was changed since. Write it again."
        )
    return state, dict(signed.get("metadata", {}))


def _check_floats(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    odd = [name for name, value in arrays.items() if value.dtype.kind != "f" or value.ndim == 0]
    if odd:
        raise DataError(
            f"Every leaf must be an array of floats with a row per sample. Received: `{path}`, where `{odd[0]}` is "
            f"{arrays[odd[0]].dtype} with shape {arrays[odd[0]].shape}."
        )


_READERS: dict[str, Callable[..., Any]] = {".safetensors": _read_safetensors, ".npz": _read_npz, ".h5": _read_h5}
_WRITERS: dict[str, Callable[..., Any]] = {
    ".safetensors": lambda path, state, metadata: save_state(path, state, metadata),
    ".npz": _write_npz,
    ".h5": _write_h5,
}
