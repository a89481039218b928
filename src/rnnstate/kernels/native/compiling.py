"""The compilation of native code, and the key under which Numba stores it on disk."""

import hashlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba

_SOURCES = Path(__file__).parent


def fingerprint(interface: str = "") -> int:
    """Return a number that changes with the sources of this folder, the version of the compiler, or `interface`.

    Numba stores compiled code next to the file of the outermost function, and checks the date of that file alone. This
    number is a part of the key, so a change in any other file leads to a new compilation.

    Args:
        interface: The text of the header that the code was written for, if it depends on one.
    """
    sources = sorted(_SOURCES.rglob("*.py"))
    parts = [str(source.relative_to(_SOURCES)).encode() + b"\0" + source.read_bytes() for source in sources]
    parts += [interface.encode(), numba.__version__.encode(), llvmlite.__version__.encode()]
    return int.from_bytes(hashlib.sha256(b"\0".join(parts)).digest()[:7])


def compiled(signature: str, function: Callable[..., Any]) -> Any:
    """Compile a function that C code can call. Numba stores the code on disk if it can write to a folder."""
    notice = threading.Timer(2.0, sys.stderr.write, ["Compiling the loops for this processor.\n"])
    notice.daemon = True
    notice.start()
    try:
        return numba.cfunc(signature, cache=True)(function)
    except Exception:  # Numba can write to no folder, or the stored code is damaged
        return numba.cfunc(signature)(function)
    finally:
        notice.cancel()
