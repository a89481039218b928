"""The process of one contender. It runs on demand and reports how long each run took.

The command is `python -m rnnstate.bench.contenders.worker JOB`. `JOB` is JSON with `build`, `options` and `task`. The first
line of output holds the results of the first two runs. After that, each line of input is a number of runs, and each line
of output gives their seconds.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from rnnstate.bench.contenders.task import Repeat, Task

STATUS = Path("/proc/self/status")


def main(job: dict[str, Any]) -> None:
    """Build the contender, run it twice, then run it as often as each line of input asks."""
    # Libraries may print to standard output. The lines of the protocol therefore go to a copy that libraries do not know,
    # and standard output itself goes to standard error.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        run = _built(job)
        _say(out, first=[run(1), run(1)], threads=_threads())
    except Exception as error:
        _say(out, failed=f"{type(error).__name__}: {error}")
        raise
    for line in sys.stdin:
        start = time.perf_counter()
        run(int(line))
        _say(out, seconds=time.perf_counter() - start, peak=_peak())


def _built(job: dict[str, Any]) -> Repeat:
    module, function = job["build"].split(":")
    run: Repeat = getattr(importlib.import_module(module), function)(Task(**job["task"]), **job["options"])
    return run


def _say(out: TextIO, **answer: Any) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


def _threads() -> int | None:
    torch: Any = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def _peak() -> int | None:
    """Return the peak memory of this process in bytes, or `None` if the system does not report it."""
    if STATUS.exists():
        # `getrusage` would also count the memory that the parent had when it started this process.
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
        return 1024 * int(lines["VmHWM"].split()[0])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
