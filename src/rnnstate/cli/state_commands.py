"""What `rnnstate inspect`, `rnnstate diff` and `rnnstate convert` do with state files. Opens no Keras and no backend.

Other formats hold the same leaves under the same names: `.npz` one array per leaf, `.h5` one data set per leaf, at the
leaf's path. Both keep the order of the leaves and the user's metadata, as JSON, so that a file converted there and back
is the same state.
"""

import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import quoted
from rnnstate.state.files import load_metadata, load_state, load_versions, save_state
from rnnstate.state.state import State

SUFFIXES = (".safetensors", ".npz", ".h5")
# No leaf can have this name in a `.npz`: it is the entry that holds order and metadata.
_SIGNATURE = "__rnnstate__"


def describe_state(path: Path) -> list[str]:
    """Return the lines of `rnnstate inspect` for a state file: a row per leaf, and what the file says of itself.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.
    """
    state, metadata = read_any(path)
    rows = [(name, str(tuple(value.shape)), str(value.dtype), _range(value)) for name, value in state.items()]
    lines = [f"State of {state.batch_size} rows, spec {state.spec.fingerprint}.", *(_line(row) for row in rows)]
    if path.suffix == ".safetensors":
        lines.append(f"Written by {', '.join(f'{name} {version}' for name, version in load_versions(path).items())}.")
    return [*lines, *(f"{name}: {json.dumps(value)}" for name, value in metadata.items())]


def diff_states(one: Path, other: Path) -> tuple[list[str], bool]:
    """Return the lines of `rnnstate diff`, and whether the two states differ.

    Args:
        one: A state file, `.npz` or `.h5`.
        other: Another one.

    Returns:
        A line for each leaf that differs: in which rows and how far, or what is there in one file only.

    Raises:
        DataError: If a file cannot be read as a state.
    """
    first, second = read_any(one)[0], read_any(other)[0]
    lines = [f"{name}: only in {one}" for name in first if name not in second]
    lines += [f"{name}: only in {other}" for name in second if name not in first]
    lines += [line for name in first if name in second for line in _leaf_diff(name, first[name], second[name])]
    return lines or ["The states are equal, bit for bit."], bool(lines)


def convert_state(source: Path, target: Path, force: bool = False) -> State:
    """Write the state of one file as a file of another format; the suffix of each path says which.

    Args:
        source: `.safetensors`, `.npz` or `.h5`.
        target: The file to write, of another of these.
        force: Whether to replace `target`.

    Returns:
        The state.

    Raises:
        DataError: If `source` cannot be read as a state, or `target` exists.
    """
    write = _by_suffix(target, _WRITERS)
    if target.exists() and not force:
        raise DataError(
            f"`{target}` must not exist yet. Received: a file that does. Choose another name, or use --force."
        )
    state, metadata = read_any(source)
    temporary = target.with_name(f".{secrets.token_hex(4)}{target.suffix}")
    try:
        write(temporary, state, metadata)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return state


def read_any(path: Path) -> tuple[State, dict[str, Any]]:
    """Read a state and its metadata from a file of any format that this module knows.

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


def _by_suffix(path: Path, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if path.suffix not in functions:
        raise DataError(f"A state file must be one of {quoted(SUFFIXES)}. Received: `{path}`.")
    return functions[path.suffix]


def _line(cells: Iterable[str]) -> str:
    return "  ".join(cells)


def _range(value: np.ndarray) -> str:
    return f"{value.min():.3g} to {value.max():.3g}" if value.size else "empty"


def _leaf_diff(name: str, one: np.ndarray, other: np.ndarray) -> list[str]:
    if one.shape != other.shape or one.dtype != other.dtype:
        return [f"{name}: {one.shape} {one.dtype} against {other.shape} {other.dtype}"]
    if one.tobytes() == other.tobytes():
        return []
    distance = np.abs(one.astype("float64") - other.astype("float64")).reshape(len(one), -1).max(axis=1, initial=0)
    rows = np.flatnonzero(distance)
    return [f"{name}: up to {distance.max(initial=0):.3g} apart, in {len(rows)} of {len(one)} rows ({_first(rows)})"]


def _first(rows: np.ndarray) -> str:
    return ", ".join(str(row) for row in rows[:3]) + (", ..." if len(rows) > 3 else "")


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
    return json.dumps({"leaves": list(state), "metadata": dict(metadata)})


def _signed(path: Path, arrays: dict[str, np.ndarray], signature: str) -> tuple[State, dict[str, Any]]:
    """Return the leaves in the order of the signature; a file of someone else has none, and keeps its own order."""
    signed = json.loads(signature)
    names = signed.get("leaves", list(arrays))
    if sorted(names) != sorted(arrays):
        raise DataError(
            f"A state file must hold the leaves that it was written with, {quoted(names)}. "
            f"Received: `{path}` with {quoted(sorted(arrays))}."
        )
    odd = [name for name, value in arrays.items() if value.dtype.kind != "f" or value.ndim == 0]
    if odd:
        raise DataError(
            f"Every leaf must be an array of floats with a row per sample. Received: `{path}`, where `{odd[0]}` is "
            f"{arrays[odd[0]].dtype} with shape {arrays[odd[0]].shape}."
        )
    return State({name: arrays[name] for name in names}), dict(signed.get("metadata", {}))


_READERS: dict[str, Callable[..., Any]] = {".safetensors": _read_safetensors, ".npz": _read_npz, ".h5": _read_h5}
_WRITERS: dict[str, Callable[..., Any]] = {
    ".safetensors": lambda path, state, metadata: save_state(path, state, metadata),
    ".npz": _write_npz,
    ".h5": _write_h5,
}
