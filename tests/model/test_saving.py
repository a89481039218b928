"""A saved model comes back with its weights, its optimizer, and where every sequence stood."""

import keras
import pytest
from keras import layers

import nets
import rnnstate as rs
from fitting import targets_of, weights_of, windows_of
from nets import difference

TOLERANCE = 1e-6
KEYS = ("north", 7, ("south", 2), ("nested", ("deep", 3)), 2.5, None)


def keyed_windows():
    """Return windows whose sequences have keys of every kind that can be saved."""
    data = dict(zip(KEYS, nets.series((13, 5, 9, 7, 3, 2)).values(), strict=True))
    y = dict(zip(KEYS, targets_of(nets.series((13, 5, 9, 7, 3, 2)), 1).values(), strict=True))
    return rs.Windows(data, y, length=5, batch_size=4)


def compiled(build=nets.small):
    """Return a compiled model."""
    model = nets.make(build)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=[keras.metrics.RootMeanSquaredError(name="rmse")])
    return model


def test_round_trip_with_states_of_all_keys(tmp_path):
    """Weights, optimizer and the states of string, number, tuple and empty keys come back bit for bit."""
    model = compiled()
    model.fit(keyed_windows(), verbose=0)
    model.save(tmp_path / "m.keras")
    back = keras.saving.load_model(tmp_path / "m.keras")
    assert back.states.keys == KEYS
    assert back.states.read() == model.states.read()
    assert back.states.read([("south", 2), 7]) == model.states.read([("south", 2), 7])
    assert difference(weights_of(back), weights_of(model)) == 0
    assert back.state_spec.fingerprint == model.state_spec.fingerprint
    for one, other in zip(model.optimizer.variables, back.optimizer.variables, strict=True):
        assert difference(one, other) == 0


@pytest.mark.parametrize("build", [nets.custom_cell, nets.nested_model, nets.shared_layer, nets.several_inputs])
def test_networks_come_back(build, tmp_path):
    """Custom cells, nested models, shared layers and several inputs survive a round trip, compiled or not."""
    model = nets.make(build)
    model.save(tmp_path / "m.keras")
    back = keras.saving.load_model(tmp_path / "m.keras")
    assert list(back.state_spec.values()) == list(model.state_spec.values())
    assert difference(weights_of(back), weights_of(model)) == 0


@pytest.mark.parametrize(
    ("chosen", "kept"), [({}, "auto"), ({"jit_compile": False}, False), ({"jit_compile": True}, True)]
)
def test_the_backend_that_loads_a_model_decides_what_auto_means(chosen, kept, tmp_path, backend):
    """A file keeps "auto". On PyTorch a loaded model never uses `torch.compile`, as files of release 0.1 hold `True`."""
    model = nets.make(nets.small)
    model.compile("sgd", "mse", **chosen)
    assert model.get_compile_config()["jit_compile"] == kept
    model.save(tmp_path / "m.keras")
    back = keras.saving.load_model(tmp_path / "m.keras")
    expected = backend != "torch" and model.jit_compile
    assert back.jit_compile == expected


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    """Two epochs, a save, a load and two more epochs give the weights and states of four epochs."""
    windows = windows_of(1, (15, 15, 15))
    whole = compiled()
    whole.fit(windows, epochs=4, verbose=0)
    half = compiled()
    half.fit(windows, epochs=2, verbose=0)
    half.save(tmp_path / "m.keras")
    resumed = keras.saving.load_model(tmp_path / "m.keras")
    resumed.fit(windows, initial_epoch=2, epochs=4, verbose=0)
    assert difference(weights_of(whole), weights_of(resumed)) < TOLERANCE
    assert difference(whole.states.read(), resumed.states.read()) < TOLERANCE
    assert int(resumed.optimizer.iterations) == int(whole.optimizer.iterations)


def test_given_states_are_saved_as_given(tmp_path):
    """A state that was written, and not yet used, still starts the next window after a load."""
    windows = windows_of(1, (15, 15, 15))
    model = nets.make(nets.small)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    given = {n: nets.values(3, *leaf.shape, seed=i) for i, (n, leaf) in enumerate(model.state_spec.items())}
    model.states.write(windows.keys, given)
    model.save(tmp_path / "m.keras")
    back = keras.saving.load_model(tmp_path / "m.keras")
    for one in (model, back):
        one.fit(windows, verbose=0)
    assert difference(weights_of(model), weights_of(back)) < TOLERANCE
    fresh = nets.make(nets.small)
    fresh.compile(keras.optimizers.SGD(0.1), "mse")
    fresh.fit(windows, verbose=0)
    assert difference(weights_of(model), weights_of(fresh)) > 1e-4


def test_weights_file_round_trip(tmp_path):
    """`save_weights` and `load_weights` carry the states along, into a model that had others."""
    model = compiled()
    model.fit(keyed_windows(), verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    other = nets.make(nets.small, seed=1)
    other.states.write(["stays not"], {})
    other.load_weights(tmp_path / "m.weights.h5")
    assert other.states.keys == KEYS
    assert other.states.read() == model.states.read()
    assert difference(weights_of(other), weights_of(model)) == 0


def test_a_model_without_sequences_is_saved(tmp_path):
    """A model that has not seen a sequence comes back without any."""
    model = nets.make(nets.lstm)
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").states.keys == ()


def test_keys_that_no_file_can_hold(tmp_path):
    """A key that is no string, number or tuple of them is named when it is saved."""
    model = nets.make(nets.lstm)
    model.states.write([frozenset({1})], {})
    with pytest.raises(rs.DataError, match=r"strings, numbers or tuples of them to be saved. Received: frozenset"):
        model.save_weights(tmp_path / "m.weights.h5")


def test_a_file_without_the_leaves_of_convolutions_loads(tmp_path):
    """Release 0.1.0 did not carry convolutions: the other leaves load, and those of the convolution start fresh."""
    net = [nets.series_input(), layers.Conv1D(5, 3, padding="causal", name="conv"), layers.GRU(3, name="gru")]
    model = nets.make(lambda: keras.Sequential(net))
    given = {"gru/h": nets.values(2, 3, seed=1), "conv/past": nets.values(2, 2, nets.FEATURES, seed=2)}
    model.states.write(["a", "b"], given)
    store = {}
    model.states.save(store)
    older = {"keys": store["keys"], "flags": store["flags"], "leaf_0": store["leaf_1"]}
    with pytest.warns(UserWarning, match=r"holds the states of `gru/h`. Received: a file of a release"):
        model.states.load(older)
    loaded = model.states.read(["a", "b"])
    assert difference(loaded["gru/h"], given["gru/h"]) == 0
    assert not nets.host(loaded["conv/past"]).any()
    with pytest.raises(KeyError, match=r"leaf_0"):
        model.states.load({"keys": store["keys"], "flags": store["flags"]})
