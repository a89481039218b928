"""Events for TensorBoard: the numbers of an epoch in one record.

The writer of tensorboardX has a thread and a queue. Each record costs a change of threads, so one record holds everything.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnstate.errors import DataError
from rnnstate.insight.numbers.distribution import Distribution


class Events:
    """A folder of events for TensorBoard.

    Args:
        folder: Where the files are written.

    Raises:
        DataError: If tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            import tensorboardX
            from tensorboardX.proto.summary_pb2 import HistogramProto, Summary
        except ImportError as error:
            raise DataError(
                "Events for TensorBoard need tensorboardX. Received: no such package. "
                'Run `pip install "rnnstate[tensorboard]"`.'
            ) from error
        self._folder, self._open = str(folder), tensorboardX.FileWriter
        self._writer: Any = None
        self._summary, self._histogram = Summary, HistogramProto

    def open(self) -> None:
        """Begin a file of events."""
        self._writer = self._open(self._folder)

    def close(self) -> None:
        """Write what waits, and end the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __call__(self, numbers: Mapping[str, float], distributions: Mapping[str, Distribution], epoch: int) -> None:
        """Add the numbers and the distributions of an epoch, by their names, to the file that is open."""
        one = self._summary.Value
        values = [one(tag=name, simple_value=number) for name, number in numbers.items()]
        values += [one(tag=name, histo=self._drawn(found)) for name, found in distributions.items()]
        self._writer.add_summary(self._summary(value=values), epoch)

    def _drawn(self, found: Distribution) -> Any:
        return self._histogram(
            min=found.min,
            max=found.max,
            num=found.size,
            sum=found.mean * found.size,
            sum_squares=(found.std**2 + found.mean**2) * found.size,
            bucket_limit=found.edges[1:].tolist(),
            bucket=found.counts.tolist(),
        )
