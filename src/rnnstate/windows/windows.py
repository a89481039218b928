"""Windows of sequences as a Keras dataset, in an order that lets a model carry its state from batch to batch.

The dataset hands out data and facts about them: which sequence a row holds, whether the sequence begins, which steps
are padding. It never hands out a state, because loaders run ahead of the training step and would change the state too early.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rnnstate.errors import DataError
from rnnstate.windows.counts import check_count
from rnnstate.windows.cuts import cut_pieces, piece_cuts
from rnnstate.windows.epochs import Schedule
from rnnstate.windows.frames import Columns, names_columns, needed_times, split_frame
from rnnstate.windows.gaps import read_policy
from rnnstate.windows.horizon import check_pairing, paired
from rnnstate.windows.inputs import read_sequences
from rnnstate.windows.lead_in import Prefix
from rnnstate.windows.per_sequence import one_of_each, with_entry_axis
from rnnstate.windows.plan import check_order_name
from rnnstate.windows.planned import PlannedWindows
from rnnstate.windows.targets import resolve_targets
from rnnstate.windows.varied_lengths import Vary, read_vary


class Windows(PlannedWindows):
    """Sequences cut into windows of equal length, batched so that each window follows its predecessor.

    In batch `b`, row `r` holds the window that continues what row `r` held in batch `b - 1`, or the first window of
    another sequence. The last window of a sequence is padded and masked, never dropped. All batches of a dataset have
    the same structure and shapes, so a compiled step is compiled once.

    Args:
        x: The inputs, in one of these forms. An array `(time, features)` is one sequence with key 0. An array
            `(sequences, time, ...)`, or a list of arrays, is several with keys 0, 1, 2. A mapping
            `{key: (time, ...)}` names them. Several inputs are a mapping of any of these by input name, or
            `{key: {input: array}}`. Arrays `(time,)` hold one value per step. A frame of pandas or polars,
            a table of pyarrow or a relation of duckdb counts as the array of its columns.
        y: Targets in the same form as `x`, by output name if there are several.
        length: Steps of a window.
        batch_size: Rows of a batch; with fewer sequences there are fewer rows.
        sample_weight: Weights in the same form as `y`, one number for each of its entries.
        static: Names of inputs that are one vector per sequence. By default `Windows` finds them: float arrays
            `(sequences, values)` together with arrays of rank 3 or more, and float vectors together with inputs that
            have another number of steps. Pass `()` to turn this off.
        order: How windows share the batches. The windows of one sequence always come in time order. `"lanes"`: a row
            takes one sequence after
            another. `"buckets"`: the same, the longest first. `"shuffled"`: windows of random sequences.
        pieces: Cut each sequence into this many contiguous pieces, each from the initial state, keyed `(key, piece)`.
        targets: Whether `y` has one entry per step (`"steps"`) or per window (`"windows"`); `"last"` takes the last
            valid step of each window. `"auto"` decides between the first two by the number of entries. With `"sequence"`,
            `y` has one entry per sequence, such as its class, which counts at its last window alone. A mapping gives each
            output its own.
        horizon: How many steps ahead the target of a step lies in `y`, or in `x` if there is no `y`. The last `horizon`
            steps of each sequence have no target, and are left out.
        observed: Known values from which the state before a window is computed: a vector `(values,)` for each sequence,
            or a series `(time, values)` of what is known after each step, or `(time + 1, values)`, before each step.
        resets: Flags `(time,)` in the form of `y`. Before a flagged step the state returns to its initial state.
        times: Times of the steps, `(time,)` in the form of `y`. A jump is a gap, which never lies inside a window.
        gaps: Instead of `times`, the number of missing steps before each step, `(time,)`.
        step: Usual step of `times`; by default the median of each sequence.
        gap: What a gap does to the state: `"reset"` (the default), `"keep"`, or the number of missing steps after which
            half of it has decayed.
        burn_in: How many steps before each window come with it, to refresh the state without loss or gradient.
        back: Instead, through how many steps the gradient flows: the steps of the window and `back - length` steps
            before it.
        vary: Draw new window lengths for the batches of each epoch, as AWD-LSTM does: `True` or a `Vary`.
        seed: With the epoch it decides everything random; `None` is 0.
        by: Whether the names of a one-level mapping `x` name sequences (`"key"`) or inputs (`"input"`), if the default
            guesses wrong.
        **kwargs: Arguments of `keras.utils.PyDataset`. `workers=1`, the default, makes the next batch in a thread while a
            step runs, 0 does not, and more are refused.

    Raises:
        DataError: If the data cannot be cut as asked, with key and step; see `docs/windows.md`.

    Example:

    >>> import numpy as np, rnnstate as rs
    >>> windows = rs.Windows({"a": np.ones((5, 2)), "b": np.ones((3, 2))}, length=3, batch_size=2)
    >>> windows
    Windows(2 sequences, 8 steps, 2 batches of 2 x 3, order='lanes')
    >>> windows[1][0]["mask"].tolist()
    [[True, True, False], [False, False, False]]

    References:
        - Truncated back-propagation through time: Williams and Peng (1990), doi:10.1162/neco.1990.2.4.490.
        - Lanes: Hidasi et al. (2016), arXiv:1511.06939. Burn-in: Kapturowski et al. (2019), openreview r1lyTjAqYX.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        length: int,
        batch_size: int,
        sample_weight: Any = None,
        static: str | Iterable[str] | None = None,
        order: str = "lanes",
        pieces: int | None = None,
        targets: str | Mapping[str, str] = "auto",
        horizon: int = 0,
        by: str | None = None,
        observed: Any = None,
        resets: Any = None,
        times: Any = None,
        gaps: Any = None,
        step: Any = None,
        gap: str | float | None = None,
        burn_in: int | None = None,
        back: int | None = None,
        vary: bool | Vary | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.length = check_count("length", length)
        check_order_name(order)
        varying = read_vary(vary, self.length, order)
        self._prefix = Prefix.read(self.length, burn_in, back, varying is not None)
        if y is None and sample_weight is not None and not horizon:
            raise DataError("`sample_weight` weighs targets. Received: no `y`. Pass `y`, or leave out `sample_weight`.")
        self._policy = read_policy(gap)
        irregular = any(given is not None for given in (times, gaps, step, gap))
        check_pairing(check_count("horizon", horizon, least=0), targets, moved=irregular or resets is not None)
        data = read_sequences(
            x,
            with_entry_axis(y, x, by, targets),
            with_entry_axis(sample_weight, x, by, targets),
            static=static,
            by=by,
            observed=observed,
            resets=resets,
            times=times,
            gaps=gaps,
            usual_step=step,
            irregular=irregular,
        )
        data = paired(data, horizon)
        bounds = None if pieces is None else cut_pieces(data.lengths, pieces, data.keys)
        cuts = data.cuts()
        data = resolve_targets(data, targets, self.length, bounds, cuts, varying is not None)
        self._data = data if bounds is None else data.pieces(bounds, self.length)
        self._untold = "sequence" if targets == "sequence" else None  # the kind of targets where there are none
        self._schedule = Schedule(
            self.lengths,
            self.length,
            check_count("batch_size", batch_size),
            order,
            cuts if cuts is None or bounds is None else piece_cuts(cuts, bounds),
            self._prefix.steps,
            varying,
            check_count("seed", 0 if seed is None else seed, least=0),
        )
        self.order = order
        self.epoch = 0
        self.batch_size = self.plan.rows
        self._masked = self.plan.padded or varying is not None or self._prefix.steps > 0
        if self._data.observed is not None:
            self._data.observed.check(None if varying is not None else self.plan, self.keys)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        features: Columns | None = None,
        targets: Columns | None = None,
        key: str | None = None,
        time: str | None = None,
        sample_weight: str | None = None,
        observed: Any = None,
        resets: Any = None,
        length: int,
        batch_size: int,
        target_kind: str = "auto",
        gap: str | float | None = None,
        **kwargs: Any,
    ) -> "Windows":
        """Cut windows from the columns of a pandas or polars frame, a pyarrow table or a duckdb relation.

        Args:
            frame: One row for each step, sorted by time within each sequence.
            features: Columns that are inputs; by default all columns without another use. A mapping
                `{input: columns}` makes several inputs.
            targets: Columns that are targets, or a mapping `{output: columns}`.
            key: Column that names the sequence; without it the frame is one sequence. Rows of different sequences
                may be interleaved.
            time: Column of dates or numbers, which must increase within each sequence.
            sample_weight: Column with the weight of each step.
            observed: Columns of known values, from which the state before a window is computed. A window gets the values
                of the row before it. Other rows may lack values. Arrays are read as `Windows` reads them.
            resets: Column of flags, true where the state returns to its initial state before the step; or arrays.
            length: Steps of a window.
            batch_size: Rows of a batch.
            target_kind: The argument `targets` of `Windows`, such as `"last"`. With `"sequence"`, the columns hold one
                value in all rows of a sequence.
            gap: What a jump of the column `time` does to the state, see `Windows`; by default jumps go unseen.
            **kwargs: Further arguments of `Windows`.

        Returns:
            The windows. Inputs and targets are `(batch, time, columns)`.

        Raises:
            DataError: If a column is unknown, holds no numbers or no value, or times do not increase; with column,
                key and step.

        Example:

        >>> import pandas as pd, rnnstate as rs
        >>> frame = pd.DataFrame({"day": [1, 2, 3, 4], "load": [0.2, 0.4, 0.1, 0.3], "price": [3.0, 5.0, 2.0, 4.0]})
        >>> rs.Windows.from_frame(frame, time="day", features=["load"], targets=["price"], length=2, batch_size=1)
        Windows(1 sequence, 4 steps, 2 batches of 1 x 2, order='lanes')
        """
        named = {name: data for name, data in (("observed", observed), ("resets", resets)) if names_columns(data)}
        kwargs |= {"observed": observed, "resets": resets}
        parts = split_frame(frame, key, time, features, targets, sample_weight, **named)
        times = parts.pop("times")
        kwargs |= {name: part for name, part in parts.items() if part is not None}
        if gap is not None:
            kwargs |= {"gap": gap, "times": needed_times(times)}
        if target_kind == "sequence":
            kwargs |= {name: one_of_each(kwargs[name], name) for name in ("y", "sample_weight") if name in kwargs}
        # Without a key, `split_frame` names inputs; with a key, it names sequences.
        kwargs.setdefault("by", "input" if key is None else "key")
        return cls(targets=target_kind, length=length, batch_size=batch_size, **kwargs)

    @classmethod
    def from_iterable(
        cls,
        make: Callable[[], Iterable[Any]],
        *,
        length: int,
        batch_size: int,
        buffer: int | None = None,
        targets: str | Mapping[str, str] = "auto",
        horizon: int = 0,
        step: Any = None,
        gap: str | float | None = None,
        burn_in: int | None = None,
        back: int | None = None,
        **kwargs: Any,
    ) -> "Windows":
        """Cut windows from data that arrive in chunks, and do not fit in memory.

        The source is read once here, to check all chunks, and to count sequences and steps. No chunk is kept. Keras must
        know the number of batches, a model must have a row of states for each sequence before its step is compiled, and an
        error must come before anything is trained. Then each epoch reads the source once, in one thread, ahead of the step.

        A batch is made as soon as as many sequences have a complete window as it has rows, or all sequences that have
        windows left. With no more sequences than rows, the batches are those of `Windows` of the whole arrays.

        In memory are the steps that have come and wait for their batch, at most `buffer`, and the chunk that comes. With
        `burn_in` or `back` it is as many steps more for each sequence, rounded up to whole windows. The plan takes about
        50 bytes for each window.

        Args:
            make: Function that returns a new iterable of chunks each time: `(key, x)`, `(key, x, y)` or
                `(key, x, y, sample_weight)`, with `x` of shape `(steps, ...)`, or a mapping of several by input name. The
                chunks of a key come in time order, have any number of steps, and may be interleaved with other keys. A
                chunk may be a mapping with the names `"key"`, `"x"`, `"y"` and `"sample_weight"` instead, and then with
                `"resets"`, `"times"` or `"gaps"` too, `(steps,)` each, as in `Windows`.
            length: Steps of a window.
            batch_size: Rows of a batch; with fewer sequences there are fewer rows.
            buffer: How many steps may wait for their batch, of all sequences together; by default 64 windows for each row.
            targets: `"steps"`, or `"last"` for a network with one output per window; by output name if there are several.
                With `"sequence"`, the `y` of a chunk is the one target of its sequence, and the same in all of its chunks.
            horizon: As in `Windows`.
            step: Usual step of `times`. A source with times needs it.
            gap: As in `Windows`.
            burn_in: As in `Windows`.
            back: As in `Windows`.
            **kwargs: Arguments of `keras.utils.PyDataset`, as in `Windows`.

        Returns:
            The windows, with the order `"arrival"`. A batch before the present one is read by a new pass over the source.

        Raises:
            DataError: If there is no chunk, a chunk does not fit the chunks before it, a value is not finite, or more steps
                than `buffer` would wait; with key and number of the chunk. In an epoch, if the source has other keys or
                other numbers of steps than before.

        Example:

        >>> def make():
        ...     for hour in range(0, 6, 2):
        ...         yield "north", np.ones((2, 1))
        ...         yield "south", np.zeros((2, 1))
        >>> Windows.from_iterable(make, length=3, batch_size=2, horizon=1)
        Windows(2 sequences, 10 steps, 2 batches of 2 x 3, order='arrival')
        """
        from rnnstate.windows.streamed import StreamedWindows  # it derives from this class

        return StreamedWindows(
            make,
            length=length,
            batch_size=batch_size,
            buffer=buffer,
            targets=targets,
            horizon=horizon,
            step=step,
            gap=gap,
            burn_in=burn_in,
            back=back,
            **kwargs,
        )
