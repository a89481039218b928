"""Causal self-attention carries the keys and values of the last W steps."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from nets import difference, host

BATCH, TIME, FEATURES, WINDOW = 3, 17, 4, 5


def heads(**options):
    """Return a network of multi-head attention."""
    x = keras.Input((None, FEATURES))
    return keras.Model(x, layers.MultiHeadAttention(2, 3, name="attention", **options)(x, x, use_causal_mask=True))


def groups():
    """Return a network of grouped-query attention with a gate."""
    x = keras.Input((None, FEATURES))
    layer = layers.GroupQueryAttention(3, 4, 2, use_gate=True, name="attention")
    return keras.Model(x, layer(x, x, use_causal_mask=True))


@cache
def model_of(build):
    """Return a model that tests share, because they never train it."""
    return rs.StatefulModel(nets.randomized(build()), attention_window=WINDOW)


def banded(layer, x, window):
    """Return Keras' attention over the whole sequence with a banded causal mask."""
    behind = np.arange(x.shape[1])[:, None] - np.arange(x.shape[1])
    mask = np.broadcast_to((behind >= 0) & (behind <= window), (len(x), *behind.shape)).copy()
    return host(layer(x, x, attention_mask=mask))


@pytest.mark.parametrize("build", [heads, groups])
def test_windows_equal_banded_attention(build):
    """Windows equal attention over the whole with a banded mask; without carry, or with another band, they do not."""
    model, x = model_of(build), nets.values(BATCH, TIME, FEATURES)
    whole = banded(model.net.get_layer("attention"), x, WINDOW)
    assert difference(banded(model.net.get_layer("attention"), x, WINDOW - 1), whole) > 1e-4
    for carry in (True, False):
        state, outputs = model.initial_state(BATCH), []
        for begin, end in ((0, 1), (1, 4), (4, TIME)):
            y, final = model.step(x[:, begin:end], state)
            state = final if carry else state
            outputs.append(host(y))
        distance = difference(np.concatenate(outputs, axis=1), whole)
        assert distance < 1e-6 if carry else distance > 1e-3
    short = x[:, : WINDOW + 1]
    assert difference(model.step(short, model.initial_state(BATCH))[0], model.net(short)) < 1e-6


def test_a_sliding_window_of_keras_needs_no_number():
    """`sliding_window=4` reaches 3 steps back, so a model carries 3 steps and equals the plain network."""
    model, x = nets.make(lambda: heads(sliding_window=4)), nets.values(BATCH, TIME, FEATURES)
    assert model.state_spec["attention/valid"].shape == (3,)
    first, state = model.step(x[:, :7], model.initial_state(BATCH))
    second, _ = model.step(x[:, 7:], state)
    assert difference(np.concatenate([host(first), host(second)], axis=1), model.net(x)) < 1e-6


def test_masks_and_resets():
    """A window with padding and resets anywhere equals single steps by hand, outputs and state."""
    model, x, rng = model_of(heads), nets.values(BATCH, TIME, FEATURES), np.random.default_rng(1)
    mask, reset = rng.uniform(size=(2, BATCH, TIME)) < np.array([0.7, 0.2])[:, None, None]
    initial = model.initial_state(BATCH).numpy()
    state = {name: nets.values(*leaf.shape, seed=5) for name, leaf in initial.items()}
    state["attention/valid"] = np.array([[0, 0, 0, 1, 1], [1] * 5, [0] * 5], "float32")
    y, final = model.step(x, state, mask=mask, reset=reset)
    for t in range(TIME):
        for name, leaf in state.items():
            rows = reset[:, t].reshape(-1, *[1] * (leaf.ndim - 1))
            state[name] = np.where(rows, initial[name], leaf)
        y_t, after = model.step(x[:, t : t + 1], state)
        assert np.abs(host(y_t)[:, 0] - host(y)[:, t])[mask[:, t]].max(initial=0) < 1e-6
        for name, leaf in after.numpy().items():
            state[name] = np.where(mask[:, t].reshape(-1, *[1] * (leaf.ndim - 1)), leaf, state[name])
    assert difference(final, state) < 1e-6


def test_training_carries_and_is_saved(tmp_path):
    """`fit` with dropout leaves each key with the keys of its last steps, and a saved model keeps window and states."""
    net = nets.randomized(heads(dropout=0.2))
    model, data = rs.StatefulModel(net, attention_window={"attention": 2}), nets.series([11, 7], features=FEATURES)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(rs.Windows(data, data, length=5, batch_size=2), verbose=0)
    for key, x in data.items():
        assert difference(model.states.read(key), model.step(x[None], model.initial_state(1))[1].numpy()) < 1e-6
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert (loaded.attention_window, loaded.time_mixing) == ({"attention": 2}, "refuse")
    assert loaded.states.read() == model.states.read()


@pytest.mark.once
def test_export(tmp_path):
    """An exported step model is verified in its runtime, chunk by chunk."""
    done = rs.export(model_of(heads), tmp_path / "m.onnx", format="onnx")
    assert done.largest_difference < 1e-5


@pytest.mark.once
def test_what_is_refused():
    """Attention without a window, without a causal mask, and wrong windows are refused with the way out."""
    x = keras.Input((None, FEATURES))
    with pytest.raises(rs.UnsupportedModelError, match=r"attention`.*attention_window=W.*`use_causal_mask=True`"):
        rs.StatefulModel(keras.Model(x, layers.GRU(2, return_sequences=True)(heads()(x))))
    plain = keras.Model(x, layers.MultiHeadAttention(2, 3, name="plain")(x, x))
    with pytest.raises(rs.UnsupportedModelError, match=r"`plain`.*`use_causal_mask=True`.*use_causal_mask=False"):
        rs.StatefulModel(plain, attention_window=3)
    for window in (0, 2.5, True, {"attention": -1}):
        with pytest.raises(
            ValueError, match=r"`attention_window` must be a whole number of steps from 1 up\. Received"
        ):
            rs.StatefulModel(heads(), attention_window=window)
    with pytest.raises(ValueError, match=r"`attention_window` must name attention layers.*attention.*Received.*other"):
        rs.StatefulModel(heads(), attention_window={"other": 3})
