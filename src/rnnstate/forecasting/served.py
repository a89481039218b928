"""A RUN over a table: predictions at each row, how they started, and where each key stands afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.ahead import look_ahead
from rnnstate.forecasting.continuation import Standing, Starts, check_later, find_starts
from rnnstate.forecasting.errors_table import Score
from rnnstate.forecasting.examples import Array
from rnnstate.forecasting.predict import advance
from rnnstate.forecasting.run_folder import Run
from rnnstate.forecasting.series import Series, read_series
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.tables import Table
from rnnstate.forecasting.train import judge


@dataclass(frozen=True, eq=False)
class Served:
    """The result of a RUN over a table.

    Args:
        table: The data.
        series: The data by key.
        starts: Where the series start, and why some of them start fresh.
        outputs: Predictions in the data's own units, `(time, targets)` for each series, NaN in gaps.
        standing: Where each key of the data stands afterwards.
    """

    table: Table
    series: Sequence[Series]
    starts: Starts
    outputs: Sequence[Array]
    standing: Standing

    @property
    def filled(self) -> int:
        """Rows with predictions."""
        return sum(int(np.isfinite(one[:, 0]).sum()) for one in self.outputs)


def serve_table(run: Run, table: Table, *, continues: bool = False, update: bool = False) -> Served:
    """Run all rows of a table through the model of a RUN. Keys continue where the RUN stands, if their data do.

    Args:
        run: The RUN.
        table: The data.
        continues: Whether rows without times follow the data of the RUN.
        update: Whether the RUN will be updated. Then data that overlap the kept data are refused.

    Raises:
        DataError: If the data lack a column, or do not fit the RUN.
    """
    series = read_series(table, run.settings.columns, run.end.steps)
    starts = find_starts(series, run.end, continues)
    if update:
        _check_times(run.settings, continues)
        check_later(series, run.end)
    outputs, standing = advance(run.model, series, run.scaling, starts=starts)
    outlook = look_ahead(series, outputs, run.settings.horizon, starts.rows.tolist(), run.end.outlook)
    return Served(table, series, starts, outputs, replace(standing, outlook=outlook))


def score(run: Run, served: Served) -> tuple[list[Score], int]:
    """Return the errors on all rows whose target is known, and the number of these rows."""
    return judge(run.model, served.series, run.scaling, run.settings, served.outputs, [0] * len(served.series))


def prediction_columns(settings: Settings, served: Served) -> dict[str, Any]:
    """Return a column for the key, one for the time, and one for each target, with a row for each row of the data.

    Raises:
        DataError: If two columns would have one name.
    """
    values = np.full((len(served.table), len(settings.targets)), np.nan)
    for one, output in zip(served.series, served.outputs, strict=True):
        values[one.rows] = output
    names = [name for name in (settings.key, settings.time) if name is not None]
    columns: dict[str, Any] = {name: served.table.cells(name) for name in names}
    for index, target in enumerate(settings.targets):
        name = f"{target}_in_{settings.horizon}"
        if name in columns:
            raise DataError(f"The columns of the output must differ. Received: `{name}` twice. Rename it in DATA.")
        columns[name] = values[:, index]
    return columns


def _check_times(settings: Settings, continues: bool) -> None:
    if settings.time is None and not continues:
        raise DataError(
            "`--update` cannot check that DATA follow the data of RUN. Received: a RUN without a time column. "
            "Use --continue if the rows follow."
        )
