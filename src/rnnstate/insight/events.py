"""Events for TensorBoard: the numbers of an epoch in one record.

The writers that tensorboardX offers first pass each record through a queue to a thread, which takes longer than to write it.
So its writer of records is used directly.
"""

import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnstate.errors import DataError
from rnnstate.insight.numbers.distribution import Distribution

_FILES = itertools.count()


class Events:
    """A folder of events for TensorBoard.

    Args:
        folder: Where the files are written.

    Raises:
        DataError: If tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.proto.summary_pb2 import HistogramProto, Summary
        except ImportError as error:
            raise DataError(
                "Events for TensorBoard need tensorboardX. Received: no such package. "
                'Run `pip install "rnnstate[tensorboard]"`.'
            ) from error
        self._folder, self._open = Path(folder), EventsWriter
        self._writer: Any = None
        self._event, self._summary, self._histogram = Event, Summary, HistogramProto

    def open(self) -> None:
        """Begin a file of events."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # The name has the second. The suffix tells files apart that begin in the same second.
        self._writer = self._open(str(self._folder / "events"), f".{os.getpid()}.{next(_FILES)}")

    def flush(self) -> None:
        """Let others read what was added."""
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __call__(self, numbers: Mapping[str, float], distributions: Mapping[str, Distribution], epoch: int) -> None:
        """Add the numbers and the distributions of an epoch, by their names, to the file that is open."""
        one = self._summary.Value
        values = [one(tag=name, simple_value=number) for name, number in numbers.items()]
        values += [one(tag=name, histo=self._drawn(found)) for name, found in distributions.items()]
        self._writer.write_event(self._event(step=epoch, wall_time=time.time(), summary=self._summary(value=values)))

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
