"""What plots, health and report look at: the test part of the data of a RUN, as windows with a name for each sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.examples import Array, fill_rows, split_bounds, usable_spans
from rnnstate.forecasting.run_folder import Run
from rnnstate.forecasting.series import Series, clip_spans, read_series
from rnnstate.forecasting.tables import Table
from rnnstate.forecasting.train import examples_of, windows_of
from rnnstate.messages import counted

# Fewer windows than that show nothing about what is carried between them.
_WINDOWS = 3
# More data than that would make a report slow, and hardly change its numbers.
_SEQUENCES, _WINDOWS_EACH, _STEPS = 32, 64, 32_768
_WATCHED_ROWS, _WATCHED_STEPS = 8, 1024


@dataclass(frozen=True, eq=False)
class Looked:
    """A RUN with its data.

    Args:
        run: The RUN.
        series: The data by key.
        part: Which part is looked at: `"the test part"`, or `"all rows"` if the test part is too short.
        sample: How much of this part is looked at, as a sentence.
        x: Scaled inputs `(time, inputs)` by name of the sequence.
        y: Scaled targets `(time, targets)`, `horizon` steps later.
    """

    run: Run
    series: Sequence[Series]
    part: str
    sample: str
    x: dict[str, Array]
    y: dict[str, Array]

    @cached_property
    def windows(self) -> Any:
        """The windows of the part that is looked at."""
        from rnnstate.windows.windows import Windows

        length, together = self.run.settings.window, len(self.x)
        return Windows(self.x, self.y, length=length, batch_size=together, by="key", targets="steps")

    @cached_property
    def watched(self) -> Any:
        """A run of some sequences of these windows, which health and the pictures of the state share."""
        from rnnstate.insight.watched import watch

        return watch(self.run.model, self.windows, rows=_WATCHED_ROWS, steps=_WATCHED_STEPS)

    @cached_property
    def training_windows(self) -> Any:
        """The windows of the training part, as the training saw them."""
        settings = self.run.settings
        examples = examples_of(settings, self.series, self.run.scaling, "train")
        return windows_of(settings, fill_rows(examples, settings.window, settings.batch_size))

    @cached_property
    def outputs(self) -> Any:
        """Scaled predictions `(time, targets)` by name of the sequence."""
        return self.run.model.predict(self.windows, verbose=0)

    @property
    def predicted(self) -> dict[str, Array]:
        """Predictions in the units of the data, `(time, targets)`."""
        return {key: self.run.scaling.unscale(np.asarray(one, np.float64)) for key, one in self.outputs.items()}

    @cached_property
    def true(self) -> dict[str, Array]:
        """The true values of the targets in the units of the data, `(time, targets)`."""
        return {key: self.run.scaling.unscale(value) for key, value in self.y.items()}


def look_at(run: Run, table: Table) -> Looked:
    """Return the test part of a table. If it has less than three windows in a row, return all rows.

    Raises:
        DataError: If the table lacks a column of the RUN, or has too few rows without a gap.
    """
    return look_at_series(run, read_series(table, run.settings.columns, run.end.steps))


def look_at_series(run: Run, series: Sequence[Series]) -> Looked:
    """Return the test part of series, or a sample of it, as `look_at` does.

    Raises:
        DataError: If there are too few rows without a gap.
    """
    for part in ("test", None):
        x, y = _part(run, series, part)
        longest = max(map(len, x.values()), default=0)
        if longest >= _WINDOWS * run.settings.window:
            break
    if not x:
        raise DataError(
            f"DATA must have at least {run.settings.horizon + 2} rows without a gap. Received: fewer. Give the data "
            "that RUN was trained on, or more of the same kind."
        )
    names = _sampled(x, run.settings.window)
    rows = sum(map(len, x.values()))
    x, y = ({name: values[name][:stop] for name, stop in names.items()} for values in (x, y))
    looked = sum(map(len, x.values()))
    sample = f"{looked:,} of its {rows:,} usable rows" if looked < rows else f"all of its {counted(rows, 'usable row')}"
    return Looked(run, series, "all rows" if part is None else "the test part", sample, x, y)


def _sampled(x: Mapping[str, Array], window: int) -> dict[str, int]:
    """Return how many steps of which sequences to look at: the longest sequences, each from its start."""
    longest = sorted(x, key=lambda name: -len(x[name]))[:_SEQUENCES]
    most = max(_WINDOWS * window, min(_WINDOWS_EACH * window, _STEPS // max(1, len(longest))))
    return {name: min(len(x[name]), most) for name in x if name in longest}


def _part(run: Run, series: Sequence[Series], part: str | None) -> tuple[dict[str, Array], dict[str, Array]]:
    settings = run.settings
    x: dict[str, Array] = {}
    y: dict[str, Array] = {}
    for one in series:
        low, high = (0, len(one)) if part is None else split_bounds(len(one), settings.fractions)[part]
        spans, _ = usable_spans(clip_spans(one.spans, low, high), settings.horizon)
        for number, (start, stop) in enumerate(spans.tolist(), start=1):
            name = (one.key or "data") + (f", part {number}" if len(spans) > 1 else "")
            values = run.scaling.scale(one.values[start:stop])
            x[name], y[name] = values[: -settings.horizon], values[settings.horizon :, : len(settings.targets)]
    return x, y
