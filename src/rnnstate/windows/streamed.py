"""Windows of a source of chunks, which is read again in each epoch. Only the steps that wait for their batch are held."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import Field
from rnnstate.windows.arrivals import Survey, plan_arrivals
from rnnstate.windows.chunks import RESETS, ROLES, Chunk, Layout, Make, Name, check_make, read_chunks
from rnnstate.windows.counts import check_count
from rnnstate.windows.epochs import Fixed
from rnnstate.windows.gaps import read_policy
from rnnstate.windows.held import Held
from rnnstate.windows.horizon import check_pairing, own_targets
from rnnstate.windows.lead_in import Prefix
from rnnstate.windows.plan import WindowPlan
from rnnstate.windows.sequences import Fields, Sequences
from rnnstate.windows.targets import resolve_targets
from rnnstate.windows.windows import Windows

# How many windows may wait for each row of a batch, unless the user says otherwise.
_WAITING = 64


class StreamedWindows(Windows):
    """`Windows` of a source of chunks; see `Windows.from_iterable`."""

    def __init__(
        self,
        make: Make,
        *,
        length: int,
        batch_size: int,
        buffer: int | None = None,
        targets: Any = "auto",
        horizon: int = 0,
        step: Any = None,
        gap: Any = None,
        burn_in: int | None = None,
        back: int | None = None,
        **kwargs: Any,
    ) -> None:
        super(Windows, self).__init__(**kwargs)
        check_make(make)
        _check_kinds(targets)
        self.length = check_count("length", length)
        horizon = check_count("horizon", horizon, least=0)
        check_pairing(horizon, targets, moved=False)
        self._prefix, self._policy = Prefix.read(self.length, burn_in, back, vary=False), read_policy(gap)
        rows = check_count("batch_size", batch_size)
        layout = Layout(targets, step, gap)
        survey = Survey.of(make, layout, self.length, horizon)
        check_pairing(horizon, targets, moved=bool(layout.timings) or RESETS in layout.shapes)
        bound = _WAITING * self.length * rows if buffer is None else check_count("buffer", buffer)
        plan = plan_arrivals(survey, self.length, rows, horizon, self._prefix.steps, bound)
        self._data = resolve_targets(_held_data(survey, self.length, horizon), targets, self.length, None)
        self._untold = "sequence" if targets == "sequence" else None
        self._schedule = Fixed(plan)
        self.order, self.epoch, self.batch_size = "arrival", 0, plan.rows
        self._masked = plan.padded or self._prefix.steps > 0
        self._pass = _Pass(make, survey, plan, self._data, horizon, bound)

    @property
    def steps_held(self) -> int:
        """Steps that are in memory at present, of all sequences together."""
        return self._pass.steps_held

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        self._pass.load(self._checked(index), self.epoch)
        return super().__getitem__(index)


class _Pass:
    """One pass over the source. It stands at a batch, whose steps are held with those that came before they were needed."""

    def __init__(
        self, make: Make, survey: Survey, plan: WindowPlan, data: Sequences, horizon: int, buffer: int
    ) -> None:
        self._make, self._survey, self._plan, self._horizon, self._buffer = make, survey, plan, horizon, buffer
        self._slots = {key: slot for slot, key in enumerate(survey.keys)}
        fields: dict[str, Fields] = {"x": data.x, "y": data.y, "sample_weight": data.weights}
        fields["resets"] = {} if data.resets is None else {None: data.resets}
        # Parts with one entry for each sequence are known since the first pass.
        self._held: dict[Name, Any] = {
            (role, name): field.arrays
            for role, named in fields.items()
            for name, field in named.items()
            if field.kind != "sequence"
        }
        self._own_targets = bool(data.y) and not any(role == "y" for role, _ in survey.layout.shapes)
        self._chunks: Iterator[Chunk] | None = None
        self._at, self._epoch = -1, -1

    @property
    def steps_held(self) -> int:
        """Steps that are in memory at present."""
        rows = next(arrays for (role, _), arrays in self._held.items() if role == "x")
        return sum(row.held for row in rows)

    def load(self, batch: int, epoch: int) -> None:
        """Hold the steps of a batch. A batch before the present one, or of another epoch, begins a new pass.

        Raises:
            DataError: If this pass differs from the first one, in keys or in steps, or more steps than the bound wait.
        """
        if self._chunks is None or batch < self._at or epoch != self._epoch:
            self._begin(epoch)
        try:
            while self._at < batch:
                if self._at >= 0:
                    self._release(self._at)
                self._at += 1
                self._fill(self._at)
        except BaseException:
            self._chunks = None  # the next batch begins a new pass
            raise

    def _begin(self, epoch: int) -> None:
        for arrays in self._held.values():
            for row in arrays:
                row.clear()
        self._chunks, self._at, self._epoch = read_chunks(self._make, self._survey.layout), -1, epoch
        self._come = np.zeros(len(self._slots), np.int64)  # steps of each sequence that have come
        self._waiting = np.zeros(len(self._slots), np.int64)  # steps of each sequence that have not gone
        self._total = 0  # the sum of these

    def _fill(self, batch: int) -> None:
        plan = self._plan
        for slot, start, steps in zip(plan.sequence[batch], plan.start[batch], plan.steps[batch], strict=True):
            while slot >= 0 and self._come[slot] < start + steps + self._horizon:
                if not self._read():
                    self._refuse_end(int(slot))
        if batch == plan.num_batches - 1:
            while self._read():
                pass  # a chunk that comes now has too many steps, and `_read` refuses it

    def _read(self) -> bool:
        """Hold the next chunk. Return false at the end of the source."""
        chunk = next(self._chunks or iter(()), None)
        if chunk is None:
            return False
        slot = self._slot(chunk)
        self._check_gaps(chunk, slot)
        self._come[slot] += chunk.steps
        self._waiting[slot] += chunk.steps
        self._total += chunk.steps
        if self._total > self._buffer:
            self._refuse_more()
        for (role, name), arrays in self._held.items():
            source = ("x", None) if role == "y" and self._own_targets else (role, name)
            # Targets begin `horizon` steps later, and inputs end as many steps earlier.
            skipped = self._horizon if role in ("y", "sample_weight") else 0
            left = len(arrays[slot]) + skipped - chunk.begin
            arrays[slot].append(chunk.parts[source][max(skipped - chunk.begin, 0) : max(left, 0)])
        return True

    def _release(self, batch: int) -> None:
        plan = self._plan
        for row, slot in enumerate(plan.sequence[batch].tolist()):
            if slot < 0:
                continue
            end, last = int(plan.start[batch, row] + plan.steps[batch, row]), bool(plan.ends[batch, row])
            for (role, _), arrays in self._held.items():
                arrays[slot].drop(end - plan.prefix if role in ("x", "resets") and not last else end)
            gone = int(plan.steps[batch, row]) + (self._horizon if last else 0)
            self._waiting[slot] -= gone
            self._total -= gone

    def _slot(self, chunk: Chunk) -> int:
        """Return the number of a chunk's sequence, if it may have so many steps."""
        if chunk.key not in self._slots:
            raise DataError(
                "A source must give the same sequences in each pass, as `make()` is called for each epoch. Received: a new "
                f"sequence {chunk.place}. Sequences of the first pass: {listed(self._survey.keys[:10])}."
            )
        slot = self._slots[chunk.key]
        steps = int(self._survey.lengths[slot])
        if chunk.begin + chunk.steps > steps:
            raise DataError(
                f"Sequence {chunk.key!r} must have {steps} steps in each pass, as in the first. Received: more, "
                f"{chunk.place}. A source must be the same each time that `make()` is called."
            )
        return slot

    def _check_gaps(self, chunk: Chunk, slot: int) -> None:
        """Refuse a chunk with other gaps than in the first pass, because windows begin at gaps."""
        cuts, end = self._survey.cuts[slot], chunk.begin + chunk.steps
        expected = cuts[np.searchsorted(cuts, chunk.begin) : np.searchsorted(cuts, end)]
        missing = np.zeros(0, np.int64) if chunk.missing is None else chunk.missing
        found = {chunk.begin + i: int(missing[i]) for i in np.flatnonzero(missing).tolist()}
        found.pop(0, None)  # nothing is missing before the first step
        if found != {step: self._survey.gaps[slot][step] for step in expected.tolist()}:
            raise DataError(
                f"Sequence {chunk.key!r} must have the same gaps in each pass, as in the first. Received: missing steps at "
                f"other places {chunk.place}. A source must be the same each time that `make()` is called."
            )

    def _refuse_end(self, slot: int) -> None:
        raise DataError(
            f"Sequence {self._survey.keys[slot]!r} must have {self._survey.lengths[slot]} steps in each pass, as in the "
            f"first. Received: {self._come[slot]}, then the end of the source. `make` must return a new iterable each time "
            "that it is called, and not an iterator that is used up."
        )

    def _refuse_more(self) -> None:
        ahead = int(self._waiting.argmax())
        raise DataError(
            f"At most {self._buffer} steps may wait for their batch, as `buffer` says. Received: "
            f"{self._total}, {self._waiting[ahead]} of them of sequence {self._survey.keys[ahead]!r}, which "
            "comes earlier in this pass than in the first. Give the chunks in the same order in each pass, or pass a larger "
            "`buffer`."
        )


def _held_data(survey: Survey, length: int, horizon: int) -> Sequences:
    """Return the data of all sequences, of which no step is held yet."""
    layout, lengths = survey.layout, survey.lengths - horizon
    fields: dict[str, Fields] = {role: {} for role in ROLES}
    for role, name in layout.shapes:
        if role in ROLES:
            fields[role][name] = _field(survey, (role, name), length, lengths)
    if horizon and not fields["y"]:
        own_targets(fields["x"])
        fields["y"] = {None: _field(survey, ("x", None), length, lengths)}
    resets = _field(survey, RESETS, length, lengths) if RESETS in layout.shapes else None
    missing: Any = survey.gaps if layout.timings else None
    x, y, weights = (fields[role] for role in ROLES)
    return Sequences(survey.keys, lengths, x, y, weights, resets=resets, missing=missing)


def _field(survey: Survey, name: Name, length: int, lengths: Any) -> Field:
    shape, dtype = survey.layout.shapes[name], survey.layout.dtypes[name]
    label = name[0] if name[1] is None else f"{name[0]}[{name[1]!r}]"
    if survey.layout.one_for_each_sequence(name):
        return Field(label, [survey.layout.entries[name][key] for key in survey.keys])
    kept = Field(label, [np.zeros((1, *shape), dtype)]).dtype
    held = zip(lengths.tolist(), survey.cuts, strict=True)
    rows: Any = [Held(steps, shape, dtype, kept, length, cuts) for steps, cuts in held]
    return Field(label, rows)


def _check_kinds(targets: Any) -> None:
    kinds = list(targets.values()) if isinstance(targets, Mapping) else [targets]
    if wrong := [kind for kind in kinds if kind not in ("auto", "steps", "last", "sequence")]:
        raise DataError(
            "A source has targets per step or per sequence, so `targets` must be 'auto', 'steps', 'last' or 'sequence'. "
            f"Received: {wrong[0]!r}. For one target per window, repeat it in all steps of the window and pass "
            "targets='last', or read the data into arrays and use `Windows(x, y, ...)`."
        )
