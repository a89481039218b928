"""Layers that know the position of each step: the port carries the count of steps."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from nets import difference, host

BATCH, TIME, FEATURES = 3, 11, 4
LAYERS = {
    "sines": lambda: rs.layers.PositionEmbedding(base=100.0, name="layer"),
    "learned": lambda: rs.layers.PositionEmbedding(period=5, name="layer"),
    "rotary": lambda: rs.layers.RotaryPosition(base=100.0, name="layer"),
}


def model_of(name):
    """Return a model of one layer."""
    x = keras.Input((None, FEATURES))
    return rs.StatefulModel(nets.randomized(keras.Model(x, LAYERS[name]()(x))))


def by_numpy(name, layer, x):
    """Return the definition of each layer for steps at the positions 0, 1, 2 and so on."""
    angles = np.arange(x.shape[1])[:, None] * 100.0 ** -(np.arange(2) / 2)
    if name == "sines":
        return x + np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    if name == "learned":
        return x + host(layer.table)[np.arange(x.shape[1]) % 5]
    turned = (x[..., :2] + 1j * x[..., 2:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


@pytest.mark.parametrize("name", LAYERS)
def test_windows_equal_the_definition(name):
    """Windows equal NumPy's result for the whole; without carry they do not."""
    model, x = model_of(name), nets.values(BATCH, TIME, FEATURES)
    expected = by_numpy(name, model.net.get_layer("layer"), x)
    assert difference(model.net(x), expected) < 1e-6
    for carry in (True, False):
        state, outputs = model.initial_state(BATCH), []
        for begin, end in ((0, 1), (1, 8), (8, TIME)):
            y, final = model.step(x[:, begin:end], state)
            state = final if carry else state
            outputs.append(host(y))
        distance = np.abs(np.concatenate(outputs, axis=1) - expected).max()
        assert distance < 1e-6 if carry else distance > 1e-2


def test_masks_and_resets():
    """A window with padding and resets anywhere equals single steps by hand, outputs and count."""
    model, x, rng = model_of("sines"), nets.values(BATCH, TIME, FEATURES), np.random.default_rng(1)
    mask, reset = rng.uniform(size=(2, BATCH, TIME)) < np.array([0.7, 0.2])[:, None, None]
    y, final = model.step(x, {"layer/position": np.full((BATCH, 1), 7, "float32")}, mask=mask, reset=reset)
    count = np.full(BATCH, 7.0, "float32")
    for t in range(TIME):
        count = np.where(reset[:, t], 0, count).astype("float32")
        y_t, _ = model.step(x[:, t : t + 1], {"layer/position": count[:, None]})
        assert np.abs(host(y_t)[:, 0] - host(y)[:, t])[mask[:, t]].max(initial=0) < 1e-6
        count = count + mask[:, t]
    assert difference(final["layer/position"][:, 0], count) == 0


def test_a_product_of_rotated_vectors_depends_on_their_distance_alone():
    """The same two vectors have the same product wherever they stand, and another one at another distance."""
    one, other = nets.values(2, 1, FEATURES)
    rotate = rs.layers.RotaryPosition(base=100.0)
    ones, others = (host(rotate(np.repeat(v[None], TIME, axis=1)))[0] for v in (one, other))
    products = ones @ others.T
    assert np.abs(np.diff(np.diagonal(products, 3))).max() < 1e-5
    assert abs(products[0, 3] - products[0, 4]) > 1e-3


def test_training_counts_and_is_saved(tmp_path):
    """`fit` counts the steps of each key, and a saved model keeps its counts and its layers."""
    model, data = model_of("learned"), nets.series([11, 7], features=FEATURES)
    model.compile("sgd", "mse")
    model.fit(rs.Windows(data, data, length=5, batch_size=2), verbose=0)
    assert host(model.states.read()["layer/position"])[:, 0].tolist() == [11, 7]
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.states.read() == model.states.read()
    assert loaded.net.get_layer("layer").get_config() == model.net.get_layer("layer").get_config()


@pytest.mark.once
def test_wrong_arguments():
    """A wrong period and an odd number of features are refused."""
    with pytest.raises(ValueError, match=r"`period` must be a whole number of steps from 1 up.*period=0"):
        rs.layers.PositionEmbedding(period=0)
    with pytest.raises(ValueError, match=r"Layer `odd` must get an even number of features.*\(None, None, 3\)"):
        rs.layers.RotaryPosition(name="odd")(keras.Input((None, 3)))
