"""`--processes N`: the command starts itself N times, and each process finds its rank in the environment."""

import os
import sys
from collections.abc import Sequence

from rnnstate.cli.app import TROUBLE
from rnnstate.cli.output import complain
from rnnstate.errors import DataError
from rnnstate.scale.launch import launch
from rnnstate.scale.processes import initialize

# Each process holds a whole model and its backend, about half a gigabyte.
_ON_ANY_MACHINE = 8


def run_in_processes(processes: int, data: str, given: Sequence[str]) -> int | None:
    """Run the command in several processes, if it asks for them. In one of these processes, join the others.

    Args:
        processes: How many processes the command asks for.
        data: The file to train on.
        given: The command line.

    Returns:
        The exit status if other processes have done everything. `None` if this process must run the command.

    Raises:
        DataError: If the number is below 1 or far above the cores, or the data come on standard input.
        RankError: If a process fails.
    """
    most = max(_ON_ANY_MACHINE, 2 * (os.cpu_count() or 1))
    if not 1 <= processes <= most:
        raise DataError(
            f"--processes must be from 1 to {most}, twice the cores of this machine or {_ON_ANY_MACHINE}. "
            f"Received: {processes}."
        )
    if processes == 1:
        return None
    if data == "-":
        raise DataError("With --processes, DATA must be a file, which each process reads. Received: -. Name a file.")
    if "RANK" in os.environ:
        initialize()
        return None
    refusal = launch([sys.executable, "-m", "rnnstate", *given[1:]], processes, refused=TROUBLE)
    if refusal is not None and refusal.rank:
        errors = [line for line in refusal.lines if line.startswith("Error: ")]
        complain(" ".join(errors or refusal.lines))  # rank 0 has written to the terminal itself
    return 0 if refusal is None else TROUBLE
