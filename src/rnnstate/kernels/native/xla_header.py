"""What native code must know of XLA's C interface, and how it is compiled and kept."""

import hashlib
import re
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numba

# The table of functions begins with its size, extensions, three words of version and one that is XLA's own.
_FIRST_FUNCTION = 6


@cache
def _header() -> str:
    """Return the definition of the interface that was installed with JAX."""
    return (Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h").read_text()


def word_of(function: str) -> int:
    """Return the place of a function in the table that XLA gives to those it calls, in words of eight bytes."""
    return _FIRST_FUNCTION + re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", _header()).index(function)


def fingerprint() -> int:
    """Return a number that is another one for other sources, or another interface: code that was kept is then not used."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    content = b"".join(source.read_bytes() for source in sources) + _header().encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:7])


def compiled(signature: str, function: Callable[..., Any]) -> Any:
    """Compile a function that C code can call, and keep the code on disk where there is a folder for it."""
    notice = threading.Timer(2.0, sys.stderr.write, ["Compiling the loops for this processor.\n"])
    notice.daemon = True
    notice.start()
    try:
        return numba.cfunc(signature, cache=True)(function)
    except Exception:  # no folder that can be written, or what was kept there is damaged
        return numba.cfunc(signature)(function)
    finally:
        notice.cancel()
