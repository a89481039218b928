"""One checkpoint file with a checksum. It is written whole or not at all, and refused if a single byte has changed.

It is a safetensors file. Its metadata hold `format`, `format_version`, `rnnstate_version`, `content` (the packed values as
JSON, which refers to the tensors by name) and `sha256`, a digest of everything else. Reading it executes nothing.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save

from rnnstate import __version__
from rnnstate.durable import write_durably
from rnnstate.errors import DataError
from rnnstate.training.resume.packing import pack, unpack

FORMAT = "rnnstate-checkpoint"
FORMAT_VERSION = 1
# The names of unfinished files begin with this prefix.
UNFINISHED = ".unfinished-"
_UNREADABLE = (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError)


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint to `path`: all of it, or nothing.

    Raises:
        DataError: If the content cannot be packed.
        OSError: If the file cannot be written.
    """
    text, arrays = pack(content)
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "rnnstate_version": __version__,
        "content": text,
    }
    write_durably(path, save(arrays, metadata={**header, "sha256": _digest(header, arrays)}), UNFINISHED)


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the content that `write_sealed` wrote.

    Raises:
        DataError: If the file is not a checkpoint, has a newer format, or has changed since it was written.
    """
    header, arrays = _read(path)
    if header.get("format") != FORMAT:
        raise DataError(f"A checkpoint must be written by `fit(..., checkpoint=)`. Received: `{path}`, another file.")
    version = header.get("format_version", "")
    if version.isdecimal() and int(version) > FORMAT_VERSION:
        raise DataError(
            f"This release reads checkpoints up to format {FORMAT_VERSION}. Received: `{path}` of format {version}, "
            f"written by rnnstate {header.get('rnnstate_version')}. Upgrade rnnstate."
        )
    if header.pop("sha256", None) != _digest(header, arrays):
        raise DataError(f"A checkpoint must be as it was written. Received: `{path}`, which fails its checksum.")
    return dict(unpack(header["content"], arrays))


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
            return dict(file.metadata() or {}), arrays
    except _UNREADABLE as error:
        raise DataError(
            f"A checkpoint must be a complete file. Received: `{path}`, which cannot be read ({error})."
        ) from error


def _digest(header: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, text in sorted(header.items()):
        digest.update(f"{name}:{len(text)}:{text};".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
