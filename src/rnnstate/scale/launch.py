"""Several processes on one machine. When one of them fails, all of them end, and a message says which one failed.

Each process finds its rank in the environment, in the variables of `torchrun`: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT. Rank 0 writes to the terminal. The last lines of another rank are shown if it fails.
"""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any

from rnnstate.errors import RankError

_SECONDS_TO_END = 5.0
_SHOWN_LINES = 5


def launch(command: Sequence[str], processes: int) -> None:
    """Run a command in several processes until all have ended.

    Args:
        command: The command, the same for each process.
        processes: How many processes to start.

    Raises:
        RankError: If a process fails. The others are ended then.
    """
    port = _free_port()
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(processes)]
        running: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, running)
        for rank, log in enumerate(logs):
            running += [_start(command, rank, processes, port, log)]
        _wait(running, logs)


def _start(command: Sequence[str], rank: int, processes: int, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    cores = _cores_of(rank, processes)
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {"OMP_NUM_THREADS": str(max(1, len(cores))), **os.environ}
    environment |= {name: str(value) for name, value in own.items()}
    streams: dict[str, Any] = {} if rank == 0 else {"stdout": subprocess.DEVNULL, "stderr": log}
    process = subprocess.Popen(list(command), env=environment, stdin=subprocess.DEVNULL, **streams)
    if cores:
        os.sched_setaffinity(process.pid, cores)
    return process


def _cores_of(rank: int, processes: int) -> set[int]:
    """Return the cores of a process, if the system can tell and there are enough: else they would share each core."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return set(cores[rank::processes]) if len(cores) >= processes else set()


def _wait(running: Sequence[subprocess.Popen[bytes]], logs: Sequence[IO[bytes]]) -> None:
    statuses: list[int | None] = [None]
    while None in statuses and not any(statuses):
        time.sleep(0.1)
        statuses = [process.poll() for process in running]
    failed = [rank for rank, process in enumerate(running) if process.poll()]
    if failed:
        # A signal comes from outside, and the other processes fail after it.
        rank = min(failed, key=lambda one: running[one].returncode)
        raise RankError(
            f"All {len(running)} processes must run to the end. Received: rank {rank} {_reason(running[rank].returncode)}, "
            f"so all were ended.{_last_lines(logs[rank])} Start the same command again: from a checkpoint it continues, "
            "also with another number of processes."
        )


def _reason(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]
    return f" Its last lines: {' '.join(lines)}" if lines else ""


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        process.terminate()
    until = time.monotonic() + _SECONDS_TO_END
    for process in running:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
