"""Networks of convolutions and attention, exported, and trained from a checkpoint."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from killable import Killed, Killer, differences, train
from rnnstate.exporting.formats import FORMATS
from rnnstate.model.by_key import States


def network():
    """Return a causal convolution, then attention."""
    x = keras.Input((None, 2))
    h = layers.Conv1D(4, 3, padding="causal", activation="tanh", name="conv")(x)
    h = layers.MultiHeadAttention(2, 3, dropout=0.1, name="attention")(h, h, use_causal_mask=True)
    return keras.Model(x, layers.Dense(1, name="read_out")(h))


@pytest.mark.once
@pytest.mark.parametrize("form", ["saved_model", "stablehlo"])
def test_formats(form, tmp_path):
    """Each format is verified in its own runtime, in chunks, with the leaves of both layers."""
    model = rs.StatefulModel(nets.randomized(network()), attention_window=5)
    done = rs.export(model, tmp_path / f"model{FORMATS[form].suffix}", format=form)
    assert done.largest_difference < 1e-5
    leaves = ["conv/past", "attention/keys", "attention/values", "attention/valid"]
    assert [leaf["leaf"] for leaf in done.manifest["state"]] == leaves


@pytest.mark.once
def test_litert_of_attention(tmp_path):
    """Each runtime that opens a LiteRT file of attention reads the memory of the present call, not of the call before."""
    from ai_edge_litert import interpreter as litert

    x = keras.Input((None, 2))
    net = keras.Model(x, layers.MultiHeadAttention(2, 3, name="attention")(x, x, use_causal_mask=True))
    model = rs.StatefulModel(nets.randomized(net), attention_window=5)
    rs.export(model, tmp_path / "model.tflite", format="litert")
    state = {f"attention/{name}": nets.values(1, 5, 2, 3, seed=seed) for seed, name in enumerate(("keys", "values"))}
    series, empty, full = nets.values(1, 1, 2), np.zeros((1, 5), "float32"), np.ones((1, 5), "float32")
    expected = [nets.host(model.step(series, state | {"attention/valid": valid})[0]) for valid in (full, empty)]
    assert nets.difference(*expected) > 1e-2  # a memory of the call before would be seen
    given = {f"state.{name.replace('/', '.')}": leaf for name, leaf in state.items()}
    for _ in range(20):
        step = litert.Interpreter(model_path=str(tmp_path / "model.tflite")).get_signature_runner()
        found = [step(x=series, **given, **{"state.attention.valid": valid})["y"].copy() for valid in (full, empty)]
        assert nets.difference(np.concatenate(found), np.concatenate(expected)) < 1e-5


@pytest.mark.once
def test_attention_that_does_not_carry_is_not_exported(tmp_path):
    """Attention that starts fresh in each window differs from the whole, so the export is refused and writes nothing."""
    model = rs.StatefulModel(nets.randomized(network()), attention_window=5, carry=["conv"])
    assert list(model.state_spec) == ["conv/past"]
    with pytest.raises(rs.ExportError, match=r'what one pass over the whole sequence gives.*time_mixing="allow"'):
        rs.export(model, tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_layers_that_carry_alone(tmp_path):
    """With `time_mixing="allow"`, a file of a model in which the convolution alone carries has its leaf alone."""
    model = rs.StatefulModel(nets.randomized(network()), attention_window=5, carry=["conv"], time_mixing="allow")
    done = rs.export(model, tmp_path / "model.stablehlo", format="stablehlo")
    assert [leaf["leaf"] for leaf in done.manifest["state"]] == ["conv/past"]
    assert done.largest_difference < 1e-5


def dilated():
    """Return dilated convolutions, a pool, and attention, each of which is added to its input."""
    x = keras.Input((None, 2))
    h = layers.Dense(4)(x)
    for dilation in (1, 3):
        h = layers.Add()([h, layers.Conv1D(4, 2, padding="causal", dilation_rate=dilation, activation="relu")(h)])
    h = layers.MaxPooling1D(3, 1)(layers.ZeroPadding1D((2, 0))(h))
    h = layers.Add()([h, layers.MultiHeadAttention(2, 3, dropout=0.1, name="attention")(h, h, use_causal_mask=True)])
    return keras.Model(x, layers.Dense(1, name="read_out")(h))


def linear():
    """Return the three linear recurrences, one of them with dropout."""
    parts = [
        rs.layers.MinGRU(3, dropout=0.2, return_sequences=True, name="gru"),
        rs.layers.LRU(4, state_size=3, return_sequences=True, name="lru"),
        layers.Activation("gelu"),
        rs.layers.MinLSTM(2, return_sequences=True, name="lstm"),
        layers.Dense(1),
    ]
    return keras.Sequential([keras.Input((None, 2)), *parts])


def build(network):
    """Return a compiled model, the same each time."""
    keras.utils.set_random_seed(3)
    model = rs.StatefulModel(network(), attention_window=4)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


@pytest.mark.parametrize(
    ("network", "leaf"), [(dilated, "attention/keys"), pytest.param(linear, "lru/imaginary", marks=pytest.mark.once)]
)
def test_a_run_that_was_killed_goes_on_bit_for_bit(network, leaf, tmp_path, monkeypatch):
    """Weights, dropout, states and history are those of the uninterrupted run; without the kept states they are not."""
    whole, run, control = (tmp_path / name for name in ("whole", "run", "control"))
    model = build(network)
    expected = train(whole, model=model, keep=100)
    assert f"state/{leaf}" in expected
    run.mkdir()
    shutil.copy(whole / "checkpoint-00000000.safetensors", run)  # the run stands before its first batch
    with pytest.raises(Killed):
        train(run, Killer(("on_train_batch_begin", 5, 0)), model=model)
    shutil.copytree(run, control)
    assert differences(train(run, model=model), expected) == []
    monkeypatch.setattr(States, "load", lambda self, store: self.reset())
    assert f"state/{leaf}" in differences(train(control, model=model), expected)
