"""What plots, health and report look at: the test part of the data of a RUN, as windows with a name for each sequence."""

from collections.abc import Sequence
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

# Fewer windows than that show nothing about what is carried between them.
_WINDOWS = 3


@dataclass(frozen=True, eq=False)
class Looked:
    """A RUN with its data.

    Args:
        run: The RUN.
        series: The data by key.
        part: Which part is looked at: `"the test part"`, or `"all rows"` if the test part is too short.
        x: Scaled inputs `(time, inputs)` by name of the sequence.
        y: Scaled targets `(time, targets)`, `horizon` steps later.
    """

    run: Run
    series: Sequence[Series]
    part: str
    x: dict[str, Array]
    y: dict[str, Array]

    @cached_property
    def windows(self) -> Any:
        """The windows of the part that is looked at."""
        from rnnstate.windows.windows import Windows

        settings = self.run.settings
        return Windows(
            self.x, self.y, length=settings.window, batch_size=settings.batch_size, by="key", targets="steps"
        )

    @cached_property
    def watched(self) -> Any:
        """A run of some sequences of these windows, which the pictures of the state share."""
        from rnnstate.insight.watched import watch

        return watch(self.run.model, self.windows)

    @cached_property
    def training_windows(self) -> Any:
        """The windows of the training part, as the training saw them."""
        settings = self.run.settings
        examples = examples_of(settings, self.series, self.run.scaling, "train")
        return windows_of(settings, fill_rows(examples, settings.window, settings.batch_size))

    @cached_property
    def predicted(self) -> dict[str, Array]:
        """Predictions in the units of the data, `(time, targets)`."""
        outputs = self.run.model.predict(self.windows, verbose=0)
        return {key: self.run.scaling.unscale(np.asarray(value, np.float64)) for key, value in outputs.items()}

    @cached_property
    def true(self) -> dict[str, Array]:
        """The true values of the targets in the units of the data, `(time, targets)`."""
        return {key: self.run.scaling.unscale(value) for key, value in self.y.items()}


def look_at(run: Run, table: Table) -> Looked:
    """Return the test part of a table. If it has less than three windows in a row, return all rows.

    Raises:
        DataError: If the table lacks a column of the RUN, or has too few rows without a gap.
    """
    series = read_series(table, run.settings.columns, run.end.steps)
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
    return Looked(run, series, "all rows" if part is None else "the test part", x, y)


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
