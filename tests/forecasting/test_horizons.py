"""The errors by horizon, against forecasts made one step at a time."""

import numpy as np
import pytest
from keras import ops

from forecasting import TINY, TRAIN, rows, write_rows
from rnnstate.cli.app import main
from rnnstate.errors import DataError
from rnnstate.forecasting.horizons import errors_by_horizon
from rnnstate.forecasting.looked_at import look_at, look_at_series
from rnnstate.forecasting.run_folder import read_run
from rnnstate.forecasting.tablefiles import read_table

pytestmark = pytest.mark.once


@pytest.mark.parametrize("horizon", [1, 3])
def test_errors_by_horizon_are_those_of_single_forecasts(tmp_path, horizon) -> None:
    """Each forecast steps over its past and then over its own predictions; the errors of all of them are the curve."""
    data = write_rows(tmp_path / "data.csv", rows(0, 31, gap=None))
    arguments = [*TRAIN, *TINY, "--horizon", str(horizon), "--out", str(tmp_path / "RUN")]
    assert main(["train", data, *arguments]) == 0
    run = read_run(tmp_path / "RUN")
    looked = look_at(run, read_table(data, run.settings.reading))
    found = errors_by_horizon(looked)
    time = max(map(len, looked.x.values()))
    steps = len(found.steps)
    assert steps == max(horizon, time // 4)
    wrong = []
    for x in looked.x.values():
        for at in range(max(horizon, min(7, time // 4)), len(x) - steps):
            inputs, state = x[: at + 1], run.model.initial_state(1)
            y, state = run.model.step(inputs[None].astype("float32"), state)
            ahead = list(ops.convert_to_numpy(y)[0, -horizon:])
            while len(ahead) < steps:
                new = np.concatenate([ahead[-horizon:], np.tile(x[at, 1:], (horizon, 1))], axis=1)
                y, state = run.model.step(new[None].astype("float32"), state)
                ahead += list(ops.convert_to_numpy(y)[0])
            wrong.append(np.array(ahead[:steps]) - x[at + 1 : at + 1 + steps, :1])
    assert found.origins == len(wrong)
    np.testing.assert_allclose(found.model, np.sqrt(np.mean(np.square(wrong), axis=(0, 2))), rtol=1e-5)
    assert np.abs(found.model - found.persistence).max() > 0.01  # negative control: the curves differ
    short = look_at_series(run, [one for one in looked.series if len(one.values) > 0])
    object.__setattr__(short.watched, "valid", short.watched.valid[:, :2])
    with pytest.raises(DataError, match=r"Errors by horizon need .* rows without a gap. Received: 2 at most"):
        errors_by_horizon(short)
