"""`rnnstate inspect`, `rnnstate diff` and `rnnstate convert` of state files. They start neither Keras nor a backend."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import counted
from rnnstate.state.files import load_versions
from rnnstate.state.formats import SUFFIXES as SUFFIXES
from rnnstate.state.formats import check_suffix, read_any, write_any
from rnnstate.state.state import State

# `inspect` shows this many characters of an entry of the metadata.
_LONGEST = 200


def describe_state(path: Path) -> list[str]:
    """Return the lines of `rnnstate inspect` for a state file: a row per leaf, and what the file says of itself."""
    found = state_facts(path)
    lines = [f"State of {counted(found['rows'], 'row')}, spec {found['fingerprint']}."]
    lines += [_line(leaf["name"], str(tuple(leaf["shape"])), leaf["dtype"], _range(leaf)) for leaf in found["leaves"]]
    if found["versions"]:
        lines.append(f"Written by {', '.join(f'{name} {version}' for name, version in found['versions'].items())}.")
    return [*lines, *(f"{name}: {_short(json.dumps(value))}" for name, value in found["metadata"].items())]


def state_facts(path: Path) -> dict[str, Any]:
    """Return what `rnnstate inspect` knows about a state file, for JSON.

    Raises:
        DataError: If the file is no state file, truncated, changed, or of a newer format.
    """
    state, metadata = read_any(path)
    return {
        "kind": "state",
        "rows": state.batch_size,
        "fingerprint": state.spec.fingerprint,
        "leaves": [_leaf_facts(name, value) for name, value in state.items()],
        "versions": load_versions(path) if path.suffix == ".safetensors" else {},
        "metadata": metadata,
    }


def diff_states(one: Path, other: Path) -> tuple[list[str], bool]:
    """Return the lines of `rnnstate diff`, and whether the two states differ.

    Args:
        one: A state file: `.safetensors`, `.npz` or `.h5`.
        other: Another one.

    Returns:
        A line for each leaf that differs: in which rows and how far, or what is there in one file only.

    Raises:
        DataError: If a file cannot be read as a state.
    """
    found = differences(one, other)
    return [f"{each['leaf']}: {each['difference']}" for each in found] or ["The states are equal, bit for bit."], bool(
        found
    )


def differences(one: Path, other: Path) -> list[dict[str, Any]]:
    """Return the leaves that differ between two state files, for JSON.

    Raises:
        DataError: If a file cannot be read as a state.
    """
    first, second = read_any(one)[0], read_any(other)[0]
    found = [{"leaf": name, "difference": f"only in {one}"} for name in first if name not in second]
    found += [{"leaf": name, "difference": f"only in {other}"} for name in second if name not in first]
    pairs = [(name, _leaf_diff(first[name], second[name])) for name in first if name in second]
    return found + [{"leaf": name, **difference} for name, difference in pairs if difference is not None]


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
    if not target.absolute().parent.is_dir():
        raise DataError(f"The folder of `{target}` must exist. Received: {target.parent}. Create it first.")
    state, metadata = read_any(source)
    write_any(target, state, metadata)
    return state


def _line(*cells: str) -> str:
    return "  ".join(cells)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters; --json shows all)"


def _leaf_facts(name: str, value: np.ndarray) -> dict[str, Any]:
    low, high = (float(value.min()), float(value.max())) if value.size else (None, None)
    return {"name": name, "shape": value.shape, "dtype": str(value.dtype), "min": low, "max": high}


def _range(leaf: Mapping[str, Any]) -> str:
    return "empty" if leaf["min"] is None else f"{leaf['min']:.3g} to {leaf['max']:.3g}"


def _leaf_diff(one: np.ndarray, other: np.ndarray) -> dict[str, Any] | None:
    """Return how two leaves differ, or `None` if they are equal bit for bit."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return {"difference": f"{one.shape} {one.dtype} against {other.shape} {other.dtype}"}
    if one.tobytes() == other.tobytes():
        return None
    distance = np.abs(one.astype("float64") - other.astype("float64")).reshape(len(one), -1).max(axis=1, initial=0)
    rows, largest = np.flatnonzero(distance), float(distance.max(initial=0))
    facts = {"rows": rows.tolist(), "largest": largest}
    if not len(rows):
        return {"difference": "equal numbers in other bits, such as 0.0 and -0.0", **facts}
    return {"difference": f"up to {largest:.3g} apart, in {len(rows)} of {len(one)} rows ({_first(rows)})", **facts}


def _first(rows: np.ndarray) -> str:
    return ", ".join(str(row) for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
