"""`rnnstate inspect`, `rnnstate diff` and `rnnstate convert` of state files. They start neither Keras nor a backend."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rnnstate.errors import DataError
from rnnstate.state.files import load_versions
from rnnstate.state.formats import SUFFIXES as SUFFIXES
from rnnstate.state.formats import check_suffix, read_any, write_any
from rnnstate.state.state import State


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
    check_suffix(target)
    if target.exists() and not force:
        raise DataError(
            f"`{target}` must not exist yet. Received: a file that does. Choose another name, or use --force."
        )
    state, metadata = read_any(source)
    write_any(target, state, metadata)
    return state


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
    if not len(rows):
        return [f"{name}: equal numbers in other bits, such as 0.0 and -0.0"]
    return [f"{name}: up to {distance.max(initial=0):.3g} apart, in {len(rows)} of {len(one)} rows ({_first(rows)})"]


def _first(rows: np.ndarray) -> str:
    return ", ".join(str(row) for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
