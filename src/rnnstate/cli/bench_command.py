"""The command `bench`: it turns options into comparisons. It hands each line to `say` or `note`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rnnstate.bench import plot as benchplot
from rnnstate.bench.compare import Comparison, Entry, Note, compare
from rnnstate.bench.contenders.catalogue import STEP, TRAIN, VARIANTS, Contender
from rnnstate.bench.contenders.task import Task
from rnnstate.bench.table import text
from rnnstate.durable import replacing, write_durably
from rnnstate.errors import DataError
from rnnstate.forecasting.tablefiles import check_free
from rnnstate.forecasting.train import Say
from rnnstate.messages import quoted
from rnnstate.windows.counts import check_count

CATALOGUE: dict[str, dict[str, Contender]] = {"train": TRAIN, "step": STEP}
QUICK = Task(units=3, batch=2, features=2, window=7, windows=4)
QUICK_CONTENDERS = ("rnnstate-jax", "torch-lstm")


def standard(kind: str, units: int) -> Task:
    """Return the usual size of the work for a number of units. Larger layers have larger batches and shorter epochs.

    Example:

    >>> standard("train", 8)
    Task(units=8, batch=10, features=2, window=96, windows=40, layers=2, sequences=None)
    """
    if kind == "step":
        return Task(units, batch=1, features=2, window=1, windows=1)
    sizes = {8: (10, 2, 40), 64: (32, 8, 20), 256: (64, 32, 4)}
    batch, features, windows = sizes[max(size for size in sizes if size <= max(units, 8))]
    return Task(units, batch, features, windows=windows)


def bench(
    kind: str,
    units: str,
    sizes: Mapping[str, int | None],
    contenders: str | None,
    *,
    rounds: int | None,
    seconds: float | None,
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    force: bool,
    say: Say,
    note: Note,
) -> None:
    """Compare the contenders at each size, and show, write and draw the results.

    Args:
        kind: `"train"` or `"step"`.
        units: Units of the layers, separated by commas.
        sizes: Other sizes by name. `None` keeps the usual size.
        contenders: Names separated by commas. `None` means all but the variants.
        rounds: Turns of each contender.
        seconds: Length of a turn.
        quick: Whether to take a small size and few rounds.
        json_path: File to write.
        plot_path: Picture to draw.
        force: Whether files may be replaced.
        say: Takes each line of the result.
        note: Takes each line about the progress.

    Raises:
        DataError: If an option is wrong, before anything is started.
    """
    chosen = _contenders(kind, contenders, quick)
    tasks = [_resized(kind, QUICK, sizes)] if quick else _tasks(kind, units, sizes)
    timing = _timing(rounds, seconds, quick)
    _check_files(json_path, plot_path, force)
    results = []
    for task in tasks:
        entries = {name: Entry(contender, task) for name, contender in chosen.items()}
        results.append(compare(kind, entries, **timing, note=note))
        for line in (*text(results[-1]), ""):
            say(line)
    _write(results, json_path, plot_path, note)


def list_contenders(kind: str, say: Say) -> None:
    """List the contenders and the modules that are not installed."""
    for name, contender in CATALOGUE[kind].items():
        missing = f" (not installed: {', '.join(contender.missing)})" if contender.missing else ""
        say(f"{name}: {contender.says}{missing}")


def _contenders(kind: str, names: str | None, quick: bool) -> dict[str, Contender]:
    known = CATALOGUE[kind]
    if names is None:
        return {name: known[name] for name in (QUICK_CONTENDERS if quick else known) if name not in VARIANTS}
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else "`rnnstate bench --list` shows all."
            raise DataError(f"`--contenders` must be names from {quoted(known)}. Received: {name!r}. {hint}")
    return {name: known[name] for name in chosen}


def _tasks(kind: str, units: str, sizes: Mapping[str, int | None]) -> list[Task]:
    try:
        counts = [int(part) for part in units.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise DataError(
            f"`--units` must be whole numbers of at least 1, with commas. Received: {units!r}. Write for example 8,64."
        )
    return [_resized(kind, standard(kind, count), sizes) for count in counts]


def _resized(kind: str, task: Task, sizes: Mapping[str, int | None]) -> Task:
    given = {name: check_count(name, size) for name, size in sizes.items() if size is not None}
    return replace(task, **given)


def _timing(rounds: int | None, seconds: float | None, quick: bool) -> dict[str, Any]:
    rounds = check_count("rounds", (2 if quick else 5) if rounds is None else rounds)
    seconds = (0.05 if quick else 0.5) if seconds is None else seconds
    if not 0 < seconds <= 60:
        raise DataError(f"`--seconds` must be above 0 and at most 60. Received: {seconds}.")
    return {"rounds": rounds, "seconds": seconds}


def _check_files(json_path: Path | None, plot_path: Path | None, force: bool) -> None:
    for path in (json_path, plot_path):
        if path is not None:
            check_free(path, force)
    if plot_path is not None:
        benchplot.check_plot(plot_path)


def _write(results: Sequence[Comparison], json_path: Path | None, plot_path: Path | None, note: Note) -> None:
    if json_path is not None:
        content = json.dumps([result.to_json() for result in results], indent=1) + "\n"
        write_durably(json_path, content.encode())
        note(f"Wrote {json_path}.")
    if plot_path is not None:
        with replacing(plot_path) as temporary:
            benchplot.draw(results, temporary, plot_path.suffix)
        note(f"Wrote {plot_path}.")
