"""Several processes on one machine. When one of them fails, all of them end, and a message says which one failed.

Each process finds its rank in the environment, in the variables of `torchrun`: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT. Rank 0 writes to the terminal. The last lines of another rank are shown if it fails.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

from rnnstate.errors import RankError

_SECONDS_TO_END = 5.0
_SHOWN_LINES = 5


@dataclass(frozen=True)
class Refusal:
    """What a process has printed because it was given wrong input.

    Args:
        rank: The process. Rank 0 writes to the terminal itself.
        lines: Its last lines, none for rank 0.
    """

    rank: int
    lines: list[str]


def launch(command: Sequence[str], processes: int, refused: int | None = None) -> Refusal | None:
    """Run a command in several processes until all have ended.

    Args:
        command: The command, the same for each process.
        processes: How many processes to start.
        refused: The exit status by which the command says that its input is wrong. Another start would fail again. `None`
            if the command has no such status.

    Returns:
        The refusal, if a process has ended with that status; `None` if all processes ran to the end.

    Raises:
        RankError: If a process fails in another way.

    When a process ends too early, the others are ended.
    """
    port = _free_port()
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(processes)]
        running: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, running)
        for rank, log in enumerate(logs):
            running += [_start(command, rank, processes, port, log)]
        if _all_done(running):
            return None
        if refused is not None and (refusal := _refusal(running, logs, refused)) is not None:
            return refusal
        raise _failure(running, logs)


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


def _all_done(running: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait until all processes have ended well, or one has not."""
    statuses: list[int | None] = [None]
    while None in statuses and not any(statuses):
        time.sleep(0.1)
        statuses = [process.poll() for process in running]
    return not any(statuses)


def _refusal(running: Sequence[subprocess.Popen[bytes]], logs: Sequence[IO[bytes]], refused: int) -> Refusal | None:
    """Return what the first process said that was given wrong input, unless a process was killed."""
    until = time.monotonic() + _SECONDS_TO_END
    while running[0].poll() is None and not _any_killed(running) and time.monotonic() < until:
        time.sleep(0.1)  # rank 0 mostly has the same input, and says the same in a moment
    ranks = [rank for rank, process in enumerate(running) if process.poll() == refused]
    if not ranks or _any_killed(running):
        return None
    return Refusal(ranks[0], _last_lines(logs[ranks[0]]))


def _any_killed(running: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Tell whether a process was ended by a signal. JAX sends itself SIGABRT when another process has gone."""
    statuses = [process.poll() or 0 for process in running]
    return any(status < 0 and status != -signal.SIGABRT for status in statuses)


def _failure(running: Sequence[subprocess.Popen[bytes]], logs: Sequence[IO[bytes]]) -> RankError:
    failed = [rank for rank, process in enumerate(running) if process.poll()]
    # A signal comes from outside, and the other processes fail after it.
    rank = min(failed, key=lambda one: running[one].returncode)
    lines = " ".join(_last_lines(logs[rank]))
    return RankError(
        f"All {len(running)} processes must run to the end. Received: rank {rank} {_reason(running[rank].returncode)}, "
        f"so all were ended.{lines and f' Its last lines: {lines}'} Start the same command again: from a checkpoint it "
        "continues, also with another number of processes."
    )


def _reason(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _last_lines(log: IO[bytes]) -> list[str]:
    log.seek(0)
    return log.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]


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
