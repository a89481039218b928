"""The library of the native loops: where it is, and its functions.

    in a wheel        next to this file: the wheel was built with it
    in a source tree  in the user's cache folder, under a hash of the sources and the compiler; the first use compiles it

A wheel that was built without a compiler holds no library, and works like a source tree. `RNNSTATE_NATIVE` names a level
(`baseline`, `avx2`, `avx512`) for comparisons, or is `off`.
"""

import ctypes
import hashlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rnnstate.kernels.native import building

_PACKAGED = Path(__file__).with_name(building.NAME)
_WORD = ctypes.c_int64
# The functions of the library: the type of the result, then the types of the arguments.
_FUNCTIONS = {
    "levels": (_WORD,),
    "level_name": (ctypes.c_char_p, _WORD),
    "has_level": (_WORD, _WORD),
    "use_level": (_WORD, _WORD),
    "pack": (None, ctypes.c_void_p),
    "run": (None, ctypes.c_void_p, _WORD, _WORD),
    "run_operations": (_WORD, ctypes.c_void_p, _WORD),
    "run_team": (None, ctypes.c_void_p, _WORD, ctypes.c_void_p),
    "run_pool": (None, ctypes.c_void_p),
    "use_pool": (None, _WORD, _WORD),
    "use_threads": (None, ctypes.c_void_p, _WORD),
    "use_tensorflow": (_WORD, ctypes.c_void_p),
    "tensorflow_function": (ctypes.c_char_p, _WORD),
    "field": (ctypes.c_char_p, _WORD, ctypes.POINTER(_WORD)),
}
# The functions of the system with which the pool of `csrc/pool.c` starts threads.
_THREAD_FUNCTIONS = ("pthread_create", "pthread_sigmask")
# Rows of a step, and of all steps, for which a kernel is laid in strips. Fewer rows do not repay the copy.
ROWS_FOR_STRIPS, ALL_ROWS_FOR_STRIPS = 4, 16
# Steps that sums take together: a block of both factors stays in the caches.
STEPS_OF_SUMS = 128


def is_supported() -> bool:
    """Tell whether native loops are written for this system and this processor, and are not switched off."""
    return bool(building.LEVELS) and os.environ.get("RNNSTATE_NATIVE") != "off"


@cache
def library() -> Any:
    """Return the library, with the fastest level of this processor chosen. `width` is the width of its strips.

    Raises:
        NoCompilerError: If no library is there and none can be compiled.
        OSError: If the library cannot be loaded.
    """
    found = opened(_PACKAGED) if _PACKAGED.exists() else _compiled()
    use_level(found, os.environ.get("RNNSTATE_NATIVE"))
    return found


def opened(path: Path) -> Any:
    """Load a library. A level must be chosen before a loop runs."""
    found = ctypes.CDLL(str(path))
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(found, f"rnnstate_{name}")
        function.restype, function.argtypes = result, arguments
    return found


def levels(found: Any) -> dict[str, int]:
    """Return the levels that a library has and that this processor can run, the fastest last."""
    numbers = filter(found.rnnstate_has_level, range(found.rnnstate_levels()))
    return {found.rnnstate_level_name(number).decode(): number for number in numbers}


def use_level(found: Any, name: str | None = None) -> None:
    """Choose a level by its name, or the fastest one."""
    names = levels(found)
    if not names or (name and name not in names):
        raise ValueError(f"RNNSTATE_NATIVE must be `off` or one of {list(names)}. Received: {name!r}.")
    found.width = found.rnnstate_use_level(names[name or list(names)[-1]])


def use_threads(count: int) -> None:
    """Let the pool compute with so many threads, the calling one included."""
    library().rnnstate_use_threads(addresses(ctypes.CDLL(None), _THREAD_FUNCTIONS), count)


def addresses(functions: Any, names: Sequence[str]) -> Any:
    """Return the addresses of functions of another library, as an array in C."""
    return (ctypes.c_void_p * len(names))(*[ctypes.cast(getattr(functions, name), ctypes.c_void_p) for name in names])


def lie_in_strips(rows: int, steps: int) -> bool:
    """Return whether a kernel is laid in strips for some rows and steps."""
    return rows >= ROWS_FOR_STRIPS and rows * steps >= ALL_ROWS_FOR_STRIPS


def strip_count(columns: int) -> int:
    """Return the number of strips of a matrix."""
    return -(-columns // int(library().width))


def line_of_sums(columns: int) -> int:
    """Return the length of a line that holds a row of both left factors of sums, with their ones.

    `columns` is the number of units and features.

    It is an odd number of cache lines: lines at a distance of a large power of two share few places of a cache.
    """
    return ((columns + 1) // 16 + 1 | 1) * 16


def lines_of_sums(columns: int) -> int:
    """Return how many lines a strip of sums has: a block of the right factor, and both results with their biases."""
    return STEPS_OF_SUMS + columns + 2


def fields(found: Any) -> dict[str, int]:
    """Return the offset in bytes of each field of XLA's structs, by the name in XLA's header."""
    offset, offsets = _WORD(), dict[str, int]()
    while name := found.rnnstate_field(len(offsets), offset):
        offsets[name.decode()] = offset.value
    return offsets


def cache_folder() -> Path:
    """Return the folder in which compiled libraries are kept."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rnnstate"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnnstate"


def fingerprint() -> str:
    """Return a text that changes with the sources and the compiler."""
    command = building.compiler()
    found = os.stat(command[0])
    parts = [*command, str(found.st_size), str(found.st_mtime_ns), platform.machine()]
    files = [Path(building.__file__), *sorted(building.SOURCES.iterdir())]
    parts += [part for file in files for part in (file.name, file.read_text())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _compiled() -> Any:
    """Return the library of the cache folder. Compile it if it is not there, or if it is damaged."""
    kept = cache_folder() / f"{fingerprint()}-{building.NAME}"
    try:
        return opened(kept)
    except OSError:
        notice = threading.Timer(2.0, sys.stderr.write, ["Compiling the native loops.\n"])
        notice.daemon = True
        notice.start()
        try:
            return _build(kept)
        finally:
            notice.cancel()


def _build(kept: Path) -> Any:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        building.build(kept)
        return opened(kept)
    except OSError:  # the folder cannot be written: the library serves this process alone
        with tempfile.TemporaryDirectory(prefix="rnnstate-") as folder:
            building.build(Path(folder, building.NAME))
            return opened(Path(folder, building.NAME))
