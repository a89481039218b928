"""State files: safetensors with a signature, opened without Keras or any backend.

Every leaf is one tensor under its name, with one row per sample. The file's metadata hold `format` ("rnnstate"),
`format_version`, `fingerprint` of the spec, `leaves` (their names in order, as JSON), `rnnstate_version`, and `metadata`
(what the user added, as JSON).
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from safetensors.numpy import save

from rnnstate import __version__
from rnnstate.errors import DataError, SpecMismatchError
from rnnstate.spec import StateSpec
from rnnstate.state import Array, State

FORMAT_VERSION = 1


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
    header = {
        "format": "rnnstate",
        "format_version": str(FORMAT_VERSION),
        "fingerprint": rows.spec.fingerprint,
        "leaves": json.dumps(list(rows)),
        "rnnstate_version": __version__,
        "metadata": json.dumps(dict(metadata or {})),
    }
    _replace(Path(path), save(dict(rows), metadata=header))


def load_state(path: str | os.PathLike[str], spec: StateSpec | None = None) -> State:
    """Read a state from a file.

    Args:
        path: A file that `save_state` wrote.
        spec: What the state must look like, such as `model.state_spec`; not checked if left out.

    Returns:
        A `State` of NumPy arrays.

    Raises:
        DataError: If the file is no state file, truncated, or of a newer format.
        SpecMismatchError: If the state belongs to another model.
    """
    header, leaves = _read(Path(path))
    state = State({name: leaves[name] for name in json.loads(header["leaves"])})
    if spec is not None and state.spec != spec:
        raise SpecMismatchError(
            f"The state must be of a model with spec {spec.fingerprint}: {spec}. "
            f"Received: `{path}`, written for spec {header['fingerprint']}: {state.spec}."
        )
    return state


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `save_state` was given as `metadata`.

    Raises:
        DataError: If the file is no state file, truncated, or of a newer format.
    """
    return dict(json.loads(_read(Path(path))[0]["metadata"]))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            _check_header(path, header)
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
    except safetensors.SafetensorError as error:
        raise DataError(
            f"A state file must be complete. Received: `{path}`, which cannot be read ({error}). Write it again."
        ) from error
    missing = sorted(set(json.loads(header["leaves"])) ^ set(leaves))
    if missing:
        raise DataError(
            f"A state file must hold exactly the leaves it lists. Received: `{path}`, differing in {missing[:3]}."
        )
    return header, leaves


def _check_header(path: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != "rnnstate":
        raise DataError(
            f"A state file must be written by `rnnstate.save_state`. Received: `{path}`, a safetensors file without its "
            "signature."
        )
    if int(header["format_version"]) > FORMAT_VERSION:
        raise DataError(
            f"This release reads state files up to format {FORMAT_VERSION}. Received: `{path}` of format "
            f"{header['format_version']}, written by rnnstate {header['rnnstate_version']}. Upgrade rnnstate."
        )


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that no half-written file is ever seen."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
