"""Windows of a source of chunks are those of the whole arrays, and few steps are in memory at any time."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnstate as rs

LENGTHS = {"a": 23, "b": 11, "c": 17}


def series(lengths, seed=0):
    """Return inputs `(time, 2)` and targets `(time, 3)` by key."""
    rng = np.random.default_rng(seed)
    x = {key: rng.normal(size=(steps, 2)).astype("float32") for key, steps in lengths.items()}
    y = {key: rng.normal(size=(steps, 3)).astype("float32") for key, steps in lengths.items()}
    return x, y


class Source:
    """Yields the steps of arrays in chunks, in a random order of the keys, and counts its passes."""

    def __init__(self, *arrays, seed=0, most=5):
        self.arrays, self.seed, self.most, self.passes = arrays, seed, most, 0

    def __call__(self):
        self.passes += 1
        rng = np.random.default_rng(self.seed)
        left = dict.fromkeys(self.arrays[0], 0)
        while left:
            key = list(left)[rng.integers(len(left))]
            begin, end = left[key], left[key] + int(rng.integers(1, self.most + 1))
            yield key, *(array[key][begin:end] for array in self.arrays)
            left[key] = end
            if end >= len(self.arrays[0][key]):
                del left[key]


def streamed(source, **arguments):
    """Return windows of a source, of 4 steps in 5 rows unless told otherwise."""
    return rs.Windows.from_iterable(source, **{"length": 4, "batch_size": 5, **arguments})


@pytest.fixture(scope="module")
def restart():
    """Return a function that puts all values of a model back with which its training begins, and returns the model."""
    layers = [keras.layers.GRU(5, return_sequences=True, dropout=0.1, name="gru"), keras.layers.Dense(3)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, 2)), *layers]))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.optimizer.build(model.trainable_variables)
    variables = [*model.net.variables, *model.optimizer.variables]
    values = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    # The first call of `fit` on PyTorch draws dropout for a trial step, too.
    data = streamed(Source(*series(LENGTHS)))
    model.fit(data, validation_data=data, verbose=0)

    def again():
        keras.utils.set_random_seed(0)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value.copy())  # PyTorch trains in the memory of the array
        return model

    return again


def assert_same_batches(expected, actual):
    """Assert that two datasets give equal batches."""
    assert len(actual) == len(expected)
    for index in range(len(expected)):
        pairs = zip(keras.tree.flatten(expected[index]), keras.tree.flatten(actual[index]), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(np.asarray(other), np.asarray(one))
            assert other.dtype == one.dtype


def in_order_of(windows, arrays):
    """Return arrays in the order in which the keys have come."""
    return {key: arrays[key] for key in windows.keys}


@pytest.mark.once
@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 7), st.sampled_from([{}, {"burn_in": 3}, {"back": 13}]))
def test_with_a_row_for_each_sequence_the_batches_are_those_of_the_whole_arrays(seed, most, length, before):
    """However chunks are cut and interleaved, inputs, facts and targets are those of `Windows`, batch by batch."""
    x, y = series(LENGTHS)
    arguments = {"length": length, "batch_size": 3, **(before if length < 7 else {})}
    windows = rs.Windows.from_iterable(Source(x, y, seed=seed, most=most), **arguments)
    assert_same_batches(rs.Windows(in_order_of(windows, x), in_order_of(windows, y), **arguments), windows)


@pytest.mark.once
@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 19), min_size=1, max_size=7),
    st.integers(0, 999),
    st.integers(1, 4),
    st.sampled_from([0, 3]),
)
def test_each_step_comes_once_in_time_order_whatever_the_interleaving(lengths, seed, rows, horizon):
    """The outputs of all batches, assembled, are the steps of each sequence; no batch holds two windows of one."""
    x, y = series({f"key {i}": steps + horizon for i, steps in enumerate(lengths)})
    windows = streamed(Source(x, y, seed=seed), batch_size=rows, horizon=horizon)
    batches = list(windows)
    outputs = windows.assemble(inputs["x"] for inputs, _ in batches)
    targets = windows.assemble(aim for _, aim in batches)
    for key in x:
        np.testing.assert_array_equal(outputs[key], x[key][: len(x[key]) - horizon])
        np.testing.assert_array_equal(targets[key], y[key][horizon:])
    last = {}
    for number, (inputs, _) in enumerate(batches):
        slots = np.asarray(inputs["slot"])
        real = slots[slots >= 0].tolist()
        assert len(set(real)) == len(real)
        for slot, first in zip(slots.tolist(), inputs["first"].tolist(), strict=True):
            assert slot < 0 or first == (slot not in last)
            last[slot] = number


@pytest.mark.once
@settings(max_examples=20)
@given(st.integers(0, 999), st.integers(1, 4))
def test_no_more_steps_are_held_than_wait_for_their_batch(seed, rows):
    """Held are at most `buffer` steps, and one less than the source needs is refused with the number that it needs."""
    x, y = series(LENGTHS)
    source = Source(x, y, seed=seed, most=3)
    with pytest.raises(
        rs.DataError, match=r"At most 1 steps may wait.*of sequence '[abc]', which runs ahead"
    ) as refused:
        streamed(source, batch_size=rows, buffer=1)
    needed = int(str(refused.value).split("buffer=")[1].split("`")[0])
    windows = streamed(source, batch_size=rows, buffer=needed)
    held = []
    for index in range(len(windows)):
        windows[index]
        held.append(windows.steps_held)
    assert max(held) <= needed < 51
    with pytest.raises(rs.DataError, match=f"Received: {needed} before batch"):
        streamed(source, batch_size=rows, buffer=needed - 1)


@pytest.mark.once
def test_a_long_source_is_never_in_memory():
    """Two sequences of 10,000 steps in turn: two windows of 1000 steps and a chunk are held at most."""

    def make():
        for begin in range(0, 10_000, 50):
            for key in ("a", "b"):
                yield key, np.full((50, 1), begin)

    windows = rs.Windows.from_iterable(make, length=1000, batch_size=2, buffer=2000)
    assert [windows[index] and windows.steps_held for index in range(3)] == [2000, 2000, 2000]
    with pytest.raises(rs.DataError, match=r"Received: 2000 before batch 0, 1000 of them of sequence 'a'"):
        rs.Windows.from_iterable(make, length=1000, batch_size=2, buffer=1990)


@pytest.mark.once
def test_a_sequence_that_ends_early_is_finished_and_others_go_on():
    """Sequences one after the other fill the rows, once the source is allowed to wait for all of them."""
    x, _ = series(LENGTHS)
    windows = streamed(lambda: x.items(), batch_size=2, buffer=100)
    assert [inputs["slot"].tolist() for (inputs,) in windows][:3] == [[0, 1]] * 3
    with pytest.raises(rs.DataError, match=r"Received: 34 before batch 0, 23 of them of sequence 'a'"):
        streamed(lambda: x.items(), batch_size=2, buffer=33)


def test_training_on_a_source_gives_the_bits_of_training_on_the_whole_arrays(restart):
    """Weights, states, losses and evaluations are equal; the control shows that other data give other weights."""
    x, y = series(LENGTHS)
    windows = streamed(Source(x, y, seed=3))
    whole = rs.Windows(in_order_of(windows, x), in_order_of(windows, y), length=4, batch_size=5)
    other = streamed(Source(x, {key: -part for key, part in y.items()}, seed=3))
    results = []
    for data in (whole, windows, other):
        model = restart()
        history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
        results.append((model.get_weights(), history, model.states.read(["a", "b", "c"])))
    for expected, actual in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert results[1][1:] == results[0][1:]
    assert np.abs(results[2][0][0] - results[0][0][0]).max() > 1e-3


def test_predictions_are_those_of_the_whole_arrays_for_any_number_of_rows(restart):
    """`predict` gives each key its outputs in time order, with fewer rows than sequences, too."""
    x, _ = series(LENGTHS)
    model = restart()
    expected = model.predict(rs.Windows(x, length=4, batch_size=2), verbose=0)
    actual = model.predict(streamed(Source(x, seed=5), batch_size=2), verbose=0)
    assert set(actual) == set(expected)
    for key, outputs in expected.items():
        np.testing.assert_allclose(actual[key], outputs, rtol=0, atol=1e-6)
    changed = model.predict(streamed(Source({**x, "a": -x["a"]}, seed=5), batch_size=2), verbose=0)
    np.testing.assert_allclose(changed["b"], expected["b"], rtol=0, atol=1e-6)
    assert np.abs(changed["a"] - expected["a"]).max() > 1e-2


class Stop(keras.callbacks.Callback):
    """Ends the process, as far as a test can, before a batch."""

    def __init__(self, batch, epoch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remember the epoch."""
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Raise where the run is to end."""
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


def test_a_training_that_was_stopped_in_an_epoch_goes_on_bit_for_bit(restart, tmp_path):
    """The source is read again up to the next batch; a source with other values is refused."""
    x, y = series(LENGTHS)

    def run(folder, stop, aims=y):
        model = restart()
        checkpoint = rs.Checkpoint(tmp_path / folder, every_batches=1)
        data = streamed(Source(x, aims, seed=7))
        return model.fit(data, epochs=2, verbose=0, checkpoint=checkpoint, callbacks=[stop]).history

    model = restart()
    history = run("whole", Stop(batch=99, epoch=9))
    expected, states = model.get_weights(), model.states.read(["a", "b", "c"])
    with pytest.raises(KeyboardInterrupt):
        run("stopped", Stop(batch=3, epoch=1))
    assert np.abs(model.get_weights()[0] - expected[0]).max() > 1e-4
    assert run("stopped", Stop(batch=99, epoch=9)) == history
    for one, other in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
    assert model.states.read(["a", "b", "c"]) == states
    with pytest.raises(rs.SpecMismatchError, match="must be of the same run"):
        run("stopped", Stop(batch=99, epoch=9), {key: -part for key, part in y.items()})


@pytest.mark.once
def test_each_epoch_calls_make_once_and_a_batch_again_costs_no_pass():
    """The first pass counts; a later one begins with each epoch, and when an earlier batch is asked for."""
    x, y = series(LENGTHS)
    source = Source(x, y)
    windows = streamed(source)
    assert source.passes == 1
    list(windows)
    windows[-1]
    assert source.passes == 2
    windows.on_epoch_end()
    list(windows)
    assert source.passes == 3
    windows[2]
    assert source.passes == 4


@pytest.mark.once
def test_a_source_may_use_one_array_for_all_chunks_and_weigh_steps_of_named_inputs():
    """Chunks are copied when they come; mappings name inputs and outputs, and the fourth part is a weight per step."""
    room = np.zeros((3, 2))

    def make():
        for begin in range(0, 12, 3):
            room[:] = begin
            yield 7, {"speed": room, "token": np.arange(begin, begin + 3)}, {"wear": room[:, 0]}, np.full(3, begin)

    (inputs, targets, weights), *_ = windows = rs.Windows.from_iterable(make, length=6, batch_size=1)
    assert inputs["x"]["speed"][0, :, 0].tolist() == targets["wear"][0].tolist() == [0, 0, 0, 3, 3, 3]
    assert inputs["x"]["token"].dtype == np.int32
    assert weights[0].tolist() == [0, 0, 0, 3, 3, 3]
    assert windows.keys == (7,)


CHUNK = ("a", np.ones((2, 2)))
WRONG = [
    ([], r"at least one chunk. Received: none"),
    ([CHUNK, ("b", np.ones((0, 2)))], r"at least one step. Received: none in 2 chunks for sequence 'b'"),
    ([CHUNK, np.ones(2)], r"must yield chunks \(key, x\).*Received: ndarray as chunk 1"),
    ([CHUNK, ("a", [[np.nan, 1]])], r"`x` must be finite. Received: nan at step 2, in chunk 1, of sequence 'a'"),
    ([CHUNK, ("a", np.ones((2, 3)))], r"\(2,\), as in chunk 0.*Received: \(3,\) in chunk 1, of sequence 'a'"),
    ([CHUNK, (*CHUNK, np.ones((2, 1)))], r"same parts: \('x', None\)|same parts: 'x', as in chunk 0.*chunk 1"),
    ([(*CHUNK, np.ones((3, 1)))], r"same number of steps: 2, as its `x`. Received: 3 of `y` in chunk 0"),
    ([("a", None, np.ones(2))], r"must have inputs. Received: no `x` in chunk 0, of sequence 'a'"),
    ([("a", [["one"]])], r"`x in chunk 0` must hold numbers"),
    ([(np.ones(2), np.ones((2, 2)))], r"A key must be.*Received: ndarray.* in chunk 0"),
    ([(object(), np.ones((2, 2)))], r"A key must be.*Received: object"),
    ([(["a"], np.ones((2, 2)))], r"A key must be.*Received: list"),
]


@pytest.mark.once
@pytest.mark.parametrize(("chunks", "match"), WRONG)
def test_a_source_that_is_not_as_it_must_be_is_refused_with_key_and_chunk(chunks, match):
    """Every fault is found before anything is trained."""
    with pytest.raises(rs.DataError, match=match):
        streamed(lambda: iter(chunks))


@pytest.mark.once
def test_a_source_that_cannot_be_read_again_in_the_same_way_is_refused():
    """An iterator that is used up, a key that comes back after its end, a new key, and another order are no silent loss."""
    x, y = series(LENGTHS)
    with pytest.raises(rs.DataError, match=r"`make` must be a function.*Received: generator"):
        streamed(Source(x, y)())
    chunks = list(Source(x, y)())
    once = iter(chunks)
    with pytest.raises(
        rs.DataError, match=r"must have \d+ steps in each pass.*Received: 0, then the end of the source"
    ):
        streamed(lambda: once)[0]

    def later(others, buffer=None):
        passes = iter([chunks, others, chunks])
        windows = streamed(lambda: next(passes), buffer=buffer)
        try:
            list(windows)
        finally:
            assert len(list(windows)) == len(windows)  # the next pass is whole again

    with pytest.raises(rs.DataError, match=r"'a' must have 23 steps in each pass.*Received: more, in chunk"):
        later([*chunks, ("a", x["a"][:1], y["a"][:1])])
    with pytest.raises(rs.DataError, match=r"same sequences in each pass.*new sequence in chunk 0, of sequence 'new'"):
        later([("new", x["a"], y["a"]), *chunks])
    with pytest.raises(rs.DataError, match=r"of sequence '[abc]', which comes earlier in this pass than in the first"):
        later([(key, x[key], y[key]) for key in "abc"], buffer=30)


@pytest.mark.once
def test_other_targets_than_per_step_are_refused_and_the_last_of_a_window_is_not():
    """A network with one output per window takes the target of the last step with data."""
    x, y = series({"a": 7})
    windows = streamed(Source(x, y), targets="last")
    assert windows.targets == "last"
    np.testing.assert_array_equal([batch[1][0] for batch in windows], y["a"][[3, 6]])
    with pytest.raises(rs.DataError, match=r"per step or per sequence, so `targets` must be.*Received: 'windows'"):
        streamed(Source(x, y), targets="windows")
