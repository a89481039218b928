"""The table of errors, in the units of the data, with the errors of *persistence*: the forecast that nothing changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rnnstate.forecasting.examples import Array, persistence, scored_rows
from rnnstate.forecasting.series import Series
from rnnstate.messages import text_table

PERSISTENCE = "persistence (value now)"


@dataclass(frozen=True)
class Score:
    """Errors of one way to predict one target.

    Args:
        target: Column name.
        served: The way in which the predictions were made.
        mae: Mean absolute error.
        rmse: Root of the mean squared error.
        ratio: Mean absolute error divided by the error of persistence, or `None` if persistence is never wrong.
    """

    target: str
    served: str
    mae: float
    rmse: float
    ratio: float | None


def score_ways(
    series: Sequence[Series],
    predictions: Mapping[str, Sequence[Array]],
    targets: Sequence[str],
    lows: Sequence[int],
    horizon: int,
) -> tuple[list[Score], int]:
    """Score predictions on the rows whose target is known.

    Args:
        series: The data.
        predictions: Arrays `(time, targets)`, one for each series, by the name of the way. Persistence comes first.
        targets: Column names.
        lows: The first row that counts, for each series.
        horizon: How many steps ahead was predicted.

    Returns:
        The scores by target, then by way, and the number of rows.
    """
    rows = [scored_rows(one, low, horizon) for one, low in zip(series, lows, strict=True)]
    count = sum(len(part) for part in rows)
    if not count:
        return [], 0
    now = [persistence(one, len(targets)) for one in series]
    actual = np.concatenate([one[part + horizon] for one, part in zip(now, rows, strict=True)])
    errors = {
        name: np.concatenate([one[part] for one, part in zip(values, rows, strict=True)]) - actual
        for name, values in {PERSISTENCE: now, **predictions}.items()
    }
    return [_score(errors, name, target, column) for column, target in enumerate(targets) for name in errors], count


def score_table(scores: Sequence[Score]) -> list[str]:
    """Return the lines of a table of scores."""
    rows = [
        (s.target, s.served, f"{s.mae:.4g}", f"{s.rmse:.4g}", "-" if s.ratio is None else f"{s.ratio:.3f}")
        for s in scores
    ]
    return text_table(("target", "served as", "MAE", "RMSE", "MAE / persistence"), rows, right=(2, 3, 4))


def _score(errors: Mapping[str, Array], name: str, target: str, column: int) -> Score:
    mine, base = errors[name][:, column], errors[PERSISTENCE][:, column]
    mae, base_mae = float(np.abs(mine).mean()), float(np.abs(base).mean())
    return Score(target, name, mae, float(np.sqrt((mine**2).mean())), mae / base_mae if base_mae else None)
