"""A push after its input was read: records, sequence numbers, the compiled step, and the commit.

One attempt, for n keys at once:

    read      records and tokens; keys that another worker holds fail
    sort      repeated numbers are answered, gaps fail, new keys get the initial state
    advance   the compiled step
    check     keys whose next state is not finite fail
    commit    the keys whose record is still the one that was read; the others are tried again

`together` does the same in a few calls for sessions that simply go on, and leaves all others to this file.

An error concerns its key alone. Nothing of a key changes before its commit.

If the model raises, nobody knows for which keys. Each half of the keys is tried again, and each half of a half that raises,
until a key is alone:

    {a, b, c, d} raises   {a, b} advances   {c, d} raises   {c} raises: its error   {d} advances
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import (
    DataError,
    PushError,
    RnnStateError,
    SequenceError,
    SpecMismatchError,
    StateValueError,
    StoreError,
    StoreFullError,
    UnknownKeyError,
)
from rnnstate.messages import counted
from rnnstate.streaming.batches import Batches, Outputs, State
from rnnstate.streaming.engine import Arrays, Engine
from rnnstate.streaming.failures import RaisedError, failed, mixed, of_key
from rnnstate.streaming.items import Item, Stack, stacked
from rnnstate.streaming.stores.records import MODEL_DTYPE, Extra, Records
from rnnstate.streaming.stores.store import BUSY, Reading, Store
from rnnstate.streaming.together import Together

Results = dict[Any, Any]
Errors = dict[Any, Exception]


class Pushes:
    """Advances sessions of a store with a model.

    Args:
        engine: The model.
        store: Where the sessions are.
        batches: Runs the compiled steps.
        accepted: Tells whether a record of a model, such as `b"fingerprint-weights"`, may go on with this one.
    """

    def __init__(self, engine: Engine, store: Store, batches: Batches, accepted: Any) -> None:
        self._engine, self._store, self._batches, self._accepted = engine, store, batches, accepted
        self._model = np.array(engine.card.model.encode(), MODEL_DTYPE)
        self.lock = RLock()  # one step at a time: callers in other threads wait
        self._together = Together(engine, store, batches)

    def run(self, items: Sequence[Item]) -> tuple[Results, Errors]:
        """Advance the sessions of some items, which have distinct keys."""
        stack = stacked(items)
        return self._one_by_one(items, None) if stack is None else self.run_stack(stack, items)

    def run_stack(self, stack: Stack, items: Sequence[Item] = ()) -> tuple[Results, Errors]:
        """Advance the sessions of a stack. `items` may say more about them, such as whether new sessions may begin."""
        with self.lock:
            outputs = self._together.run(stack)
            if outputs is None:
                return self._one_by_one(items or stack.items(), stack)
            return self._together.answers(stack, outputs), {}

    def run_rows(self, stack: Stack) -> Arrays | None:
        """Advance the sessions of a stack if all of them simply go on, and return their outputs, `(n, ...)` each."""
        with self.lock:
            return self._together.run(stack)

    def _one_by_one(self, items: Sequence[Item], stack: Stack | None) -> tuple[Results, Errors]:
        """Look at each item. `stack` has the inputs if the items have no parts."""
        results: Results = {}
        errors: Errors = {}
        left = list(items)
        with self.lock:
            for _ in range(1 + self._store.retries):
                again = self._attempts(left, stack, results, errors)
                left = [left[at] for at in again]
                if not left:
                    break
                stack = stack and stack.take(again)
        for item in left:
            errors[item.key] = StoreError(
                f"Key {item.key!r}: no other worker may advance the session between the read and the commit. Received: "
                "another record, or a lease that has ended. Nothing has changed. Push again."
            )
        return results, errors

    def _attempts(self, items: list[Item], stack: Stack | None, results: Results, errors: Errors) -> list[int]:
        """Try to advance items, those for which the model raises alone. Return the rows whose record changed meanwhile."""
        try:
            return self._attempt(items, stack, results, errors)
        except RaisedError as raised:
            if len(items) == 1:
                errors[items[0].key] = failed(items[0].key, raised.cause)
                return []
        middle, again = len(items) // 2, list[int]()
        for rows in (range(middle), range(middle, len(items))):
            part = self._attempts([items[row] for row in rows], stack and stack.take(rows), results, errors)
            again += [rows[row] for row in part]
        return again

    def _attempt(self, items: list[Item], stack: Stack | None, results: Results, errors: Errors) -> list[int]:
        """Try to advance items. Return the rows of those whose record changed meanwhile."""
        reading = self._store.read([item.text for item in items], lease=True)
        used: set[int] = set()  # rows with a lease that a commit has used
        try:
            if self._all_go_on(items, stack, reading):
                going, leaves = list(range(len(items))), reading.records.leaves
            else:
                going, leaves = self._sorted(items, reading, results, errors)
                stack = stack and stack.take(going)
            if not going:
                return []
            outputs = self._advanced([items[at] for at in going], leaves, stack)
            going, outputs, leaves = self._finite(items, going, outputs, leaves, errors)
            if not going:
                return []
            records = self._records(items, going, outputs, leaves, reading)
            full: dict[str, StoreFullError] = {}
            written = self._committed(records, reading.tokens[going], full)
            used = {at for at in going if items[at].text not in full}
        finally:
            if len(used) < len(items):
                self._release(items, reading, used)
        if written.all():
            results.update(self._answers([items[at] for at in going], outputs))
            return []
        for row in np.flatnonzero(written).tolist():
            results[items[going[row]].key] = self._answer(items[going[row]], outputs.row(row))
        errors.update(
            (items[at].key, of_key(items[at].key, full[items[at].text])) for at in going if items[at].text in full
        )
        return [going[row] for row in np.flatnonzero(~written).tolist() if records.keys[row] not in full]

    def _committed(
        self, records: Records, tokens: NDArray[np.int64], full: dict[str, StoreFullError]
    ) -> NDArray[np.bool_]:
        """Commit records, and return which were written. A full store writes those for which it has room."""
        try:
            return self._store.commit(records, tokens)
        except StoreFullError as error:
            if len(records) == 1:
                full[records.keys[0]] = error
                return np.zeros(1, np.bool_)
        middle = len(records) // 2
        halves = (range(middle), range(middle, len(records)))
        return np.concatenate([self._committed(records.take(rows), tokens[list(rows)], full) for rows in halves])

    def _advanced(self, items: list[Item], leaves: State, stack: Stack | None) -> Outputs:
        try:
            return self._batches.advance(items, leaves, stack)
        except Exception as error:
            raise RaisedError(error) from error

    def _all_go_on(self, items: list[Item], stack: Stack | None, reading: Reading) -> bool:
        """Return whether all items go on from a record of this model. Then they need no closer look one by one."""
        records = reading.records
        if len(records) < len(items) or reading.tokens.min() == BUSY:
            return False
        # Bytes are compared several times as fast as an array of texts.
        if records.model.astype(MODEL_DTYPE, copy=False).tobytes() != self._model.tobytes() * len(records):
            return False
        if stack is not None and stack.numbers is None:  # a stack has no observed values
            return bool(records.number.max() < 0)
        if any(item.restart or item.observed is not None for item in items):
            return False
        if records.number.max() < 0:
            return all(item.number is None for item in items)
        given = [-1 if item.number is None else item.number for item in items]
        return bool((records.number >= 0).all() and (records.number + 1 == given).all())

    def _answers(self, items: list[Item], outputs: Outputs) -> Results:
        """Return the outputs of all items, as users get them, by key."""
        keys = [item.key for item in items]
        if outputs.count is None or len(self._engine.outputs) > 1:
            pairs = zip(items, map(outputs.row, range(len(items))), strict=True)
            return {item.key: self._answer(item, parts) for item, parts in pairs}
        y = outputs.parts[0]
        return dict(zip(keys, y[:, 0] if items[0].single and self._engine.outputs[0].per_step else y, strict=True))

    def _release(self, items: list[Item], reading: Reading, used: set[int]) -> None:
        left = [at for at, token in enumerate(reading.tokens.tolist()) if at not in used and token != BUSY]
        if left:
            # The lease of a server that is gone ends by itself, and the error that is on its way says more.
            with suppress(StoreError):
                self._store.release([items[at].text for at in left], reading.tokens[left])

    def _sorted(self, items: list[Item], reading: Reading, results: Results, errors: Errors) -> tuple[list[int], State]:
        """Return the items that advance, and the states they start from, `(n, *shape)`."""
        known: list[int] = []
        new: list[int] = []
        for at, item in enumerate(items):
            try:
                row = reading.rows[at]
                if reading.tokens[at] == BUSY:
                    raise StoreError(
                        f"Key {item.key!r}: another worker holds the session. Nothing has changed. Push again."
                    )
                if row < 0 or item.restart:
                    self._check_new(item, row >= 0)
                    new.append(at)
                elif (answer := self._repeated(item, reading.records, row)) is not None:
                    results[item.key] = self._answer(item, list(answer))
                else:
                    known.append(at)
            except RnnStateError as error:
                errors[item.key] = error
        started, initial = self._initial(items, new, errors) if new else ([], {})
        rows = np.array([reading.rows[at] for at in known], np.int64)
        found = reading.records.leaves if known else {}
        leaves = (
            {
                name: found[name][rows]
                if not started
                else np.concatenate([*([found[name][rows]] if known else []), initial[name]])
                for name in self._engine.spec
            }
            if known or started
            else {}
        )
        return [*known, *started], leaves

    def _check_new(self, item: Item, there: bool) -> None:
        if not item.create and not there:
            raise UnknownKeyError(
                f"Key {item.key!r}: with `create=False`, the session must exist. Received: no such session."
            )

    def _repeated(self, item: Item, records: Records, row: int) -> tuple[NDArray[Any], ...] | None:
        """Return the answer of the record if the item repeats its number, or `None` if the item goes on from the record."""
        if not self._accepted(bytes(records.model[row])):
            raise SpecMismatchError(
                f"Key {item.key!r}: the session must be of this model, {self._engine.card.model}. Received: a record of "
                f"{records.model[row].decode()}. Open the store with `on_other_model=`."
            )
        last = int(records.number[row])
        if item.number is not None and item.number == last:
            return self._kept_answer(item, records.extras.get(row))
        if (item.number is None) != (last < 0) and not (last < 0 and records.count[row] == 0):
            raise SequenceError(f"Key {item.key!r}: {mixed(item.number, last)}")
        if item.number is not None and last >= 0 and item.number != last + 1:
            raise SequenceError(
                f"Key {item.key!r}: the next sequence number must be {last + 1}, or {last} to repeat the last push. "
                f"Received: {item.number}. Nothing has changed."
            )
        if item.observed is not None:
            raise DataError(
                f"Key {item.key!r}: observed values start a new session. Received: some for a session of "
                f"{int(records.count[row])} steps. Leave them out, or call `reset` first."
            )
        return None

    def _kept_answer(self, item: Item, extra: Extra | None) -> tuple[NDArray[Any], ...]:
        if extra is None or extra.answer is None:
            raise SequenceError(
                f"Key {item.key!r}: the answer to number {item.number} must be in the record to be repeated. Received: a "
                "record without it, because the session was written since."
            )
        return extra.answer

    def _initial(self, items: list[Item], new: list[int], errors: Errors) -> tuple[list[int], State]:
        """Return the new items that can start, and their initial states."""
        try:
            return new, self.initial([items[at].observed for at in new])
        except (RnnStateError, ValueError, TypeError, OverflowError) as error:
            if len(new) == 1:
                errors[items[new[0]].key] = of_key(items[new[0]].key, error)
                return [], {}
        started: list[int] = []
        states: list[State] = []
        for at in new:
            (row, state) = self._initial(items, [at], errors)
            started += row
            states += [state] if row else []
        return started, {
            name: np.concatenate([state[name] for state in states]) for name in self._engine.spec
        } if states else {}

    def initial(self, observed: Sequence[Any]) -> State:
        """Return the initial state of new sessions, with the observed values of each, or `None`."""
        if self._engine.needs_observed:
            if missing := [at for at, value in enumerate(observed) if value is None]:
                raise DataError(
                    f"A new session of this model needs observed values. Received: none in row {missing[0]}. "
                    "Give `observed=`."
                )
            rows = np.stack([np.asarray(value, np.float32) for value in observed])
            if not np.isfinite(rows).all():
                raise DataError("Observed values must be finite. Received: a value that is not. Fill it.")
            return self._engine.initial(len(observed), rows)
        if any(value is not None for value in observed):
            raise DataError("This model takes no observed values. Received: some. Leave `observed` out.")
        return self._engine.initial(len(observed), None)

    def _finite(
        self, items: list[Item], going: list[int], outputs: Outputs, leaves: State, errors: Errors
    ) -> tuple[list[int], Outputs, State]:
        """Leave out the items whose next state or output is not finite."""
        fits = np.ones(len(going), np.bool_)
        for name, leaf in leaves.items():
            # A sum is finite only if all values are, or if it overflows, which the search below finds out.
            if leaf.dtype.kind == "f" and not math.isfinite(leaf.sum()):
                fine = np.isfinite(leaf).reshape(len(going), -1).all(axis=1)
                for row in np.flatnonzero(fits & ~fine).tolist():
                    errors[items[going[row]].key] = StateValueError(
                        f"Key {items[going[row]].key!r}: the next state must be finite. Received: leaf `{name}` with a "
                        "value that is not. The session is as it was."
                    )
                fits &= fine
        if fits.all():
            return going, outputs, leaves
        kept = np.flatnonzero(fits).tolist()
        rest = {name: leaf[kept] for name, leaf in leaves.items()}
        return [going[row] for row in kept], outputs.take(kept), rest

    def _records(
        self, items: list[Item], going: list[int], outputs: Outputs, leaves: State, reading: Reading
    ) -> Records:
        """Return the records after the step."""
        chosen, n = [items[at] for at in going], len(going)
        old = np.array([reading.rows[at] for at in going], np.int64)
        count = np.array([item.steps for item in chosen], np.int64)
        if len(reading.records):
            goes_on = (old >= 0) & ~np.array([item.restart for item in chosen])
            count += np.where(goes_on, reading.records.count[old], 0)
        number = np.array([-1 if item.number is None else item.number for item in chosen], np.int64)
        extras = {}
        if reading.records.extras or number.max() >= 0:
            for row, item in enumerate(chosen):
                names = reading.records.extras.get(int(old[row]), Extra()).checkpoints
                if item.number is not None or names:
                    extras[row] = Extra(None if item.number is None else tuple(map(np.copy, outputs.row(row))), names)
        with np.errstate(over="ignore"):
            last = None if self._engine.card.last is None else outputs.last().astype(np.float32)
        texts, updated = [item.text for item in chosen], np.full(n, self._store.now())
        if self._store.clock == "event":
            _set_event_times(updated, chosen, old, reading.records.updated)
        return Records(texts, count, number, updated, np.full(n, self._model), leaves, last, extras)

    def _answer(self, item: Item, outputs: list[NDArray[Any]]) -> Any:
        """Return the outputs of one key as the user gets them: without a time axis if the input had none."""
        if item.single:  # a repeated number may have been a chunk the first time; its answer is the same chunk
            pairs = zip(self._engine.outputs, outputs, strict=True)
            outputs = [part[0] if spec.per_step and len(part) == 1 else part for spec, part in pairs]
        return self._engine.packed(outputs)


def _set_event_times(updated: NDArray[np.float64], items: list[Item], old: NDArray[np.int64], times: Any) -> None:
    """Replace times by those of the items. An event that comes late does not make its session older."""
    for row, item in enumerate(items):
        if item.time is not None:
            goes_on = old[row] >= 0 and not item.restart
            updated[row] = max(item.time, times[old[row]]) if goes_on else item.time


def finished(keys: Iterable[Any], results: Results, errors: Errors) -> dict[Any, Any]:
    """Return the results in the order of the push, or raise if there are errors."""
    ordered = results if not errors and list(results) == list(keys) else {k: results[k] for k in keys if k in results}
    if errors:
        first = next(iter(errors.values()))
        failed, total = len(errors), len(errors) + len(ordered)
        rest = "the others have advanced" if ordered else "nothing has advanced"
        raise PushError(f"{failed} of {counted(total, 'key')} failed; {rest}. {first}", ordered, errors) from first
    return ordered
