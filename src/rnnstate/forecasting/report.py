"""The report about a RUN: data, training, errors, forecasts, states, health, audit and versions, as one HTML page."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rnnstate.errors import DataError
from rnnstate.forecasting.examples import PARTS, split_bounds
from rnnstate.forecasting.looked_at import Looked
from rnnstate.forecasting.report_page import code, heading, page, paragraph, picture, table
from rnnstate.forecasting.run_folder import Run
from rnnstate.forecasting.run_plots import PLOTS, draw_training
from rnnstate.forecasting.series import count_gaps
from rnnstate.insight.health.check import health
from rnnstate.insight.health.report import Health
from rnnstate.messages import counted

_CAPTIONS = {
    "error-by-position": "Error at each position in a window. A lost state shows as a high left end.",
    "forecast": "Predictions against the truth, the last steps of the first sequences.",
    "forgetting": "How the difference fades that a reset of the state makes.",
    "gradient-by-lag": "How much the loss depends on the states before. Training drops what lies right of the line.",
    "states": "The state of one sequence over time, one line for each unit.",
    "gate-saturation": "How often each gate is open and closed.",
    "drift": "The size of the state over time. It should settle.",
    "portrait": "The path of the state in the plane in which it varies most.",
    "neighbours": "The inputs around the states that are nearest to one state.",
    "lanes": "Which sequence each row of each training batch holds.",
}


@dataclass(frozen=True)
class Report:
    """A report that is made.

    Args:
        html: The page.
        health: The findings about the state; `None` without data.
        left_out: Why a part is missing, by its name.
    """

    html: str
    health: Health | None
    left_out: dict[str, str]


def make_report(run: Run, looked: Looked | None, reason: str = "") -> Report:
    """Return the report about a RUN.

    Args:
        run: The RUN.
        looked: The RUN with its data; `None` if there are none. Then only what the RUN knows itself is reported.
        reason: Why there are no data.

    Raises:
        DataError: If matplotlib is not installed.
    """
    left_out: dict[str, str] = {}
    found = None if looked is None else health(run.model, looked.windows)
    parts = [*_about_data(run, looked, reason), *_about_training(run), *_about_errors(run)]
    if looked is not None and found is not None:
        parts += [*_pictures(looked, ("error-by-position", "forecast"), left_out), heading("The state")]
        parts += [*_pictures(looked, tuple(_CAPTIONS)[2:], left_out), *_about_health(found, looked)]
    parts += [*_about_audit(run), *_about_versions(run)]
    return Report(page(f"Report on {run.path.name}", parts), found, left_out)


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
        f"{counted(gaps, 'gap')}, {counted(empty, 'empty row')}. Split by time. Pictures and health show {looked.part}."
    )
    yield table(("part", "rows"), sizes, numbers=[1])


def _about_training(run: Run) -> Iterator[str]:
    yield heading("Training")
    yield picture(draw_training(run.history), "Loss of each epoch.")


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


def _pictures(looked: Looked, names: tuple[str, ...], left_out: dict[str, str]) -> Iterator[str]:
    for name in names:
        try:
            yield picture(PLOTS[name](looked), _CAPTIONS[name])
        except DataError as error:
            left_out[name] = str(error)
            yield paragraph(f"No picture `{name}`: {error}", note=True)


def _about_health(found: Health, looked: Looked) -> Iterator[str]:
    yield heading("Health")
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
