"""The way of batches to Keras: in order, while one thread prepares the next ones during a step.

On JAX and PyTorch rnnstate starts this thread. On TensorFlow it belongs to the `tf.data` pipeline that Keras reads.
`Windows(..., workers=0)` starts no thread. Neither do `Windows` with batches below 64 KiB, because making such a batch
takes less time than handing it over. `Windows` of arrays are cut for all steps of a call together (`stacks`), without a
thread where the call before still runs meanwhile.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import tree

from rnnstate.kernels import kernels
from rnnstate.training.stacks import Stack
from rnnstate.windows.batch import Batch, WindowDataset, in_bank
from rnnstate.windows.windows import Windows

_WORTH_A_THREAD = 2**16  # bytes of a batch
_MOST_OF_A_STACK = 2**26  # bytes of all batches of a call


class Source:
    """Windows that a model can be run on, and their first batch, which is made once however many ask for it.

    The checks before `fit` look at the first batch, Keras builds a model with it, and then the first step trains on it.

    Args:
        windows: The windows.
        check: Raises for the inputs of a batch that the model cannot be run on.
    """

    def __init__(self, windows: WindowDataset, check: Callable[[Any], None] | None = None) -> None:
        self.windows, self._check = windows, check
        self.class_weights: Callable[..., Any] | None = None  # returns the weights of a batch from targets and weights
        self._first: tuple[int, tuple[Any, ...]] | None = None

    def first(self) -> tuple[Any, ...]:
        """Return batch 0 of the present epoch: inputs, and targets and weights if there are any."""
        if self._first is None or self._first[0] != self.windows.epoch:
            self._first = self.windows.epoch, self.batch(0)
        return self._first[1]

    @property
    def is_plain(self) -> bool:
        """Whether nothing is checked or changed batch by batch."""
        return type(self.windows) is Windows and self._check is None and self.class_weights is None

    def batch(self, index: int) -> tuple[Any, ...]:
        """Make a batch of the present epoch, with the weights of classes if there are any."""
        inputs, *rest = self.windows[index]
        if self._check is not None:
            self._check(inputs)
        if self.class_weights is not None:
            rest = [rest[0], self.class_weights(*rest)]
        return inputs, *rest

    def forget(self) -> None:
        """Let go of the first batch: the dataset of a user may make another one when it is read again."""
        self._first = None


class BoundWindows(keras.utils.PyDataset):
    """The batches of `Windows`, with sequence numbers replaced by slots of a bank.

    Args:
        source: The windows.
        slots: Slot of each sequence in `windows.keys`, int `(keys,)`. Empty rows get the spare slot 0.
        training: Whether a model trains on the windows. In training, every target per sequence has the same weight.
            Otherwise the weights make the mean over batches, which Keras takes, equal to the mean over sequences.
        ended: Called when the last batch of an epoch has been handed out. On JAX its step still runs then.
        begin: The first batch of an epoch to hand out. An index counts from it.
    """

    def __init__(
        self,
        source: Source,
        slots: np.ndarray,
        training: bool = True,
        ended: Callable[[], None] | None = None,
        begin: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.windows, self.training = source, source.windows, training
        # A batch numbers sequences, and the bank numbers rows: slot = self._slots[sequence]. With keys "a" and "b":
        #   sequence    0  1  -1 (empty row)
        #   _slots    [ 1  2   0 ]           index -1 picks the last entry, the spare row
        self._slots = np.append(slots, 0).astype(np.int32)
        self._ended, self._begin = ended, begin
        self.ahead: Ahead | None = None
        self.stack: Stack | None = None
        self.at_once = 1  # how many batches to cut together
        self.whole_epochs = True  # whether every epoch uses all batches
        self.failure: Exception | None = None

    def __len__(self) -> int:
        return len(self.windows) - self._begin

    def __getitem__(self, index: int) -> Any:
        try:
            return self.load(index) if self.ahead is None else self.ahead.get(index, len(self), self.windows.epoch)
        except Exception as error:
            self.failure = error
            raise

    def on_epoch_end(self) -> None:
        """Tell of the end of the epoch. Keras calls this method."""
        if self._ended is not None:
            self._ended()

    def first(self) -> Any:
        """Make the first batch of the epoch, and keep it for the next call."""
        return self._bound(*self.source.first())

    def load(self, index: int) -> Any:
        """Make a batch. The main thread or the loading thread calls this."""
        index += self._begin
        if self.at_once > 1:
            return self._from_stack(index)
        return self.first() if index == 0 else self._bound(*self.source.batch(index))

    def several(self, begin: int) -> Any:
        """Make up to `at_once` batches, stacked along a new first axis, or return `None` behind the last batch.

        If a batch cannot be made, the batches before it are returned, and the next call raises its error.
        """
        if self.failure is not None:
            raise self.failure
        begin += self._begin
        for end in range(min(begin + self.at_once, len(self.windows)), begin, -1):
            try:
                return self._stacked(range(begin, end))
            except Exception as error:
                self.failure = error
        if self.failure is not None:
            raise self.failure
        return None

    def _from_stack(self, index: int) -> Any:
        epoch = self.windows.epoch
        batch = None if self.stack is None else self.stack.take(epoch, index)
        if batch is None:
            end = min(index + self.at_once, len(self.windows))
            self.stack = Stack(epoch, index, self._stacked(range(index, end)))
            batch = self.stack.take(epoch, index)
        return batch

    def _stacked(self, indices: range) -> tuple[Any, ...]:
        return self._bound(*self.windows.stacked(indices))  # type: ignore[attr-defined]  # plain `Windows`

    def _bound(self, inputs: dict[str, Any], *rest: Any) -> tuple[Any, ...]:
        if not self.training and inputs.get("ends") is not None:
            inputs = inputs | {"ends": self._shares(Batch.from_keras(inputs))}
        return (in_bank(inputs, self._slots), *rest)

    def _shares(self, batch: Batch) -> Any:
        # Keras divides the loss of a batch by its rows that hold a window, and takes the mean over batches.
        rows = (np.asarray(batch.slot) >= 0).sum(axis=-1, keepdims=True)
        scale = rows * len(self.windows) / len(self.windows.keys)
        return tree.map_structure(lambda ends: (ends * scale).astype(np.float32), batch.ends)


class Ahead:
    """Batches that one thread loads, in order, before they are asked for.

    Args:
        load: Returns a batch, given its index.
        count: How many batches to load ahead of the one that is asked for.
    """

    def __init__(self, load: Callable[[int], Any], count: int) -> None:
        self._load, self._count = load, count
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rnnstate-loader")
        self._coming: dict[tuple[int, int], Future[Any]] = {}

    def get(self, index: int, total: int, epoch: int) -> Any:
        """Return a batch of an epoch of `total` batches, and start loading the next ones.

        This raises an error of `load` when the batch that failed is asked for. It drops batches of another epoch.
        """
        wanted = [(epoch, later) for later in range(index, min(index + 1 + self._count, total))]
        for stale in self._coming.keys() - set(wanted):
            self._coming.pop(stale).cancel()
        for key in wanted:
            if key not in self._coming:
                self._coming[key] = self._thread.submit(self._load, key[1])
        return self._coming.pop((epoch, index)).result()

    def close(self) -> None:
        """End the thread after the batch that it is loading."""
        self._thread.shutdown(cancel_futures=True)


class Feeder:
    """Runs Keras' `fit`, `evaluate` and `predict` on datasets that are loaded ahead."""

    def __init__(self) -> None:
        self._fed: list[tuple[Any, BoundWindows]] = []

    def gave(self, data: Any) -> bool:
        """Return whether `data` came from here. Within `fit`, Keras calls `evaluate` with the data that it was given."""
        return any(data is given for given, _ in self._fed)

    def finished(self, data: Any) -> None:
        """Let go of the first batch of `data` after an evaluation within `fit`."""
        for given, bound in self._fed:
            if given is data:
                bound.source.forget()

    def stack_of(self, batches: Sequence[Any]) -> Any:
        """Return batches stacked along a new first axis, if they were cut together, else `None`."""
        stacks = (bound.stack for _, bound in self._fed)
        return next((stack.arrays for stack in stacks if stack is not None and stack.is_of(batches)), None)

    def run(self, function: Callable[..., Any], data: BoundWindows, count: int, **kwargs: Any) -> Any:
        """Call `function` on `data`, of which `count` batches are kept ready, and on `validation_data`.

        Raises:
            Exception: The error of a dataset, as the dataset raised it. Backends would wrap it.
        """
        validation = kwargs.get("validation_data")
        datasets = [data, *([] if validation is None else [validation])]
        with ExitStack() as stack:
            steps = [kwargs.get("steps_per_epoch", kwargs.get("steps")), kwargs.get("validation_steps")]
            given = [stack.enter_context(_loaded(*loaded, count)) for loaded in zip(datasets, steps, strict=False)]
            self._fed += zip(given, datasets, strict=True)
            stack.callback(self._forget, given)
            if validation is not None:
                kwargs["validation_data"] = given[-1]
            return function(given[0], **kwargs)

    def _forget(self, given: list[Any]) -> None:
        self._fed = [one for one in self._fed if not any(one[0] is other for other in given)]


def _is_quick(windows: Any) -> bool:
    """Return whether making a batch takes less time than handing it over from a thread: small ones, of arrays in memory."""
    return type(windows) is Windows and windows.batch_bytes < _WORTH_A_THREAD


def _at_once(data: BoundWindows, count: int) -> int:
    """Return how many batches to cut together, of `count` that a call takes."""
    if not data.source.is_plain:
        return 1
    count = max(count, kernels().FED_AT_ONCE if data.whole_epochs else 1)
    windows: Any = data.windows
    most = _MOST_OF_A_STACK if data.training and kernels().TAKES_STACKS else count * _WORTH_A_THREAD
    return min(count, len(windows)) if count * windows.batch_bytes < most else 1


@contextmanager
def _loaded(data: BoundWindows, steps: int | None, count: int) -> Iterator[Any]:
    """Give the object from which Keras reads `data`, `steps` batches in an epoch. At the end no loading thread is left."""
    data.whole_epochs = steps is None or steps >= len(data)
    data.at_once = _at_once(data, count)
    data.failure = None
    threads = 0 if data.at_once > 1 or _is_quick(data.windows) else min(1, data.windows.workers)
    given = kernels().feed(data, count * threads)
    if threads and not kernels().LOADS_AHEAD:
        data.ahead = Ahead(data.load, count)
    try:
        yield given
    except kernels().FEED_ERRORS:
        if data.failure is None:
            raise
        raise data.failure from None
    finally:
        if data.ahead is not None:
            data.ahead.close()
            data.ahead = None
        data.at_once, data.stack = 1, None
