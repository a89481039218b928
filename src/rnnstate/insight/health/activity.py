"""Findings about units: still, saturated, growing."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnstate.insight.health.report import HealthFinding, judged
from rnnstate.insight.numbers.gates import gate_values
from rnnstate.insight.numbers.units import growth, norms, saturation, still_units
from rnnstate.insight.watched import Watched

OWN = "a choice of this library"
KARPATHY = "Karpathy et al. 2015, arXiv:1506.02078; the limit is a choice of this library"
_STILL_SHARE, _STUCK_SHARE, _STUCK_TIME, _GROWTH = 0.1, 0.5, 0.9, 2.0


def still(watched: Watched) -> Iterator[HealthFinding]:
    """Yield the share of units of each leaf that do not move."""
    for name, leaf in watched.leaves.items():
        units = still_units(leaf, watched.valid)
        everything = units.all()
        bad = (
            "The whole leaf is frozen: it remembers nothing. Look at the weights and the scaling of the inputs."
            if everything
            else f"{int(units.sum())} of {len(units)} units never move. Use fewer units, or a smaller learning rate."
        )
        yield judged(
            f"still units of `{name}`", float(units.mean()), _STILL_SHARE,
            good="Almost all units move.", bad=bad, source=OWN,
        )  # fmt: skip


def saturated(model: Any, watched: Watched) -> Iterator[HealthFinding]:
    """Yield the share of units of each gate that are closed, or open, in nine steps of ten."""
    for layer, gates in gate_values(model, watched).items():
        for gate, values in gates.items():
            low, high = saturation(values, watched.valid)
            stuck = np.maximum(low, high) > _STUCK_TIME
            side = "open" if high.mean() >= low.mean() else "closed"
            yield judged(
                f"saturated {gate} gates of `{layer}`", float(stuck.mean()), _STUCK_SHARE,
                good="Most gates react to their inputs.",
                bad=f"Most of these gates stay {side}, so their gradients are near zero. Scale the inputs, or initialise "
                "the biases of the gates nearer to zero.",
                source=KARPATHY,
            )  # fmt: skip


def growing(watched: Watched) -> Iterator[HealthFinding]:
    """Yield how many times larger each leaf is late in the sequences than early."""
    for name, leaf in watched.leaves.items():
        finite = bool(np.isfinite(leaf[watched.valid]).all())
        value = growth(norms(leaf), watched.valid) if finite else float("inf")
        yield judged(
            f"drift of `{name}`", value, _GROWTH,
            good="The state settles.",
            bad="The state explodes: values are no longer finite. Clip gradients, and lower the learning rate."
            if not finite
            else "The state keeps growing, beyond the range in which the network was trained. Train with longer carried "
            "sequences, or reset the state now and then.",
            source="last quarter of the steps against the second quarter; the limit is a choice of this library",
        )  # fmt: skip
