"""How targets belong to windows: one per step, one per window, the last step of each window, or one per sequence."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import Field, Kind, piece_windows
from rnnstate.windows.cuts import Cuts, count_windows, cut_windows
from rnnstate.windows.sequences import Fields, Sequences

CHOICES: dict[str, tuple[Kind, ...]] = {
    "auto": ("steps", "windows"),
    "steps": ("steps",),
    "windows": ("windows",),
    "last": ("last",),
    "sequence": ("sequence",),
}


def resolve_targets(
    data: Sequences,
    targets: str | Mapping[str, str],
    length: int,
    bounds: NDArray[np.int64] | None,
    cuts: Cuts | None = None,
    varying: bool = False,
) -> Sequences:
    """Return the data, with a kind for each target and weight: what a window takes of it.

    Args:
        data: Sequences, not yet cut into pieces.
        targets: A name of `CHOICES`, or a mapping of them by output name; an output without one is `"auto"`.
        length: Steps of a window.
        bounds: Bounds of the pieces, or `None`.
        cuts: For each sequence, the steps at which a window must begin, or `None`.
        varying: Whether windows differ from epoch to epoch.

    Returns:
        The same data; its targets and weights have their kind.

    Raises:
        DataError: If the number of entries fits neither the steps nor the windows, or could mean two things, or
            weights do not belong to targets.
    """
    kinds = _chosen(targets, data.y)
    if bounds is not None and "sequence" in kinds.values():
        raise DataError(
            "`targets='sequence'` belongs to whole sequences. Received: `pieces`, which cut them, and each piece starts "
            "from the initial state. Leave out `pieces`."
        )
    entries = _Entries(data.keys, data.lengths, length, bounds, cuts)
    regular = not varying and (bounds is None or cuts is None)
    y = {
        name: entries.resolve(
            field, CHOICES[kinds[name]] if regular else _without_windows(CHOICES[kinds[name]], varying)
        )
        for name, field in data.y.items()
    }
    weights = {name: entries.resolve(field, (_kind(name, y),)) for name, field in _checked(data.weights, y).items()}
    return replace(data, y=y, weights=weights)


def _chosen(targets: str | Mapping[str, str], y: Fields) -> dict[str | None, str]:
    """Return the name in `CHOICES` of each target."""
    if isinstance(targets, Mapping):
        unknown = [name for name in targets if name not in y]
        if unknown:
            raise DataError(
                f"`targets` must have names of `y`: {listed(name for name in y if name is not None) or 'y has none'}. "
                f"Received: {listed(unknown)}."
            )
    kinds = {name: targets.get(str(name), "auto") if isinstance(targets, Mapping) else targets for name in y or [None]}
    for kind in kinds.values():
        if kind not in CHOICES:
            raise DataError(f"`targets` must be one of {', '.join(map(repr, CHOICES))}. Received: targets={kind!r}.")
    return kinds


def _without_windows(choices: tuple[Kind, ...], varying: bool) -> tuple[Kind, ...]:
    if choices == ("windows",):
        cause = (
            "`vary`, where windows differ from epoch to epoch" if varying else "`pieces` together with gaps or resets"
        )
        raise DataError(
            f"`targets` must be per step with {cause}. Received: targets='windows'. Give one target for each step, "
            "and pass `targets='last'` where the network gives one output per window."
        )
    return tuple(kind for kind in choices if kind != "windows")


def _checked(weights: Fields, y: Fields) -> Fields:
    kinds = {field.kind for field in y.values()}
    if weights and set(weights) != set(y) and (set(weights) != {None} or len(kinds) > 1):
        raise DataError(
            f"`sample_weight` must have the names of `y`: {listed(y)}. Received: {listed(weights)}, where None is one "
            "without a name."
        )
    for field in weights.values():
        if field.entry_shape:
            raise DataError(
                f"`{field.label}` must be one number for each entry of `y`. Received: an array of shape "
                f"{field.entry_shape} for each."
            )
    return weights


def _kind(name: str | None, y: Fields) -> Kind:
    return y[name].kind if name in y else next(iter(y.values())).kind


@dataclass(frozen=True, eq=False)
class _Entries:
    """How many entries a target must have in each sequence."""

    keys: Sequence[Hashable]
    lengths: NDArray[np.int64]
    length: int
    bounds: NDArray[np.int64] | None
    cuts: Cuts | None

    def resolve(self, field: Field, choices: tuple[Kind, ...]) -> Field:
        """Return the field with the first kind whose number of entries it has in all sequences."""
        expected = {kind: self._counts(kind) for kind in choices}
        for kind, counts in expected.items():
            if (field.counts == counts).all():
                if kind == "windows":
                    self._check_pieces(field)
                return replace(field, kind=kind)
        raise DataError(self._misfit(field, expected))

    def _counts(self, kind: Kind) -> NDArray[np.int64]:
        if kind == "sequence":
            return np.ones_like(self.lengths)
        return self._windows() if kind == "windows" else self.lengths

    def _windows(self) -> NDArray[np.int64]:
        if self.bounds is None:
            return cut_windows(self.lengths, self.length, self.cuts).counts
        counts: NDArray[np.int64] = piece_windows(self.bounds, self.length).sum(axis=1)
        return counts

    def _misfit(self, field: Field, expected: dict[Kind, NDArray[np.int64]]) -> str:
        # Either no count fits here, or counts of both kinds are mixed: then the first that is not per step.
        fits = np.logical_or.reduce([field.counts == counts for counts in expected.values()])
        wrong = int((fits if not fits.all() else field.counts == self.lengths).argmin())
        each = {"windows": f"one for each window of {self.length}", "sequence": "one for each sequence"}
        texts = [
            f"{counts[wrong]} entries ({each.get(kind, 'one for each step')})" for kind, counts in expected.items()
        ]
        advice = " With `pieces`, give one target for each step and pass `targets='last'`."
        return (
            f"`{field.label}` must have {' or '.join(texts)} in sequence {self.keys[wrong]!r}. "
            f"Received: {field.counts[wrong]} entries.{advice if self.bounds is not None else ''}"
        )

    def _check_pieces(self, field: Field) -> None:
        """Refuse targets that fit the windows of the sequence as well as those of its pieces, where these differ."""
        if self.bounds is None:
            return
        cut_inside = (self.bounds[:, 1:-1] % self.length != 0).any(axis=1)
        if (cut_inside & (self._windows() == count_windows(self.lengths, self.length))).any():
            raise DataError(
                f"`{field.label}` must say whether it means windows of the sequence or of its pieces. Received: as "
                f"many entries as both have windows of {self.length}, which begin at different steps. Give one target "
                "for each step and pass `targets='last'`."
            )
