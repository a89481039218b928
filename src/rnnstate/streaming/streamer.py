"""`Streamer`: a state for each of many live sources, which a model steps together."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rnnstate.errors import DataError, RnnStateError
from rnnstate.state.state import State
from rnnstate.streaming.batches import Batches
from rnnstate.streaming.items import Item, Stack, check_mapping, event_time, read_item, read_rows, read_stack
from rnnstate.streaming.joining import Joiner
from rnnstate.streaming.keys import decode, split
from rnnstate.streaming.opening import check_limits, engine_of, open_store
from rnnstate.streaming.pushes import Errors, Pushes, Results, finished
from rnnstate.streaming.rows import by_key, distinct_keys, joined, nothing, read_inputs
from rnnstate.streaming.sessions import Sessions
from rnnstate.streaming.stores.memory import MemoryStore
from rnnstate.streaming.stores.store import Store

if TYPE_CHECKING:
    from rnnstate.model.stateful_model import StatefulModel


class Streamer:
    """Advances the states of many sessions, one step or one chunk at a time.

    A session is one live source, such as a sensor, with a key that is text or a whole number. Its state lives in a store.
    A push runs many sessions in one compiled step. The result of a session depends on its own inputs alone.

    Every method may be called from several threads. Steps run one after the other.

    Args:
        model: A `StatefulModel`, or the path of an ONNX file that `rnnstate.export` wrote. The file needs NumPy and
            onnxruntime alone; neither Keras nor a backend is imported.
        store: Where the sessions live, one of `rnnstate.stores`. The default is a new `MemoryStore()`.
        on_other_model: What to do if the store holds sessions of another model, by state or by weights. `"refuse"` raises.
            `"migrate"` keeps the sessions if the state has the same fingerprint, as after another training. `"restart"`
            drops them. Both warn with `StoreWarning`.
        max_batch: The largest number of rows of a compiled step, a power of two. Larger pushes run in parts.
        max_steps: The largest number of steps of a compiled step. Longer chunks run in parts.
        max_delay: How many seconds the first caller of `apush` waits for others to share its step.

    Raises:
        SpecMismatchError: If the store belongs to another model, and `on_other_model` does not allow it.
        UnsupportedModelError: If an input has a free axis besides batch and time.
        ValueError: If a limit or a policy is not one of the values above.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True), keras.layers.Dense(1)])
    >>> streamer = Streamer(rs.StatefulModel(net))
    >>> y = streamer.push({"north": np.ones(2), "south": np.zeros((5, 2))})
    >>> y["north"].shape, y["south"].shape
    ((1,), (5, 1))
    >>> streamer.count("south")
    5
    """

    def __init__(
        self,
        model: "StatefulModel | str | os.PathLike[str]",
        store: Store | None = None,
        on_other_model: str = "refuse",
        max_batch: int = 256,
        max_steps: int = 16,
        max_delay: float = 0.001,
    ) -> None:
        check_limits(max_batch, max_steps, max_delay)
        self._engine = engine_of(model)
        self.store = MemoryStore() if store is None else store
        self._batches = Batches(self._engine, max_batch, max_steps)
        accepted = open_store(self.store, self._engine.card, on_other_model)
        self._pushes = Pushes(self._engine, self.store, self._batches, accepted)
        self._sessions = Sessions(self._engine, self.store, self._pushes)
        self._max_delay, self._max_batch = max_delay, max_batch
        self._joiners: WeakKeyDictionary[Any, Joiner] = WeakKeyDictionary()

    def push(
        self,
        x: Mapping[Any, Any],
        numbers: Mapping[Any, int] | None = None,
        observed: Mapping[Any, Any] | None = None,
        mask: Mapping[Any, Any] | None = None,
        create: bool = True,
        restart: bool = False,
        times: Mapping[Any, float] | None = None,
    ) -> dict[Any, Any]:
        """Advance sessions by one step or by a chunk each.

        Args:
            x: The inputs by key, each `(features,)` or `(time, features)`; a mapping of arrays for a network with several
                inputs. A key without a session begins one, from the initial state.
            numbers: A sequence number for some keys. The first one may be any; then they count up by one for each push. A
                repeated number is answered from the record, whatever the input, and advances nothing. Any other is refused.
            observed: Known values `(values,)` by key, for new sessions of a model whose initial state needs them.
            mask: A flag for some keys. A key with `False` does not advance, and has no result.
            create: Whether new sessions may begin.
            restart: Whether to restart sessions that exist from the initial state, with this push. Their checkpoints stay.
            times: The event time of some keys in seconds, for a store with `clock="event"`. A key without one has the latest
                event time of the store.

        Returns:
            The outputs by key, `(outputs,)` or `(time, outputs)` as the input. An output that the model gives once per
            window is that of the last step.

        Raises:
            PushError: If some keys failed. The other keys have advanced; `error.results` has their outputs, and
                `error.errors` the error of each key that failed. A key that failed is as it was.
            DataError: If an argument is no mapping, or the store does not expire by event time. Then no key has advanced.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
        >>> streamer = Streamer(rs.StatefulModel(net))
        >>> try:
        ...     streamer.push({"north": np.ones(2), "south": [1.0, float("nan")]})
        ... except rs.PushError as error:
        ...     print(sorted(error.results), error)
        ['north'] 1 of 2 keys failed; the others have advanced. Key 'south': input `...` must be finite in float32. ...
        """
        stack = self._stack(x, numbers, observed, mask, create and not restart and not times)
        if stack is not None:
            results, errors = self._pushes.run_stack(stack)
            return finished(stack.keys, results, errors)
        items, errors = self._items(x, numbers, observed, mask, create, restart, times)
        results, more = self._pushes.run(items) if items else ({}, {})
        return finished(x, results, errors | more)

    def push_rows(self, keys: Sequence[Any], x: Any, create: bool = True) -> Any:
        """Advance many sessions as `push` does, with one array for all keys. It takes less time than a push by key.

        Args:
            keys: Distinct keys, n of them.
            x: The inputs `(n, features)`, one step for each key, or `(n, time, features)`, a chunk of the same length for
                each key; a mapping of arrays by name for a network with several inputs.
            create: Whether new sessions may begin.

        Returns:
            The outputs `(n, outputs)` or `(n, time, outputs)` in the order of the keys, in the structure in which the model
            returns them.

        Raises:
            PushError: If some keys failed, as in `push`. The other keys have advanced; `error.results` has their outputs.
            DataError: If a key comes twice, or an array does not have one row for each key. Then no key has advanced.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
        >>> streamer = Streamer(rs.StatefulModel(net))
        >>> streamer.push_rows(["north", "south"], np.ones((2, 2))).shape
        (2, 3)
        """
        chosen = distinct_keys(keys)
        inputs = read_inputs(chosen, x)
        if not chosen:
            return nothing(self._engine, inputs)
        stack = None if isinstance(inputs, dict) else read_rows(self._engine, chosen, inputs)
        outputs = None if stack is None else self._pushes.run_rows(stack)
        if outputs is not None:
            return self._engine.packed(outputs)
        return joined([*self.push(by_key(chosen, inputs), create=create).values()])

    async def apush(
        self,
        x: Mapping[Any, Any],
        numbers: Mapping[Any, int] | None = None,
        observed: Mapping[Any, Any] | None = None,
        mask: Mapping[Any, Any] | None = None,
        create: bool = True,
        restart: bool = False,
        times: Mapping[Any, float] | None = None,
    ) -> dict[Any, Any]:
        """Advance sessions as `push` does, in one compiled step with other callers of the same event loop.

        A batch runs after `max_delay` seconds, or once it has `max_batch` keys. Pushes of one key keep their order. A caller
        that is cancelled, by a time-out for example, has pushed all the same: its work is never dropped.

        Args, results and errors are those of `push`.

        Example:

        >>> import asyncio
        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
        >>> streamer = Streamer(rs.StatefulModel(net))
        >>> async def two():
        ...     return await asyncio.gather(streamer.apush({"north": np.ones(2)}), streamer.apush({"south": np.zeros(2)}))
        >>> [list(y) for y in asyncio.run(two())]
        [['north'], ['south']]
        """
        items, errors = self._items(x, numbers, observed, mask, create, restart, times)
        results, more = Results(), Errors()
        if items:
            loop = asyncio.get_running_loop()
            if loop not in self._joiners:
                self._joiners[loop] = Joiner(self._pushes.run, self._max_delay, self._max_batch)
            results, more = await self._joiners[loop].submit(items)
        return finished(x, results, errors | more)

    def warmup(self, rows: Sequence[int] | None = None, steps: Sequence[int] | None = None) -> int:
        """Compile every shape in which steps run, so that no push compiles. Return the number of shapes.

        Args:
            rows: Some of the numbers of rows. The default is each power of two up to `max_batch`.
            steps: Some of the numbers of steps. The default is each power of four up to `max_steps`.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
        >>> Streamer(rs.StatefulModel(net), max_batch=2, max_steps=4).warmup()
        4
        """
        with self._pushes.lock:
            return self._batches.warm_up(rows, steps)

    def keys(self) -> list[Any]:
        """Return the keys of all sessions."""
        return [decode(text) for text, checkpoint in map(split, self.store.keys()) if checkpoint is None]

    def __contains__(self, key: object) -> bool:
        return self._sessions.has(key)

    def __len__(self) -> int:
        return len(self.keys())

    def count(self, key: Any) -> int:
        """Return how many steps a session has made since its initial state.

        Raises:
            UnknownKeyError: If there is no such session.
        """
        return int(self._sessions.record(key).count[0])

    def number(self, key: Any) -> int | None:
        """Return the last sequence number of a session, or `None` if it has none.

        Raises:
            UnknownKeyError: If there is no such session.
        """
        number = int(self._sessions.record(key).number[0])
        return None if number < 0 else number

    def peek(self, key: Any) -> State:
        """Return the state of a session, with one row.

        Raises:
            UnknownKeyError: If there is no such session.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
        >>> streamer = Streamer(rs.StatefulModel(net))
        >>> y = streamer.push({"north": np.ones(2)})
        >>> streamer.peek("north")
        State(gru/h: (1, 3) float32)
        """
        return State(self._sessions.record(key).leaves)

    def write(self, key: Any, state: Mapping[str, Any]) -> None:
        """Set leaves of a session. Its step counter and its sequence number stay. A key without a session begins one.

        Args:
            key: The session.
            state: Leaves `(1, *shape)` or `shape`, all or some. The other leaves stay as they are.

        Raises:
            StateStructureError: If a leaf is unknown.
            StateShapeError: If a leaf has another shape.
            StateValueError: If a leaf is not floating, or holds a value that is not finite.
            StoreError: If the store cannot keep the record, or another worker holds the session.
        """
        self._sessions.write(key, state)

    def reset(self, key: Any, observed: Any = None) -> None:
        """Return a session to the initial state, with no step and no sequence number. Its checkpoints stay.

        Args:
            key: The session.
            observed: Known values `(values,)`, for a model whose initial state needs them.

        Raises:
            UnknownKeyError: If there is no such session.
        """
        self._sessions.reset(key, observed)

    def end(self, key: Any) -> None:
        """Forget a session and its checkpoints.

        Raises:
            UnknownKeyError: If there is no such session.
        """
        self._sessions.end(key)

    def fork(self, key: Any, new_key: Any) -> None:
        """Begin a session with the state and the step counter of another one. It has no number and no checkpoints.

        Raises:
            UnknownKeyError: If there is no session `key`.
            DataError: If there is a session `new_key`.
        """
        self._sessions.fork(key, new_key)

    def checkpoint(self, key: Any, name: str) -> None:
        """Keep a session as it is now, under a name. An older checkpoint of that name is replaced.

        Raises:
            UnknownKeyError: If there is no such session.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
        >>> streamer = Streamer(rs.StatefulModel(net))
        >>> first = streamer.push({"north": np.ones(2)})
        >>> streamer.checkpoint("north", "before")
        >>> second = streamer.push({"north": np.ones(2)})
        >>> streamer.rewind("north", "before")
        >>> bool((streamer.push({"north": np.ones(2)})["north"] == second["north"]).all())
        True
        """
        self._sessions.checkpoint(key, name)

    def checkpoints(self, key: Any) -> tuple[str, ...]:
        """Return the names of the checkpoints of a session.

        Raises:
            UnknownKeyError: If there is no such session.
        """
        return self._sessions.checkpoints(key)

    def rewind(self, key: Any, name: str) -> None:
        """Return a session to a checkpoint: its state, step counter, sequence number and answer.

        Raises:
            UnknownKeyError: If there is no such session, or no such checkpoint.
        """
        self._sessions.rewind(key, name)

    def rollout(self, key: Any, steps: int, x0: Any = None, **options: Any) -> Any:
        """Run free from a session without moving it: the output of each step is the input of the next step.

        Args:
            key: The session.
            steps: How many steps.
            x0: The first input `(features,)`. The default is the output of the session's last step.
            options: Further arguments of `StatefulModel.rollout`, such as `inputs`.

        Returns:
            The outputs `(steps, outputs)`.

        Raises:
            UnknownKeyError: If there is no such session.
            DataError: If `x0` is left out, and the record has no output that is an input.

        Example:

        >>> gru = keras.layers.GRU(3, return_sequences=True)
        >>> net = keras.Sequential([keras.Input((None, 1)), gru, keras.layers.Dense(1)])
        >>> streamer = Streamer(rs.StatefulModel(net))
        >>> y = streamer.push({"north": np.ones(1)})
        >>> streamer.rollout("north", steps=24).shape, streamer.count("north")
        ((24, 1), 1)
        """
        return self._sessions.rollout(key, steps, x0, options)

    def _stack(self, x: Any, numbers: Any, observed: Any, mask: Any, create: bool) -> Stack | None:
        """Return what is pushed as one array, which takes a fraction of the time, or `None` if a key needs a look."""
        if not create or observed or mask or not isinstance(x, Mapping) or not x:
            return None
        if numbers is not None and not (isinstance(numbers, Mapping) and numbers.keys() <= x.keys()):
            return None
        return read_stack(self._engine, x, numbers or {})

    def _items(
        self, x: Any, numbers: Any, observed: Any, mask: Any, create: bool, restart: bool, times: Any
    ) -> tuple[list[Item], Errors]:
        """Return what is pushed for each key that can be used, and the errors of the others."""
        for name, given in (("x", x), ("numbers", numbers), ("observed", observed), ("mask", mask), ("times", times)):
            check_mapping(name, given, x)
        if times and self.store.clock != "event":
            raise DataError(
                'Event times need a store that expires by them, such as `MemoryStore(clock="event")`. '
                f"Received: times for {type(self.store).__name__}. Leave `times` out."
            )
        items, errors = list[Item](), Errors()
        numbers, observed, times = numbers or {}, observed or {}, times or {}
        for key, value in x.items():
            if mask and not mask.get(key, True):
                continue
            try:
                item = read_item(self._engine, key, value, numbers.get(key), observed.get(key), create)
                item.restart, item.time = restart, event_time(key, times.get(key))
                items.append(item)
            except RnnStateError as error:
                errors[key] = error
        return items, errors
