"""The report about a RUN: data, training, errors, forecasts, states, health, audit and versions, as one HTML page."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnnstate.durable import write_durably
from rnnstate.errors import DataError
from rnnstate.forecasting.examples import PARTS, split_bounds
from rnnstate.forecasting.horizons import ErrorsByHorizon, errors_by_horizon
from rnnstate.forecasting.looked_at import Looked
from rnnstate.forecasting.report_page import code, heading, page, paragraph, picture, table
from rnnstate.forecasting.run_folder import Run
from rnnstate.forecasting.run_plots import PLOTS, draw_horizons, draw_training
from rnnstate.forecasting.series import count_gaps
from rnnstate.insight.health.check import health
from rnnstate.insight.health.report import Health
from rnnstate.messages import counted

_CAPTIONS = {
    "error-by-horizon": "The error grows with the steps ahead. The network runs on its own predictions.",
    "error-by-position": "Error at each position in a window. A lost state shows as a high left end.",
    "forecast": "Predictions against the truth, the last steps of the first sequences.",
    "forgetting": "How the difference fades that a reset of the state makes.",
    "gradient-by-lag": "How much the loss depends on the states before. Training drops what lies right of the line.",
    "states": "The state of one sequence over time, one line for each unit.",
    "gate-saturation": "How often each gate is open and closed.",
    "drift": "The size of the state over time. It should settle.",
    "lanes": "Which sequence each row of each training batch holds.",
}


# Before these, the page has the table of errors; after them, the pictures of the state.
_OF_ERRORS = ("error-by-horizon", "error-by-position", "forecast")
_MORE = "For `portrait` and `neighbours`, run `rnnstate plot RUN --what NAME -o FILE`."
_STEPS_SHOWN = (1, 2, 4, 8, 16, 32, 64, 96)
NO_PICTURES = 'Pictures need matplotlib: run `pip install "rnnstate[plot]"`, then `rnnstate report`.'


@dataclass(frozen=True)
class Report:
    """A report that is made.

    Args:
        html: The page.
        health: The findings about the state; `None` without data, or with too few rows.
        left_out: Why a part is missing, by its name.
    """

    html: str
    health: Health | None
    left_out: dict[str, str]


def write_report(out: Path, run: Run, looked: Looked | None, reason: str = "") -> Report:
    """Make the report about a RUN and write it to a file, which appears whole or not at all."""
    made = make_report(run, looked, reason)
    write_durably(out, made.html.encode())
    return made


def make_report(run: Run, looked: Looked | None, reason: str = "") -> Report:
    """Return the report about a RUN. Without matplotlib it has no pictures.

    Args:
        run: The RUN.
        looked: The RUN with its data; `None` if there are none. Then only what the RUN knows itself is reported.
        reason: Why there are no data.
    """
    left_out: dict[str, str] = {}
    draws = find_spec("matplotlib") is not None
    parts = [] if draws else [paragraph(NO_PICTURES, note=True)]
    parts += [*_about_data(run, looked, reason), *_about_training(run, draws), *_about_errors(run)]
    found = None
    if looked is not None:
        parts += _of_horizons(looked, draws, left_out)
        found = _measured(looked, left_out)
        if draws:
            parts += [*_pictures(looked, _OF_ERRORS[1:], left_out), heading("The state")]
            parts += _pictures(looked, tuple(name for name in _CAPTIONS if name not in _OF_ERRORS), left_out)
            parts.append(paragraph(_MORE, note=True))
        parts += _about_health(found, left_out)
    parts += [*_about_audit(run), *_about_versions(run)]
    return Report(page(f"Report on {run.path.name}", parts), found, left_out)


def _measured(looked: Looked, left_out: dict[str, str]) -> Health | None:
    try:
        return health(looked.run.model, looked.watched)
    except DataError as error:
        left_out["health"] = str(error)
        return None


def _about_data(run: Run, looked: Looked | None, reason: str) -> Iterator[str]:
    settings = run.settings
    yield paragraph(
        f"Predicts {', '.join(settings.targets)} from {', '.join(settings.columns.inputs)}, "
        f"{counted(settings.horizon, 'step')} ahead, with layers {settings.layers} and windows of "
        f"{counted(settings.window, 'step')}. The state is carried from window to window."
    )
    yield heading("Data")
    if looked is None:
        yield paragraph(f"Parts that need the data are missing: {reason}")
        return
    gaps, empty = count_gaps(looked.series)
    bounds = [split_bounds(len(one), settings.fractions) for one in looked.series]
    sizes = [(part, f"{sum(b[part][1] - b[part][0] for b in bounds):,}") for part in PARTS]
    yield paragraph(
        f"{counted(sum(map(len, looked.series)), 'row')} of {counted(len(looked.series), 'sequence')}, "
        f"{counted(gaps, 'gap')}, {counted(empty, 'empty row')}. Split by time. Errors by horizon and "
        f"position, pictures and health show {looked.part}: {looked.sample}."
    )
    yield table(("part", "rows"), sizes, numbers=[1])


def _about_training(run: Run, draws: bool) -> Iterator[str]:
    yield heading("Training")
    if draws:
        yield picture(draw_training(run.history), "Loss of each epoch.")
        return
    losses = [
        (name, f"{values[0]:.4g}", f"{min(values):.4g}", f"{values[-1]:.4g}") for name, values in run.history.items()
    ]
    yield table(("loss", "first epoch", "lowest", "last epoch"), losses, numbers=[1, 2, 3])


def _about_errors(run: Run) -> Iterator[str]:
    yield heading("Errors and forecasts")
    test = run.info["test"]
    if not test["errors"]:
        yield paragraph("No row of the test part has a known target.")
        return
    rows = [
        (
            e["target"],
            e["served"],
            f"{e['mae']:.4g}",
            f"{e['rmse']:.4g}",
            "-" if e["ratio"] is None else f"{e['ratio']:.3f}",
        )
        for e in test["errors"]
    ]
    yield table(("target", "served as", "MAE", "RMSE", "MAE / persistence"), rows, numbers=[2, 3, 4])
    yield paragraph(f"{counted(test['rows'], 'prediction')} of the test part, in the units of the data.", note=True)


def _of_horizons(looked: Looked, draws: bool, left_out: dict[str, str]) -> Iterator[str]:
    name = _OF_ERRORS[0]
    try:
        errors = errors_by_horizon(looked)
    except DataError as error:
        left_out[name] = str(error)
        yield paragraph(f"No errors by horizon: {error}", note=True)
        return
    if draws:
        yield picture(draw_horizons(errors), _CAPTIONS[name])
    shown = [index for index, step in enumerate(errors.steps.tolist()) if step in _STEPS_SHOWN]
    rows = [(errors.steps[i], f"{errors.model[i]:.3f}", f"{errors.persistence[i]:.3f}") for i in shown]
    yield table(("steps ahead", "model, RMSE", "persistence, RMSE"), rows, numbers=[0, 1, 2])
    yield paragraph(_about_horizons(errors, looked), note=True)


def _about_horizons(errors: ErrorsByHorizon, looked: Looked) -> str:
    held = len(looked.run.settings.columns.inputs) > len(looked.run.settings.targets)
    inputs = " Inputs that are no targets keep their last values." if held else ""
    return f"In standard deviations, over {counted(errors.origins, 'forecast')}, as `rnnstate forecast` makes them.{inputs}"


def _pictures(looked: Looked, names: tuple[str, ...], left_out: dict[str, str]) -> Iterator[str]:
    for name in names:
        try:
            yield picture(PLOTS[name](looked), _CAPTIONS[name])
        except DataError as error:
            left_out[name] = str(error)
            yield paragraph(f"No picture `{name}`: {error}", note=True)


def _about_health(found: Health | None, left_out: dict[str, str]) -> Iterator[str]:
    yield heading("Health")
    if found is None:
        yield paragraph(f"Not measured. {left_out['health']}")
        return
    rows = [(f.level, f.name, f.shown, f.threshold, f.advice) for f in found]
    yield table(("", "number", "value", "healthy", "what follows"), rows)
    yield paragraph(f"Measured on {found.measured_on} `rnnstate.health` gives the source of each number.", note=True)


def _about_audit(run: Run) -> Iterator[str]:
    from rnnstate.inplace.audit import audit

    yield heading("Audit")
    findings = audit(run.model)
    yield code("\n".join(map(str, findings))) if findings else paragraph("Nothing to report.")


def _about_versions(run: Run) -> Iterator[str]:
    yield heading("How it was made")
    yield code(shlex.join(run.info["command"]))
    versions: dict[str, Any] = {**run.info["versions"], "seed": run.info["seed"]}
    yield table(("library", "version"), list(versions.items()))
