"""Write the measured tables into benchmarks/README.md, between markers, and draw docs/performance.svg."""

import re
from pathlib import Path

import figure
import targets
from parts import SEQUENCES, SIZES

from rnnstate.bench.table import UNIT, conditions, figures, markdown, quartiles, title

DOCS = Path(__file__).parents[1] / "docs"
PAGE = Path(__file__).parent / "README.md"
SCALED = ("batch", "units", "window", "layers")


def write(results, bank):
    """Write every block; one for which a part is missing says so."""
    blocks = {
        **{f"train-{units}": lambda units=units: _merged(results, f"train-{units}") for units in SIZES},
        **{f"step-{units}": lambda units=units: _merged(results, f"step-{units}") for units in SIZES[:2]},
        "scaling": lambda: _scaling(results),
        "sequences": lambda: _sequences(results),
        "carrying": lambda: _carrying(results),
        "bank": lambda: _bank(bank),
        "targets": lambda: targets.table(results),
        "conditions": lambda: _conditions(results),
    }
    text = PAGE.read_text()
    for name, make in blocks.items():
        text = _put(text, name, "\n".join(_made(make)))
    PAGE.write_text(text)
    figure.draw(results, DOCS / "performance.svg")


def _made(make):
    try:
        return make()
    except KeyError as error:
        return [f"Not measured yet: `python benchmarks/performance.py {error.args[0]}`."]


def _put(text, name, block):
    """Replace what stands between the markers of a block."""
    start, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"benchmarks/README.md must have the markers of `{name}`. Received: {start} is not there.")
    return pattern.sub(lambda _: f"{start}\n\n{block}\n\n{end}", text)


def _merged(results, prefix):
    """Return one table of all parts of a size; each ratio is one within its own part, which has the base in it."""
    parts = [results[prefix], *(result for name, result in results.items() if name.startswith(f"{prefix}-"))]
    rows = {name: (result, name) for result in reversed(parts) for name in result.times}
    lines = [_row(*row) for row in sorted(rows.values(), key=lambda row: row[0].ratio(row[1])[1])]
    main = parts[0]
    floor = main.floor(main.base)
    what = f"floor: the matrix products alone, at {main.rate / 1e9:.0f} GF/s"
    lines.append((what, figures(floor), figures(floor / main.median(main.base)), "", ""))
    missed = [f"Did not run: `{name}`: {reason}" for part in parts for name, reason in part.failed.items()]
    header = ("contender", UNIT[main.kind], f"times `{main.base}` (quartiles)", "threads", "peak MB")
    return [f"{title(main.tasks[main.base])}:", "", *markdown(header, lines), *(["", *missed] if missed else [])]


def _row(result, name):
    ratio = "1" if name == result.base else quartiles(result.ratio(name))
    return f"`{name}`", figures(result.median(name)), ratio, result.threads[name] or "", _megabytes(result, name)


def _megabytes(result, name):
    return f"{result.peaks[name] / 2**20:,.0f}"


def _scaling(results):
    lines = []
    for what in SCALED:
        result = results[f"scaling-{what}"]
        values = dict.fromkeys(name.split()[1] for name in result.times)
        header = (
            what,
            "`rnnstate-jax`, ms",
            "`torch-lstm`, ms",
            "`torch-lstm` / `rnnstate-jax` (quartiles)",
            "floor, ms",
        )
        lines += ["", *markdown(header, (_scaled_row(result, value) for value in values))]
    return lines[1:]


def _scaled_row(result, value):
    ours, peer = f"rnnstate-jax {value}", f"torch-lstm {value}"
    times = (figures(result.median(name)) for name in (ours, peer))
    return value, *times, quartiles(result.ratio(peer, ours)), figures(result.floor(ours))


def _sequences(results):
    header = ("backend", "sequences", "ms per training step", "times that of a hundred (quartiles)", "peak MB")
    parts = {name.split("-")[1]: result for name, result in results.items() if name.startswith("sequences-")}
    rows = [_sequences_row(backend, result, name) for backend, result in parts.items() for name in result.times]
    return markdown(header, rows)


def _sequences_row(backend, result, name):
    few = str(SEQUENCES[0])
    ratio = "1" if name == few else quartiles(result.ratio(name, few))
    return backend, f"{int(name):,}", figures(result.median(name)), ratio, _megabytes(result, name)


def _carrying(results):
    header = ("backend", "units", "carried, ms", "fed without state, ms", "carried / without (quartiles)")
    parts = {tuple(name.split("-")[1:]): result for name, result in results.items() if name.startswith("carrying-")}
    return markdown(header, [_carrying_row(*part, result) for part, result in parts.items()])


def _carrying_row(backend, units, result):
    ours, other = f"rnnstate-{backend}", f"rnnstate-{backend}-not-carried"
    times = (figures(result.median(name)) for name in (ours, other))
    return backend, units, *times, quartiles(result.ratio(ours, other))


def _bank(bank):
    header = ("units of the two LSTM layers", "bytes of a sequence in the bank")
    return markdown(header, [(units, f"{size:,.0f}") for units, size in bank.items()])


def _conditions(results):
    """Return what ran on what, and the loads under which it ran."""
    longest = max(results.values(), key=lambda result: len(result.machine["versions"]))
    loads = [result.load[0] for result in results.values()]
    versions, *_ = conditions(longest)[1].partition(", load")
    return [f"{versions.rstrip('.')}.", f"Load before a part: {min(loads)} to {max(loads)}."]
