"""The laws of streaming on each backend: a push is a step, and no session depends on another one."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import policies
import rnnstate as rs
from rnnstate.testing import CountingCell

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def model():
    """Return a small model whose memory matters, and which can run free."""
    gru = layers.GRU(3, return_sequences=True, name="gru")
    lstm = layers.LSTM(5, return_sequences=True, name="lstm")
    return nets.make(lambda: keras.Sequential([nets.series_input(), lstm, gru, layers.Dense(2)]))


def test_a_push_is_a_step(model):
    """Chunks of any length, pushed for several keys together, give the outputs and states of `step` on the whole."""
    streamer = rs.Streamer(model, max_batch=2, max_steps=4)
    x = nets.series((13, 13, 13, 5, 5), seed=3)
    outputs = {key: [] for key in x}
    for lengths in ((1, 5, 2, 3, 1), (6, 1, 1, 2, 4), (6, 7, 10, 0, 0)):
        begin = {key: sum(map(len, parts)) for key, parts in outputs.items()}
        chunks = {k: x[k][begin[k] : begin[k] + n] for k, n in zip(x, lengths, strict=True) if n}
        for key, y in streamer.push(chunks).items():
            outputs[key].append(y)
    for key, whole in x.items():
        y, final = model.step(whole[None], model.initial_state(1))
        assert nets.difference(y[0], np.concatenate(outputs[key])) < TOLERANCE
        assert nets.difference(final, streamer.peek(key)) < TOLERANCE
        assert streamer.count(key) == len(whole)
    # The control: from the initial state the last chunk gives something else.
    fresh, _ = model.step(x["k0"][None, 7:12], model.initial_state(1))
    assert nets.difference(fresh[0], outputs["k0"][-1][:5]) > 0.01


def test_a_session_depends_on_itself_alone(model):
    """Law 2: the output of a key is the same alone, among others, in another order and in a padded batch."""
    x = {key: value[0] for key, value in nets.series([1] * 7, seed=5).items()}
    streamers = [rs.Streamer(model, max_batch=8) for _ in range(3)]
    for _ in range(3):
        alone = {key: streamers[0].push({key: value})[key] for key, value in x.items()}
        together = streamers[1].push(x)
        backwards = streamers[2].push(dict(reversed(x.items())))
        for key in x:
            assert nets.difference(alone[key], together[key]) < TOLERANCE
            assert nets.difference(alone[key], backwards[key]) < TOLERANCE
            assert alone[key].shape == (2,)
    assert nets.difference(together["k0"], together["k1"]) > 0.01


def test_nothing_is_compiled_after_warmup():
    """After `warmup`, pushes of any number of keys and steps run no Python of the network."""
    calls = []

    class Noted(CountingCell):
        def call(self, inputs, states, training=False):
            calls.append(inputs.shape)
            return super().call(inputs, states, training)

    net = keras.Sequential([keras.Input((None, 1)), layers.RNN(Noted(), return_sequences=True)])
    streamer = rs.Streamer(rs.StatefulModel(net), max_batch=2, max_steps=4)
    assert streamer.warmup() == 4
    streamer.push({"first": np.ones(1)})
    calls.clear()
    for n in (1, 2, 3):
        streamer.push({f"k{i}": np.ones((2 * n + i, 1)) for i in range(n)})
        y = streamer.push({f"k{i}": np.ones(1) for i in range(n)})
    assert calls == []
    assert y["k2"].tolist() == [9.0 + 0, 9.0 + 0]
    rs.Streamer(rs.StatefulModel(net), max_batch=8).push({f"k{i}": np.ones(1) for i in range(5)})
    assert calls != []  # the control: a new shape runs it


def test_stacked_pushes_are_compiled_by_warmup():
    """Arrays of one shape, in one window or several, for known keys and new ones, run no Python of the network either."""
    calls = []

    class Seen(CountingCell):
        def call(self, inputs, states, training=False):
            calls.append(inputs.shape)
            return super().call(inputs, states, training)

    net = keras.Sequential([keras.Input((None, 1)), layers.RNN(Seen(), return_sequences=True)])
    streamer = rs.Streamer(rs.StatefulModel(net), max_batch=2, max_steps=4)
    streamer.warmup()
    streamer.push({"first": np.ones(1)})
    calls.clear()
    for _ in range(2):
        for keys in ("a", "ab", "abc"):
            streamer.push({key: np.ones(1) for key in keys})
            y = streamer.push({key: np.ones((6, 1)) for key in keys})
    assert calls == []
    assert [y[key][-1].tolist() for key in "abc"] == [[42.0, 42.0], [28.0, 28.0], [14.0, 14.0]]


def test_start_states_and_observed_values():
    """A new session starts from the initial state of the model, also after `reset`; observed values are checked by key."""
    counting = rs.Streamer(policies.counting(start=100))
    assert counting.push({"a": [2.0]})["a"].tolist() == [101.0, 2.0]
    counting.reset("a")
    assert counting.push({"a": [2.0]})["a"].tolist() == [101.0, 2.0]
    net = keras.Sequential([nets.series_input(), layers.GRU(3, return_sequences=True, name="gru")])
    model = rs.StatefulModel(net, initial_state=rs.initial.Observed(size=4))
    nets.randomized(model.start)
    streamer, seen, x = rs.Streamer(model), nets.values(2, 4, seed=1), nets.values(2, 2)
    given = {"a": x[0], "b": x[1], "c": x[0], "d": x[0]}
    with pytest.raises(rs.PushError, match="2 of 4 keys failed") as caught:
        streamer.push(given, observed={"a": seen[0], "b": seen[1], "c": seen[0, :2]})
    assert {key: type(error) for key, error in caught.value.errors.items()} == {
        "c": rs.StateShapeError,
        "d": rs.DataError,
    }
    expected, _ = model.step(x[:, None], model.initial_state(2, seen))
    assert nets.difference(expected[0, 0], caught.value.results["a"]) < TOLERANCE
    assert nets.difference(expected[1, 0], caught.value.results["b"]) < TOLERANCE
    with pytest.raises(rs.PushError, match="observed values start a new session"):
        streamer.push({"a": x[0]}, observed={"a": seen[0]})
    streamer.reset("a", observed=seen[0])
    assert nets.difference(streamer.push({"a": x[0]})["a"], expected[0, 0]) < TOLERANCE


def test_several_inputs_and_outputs():
    """Inputs come by name, a static one without a time axis; an output once per window is that of the last step."""
    series, fixed = keras.Input((None, 2), name="series"), keras.Input((3,), name="fixed")
    h = layers.GRU(4, return_sequences=True, name="gru")(series)
    last = layers.Add()([layers.GRU(4, name="top")(h), layers.Dense(4)(fixed)])
    net = keras.Model({"series": series, "fixed": fixed}, {"steps": layers.Dense(1)(h), "last": last})
    model = nets.randomized(rs.StatefulModel(net))
    streamer = rs.Streamer(model, max_steps=4)
    x = {"series": nets.values(7, 2), "fixed": nets.values(3, seed=1)}
    y = streamer.push({"a": x, "b": {"series": x["series"][0], "fixed": x["fixed"]}})
    expected, final = model.step({name: part[None] for name, part in x.items()}, model.initial_state(1))
    assert nets.difference(expected["steps"][0], y["a"]["steps"]) < TOLERANCE
    assert nets.difference(expected["last"][0], y["a"]["last"]) < TOLERANCE
    assert nets.difference(final, streamer.peek("a")) < TOLERANCE
    assert (y["b"]["steps"].shape, y["b"]["last"].shape) == ((1,), (4,))
    with pytest.raises(rs.PushError, match=r"the inputs must be `fixed`, `series`, by name\. Received: `series`"):
        streamer.push({"a": {"series": x["series"]}})
    rows = {"series": nets.values(2, 5, 2, seed=2), "fixed": nets.values(2, 3, seed=3)}
    given = {key: {name: part[row] for name, part in rows.items()} for row, key in enumerate("cd")}
    by_key, as_rows = rs.Streamer(model).push(given), rs.Streamer(model).push_rows(["c", "d"], rows)
    assert as_rows["steps"].shape == (2, 5, 1)
    for row, key in enumerate("cd"):
        assert all((as_rows[name][row] == by_key[key][name]).all() for name in ("steps", "last"))


def test_rows_are_steps(model):
    """A push of one array gives the outputs and states of `step`, also once all sessions go on from a table."""
    streamer, keys = rs.Streamer(model, max_batch=8), ["north", "south", 7, "west", "up"]
    x = nets.values(5, 7, 2, seed=4)
    chunks = [streamer.push_rows(keys, x[:, :1]), streamer.push_rows(keys, x[:, 1])[:, None]]
    chunks += [streamer.push_rows(keys, x[:, 2:6]), streamer.push_rows(keys, x[:, 6:].tolist())]
    y, final = model.step(x, model.initial_state(5))
    assert nets.difference(y, np.concatenate(chunks, axis=1)) < TOLERANCE
    for row, key in enumerate(keys):
        assert (
            nets.difference(rs.State({name: leaf[row : row + 1] for name, leaf in final.items()}), streamer.peek(key))
            < TOLERANCE
        )
    # The control: keys in another order have the states of other rows.
    assert nets.difference(streamer.push_rows(keys[::-1], x[:, 6]), y[:, 6]) > 0.01


def test_a_layer_that_looks_ahead_sees_the_whole_chunk():
    """A network with a layer that runs backward takes each chunk as one window, as `step` does."""
    net = keras.Sequential([nets.series_input(), layers.Bidirectional(layers.GRU(3, return_sequences=True))])
    model = nets.randomized(rs.StatefulModel(net))
    x = nets.values(7, 2)
    y = rs.Streamer(model, max_steps=4).push({"a": x, "b": x[:3]})
    for key, n in (("a", 7), ("b", 3)):
        expected, _ = model.step(x[None, :n], model.initial_state(1))
        assert nets.difference(expected[0], y[key]) < TOLERANCE


def test_running_free(model):
    """`rollout` begins with the last output, gives what the model's own gives, and leaves the session as it was."""
    streamer = rs.Streamer(model)
    y = streamer.push({"a": nets.values(3, 2)})["a"]
    before = streamer.peek("a")
    expected, _ = model.rollout(y[-1:], before, steps=5)
    assert nets.difference(expected[0], streamer.rollout("a", 5)) < TOLERANCE
    other, _ = model.rollout(np.ones((1, 2), "float32"), before, steps=5)
    assert nets.difference(other[0], streamer.rollout("a", 5, x0=[1.0, 1.0])) < TOLERANCE
    assert streamer.peek("a") == before
    counting = rs.Streamer(policies.counting())
    counting.push({"a": [1.0]})
    with pytest.raises(rs.DataError, match="needs its first input"):
        counting.rollout("a", 2)


def test_a_store_takes_up_the_states_of_another_process(model, tmp_path):
    """A session goes on bit for bit from a folder, also with a model of the same weights under other layer names."""
    x = nets.values(6, 2)
    with_folder = rs.Streamer(model, rs.stores.LmdbStore(tmp_path, capacity=2**24, sync=False))
    with_folder.push({"a": x[:3]})
    with_folder.store.close()
    copy = keras.models.clone_model(model.net)
    copy.set_weights(model.net.get_weights())
    again = rs.Streamer(rs.StatefulModel(copy), rs.stores.LmdbStore(tmp_path, capacity=2**24, sync=False))
    straight = rs.Streamer(model)
    straight.push({"a": x[:3]})
    assert again.push({"a": x[3:]})["a"].tolist() == straight.push({"a": x[3:]})["a"].tolist()


def test_a_keras_model_is_wrapped_first():
    """A plain Keras model and wrong limits are refused with the way out."""
    with pytest.raises(TypeError, match=r"Wrap a Keras model: `rs.StatefulModel\(net\)`"):
        rs.Streamer(keras.Sequential([nets.series_input(), layers.GRU(3)]))
    with pytest.raises(ValueError, match=r"`max_batch` must be a power of two\. Received: max_batch=3"):
        rs.Streamer(policies.counting(), max_batch=3)
