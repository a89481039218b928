"""A comparison side by side: contenders in separate processes take turns, so that noise affects all alike.

Before anything is timed, all contenders must reach the same results from the same weights.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from rnnstate.bench import machine
from rnnstate.bench.contenders.catalogue import Contender
from rnnstate.bench.contenders.task import Task
from rnnstate.bench.process import Process
from rnnstate.errors import RnnStateError

Note = Callable[[str], None]
# Contenders agree to a few parts in a million. A state that is not carried changes results by more than ten times this.
TOLERANCE = 1e-4


class Entry(NamedTuple):
    """A contender, and the size of its work."""

    contender: Contender
    task: Task


@dataclass
class Comparison:
    """The measurements of one comparison.

    Args:
        kind: `"train"` or `"step"`.
        tasks: The size of the work, by entry.
        machine: Versions, Python, cores, system.
        times: Milliseconds per step in each round, by entry.
        firsts: Results of the first two runs, which were found equal.
        peaks: Peak memory of each process in bytes.
        threads: Threads of PyTorch in each process that uses it.
        missing: Modules that are needed and not installed, by entry.
        failed: Why an entry did not run, by entry.
        load: Load of the machine before and after.
        rate: Rate of a large matrix product, in operations per second.
    """

    kind: str
    tasks: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    times: dict[str, list[float]] = field(default_factory=dict)
    firsts: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, int | None] = field(default_factory=dict)
    threads: dict[str, int | None] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    load: tuple[float | None, float | None] = (None, None)
    rate: float = 0.0

    def floor(self, name: str) -> float:
        """Return the milliseconds of the matrix products of a step at the rate of a large one."""
        return 1e3 * machine.operations(Task(**self.tasks[name]), self.kind == "train") / self.rate

    @property
    def base(self) -> str:
        """The contender that ratios refer to: the first of this project that ran, or else the first that ran."""
        return next((name for name in self.times if name.startswith("rnnstate")), next(iter(self.times)))

    def median(self, name: str) -> float:
        """Return the median milliseconds per step of a contender."""
        return float(np.median(self.times[name]))

    def ratio(self, name: str, base: str | None = None) -> tuple[float, float, float]:
        """Return the quartiles of the ratio to the base in the same round."""
        low, middle, high = np.percentile(np.divide(self.times[name], self.times[base or self.base]), [25, 50, 75])
        return float(low), float(middle), float(high)

    def to_json(self) -> dict[str, Any]:
        """Return all fields for a JSON file."""
        return asdict(self)


def compare(
    kind: str,
    entries: Mapping[str, Entry],
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    note: Note = lambda text: None,
) -> Comparison:
    """Time contenders side by side.

    Args:
        kind: `"train"` or `"step"`.
        entries: The contenders and their tasks, by name.
        rounds: Turns of each contender.
        seconds: Length of a turn. A turn has at least one epoch or call.
        note: Takes a line about each stage.

    Returns:
        The comparison.

    Raises:
        RnnStateError: If no contender runs, or if two do not compute the same.
    """
    modules = {module for entry in entries.values() for module in entry.contender.needs}
    tasks = {name: entry.task.to_json() for name, entry in entries.items()}
    result = Comparison(kind, tasks, machine.describe(modules))
    result.missing = {name: one.contender.missing for name, one in entries.items() if one.contender.missing}
    before = machine.load()
    with _running(result, entries, note) as processes:
        result.firsts = {name: process.first for name, process in processes.items()}
        for alike in _alike(entries, processes):
            check_equal(alike)
        _take_turns(result, processes, rounds, seconds, note)
    result.load = (before, machine.load())
    result.rate = machine.matrix_rate()
    return result


@contextmanager
def _running(result: Comparison, entries: Mapping[str, Entry], note: Note) -> Iterator[dict[str, Process]]:
    """Start the contenders one after another, so that nothing disturbs a contender while it chooses its threads."""
    processes = {}
    with ExitStack() as stack:
        for name, entry in entries.items():
            if name in result.missing:
                continue
            note(f"Starting {name}.")
            process = stack.enter_context(Process(entry.contender, entry.task))
            if process.failure is None:
                processes[name] = process
            else:
                result.failed[name] = process.failure
        if not processes:
            raise RnnStateError(f"At least one contender must run. Received: {_reasons(result)}.")
        yield processes


def _reasons(result: Comparison) -> str:
    reasons = {name: f"not installed: {', '.join(modules)}" for name, modules in result.missing.items()}
    return "; ".join(f"{name} ({reason})" for name, reason in {**reasons, **result.failed}.items())


def _alike(entries: Mapping[str, Entry], processes: Mapping[str, Process]) -> list[dict[str, list[float]]]:
    """Return the first results in groups of contenders that do the same work."""
    groups: dict[Any, dict[str, list[float]]] = {}
    for name, process in processes.items():
        work = (entries[name].task, entries[name].contender.carries)
        groups.setdefault(work, {})[name] = process.first
    return list(groups.values())


def check_equal(firsts: Mapping[str, list[float]]) -> None:
    """Raise if contenders that do the same work did not reach the same results.

    Example:

    >>> check_equal({"one": [1.0, 2.0], "other": [1.0, 2.00001]})
    """
    name, expected = next(iter(firsts.items()))
    for other, first in firsts.items():
        if not np.allclose(first, expected, rtol=TOLERANCE, atol=0):
            raise RnnStateError(
                f"Contenders must compute the same before they are timed: the first two results must be {expected}, "
                f"as those of `{name}`. Received: {first} of `{other}`. Leave one of them out with --contenders."
            )


def _take_turns(result: Comparison, processes: Mapping[str, Process], rounds: int, seconds: float, note: Note) -> None:
    note("All compute the same. Warming up.")
    for process in processes.values():
        process.warm_up(seconds)
    times: dict[str, list[float]] = {name: [] for name in processes}
    for number in range(rounds):
        note(f"Round {number + 1} of {rounds}.")
        for name in _rotated(list(processes), number):  # each round begins with another contender
            steps = result.tasks[name]["windows"] if result.kind == "train" else 1
            times[name].append(1e3 * processes[name].turn() / steps)
    result.times = times
    result.peaks = {name: process.peak for name, process in processes.items()}
    result.threads = {name: process.threads for name, process in processes.items()}


def _rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]
