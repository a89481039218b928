"""The signature of a state file: the fields that say what the file holds, and the checksum of the file.

The signature is the `__metadata__` of a safetensors file, which maps names to text. From format 2 on, `sha256` is the
hash of all bytes of the file, with 64 zeros in the place of the hash itself:

    bytes of the file    length | {"__metadata__":{..., "sha256":"<64 hexadecimal digits>", ...}, ...} | values
    bytes that count     length | {"__metadata__":{..., "sha256":"0000 ... 0000",           ...}, ...} | values

So a flipped bit is found wherever it is, also in a name, in a blank and in the hash. Two formats that differ in one digit
are a flip of two bits apart. A file of format 2 must not pass as one of format 1 then, where the hash may be missing. So a
file of format 1 may have no field but its own: the name of the hash with a flipped bit is none of these.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import quoted

FORMAT_VERSION = 2

# The fields of the signature, and what their text stands for; all but text are JSON.
_FIELDS: dict[str, type] = {
    "rnnstate_version": str,
    "fingerprint": str,
    "leaves": list,
    "metadata": dict,
}
_LATER: dict[str, type] = {"versions": dict, "sha256": str}  # since format 2 in every file, in format 1 in some
_ZEROS = "0" * 64


def seal(content: bytes) -> bytes:
    """Return a state file with the hash of the file in the place of the zeros that `unsealed` gave."""
    return content.replace(_entry(_ZEROS), _entry(_hash_around(content, _ZEROS)), 1)


def unsealed(header: Mapping[str, str]) -> dict[str, str]:
    """Return a signature of the newest format whose hash is still missing."""
    return {"format": "rnnstate", "format_version": str(FORMAT_VERSION), **header, "sha256": _ZEROS}


def read_signature(content: bytes) -> dict[str, str]:
    """Return the signature of a safetensors file.

    Raises:
        ValueError: If the bytes do not begin with the header of such a file.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size:
        raise ValueError(f"{len(content)} bytes are too few for its header")
    try:
        header = json.loads(content[8 : 8 + size].decode())
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    signature = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    return {str(name): str(text) for name, text in dict(signature).items()}


def check_signature(path: Path, header: Mapping[str, str]) -> None:
    """Raise a `DataError` unless the fields of a signature are all there and readable."""
    if header.get("format") != "rnnstate":
        raise DataError(
            f"A state file must be written by `rnnstate.save_state`. Received: `{path}`, a safetensors file without its "
            "signature."
        )
    version = header.get("format_version", "")
    if version.isdecimal() and version.isascii() and int(version) > FORMAT_VERSION:
        raise DataError(
            f"This release reads state files up to format {FORMAT_VERSION}. Received: `{path}` of format {version}, "
            f"written by rnnstate {header.get('rnnstate_version')}. Upgrade rnnstate."
        )
    if version not in ("1", "2"):
        _refuse(path, "without a readable `format_version`")
    fields = _FIELDS | (_LATER if version == "2" else {name: kind for name, kind in _LATER.items() if name in header})
    missing = [name for name, kind in fields.items() if not _holds(header, name, kind)]
    if missing:
        _refuse(path, f"without a readable `{missing[0]}`")
    unknown = [name for name in header if name not in {"format", "format_version", *fields}]
    if version == "1" and unknown:
        _refuse(path, f"of format 1 with {quoted(unknown)}, which this format does not have")


def is_whole(content: bytes, header: Mapping[str, str], leaves: Mapping[str, np.ndarray]) -> bool:
    """Whether a file has the bytes that it was written with, as far as its format can tell.

    Args:
        content: All bytes of the file.
        header: Its signature, which was checked.
        leaves: Its arrays by name, exactly those of the signature.
    """
    if header["format_version"] == "1":
        return header.get("sha256") in (None, _hash_of_values(header, leaves))
    entry = _entry(header["sha256"])
    return content.count(entry) == 1 and header["sha256"] == _hash_around(content, header["sha256"])


def _entry(digest: str) -> bytes:
    # Quotes inside of texts are escaped, so no other place of a header looks like this.
    return f'"sha256":"{digest}"'.encode()


def _hash_around(content: bytes, digest: str) -> str:
    """Return the hash of a file with zeros in the place of its hash."""
    begin = content.index(_entry(digest)) + len(_entry("")) - 1
    whole = memoryview(content)
    hashed = hashlib.sha256(whole[:begin])
    hashed.update(_ZEROS.encode())
    hashed.update(whole[begin + len(digest) :])
    return hashed.hexdigest()


def _hash_of_values(header: Mapping[str, str], leaves: Mapping[str, np.ndarray]) -> str:
    """Return the hash of format 1: the SHA-256 of the names, the user's metadata, and the values of all leaves in order."""
    digest = hashlib.sha256(f"{header['leaves']}\n{header['metadata']}\n".encode())
    for name in json.loads(header["leaves"]):
        digest.update(leaves[name].tobytes())
    return digest.hexdigest()


def _holds(header: Mapping[str, str], name: str, kind: type) -> bool:
    """True if a field of the signature is there, and is JSON of the right kind where it is JSON."""
    try:
        return (kind is str and name in header) or type(json.loads(header[name])) is kind
    except (KeyError, ValueError, RecursionError):
        return False


def _refuse(path: Path, received: str) -> None:
    raise DataError(f"A state file must have a whole signature. Received: `{path}` {received}. Write it again.")
