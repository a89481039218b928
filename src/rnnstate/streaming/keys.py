"""The keys of sessions as text, which is what stores keep.

"north"                     north
7                           \\x017
checkpoint "monday" of it   \\x017\\x00monday
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnstate.errors import DataError

# Over how many shards `scale.shards` spreads the keys. Every store and savepoint says it, because it can never change.
SHARDS = 4096

_NUMBER, _CHECKPOINT = "\x01", "\x00"
_BYTES = 500  # LMDB takes 511


def encode(key: Any) -> str:
    """Return the key of a session as text.

    Args:
        key: Text, or a whole number.

    Raises:
        DataError: If the key is something else, empty, or too long.

    Example:

    >>> encode("north"), decode(encode(7))
    ('north', 7)
    """
    if type(key) is str:
        # A length below a quarter of the limit fits in any encoding.
        fits = key and key[0] > _NUMBER and _CHECKPOINT not in key
        if fits and (len(key) < _BYTES // 4 or len(key.encode("utf-8", "surrogatepass")) <= _BYTES):
            return key
    elif isinstance(key, str):
        return encode(str(key))
    elif isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return f"{_NUMBER}{int(key)}"
    raise DataError(
        f"The key of a session must be a whole number, or text of 1 to {_BYTES} bytes without control characters 0 and 1. "
        f"Received: {_shortened(key)}. Use another key."
    )


def encode_all(keys: Sequence[Any]) -> Sequence[str]:
    """Return the keys of several sessions as text, as `encode` does for each of them.

    Raises:
        DataError: If one of them cannot be used.
    """
    # Plain keys are their own text. A look at all of them at once takes a tenth of the time.
    if {*map(type, keys)} == {str}:
        lengths, joined = set(map(len, keys)), "".join(keys)
        fits = 0 not in lengths and max(lengths) < _BYTES // 4
        if fits and _CHECKPOINT not in joined and _NUMBER not in joined:
            return keys
    return [encode(key) for key in keys]


def decode(text: str) -> str | int:
    """Return the key of a session from its text."""
    return int(text[1:]) if text.startswith(_NUMBER) else text


def checkpoint_of(text: str, name: Any) -> str:
    """Return the text under which a checkpoint of a session is kept.

    Raises:
        DataError: If the name is empty, not text, or too long together with the key.
    """
    whole = f"{text}{_CHECKPOINT}{name}"
    if not isinstance(name, str) or not name or _CHECKPOINT in name or len(whole.encode()) > _BYTES:
        raise DataError(
            f"The name of a checkpoint must be text, with the key at most {_BYTES} bytes, without character 0. "
            f"Received: {_shortened(name)}. Use another name."
        )
    return whole


def split(text: str) -> tuple[str, str | None]:
    """Return the text of the session and the name of the checkpoint, `None` for the session itself."""
    session, mark, name = text.partition(_CHECKPOINT)
    return session, name if mark else None


def _shortened(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:60] + '...'}"
