"""What a timing was taken on: versions, cores, load, and the rate of a large matrix product, which gives the floor."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rnnstate.bench.contenders.task import Task

# A module that comes in packages of several names.
_PACKAGES = {"tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel")}


def describe(modules: Iterable[str]) -> dict[str, Any]:
    """Return versions, Python, processor cores and the operating system."""
    # Numba is never needed, but makes JAX faster where it is installed.
    found = {name: _version(name) for name in ("rnnstate", "keras", *sorted({*modules, "numba"}), "numpy")}
    return {
        "versions": {name: number for name, number in found.items() if number},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _version(module: str) -> str | None:
    for package in _PACKAGES.get(module, (module,)):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def load() -> float | None:
    """Return how many processes ran or waited in the last minute, where the system can tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def matrix_rate() -> float:
    """Return the rate of a large matrix product in float32, in operations per second, from a process of its own."""
    command = [sys.executable, "-m", "rnnstate.bench.contenders.rate"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}  # whatever else the process is told to run on
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def operations(task: Task, training: bool) -> int:
    """Return the arithmetic of the matrix products of a step: forward, and twice that backward.

    Example:

    >>> operations(Task(units=1, batch=1, features=1, window=1, layers=1), training=False)
    16
    """
    rows, gates = task.batch * task.window, 4 * task.units
    widths = [task.features, *[task.units] * (2 * task.layers - 1)]
    forward = sum(2 * rows * width * gates for width in widths)
    # The gradient of the input itself is not needed.
    return 3 * forward - 2 * rows * task.features * gates if training else forward
