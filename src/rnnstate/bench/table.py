"""The result of a comparison as text, and tables for a page."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnstate.bench.compare import Comparison
from rnnstate.messages import counted, text_table

UNIT = {"train": "ms per training step", "step": "ms per call"}


def title(task: dict[str, Any]) -> str:
    """Return the size of the work in words.

    Example:

    >>> title({"units": 8, "batch": 10, "window": 96, "features": 2, "layers": 2})
    '2 LSTM layers of 8 units, batch 10, window 96, 2 inputs'
    """
    layers, inputs = counted(task["layers"], "LSTM layer"), counted(task["features"], "input")
    return f"{layers} of {task['units']} units, batch {task['batch']}, window {task['window']}, {inputs}"


def text(result: Comparison) -> list[str]:
    """Return the lines of a comparison for a terminal: a table, then the conditions that it was measured under."""
    name = next(iter(result.times))
    rounds = counted(len(result.times[name]), "round")
    table = text_table(("contender", *_header(result)), rows(result), right=(1, 2, 3, 4))
    return [f"{title(result.tasks[name])}; {rounds}.", "", *table, "", *_left_out(result), *conditions(result)]


def markdown(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table.

    Example:

    >>> markdown(["units", "ms"], [(8, "1.2")])
    ['| units | ms |', '| --- | --- |', '| 8 | 1.2 |']
    """
    return [f"| {' | '.join(map(str, cells))} |" for cells in (header, ["---"] * len(header), *rows)]


def figures(value: float) -> str:
    """Return a number with three figures, never with an exponent.

    Example:

    >>> figures(0.0123456), figures(12.3456), figures(1234.56)
    ('0.0123', '12.3', '1230')
    """
    return np.format_float_positional(value, precision=3, unique=False, fractional=False, trim="-")


def quartiles(values: tuple[float, float, float]) -> str:
    """Return a ratio with its quartiles.

    Example:

    >>> quartiles((1.9, 2.0, 2.25))
    '2.00 (1.90 to 2.25)'
    """
    low, middle, high = values
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _header(result: Comparison) -> tuple[str, ...]:
    return UNIT[result.kind], f"times {result.base} (quartiles)", "threads", "peak MB"


def rows(result: Comparison) -> list[tuple[str, ...]]:
    """Return a row of cells for each contender. The last row is the floor."""
    lines = [(name, figures(result.median(name)), _ratio(result, name), *_use(result, name)) for name in result.times]
    floor = result.floor(result.base)
    share = figures(floor / result.median(result.base))
    return [*lines, (f"floor: its products at {result.rate / 1e9:.0f} GF/s", figures(floor), share, "", "")]


def _ratio(result: Comparison, name: str) -> str:
    return "1" if name == result.base else quartiles(result.ratio(name))


def _use(result: Comparison, name: str) -> tuple[str, str]:
    threads, peak = result.threads.get(name), result.peaks.get(name)
    return "" if threads is None else str(threads), "" if peak is None else f"{peak / 2**20:,.0f}"


def _left_out(result: Comparison) -> list[str]:
    lines = [f"Not installed: {name} (needs {', '.join(modules)})." for name, modules in result.missing.items()]
    return lines + [f"Did not run: {name}: {' '.join(reason.split())[:300]}" for name, reason in result.failed.items()]


def conditions(result: Comparison) -> list[str]:
    """Return the conditions of the comparison: the check for equal results, versions, machine and load."""
    facts = result.machine
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    load = "" if None in result.load else f", load {result.load[0]} before and {result.load[1]} after"
    return [
        "All that do the same work gave the same results before they were timed; those that carry nothing among themselves.",
        f"{versions}; Python {facts['python']}, {facts['system']}, {counted(facts['cores'], 'core')}{load}.",
    ]
