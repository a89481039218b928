"""The progress of a training: one line that is updated on a terminal, and at most some twenty lines in a log."""

import sys
from collections.abc import Mapping
from typing import Any, TextIO

# A log has a line for at most this many epochs, and for the first and the last epoch.
_LOG_LINES = 18
_WIDTH = 24


class Progress:
    """Shows the epochs of a training on standard error.

    Args:
        stream: Where to write. The default is standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()

    def batch(self, epoch: int, epochs: int, batch: int, batches: int) -> None:
        """Show that batches 1 to `batch` of an epoch are done. A log has no such line."""
        if self._live:
            done = _WIDTH * batch // batches
            self._write(f"\rEpoch {epoch}/{epochs} [{'=' * done}{' ' * (_WIDTH - done)}] {batch}/{batches}\x1b[K")

    def epoch(self, epoch: int, epochs: int, logs: Mapping[str, Any]) -> None:
        """Show the losses of an epoch that is done."""
        line = f"Epoch {epoch}/{epochs}: {', '.join(f'{name} {value:.4f}' for name, value in logs.items())}"
        if self._live:
            self._write(f"\r{line}\x1b[K" + ("\n" if epoch == epochs else ""))
        elif epoch in (1, epochs) or epoch % (-(-epochs // _LOG_LINES)) == 0:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
