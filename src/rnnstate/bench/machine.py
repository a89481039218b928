"""The machine that a timing was taken on: versions, cores, load, and the rate of a large matrix product."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from rnnstate.bench.contenders.task import Task
from rnnstate.versions import installed_versions


def describe(modules: Iterable[str]) -> dict[str, Any]:
    """Return versions, Python, processor cores and the operating system."""
    return {
        "versions": installed_versions(["rnnstate", "keras", *sorted(set(modules)), "numpy"]),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def load() -> float | None:
    """Return how many processes ran or waited in the last minute, or `None` if the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def matrix_rate() -> float:
    """Return the rate of a large matrix product in float32, in operations per second, measured in a separate process."""
    command = [sys.executable, "-m", "rnnstate.bench.contenders.rate"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}  # the user may have told this process to run on another device
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def operations(task: Task, training: bool) -> int:
    """Return the operations in the matrix products of a step. The backward pass needs twice as many as the forward pass.

    Example:

    >>> operations(Task(units=1, batch=1, features=1, window=1, layers=1), training=False)
    16
    """
    rows, gates = task.batch * task.window, 4 * task.units
    widths = [task.features, *[task.units] * (2 * task.layers - 1)]
    forward = sum(2 * rows * width * gates for width in widths)
    # Training needs no gradient with respect to the input of the network.
    return 3 * forward - 2 * rows * task.features * gates if training else forward
