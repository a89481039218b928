"""Where the command line writes: results go to standard output, and everything else goes to standard error."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Output:
    """The two streams of a command.

    Args:
        quiet: Whether to leave out notes and progress. Warnings and errors are never left out.
    """

    quiet: bool = False

    def result(self, lines: Iterable[str]) -> None:
        """Write lines to standard output."""
        for line in lines:
            print(line, flush=True)

    def document(self, value: Any) -> None:
        """Write one JSON document to standard output."""
        print(json.dumps(finite(value), indent=2, allow_nan=False), flush=True)

    def note(self, text: str) -> None:
        """Write a line about the work to standard error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Write a warning or an error to standard error, in one line."""
    print(" ".join(text.split()), file=sys.stderr, flush=True)


def finite(value: Any) -> Any:
    """Return a value that JSON can hold. Numbers that are not finite become `None`.

    Example:

    >>> finite({"ratio": float("inf"), "rows": (1, 2)})
    {'ratio': None, 'rows': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
