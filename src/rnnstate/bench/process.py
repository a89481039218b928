"""The process of one contender, seen from `rnnstate bench`. It works on command and ends with its context."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from threading import Timer
from types import TracebackType
from typing import Any, Self

from rnnstate.bench.contenders.catalogue import Contender
from rnnstate.bench.contenders.task import Task
from rnnstate.errors import RnnStateError

READY_WITHIN = 300.0  # seconds to build, compile and run twice


class Process:
    """A process that runs one contender. `failure` is the reason if it does not run.

    Args:
        contender: The contender to run.
        task: The size of the work.
    """

    def __init__(self, contender: Contender, task: Task) -> None:
        job = {"build": contender.build, "options": dict(contender.options), "task": task.to_json()}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the context
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rnnstate.bench.contenders.worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "KERAS_BACKEND": contender.backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._runs, self._name = 1, contender.says
        self.peak: int | None = None
        self.first: list[float] = []
        self.threads: int | None = None
        self.failure: str | None = None

    def __enter__(self) -> Self:
        answer = self._answer()
        self.failure = answer.get("failed")
        self.first, self.threads = answer.get("first", []), answer.get("threads")
        self._stop()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def warm_up(self, seconds: float) -> None:
        """Find how many runs a turn of this length has."""
        while (taken := self._time(self._runs)) < seconds / 2:
            # The number grows in steps, because the first runs are the slowest.
            self._runs = max(self._runs + 1, int(self._runs * min(8.0, seconds / max(taken, 1e-9))))

    def turn(self) -> float:
        """Take a turn and return the seconds of one run."""
        return self._time(self._runs) / self._runs

    def _time(self, runs: int) -> float:
        self._go_on()
        stdin: Any = self._process.stdin
        # If the pipe is broken, `_answer` reports the last words of the process.
        with suppress(BrokenPipeError):
            stdin.write(f"{runs}\n")
            stdin.flush()
        answer = self._answer()
        if "failed" in answer:
            raise RnnStateError(f"A contender must run to the end. Received: `{self._name}` {answer['failed']}.")
        self._stop()
        self.peak = answer["peak"]
        return float(answer["seconds"])

    def _stop(self) -> None:
        """Suspend the process, because threads of idle libraries wait for work in busy loops."""
        if hasattr(signal, "SIGSTOP"):
            self._process.send_signal(signal.SIGSTOP)

    def _go_on(self) -> None:
        if hasattr(signal, "SIGCONT"):
            self._process.send_signal(signal.SIGCONT)

    def _answer(self) -> dict[str, Any]:
        stdout: Any = self._process.stdout
        timer = Timer(READY_WITHIN, self._process.kill)
        timer.start()
        line = stdout.readline()
        timer.cancel()
        return dict(json.loads(line)) if line else {"failed": self._last_words()}

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"ended, or had no answer within {READY_WITHIN:.0f} s: {said}"
