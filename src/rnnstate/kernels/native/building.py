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
# The levels of instructions of each processor, the slowest first: the name of each, its flags, and a macro that a compiler
# defines where it compiles for a processor with these instructions.
_X86 = {
    "baseline": ((), "__SSE2__"),
    "avx2": (("-mavx2", "-mfma"), "__AVX2__"),
    "avx512": (("-mavx512f", "-mavx2", "-mfma"), "__AVX512F__"),
}
_ARM = {"baseline": ((), "__aarch64__")}
_PROCESSORS = {"x86_64": _X86, "amd64": _X86, "arm64": _ARM, "aarch64": _ARM}
LEVELS = _PROCESSORS.get(platform.machine().lower(), {}) if sys.platform in ("linux", "darwin") else {}
# A product and a sum may become one instruction. NaN and infinity keep their meaning, so `-ffast-math` is left out.
_FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]


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


def level_here() -> str:
    """Return the fastest level of this processor."""
    command = [*compiler(), *(["-march=native"] if LEVELS is _X86 else []), "-dM", "-E", "-x", "c", os.devnull]
    defined = {line.split()[1] for line in _run([command])[0].splitlines() if line.startswith("#define")}
    names = [name for name, (_, macro) in LEVELS.items() if macro in defined]
    if not names:
        raise NoCompilerError(f"The compiler {command[0]} does not know this processor.")
    return names[-1]


def build(target: Path, levels: list[str] | None = None) -> None:
    """Compile the library, and put it into its place in one step, so that no process sees a part of it.

    Args:
        target: The path of the library, in a folder that exists.
        levels: Names of levels; all by default.

    Raises:
        NoCompilerError: If there is no compiler, or if it fails.
        OSError: If the folder cannot be written.
    """
    levels = levels or list(LEVELS)
    command = [*compiler(), *_FLAGS]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".rnnstate-") as folder:
        objects = {Path(folder, f"{name}.o"): [*LEVELS[name][0], f"-DLEVEL={name}", "level.c"] for name in levels}
        listed = " ".join(f"LEVEL({name})" for name in levels)
        for source in sorted(SOURCES.glob("*.c")):
            if source.name != "level.c":
                objects[Path(folder, f"{source.stem}.o")] = [f"-DLEVELS={listed}", source.name]
        _run([[*command, *flags, "-c", "-o", str(made)] for made, flags in objects.items()])
        library = Path(folder, target.name)
        _run([[*command, "-dynamiclib" if sys.platform == "darwin" else "-shared", "-o", str(library), *map(str, objects)]])
        os.replace(library, target)


def _run(commands: list[list[str]]) -> list[str]:
    """Run commands at the same time, and return what each prints."""
    pipes = {"cwd": SOURCES, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for command in commands]  # type: ignore[call-overload]
    printed = [process.communicate() for process in processes]
    for process, (_, error) in zip(processes, printed, strict=True):
        if process.returncode:
            raise NoCompilerError(f"{shlex.join(process.args)} failed: {error[-1000:]}")
    return [output for output, _ in printed]
