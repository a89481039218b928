"""`audit`: every finding on the backends where it applies, and no finding elsewhere."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
import stateful_nets as models
from rnnstate.inplace import audit as auditing

BACKEND = keras.config.backend()
TRAPS = {"frozen-batch", "not-saved", "shared-with-evaluate"}


def codes(model):
    """Return the codes of all findings."""
    return {finding.code for finding in rs.audit(model)}


def one(model, code):
    """Return the only finding of a kind."""
    (finding,) = [finding for finding in rs.audit(model) if finding.code == code]
    return finding


def test_a_stateful_model_is_clean():
    """A StatefulModel has no errors and no warnings. A note may say in which loop a layer runs."""
    for build in (nets.lstm, nets.nested_model, nets.stack_of_cells):
        assert {finding.code for finding in rs.audit(rs.StatefulModel(build()))} <= {"reference-kernel"}


def test_a_bidirectional_stateful_model_has_a_note():
    """A note says what a StatefulModel does with a backward direction."""
    net = keras.Sequential(
        [keras.Input((None, 2)), layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="both")]
    )
    finding = one(rs.StatefulModel(net), "backward-fresh")
    assert (finding.level, finding.layer) == ("note", "both")
    assert "starts fresh in each window" in finding.message


def test_a_network_without_state_has_notes_only():
    """Every recurrent layer that carries nothing is named, also nested layers, by their path."""
    findings = rs.audit(nets.nested_model())
    assert [(finding.code, finding.level, finding.layer) for finding in findings] == [
        ("fresh", "note", "encoder/lstm"),
        ("fresh", "note", "gru"),
    ]
    assert "rnnstate.StatefulModel" in findings[0].hint
    assert rs.audit(keras.Sequential([keras.Input((2,)), layers.Dense(1)])) == []


@pytest.mark.parametrize("build", models.LEAVES, ids=lambda build: build.__name__)
def test_stock_layers_on_each_backend(build):
    """Stock layers carry nothing on JAX, crash on PyTorch where Keras does, and have the same traps everywhere."""
    expected = set(TRAPS)
    if BACKEND == "jax":
        expected |= {"not-carried"}
    if BACKEND == "torch" and build in (models.lstm, models.gru, models.lstm_gru, models.nested):
        expected |= {"training-crashes"} if auditing.stateful_training_crashes() else set()
    assert codes(build()) == expected


@pytest.mark.parametrize("build", models.LEAVES, ids=lambda build: build.__name__)
def test_repair_removes_every_error(build):
    """A repaired model carries, trains and is saved. Only the warnings about a state kept in layers remain."""
    findings = rs.audit(rs.repair(build()))
    assert {finding.code for finding in findings} == {"frozen-batch", "shared-with-evaluate"}
    assert {finding.level for finding in findings} == {"warning"}


def test_not_carried():
    """On JAX the finding is an error that names the layer and `repair`. On other backends there is no finding."""
    model = models.nested()
    if BACKEND == "jax":
        findings = [finding for finding in rs.audit(model) if finding.code == "not-carried"]
        assert [(f.level, f.layer) for f in findings] == [("error", "encoder/lstm"), ("error", "gru")]
        assert all("rnnstate.repair(model)" in finding.hint for finding in findings)
    else:
        assert "not-carried" not in codes(model)


@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN])
@pytest.mark.parametrize("use_cudnn", ["auto", False])
def test_training_crashes_is_what_training_does(layer, use_cudnn):
    """The finding is reported exactly when two steps of training raise."""
    options = {} if layer is layers.SimpleRNN else {"use_cudnn": use_cudnn}
    model = models.net(layer(5, stateful=True, name="rnn", **options))
    told = "training-crashes" in codes(model)
    model.compile("sgd", "mse")
    x, y = np.ones((models.BATCH, 7, 2), "float32"), np.ones((models.BATCH, 5), "float32")
    if told:
        with pytest.raises(RuntimeError, match="inplace"):
            model.fit(x, y, batch_size=models.BATCH, epochs=2, verbose=0)
        assert one(model, "training-crashes").level == "error"
    else:
        model.fit(x, y, batch_size=models.BATCH, epochs=2, verbose=0)


def test_backward_carried():
    """A stock layer that carries backward gets a warning, inside a Bidirectional and alone."""
    assert one(models.both_ways(), "backward-carried").layer == "both"
    back = models.net(layers.LSTM(5, stateful=True, go_backwards=True, name="back"))
    assert one(back, "backward-carried").level == "warning"
    assert "backward-carried" not in codes(models.lstm())


def test_a_repaired_bidirectional_has_a_note():
    """A repaired Bidirectional no longer carries backward, and the audit says what it does."""
    assert one(rs.repair(models.both_ways()), "backward-fresh").level == "note"


def test_frozen_batch():
    """The finding names the batch size that is frozen."""
    finding = one(models.lstm(batch=5), "frozen-batch")
    assert (finding.level, finding.layer) == ("warning", "lstm")
    assert "frozen at 5" in finding.message


def test_not_saved(tmp_path):
    """The finding is true: the states of a stock layer come back as zeros."""
    model = models.lstm()
    assert one(model, "not-saved").level == "warning"
    for variable in model.layers[0].states:
        variable.assign(np.ones(variable.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert all(nets.difference(variable, np.zeros((3, 5))) == 0 for variable in loaded.layers[0].states)


def test_time_distributed():
    """On TensorFlow a TimeDistributed layer gets a warning at any depth. On other backends it works."""
    net = keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.LSTM(5, return_sequences=True, name="lstm"),
            layers.TimeDistributed(layers.Dense(3), name="each"),
        ]
    )
    outer = keras.Sequential([keras.Input((None, 2)), net, layers.Dense(1)])
    for model, path in ((net, "each"), (rs.StatefulModel(net), "each"), (outer, f"{net.name}/each")):
        found = [(f.level, f.layer) for f in rs.audit(model) if f.code == "time-distributed"]
        assert found == ([("warning", path)] if BACKEND == "tensorflow" else [])


def test_a_model_that_is_partly_stateful():
    """A layer that is not stateful gets a note, in addition to the findings of the stateful layers."""
    model = models.net(layers.LSTM(5, return_sequences=True, name="fresh"), layers.GRU(7, stateful=True, name="gru"))
    assert one(model, "fresh").layer == "fresh"
    assert one(model, "frozen-batch").layer == "gru"


def test_a_subclassed_model():
    """The layers of a subclassed model are found and reported like any other layers."""
    findings = rs.audit(models.subclassed())
    assert {finding.layer for finding in findings} == {"lstm"}
    assert {finding.code for finding in findings} >= TRAPS


def test_errors_come_first_and_findings_read_as_lines():
    """Findings are sorted by level. Each prints one line with level, code, layer, message and hint."""
    model = models.both_ways()
    model.layers[0].forward_layer.states[0] = np.zeros((3, 5))
    findings = rs.audit(model)
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=auditing.LEVELS.index)
    assert findings[0].level == "error"
    assert str(rs.Finding("not-saved", "warning", "lstm", "It is lost.", "Do this.")) == (
        "warning [not-saved] `lstm`: It is lost. Do this."
    )


def encoder_decoder(nested=False, **kwargs):
    """Return an encoder, a RepeatVector and a decoder, which may sit in networks of their own."""
    parts = [
        [layers.LSTM(5, name="encoder", **kwargs)],
        [layers.RepeatVector(3), layers.GRU(7, return_sequences=True, name="decoder", **kwargs), layers.Dense(1)],
    ]
    shapes = [(2, 11, 2), (2, 5)] if kwargs.get("stateful") else [(None, None, 2), (None, 5)]
    inner = [keras.Sequential([keras.Input(batch_shape=shapes[1]), *parts[1]], name="tail")] if nested else parts[1]
    return keras.Sequential([keras.Input(batch_shape=shapes[0]), *parts[0], *inner])


@pytest.mark.parametrize(("nested", "path"), [(False, "decoder"), (True, "tail/decoder")])
def test_a_carried_decoder_is_pointed_out(nested, path):
    """A decoder runs over steps that are no steps of the sequence. The hint names the layers to carry, and helps."""
    net = encoder_decoder(nested)
    finding = one(rs.StatefulModel(net), "decoder-carried")
    assert (finding.level, finding.layer) == ("warning", path)
    assert "carry=['encoder']" in finding.hint
    found = {(f.code, f.layer) for f in rs.audit(rs.StatefulModel(net, carry=["encoder"]))} - {
        ("reference-kernel", path)
    }
    assert found - {("reference-kernel", "encoder")} == {("fresh", path)}


def test_a_stateful_decoder_is_pointed_out():
    """Stock stateful layers fall into the same trap. Two layers on the steps of the sequence do not."""
    finding = one(encoder_decoder(stateful=True), "decoder-carried")
    assert (finding.layer, finding.hint) == ("decoder", "Set `stateful=False` for this layer.")
    assert "decoder-carried" not in codes(models.lstm_gru()) | codes(rs.StatefulModel(nets.nested_model()))


def test_every_code_is_documented():
    """The docstring of `audit` lists exactly the codes that this module has."""
    source = Path(auditing.__file__).read_text()
    listed = source.split("Their codes are", 1)[1].split("Example:", 1)[0]
    used = {line.split('Finding("')[1].split('"')[0] for line in source.splitlines() if 'Finding("' in line}
    assert {code.strip("`., \n") for code in listed.split()} == used
