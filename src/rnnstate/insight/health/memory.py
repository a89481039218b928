"""Findings about memory: the largest Lyapunov exponent, half-lives, and the dimensions that the state uses."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.health.report import HealthFinding, judged
from rnnstate.insight.numbers.components import participation_ratio
from rnnstate.insight.numbers.exponents import lyapunov_exponents
from rnnstate.insight.numbers.forgetting import forgetting_curves, half_life
from rnnstate.insight.numbers.jacobians import LARGEST, Jacobians, jacobians, state_size
from rnnstate.insight.watched import Watched

VOGT = "QR method, Vogt et al. 2022, doi:10.3389/fams.2022.818799"
PARALLEL = "arXiv:2407.19115 and arXiv:2508.16817"
# Finite differences in float32 leave an error of about this size in an exponent.
_NEAR_ZERO = 2e-3
_ROWS = 2
# Steps of each row: fewer for large states, whose products take long.
_PRODUCTS, _FEWEST, _MOST = 2_000_000_000, 32, 128


def derivatives(model: Any, watched: Watched) -> list[Jacobians]:
    """Return the Jacobians along two sequences; none if the state is too large for them."""
    size = state_size(watched.leaves)
    steps = int(np.clip(_PRODUCTS // size**3, _FEWEST, _MOST))
    rows = range(min(_ROWS, len(watched.keys)))
    return [] if size > LARGEST else [jacobians(model, watched, row, steps) for row in rows]


def exponent(watched: Watched, found: Sequence[Jacobians]) -> Iterator[HealthFinding]:
    """Yield the largest Lyapunov exponent and the half-life that follows from it."""
    if not found:
        size = state_size(watched.leaves)
        advice = f"Not measured: Jacobians need at most {LARGEST} numbers, and the state has {size}."
        yield HealthFinding("largest Lyapunov exponent", math.nan, "", "note", advice, VOGT)
        return
    largest = float(lyapunov_exponents([one.state for one in found])[0])
    yield judged(
        "largest Lyapunov exponent", largest, _NEAR_ZERO, unit="per step", good=_what_follows(largest),
        bad="Small differences grow: the states of two runs part, and so do two backends. No burn-in makes up for a wrong "
        "initial state. Evaluation parallel in time would not pay. Regularise, or clip gradients.",
        source=f"{VOGT}; parallel in time: {PARALLEL}",
    )  # fmt: skip
    if largest < -_NEAR_ZERO:
        half = math.log(2) / -largest if math.isfinite(largest) else 0.0
        advice = (
            "In the long run, a small difference halves in this number of steps. The measured half-life is about a reset, "
            "which is a large difference."
        )
        yield HealthFinding("half-life from the exponent", half, "", "note", advice, "ln 2 / |exponent|", "steps")


def _what_follows(largest: float) -> str:
    if largest > -_NEAR_ZERO:
        return (
            "Differences neither fade nor grow: the state keeps what it has seen, and the initial state matters for the "
            "whole sequence."
        )
    burn_in = math.ceil(math.log(100) / -largest) if math.isfinite(largest) else 1
    return (
        f"Differences fade: after about {burn_in} steps 1 % of a wrong initial state is left, so a burn-in of so many steps "
        "is enough. Evaluation parallel in time would converge."
    )


def measured_half_life(model: Any, watched: Watched) -> Iterator[HealthFinding]:
    """Yield after how many steps half of the difference between a carried and a reset state is left."""
    name, source = "half-life of a reset", "forgetting curve at the size of a reset"
    try:
        curves = forgetting_curves(model, watched)
    except DataError as error:
        yield HealthFinding(name, math.nan, "", "note", f"Not measured. {error}", source)
        return
    half, length = half_life(curves), watched.length or 1
    if math.isnan(half):
        advice = "Not measured: the state never differs from its initial state."
        yield HealthFinding(name, half, "", "warning", advice, source)
        return
    ahead = curves.shape[1] - 1
    yield judged(
        name, half, length,
        unit="steps", good=f"The memory fits into a window of {length} steps.",
        bad=f"The memory is longer than a window of {length} steps, beyond which no gradient flows. Use a larger `length` "
        f"or `back`, so that the network can learn what it could remember. Looked {ahead} steps ahead.",
        source=f"{source}; the window as in Aicher et al. 2019, arXiv:1905.07473",
    )  # fmt: skip


def dimensions(watched: Watched) -> Iterator[HealthFinding]:
    """Yield how many dimensions the states fill."""
    points = watched.vectors[watched.valid]
    if not np.isfinite(points).all():
        return
    total = points.shape[1]
    advice = "Participation ratio. Far fewer than the units you have? Then a smaller network may do."
    source = "(sum of variances)^2 / sum of squared variances of the states"
    yield HealthFinding("dimensions used", participation_ratio(points), "", "note", advice, source, f"of {total}")
