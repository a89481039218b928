"""What a timing was taken on: versions, cores, load, and the rate of a large matrix product, which gives the floor."""

import os
import platform
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from rnnstate.peers.task import Task

_SIDE = 2048
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
    """Return the rate of a large matrix product in float32, in operations per second: the best of several."""
    left, times = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), "float32"), []
    for _ in range(7):
        start = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(times)


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
