"""Export of the step model `(x, state) -> (y, state)` to other runtimes, verified or refused.

Reading order: `exporter.py` (the whole way in one function), `signature.py` (names and shapes), `formats.py` (what each
format needs), `worker.py` (writes and runs the file, in a process of its own if the format wants another backend),
`verification.py` (the file against the live model), `manifest.py`.
"""

from rnnstate.exporting.exporter import Export, export

__all__ = ["Export", "export"]
