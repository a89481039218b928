"""Findings about the use of the state: what the error becomes if parts of the past are taken away."""

import math
from collections.abc import Iterator
from typing import Any

from rnnstate.insight.health.report import HealthFinding, judged
from rnnstate.insight.numbers.context import ablations, context_curve, useful_context
from rnnstate.insight.watched import Watched

KHANDELWAL = "Khandelwal et al. 2018, arXiv:1805.04623"
_WORTH = 1.01
_UNIT = "times the error with the carried state"


def ablated(model: Any, watched: Watched) -> Iterator[HealthFinding]:
    """Yield the error with the state zeroed, shuffled and held, in relation to the error with the carried state."""
    errors = ablations(model, watched)
    if not errors:
        advice = "Not measured: this needs targets per step in the shape of the outputs, and at least three windows."
        yield HealthFinding("error with the state zeroed", math.nan, "", "note", advice, KHANDELWAL)
        return
    best = max(errors["carried"], 1e-12)
    yield judged(
        "error with the state zeroed", errors["zeroed"] / best, _WORTH, above=True,
        unit=_UNIT, good="The state that a window starts from is useful.",
        bad="The model gains nothing from the state that it carries. It may not have "
        "learned to use it, or the data need no memory across windows.",
        source=f"{KHANDELWAL}; the limit of 1 % is a choice of this library",
    )  # fmt: skip
    for way, text in (
        ("shuffled", "from the state of another window"),
        ("held", "from a state that is one window old"),
    ):
        advice = f"Each window starts {text}."
        yield HealthFinding(f"error with the state {way}", errors[way] / best, "", "note", advice, KHANDELWAL, _UNIT)


def context(model: Any, watched: Watched) -> Iterator[HealthFinding]:
    """Yield how many steps of the past before a window the model uses."""
    known, errors, best = context_curve(model, watched)
    if not len(known):
        return
    useful = useful_context(known, errors, best)
    advice = (
        f"So many steps before a window give an error within 1 % of that with the carried state. Tried: {known[-1]}."
        if math.isfinite(useful)
        else f"Even {known[-1]} steps before a window do not replace the carried state: the error is "
        f"{errors[-1] / max(best, 1e-12):.3g} times as large."
    )
    yield HealthFinding("useful context", useful, "", "note", advice, KHANDELWAL, "steps")
