"""Measure everything that benchmarks/README.md shows, and write its tables and its plot.

Run: python benchmarks/performance.py             all parts, then the page; more than half an hour
     python benchmarks/performance.py PART ...    these parts alone, then the page; `--list` shows them
     python benchmarks/performance.py --write     the page alone, from what was measured before
What was measured is kept in benchmarks/results/, a file for each part.
"""

import argparse
import json
import sys
from pathlib import Path

import pages
from parts import PARTS

from rnnstate.bench.compare import Comparison, compare
from rnnstate.bench.table import text

RESULTS = Path(__file__).parent / "results"
BANK = "bank"


def measure(name):
    """Measure a part and keep what was measured."""
    part = PARTS[name]
    result = compare(part.kind, part.entries(), rounds=part.rounds, seconds=part.seconds, note=note)
    print("\n".join([name, *text(result)]), flush=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result.to_json(), indent=1) + "\n")


def note(line):
    """Show the progress."""
    print(line, file=sys.stderr, flush=True)


def kept():
    """Return all that was measured, by part."""
    found = {name: RESULTS / f"{name}.json" for name in PARTS}
    return {name: Comparison(**json.loads(path.read_text())) for name, path in found.items() if path.exists()}


def main():
    """Run the parts that were asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--list", action="store_true", help="show the parts")
    parser.add_argument("--write", action="store_true", help="write the page alone")
    options = parser.parse_args()
    names = [*PARTS, BANK]
    if options.list:
        return print("\n".join(names))
    if unknown := sorted(set(options.parts) - set(names)):
        parser.error(f"PART must be one of those that --list shows. Received: {', '.join(unknown)}.")
    RESULTS.mkdir(exist_ok=True)
    for name in () if options.write else options.parts or names:
        if name == BANK:
            import bank  # starts Keras

            (RESULTS / f"{BANK}.json").write_text(json.dumps(bank.measure(), indent=1) + "\n")
        else:
            measure(name)
    bank_path = RESULTS / f"{BANK}.json"
    return pages.write(kept(), json.loads(bank_path.read_text()) if bank_path.exists() else {})


if __name__ == "__main__":
    main()
