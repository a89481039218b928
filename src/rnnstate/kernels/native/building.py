"""The C sources of the native loops become a library. A wheel is built with one, and a source tree builds one at first use.

This file needs nothing but Python: `hatch_build.py` runs it without the package.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
NAME = "librnnstate.dylib" if sys.platform == "darwin" else "librnnstate.so"
# The levels of instructions of each processor, the slowest first, and the flags of the compiler for each.
_X86 = {"baseline": [], "avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mavx2", "-mfma"]}
_ARM: dict[str, list[str]] = {"baseline": []}
_PROCESSORS = {"x86_64": _X86, "amd64": _X86, "arm64": _ARM, "aarch64": _ARM}
LEVELS = _PROCESSORS.get(platform.machine().lower(), {}) if sys.platform in ("linux", "darwin") else {}
# A product and a sum may become one instruction. NaN and infinity keep their meaning, so `-ffast-math` is left out.
_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
]


class NoCompilerError(RuntimeError):
    """There is no C compiler, or it fails."""


def compiler() -> list[str]:
    """Return the command of the C compiler: `CC`, or the first of `cc`, `gcc` and `clang`."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    for command in map(shlex.split, names):
        found = shutil.which(command[0])
        if found:
            return [found, *command[1:]]
    raise NoCompilerError(f"The native loops need a C compiler. None was found among: {', '.join(names)}.")


def build(target: Path) -> None:
    """Compile the library, and put it into its place in one step, so that no process sees a part of it.

    Args:
        target: The path of the library, in a folder that exists.

    Raises:
        NoCompilerError: If there is no compiler, or if it fails.
        OSError: If the folder cannot be written.
    """
    command, listed = [*compiler(), *_FLAGS], " ".join(f"LEVEL({name})" for name in LEVELS)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".rnnstate-") as folder:
        made = Path(folder)
        flags = {made / f"{name}.o": [*LEVELS[name], f"-DLEVEL={name}", "level.c"] for name in LEVELS}
        others = sorted(path for path in SOURCES.glob("*.c") if path.name != "level.c")
        flags |= {made / f"{path.stem}.o": [f"-DLEVELS={listed}", path.name] for path in others}
        _run([[*command, *chosen, "-c", "-o", str(file)] for file, chosen in flags.items()])
        link = "-dynamiclib" if sys.platform == "darwin" else "-shared"
        _run([[*command, link, "-o", str(made / target.name), *map(str, flags)]])
        os.replace(made / target.name, target)


def _run(commands: list[list[str]]) -> None:
    """Run commands at the same time."""
    processes = [
        subprocess.Popen(command, cwd=SOURCES, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    errors = [process.communicate()[1] for process in processes]
    for command, process, error in zip(commands, processes, errors, strict=True):
        if process.returncode:
            raise NoCompilerError(f"The C compiler failed: {shlex.join(command)}\n{error[-1000:]}")
