"""A heat map as a PNG image: one column for each state, one row for each value of a leaf."""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 64  # the values of a leaf that are shown; of more values, every second, third, ... is
_POSITIVE, _NEGATIVE = (224, 110, 20), (40, 110, 220)


def heat_map(leaves: Sequence[Any]) -> tuple[str, float, int]:
    """Return a picture of a leaf over time.

    Args:
        leaves: The leaf after each push, `(1, *shape)` each, the oldest first.

    Returns:
        The image as an address `data:image/png;...`, the value of the strongest colour, and the number of rows. Positive
        values are orange and negative ones are blue; zero is transparent.

    Example:

    >>> address, largest, rows = heat_map([np.zeros((1, 3)), np.full((1, 3), -2.0)])
    >>> address[:22], largest, rows
    ('data:image/png;base64,', 2.0, 3)
    """
    values = np.stack([np.asarray(leaf, np.float64).reshape(-1) for leaf in leaves], axis=1)
    values = values[:: -(-len(values) // ROWS)]
    largest = float(np.abs(values).max(initial=0.0))
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] >= 0, _POSITIVE, _NEGATIVE)
    pixels[..., 3] = np.round(255 * np.abs(values) / (largest or 1.0))
    return f"data:image/png;base64,{base64.b64encode(_png(pixels)).decode()}", largest, len(values)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return `(rows, columns, 4)` values of red, green, blue and opacity as a PNG file."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + width * 4), np.uint8)  # each line begins with 0: no filter
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
