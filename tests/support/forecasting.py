"""Small data for the tests of the command line: two keys with regular times, a gap, and a noisy wave."""

from pathlib import Path

import numpy as np

TRAIN = ["--target", "load", "--feature", "warmth", "--key", "house", "--time", "at", "--window", "7"]
TINY = [
    "--layers",
    "lstm:3,gru:5",
    "--epochs",
    "1",
    "--batch-size",
    "2",
    "--learning-rate",
    "0.1",
    "--quiet",
    "--no-report",
]
GAP = 23


def rows(first: int, last: int, houses: str = "ab", gap: int | None = GAP) -> list[str]:
    """Return CSV lines of the quarter hours `first` to `last` of each house; at `gap` nothing was measured."""
    lines = []
    for quarter in range(first, last):
        for house in houses:
            noise = np.random.default_rng([quarter, ord(house)]).normal(size=2)
            load = 5 + 2 * np.sin(quarter / (3 + ord(house) % 5)) + 0.3 * noise[0]
            at = np.datetime64("2020-02-28T22:00") + np.timedelta64(15 * quarter, "m")
            cells = f",{10 + noise[1]:.4f}" if quarter == gap else f"{load:.4f},{10 + noise[1]:.4f}"
            lines.append(f"{house},{at},{cells}")
    return lines


def write_rows(path: Path, lines: list[str]) -> str:
    """Write a CSV file and return its name."""
    path.write_text("\n".join(["house,at,load,warmth", *lines]) + "\n")
    return str(path)
