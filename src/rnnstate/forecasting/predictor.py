"""`load_run`: a RUN as an object that predicts in the units of the data. The command line uses the same functions."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from rnnstate.forecasting.continuation import merged
from rnnstate.forecasting.errors_table import Score
from rnnstate.forecasting.forecast import forecast, forecast_columns
from rnnstate.forecasting.frames import as_frame, is_path
from rnnstate.forecasting.run_folder import Run, read_run, update_run
from rnnstate.forecasting.served import Served, prediction_columns, score, serve_table
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.tablefiles import read_frame, read_table
from rnnstate.forecasting.tables import Table


class Predictor:
    """A trained RUN. It takes tables in the units of the data, and predicts in these units.

    `load_run` makes it. Keys continue from the state that the RUN keeps if their data begin one usual step after the kept
    data; other keys start from the initial state.

    Args:
        run: The content of the RUN.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def path(self) -> Path:
        """The folder of the RUN."""
        return self._run.path

    @property
    def settings(self) -> Settings:
        """The arguments of the training: `targets`, `features`, `key`, `time`, `horizon`, and so on."""
        return self._run.settings

    @property
    def model(self) -> Any:
        """The `StatefulModel`. It takes and predicts scaled values."""
        return self._run.model

    @property
    def keys(self) -> dict[str, str | None]:
        """The keys with a kept state, and the last time of their data. A table without a key has the key `""`."""
        return {place.key: place.time for place in self._run.end.places}

    def predict(self, frame: Any, *, continues: bool = False, update: bool = False) -> Any:
        """Return predictions for each row of a table.

        Args:
            frame: A frame of pandas or polars, a table of pyarrow, or the path of a CSV or Parquet file.
            continues: Whether the rows follow the data of the RUN. Only a table without a time column needs it.
            update: Whether to keep where the keys stand afterwards in the RUN. Then the next data continue from these data.

        Returns:
            A frame of the same library with a row for each row of `frame`: the key, the time, and for each target a column
            such as `load_in_4`, its predicted value `horizon` steps after the row. Values in gaps are missing. For a path it
            is a table of pyarrow.

        Raises:
            DataError: If the data do not fit the RUN; with `update`, also if they overlap the data that the RUN has seen.
        """
        served = self._serve(frame, continues, update)
        columns = prediction_columns(self.settings, served)
        if update:
            self._keep(served)
        return as_frame(columns, frame)

    def evaluate(self, frame: Any, *, continues: bool = False) -> list[Score]:
        """Return the errors on a table, in the units of the data.

        Args:
            frame: The data, as in `predict`.
            continues: As in `predict`.

        Returns:
            For each target the errors of persistence, of the model with its state carried, and of the model with its state
            reset at each window. Each has `target`, `served`, `mae`, `rmse` and `ratio`. The list is empty if no row has a
            known target.
        """
        return score(self._run, self._serve(frame, continues))[0]

    def forecast(
        self, steps: int | None = None, frame: Any = None, *, continues: bool = False, hold: bool = False
    ) -> Any:
        """Return predictions for the steps after the data. The model runs on its own predictions.

        Args:
            steps: How many steps. The default is the horizon of the RUN.
            frame: Data that come before the forecast, as in `predict`. Without it, the forecast begins where the RUN stands.
            continues: As in `predict`.
            hold: Whether inputs that are no targets keep their last values in the steps after the horizon. Without it, such
                steps are refused, because nobody knows these inputs.

        Returns:
            A frame with `steps` rows for each key: the key, the time (or the number of the step, if there is no time
            column), and the targets. It is of the library of `frame`, or a table of pyarrow.

        Raises:
            DataError: If inputs of the future are needed and `hold` is false, or no key can be forecast.
        """
        standing = self._run.end if frame is None else self._serve(frame, continues).standing
        result = forecast(self._run, standing, steps, hold=hold)
        return as_frame(forecast_columns(self.settings, result), frame)

    def _serve(self, frame: Any, continues: bool, update: bool = False) -> Served:
        return serve_table(self._run, self._table(frame), continues=continues, update=update)

    def _table(self, frame: Any) -> Table:
        if is_path(frame):
            return read_table(os.fspath(frame), self.settings.reading)
        return read_frame(frame, "the frame", self.settings.reading)

    def _keep(self, served: Served) -> None:
        end = merged(self._run.end, served.standing)
        self._run = replace(self._run, end=end, seen=update_run(self._run, end))


def load_run(path: str | os.PathLike[str]) -> Predictor:
    """Load a RUN, the folder that `rnnstate train` makes.

    Args:
        path: The folder.

    Returns:
        A `Predictor`, which predicts in the units of the data.

    Raises:
        DataError: If the folder is no RUN, has another format, lacks a file, or is damaged.

    Example:

    >>> from rnnstate.cli.app import main
    >>> rows = [f"{hour},{np.sin(hour / 4):.3f}" for hour in range(120)]
    >>> _ = Path("wave.csv").write_text("\\n".join(["hour,load", *rows]))
    >>> train = "train wave.csv --target load --time hour --window 8 --layers gru:3 --epochs 1 --out wave.run --quiet"
    >>> main(train.split())
    Test errors, 1 step ahead (23 predictions):
    ...
    0
    >>> run = rs.load_run("wave.run")
    >>> run.forecast(steps=3)["hour"].to_pylist()
    [120, 121, 122]
    >>> run.predict("wave.csv").column_names
    ['hour', 'load_in_1']
    >>> [score.served for score in run.evaluate("wave.csv")][:2]
    ['persistence (value now)', 'model, state carried']
    """
    return Predictor(read_run(Path(path)))
