"""A state file that says where each key stands: its state, and in the metadata its times and what is known ahead."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.forecasting.ahead import Outlook
from rnnstate.forecasting.continuation import Place, Standing
from rnnstate.forecasting.examples import Array


def write_standing(path: Path, standing: Standing) -> None:
    """Write where each key stands: all of it, or nothing."""
    from rnnstate.state.files import save_state

    outlook = standing.outlook
    metadata = {
        "keys": [asdict(place) for place in standing.places],
        "times": {"kind": standing.kind, "zoned": standing.zoned},
        "ahead": None
        if outlook is None
        else {"targets": _numbers(outlook.targets), "inputs": _numbers(outlook.inputs)},
    }
    save_state(path, standing.state, metadata)


def read_standing(path: Path, spec: Any, places: Sequence[Mapping[str, Any]] | None = None) -> Standing:
    """Read where each key stands.

    Args:
        path: The file.
        spec: What the state must look like.
        places: The keys of a RUN of format 1, whose file does not name them.

    Raises:
        DataError: If the file is damaged.
        KeyError: If its metadata lack an entry.
    """
    from rnnstate.state.files import load_metadata, load_state

    state = load_state(path, spec=spec)
    if places is not None:
        return Standing(tuple(Place(**place) for place in places), state)
    metadata = load_metadata(path)
    ahead = metadata["ahead"]
    outlook = None if ahead is None else Outlook(_array(ahead["targets"]), _array(ahead["inputs"]))
    keys = tuple(Place(**place) for place in metadata["keys"])
    return Standing(keys, state, outlook, metadata["times"]["kind"], metadata["times"]["zoned"])


def fingerprint(path: Path) -> str:
    """Return a hash of the content of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _numbers(values: Array) -> Any:
    """Return an array as lists, `None` where a number is NaN, which JSON does not know."""
    cells = values.astype(object)
    cells[np.isnan(values)] = None
    return cells.tolist()


def _array(values: Any) -> Array:
    return np.array(values, dtype=np.float64)
