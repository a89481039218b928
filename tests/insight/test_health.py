"""`rnnstate.health` on models whose right answer is known by construction."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from rnnstate.insight.health.report import Health, HealthFinding

SERIES, TIME, LENGTH = 3, 61, 7


def report_on(layer, weights, noise=0.05):
    """Return the health of a network of one recurrent layer with these weights, on targets that it predicts well."""
    net = keras.Sequential([keras.Input((None, 2)), layer, layers.Dense(1)])
    model = rs.StatefulModel(net)
    layer.set_weights([np.asarray(w, "float32") for w in weights(layer.get_weights())])
    x = nets.values(SERIES, TIME, 2)
    y = np.stack(list(model.predict(rs.Windows(x, length=TIME, batch_size=SERIES), verbose=0).values()))
    y = y + noise * nets.values(*y.shape, seed=1)
    return rs.health(model, rs.Windows(x, y, length=LENGTH, batch_size=2))


def linear(recurrent, **how):
    """Return the health of s_t = s_{t-1} R + x_t K."""
    rnn = layers.SimpleRNN(len(recurrent), activation="linear", use_bias=False, return_sequences=True, name="rnn")
    return report_on(rnn, lambda weights: [weights[0], recurrent], **how)


def test_a_leaky_integrator_is_healthy():
    """A decay of 0.8: the exponent is ln 0.8, the half-life ln 2 / 0.223 = 3.1 steps both ways, and the state is useful."""
    report = linear([[0.8]])
    assert report["largest Lyapunov exponent"].value == pytest.approx(np.log(0.8), abs=1e-3)
    assert report["largest Lyapunov exponent"].advice.startswith("Differences fade: after about 21 steps")
    for name in ("half-life from the exponent", "half-life of a reset"):
        assert report[name].value == pytest.approx(np.log(2) / -np.log(0.8), rel=0.01)
    assert report["error with the state zeroed"].value > 2
    assert 4 < report["useful context"].value <= 28
    assert report["dimensions used"].value == pytest.approx(1)
    assert report.warnings == []


@pytest.mark.once
def test_a_slow_integrator_needs_longer_windows():
    """A decay of 0.97 has a half-life of 22.8 steps, which a window of 7 does not hold: the advice is a larger `length`."""
    finding = linear([[0.97]])["half-life of a reset"]
    assert (finding.level, finding.value) == ("warning", pytest.approx(22.76, rel=0.01))
    assert "Use a larger `length` or `back`" in finding.advice
    assert finding.threshold == "at most 7"


@pytest.mark.once
def test_an_orthogonal_recurrence_keeps_everything():
    """The exponent is 0, no half-life follows from it, and none is measured."""
    report = linear(np.linalg.qr(nets.values(5, 5))[0])
    assert report["largest Lyapunov exponent"].value == pytest.approx(0, abs=1e-3)
    assert report["largest Lyapunov exponent"].advice.startswith("Differences neither fade nor grow")
    assert np.isinf(report["half-life of a reset"].value)
    with pytest.raises(KeyError, match="half-life from the exponent"):
        report["half-life from the exponent"]


@pytest.mark.once
def test_a_growing_state_is_found():
    """A factor of 1.05: the exponent is ln 1.05, a warning, and the state drifts."""
    report = linear([[1.05]])
    assert report["largest Lyapunov exponent"].value == pytest.approx(np.log(1.05), abs=1e-3)
    assert report["largest Lyapunov exponent"].level == "warning"
    assert report["drift of `rnn/h`"].level == "warning"
    assert report["drift of `rnn/h`"].value > 2


@pytest.mark.once
def test_a_dead_layer_is_found():
    """Without weights the state stays zero: the leaves are frozen, and no difference can be measured."""
    report = report_on(layers.GRU(5, return_sequences=True, name="gru"), lambda weights: [0 * w for w in weights])
    assert (report["still units of `gru/h`"].level, report["still units of `gru/h`"].value) == ("warning", 1)
    assert "frozen" in report["still units of `gru/h`"].advice
    assert report["half-life of a reset"].level == "warning"
    assert report["error with the state zeroed"].level == "warning"
    assert "never differs" in str(report)


@pytest.mark.once
def test_stuck_gates_are_found():
    """With a bias of 9 each forget gate is open all the time; the input gates react."""

    def opened(weights):
        bias = np.zeros(20)
        bias[5:10] = 9
        return [*weights[:2], bias]

    report = report_on(layers.LSTM(5, return_sequences=True, name="lstm"), opened)
    finding = report["saturated forget gates of `lstm`"]
    assert (finding.level, finding.value) == ("warning", 1)
    assert "stay open" in finding.advice
    assert report["saturated input gates of `lstm`"].value == 0


def constant_gates(kind, forget):
    """Return the health of an LSTM, or a GRU, whose gates are constant and whose candidates are the inputs."""
    gates, where = {layers.LSTM: (4, 1), layers.GRU: (3, 0)}[kind]
    candidate = 2

    def made(weights):
        kernel, bias = np.zeros((2, gates, 3)), np.zeros((gates, 3))
        kernel[:, candidate] = nets.values(2, 3) / 2
        bias[where] = np.log(forget / (1 - forget))
        bias = bias.reshape(-1) if kind is layers.LSTM else np.stack([bias.reshape(-1), np.zeros(gates * 3)])
        return [kernel.reshape(2, -1), np.zeros((3, gates * 3)), bias]

    return report_on(kind(3, return_sequences=True, name="gated"), made)


@pytest.mark.once
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_gate_time_scales_are_known_for_constant_gates(kind):
    """With forget gates of 0.8 and nothing else that remembers, gradients decay as 0.8^k: T = -1 / ln 0.8 = 4.48 steps."""
    finding = constant_gates(kind, 0.8)["gate time scale of `gated`"]
    assert (finding.unit, finding.level) == ("steps", "note")
    assert finding.value == pytest.approx(-1 / np.log(0.8), rel=1e-4)
    assert "decay exponentially here" in finding.advice


@pytest.mark.once
def test_gate_time_scales_are_not_given_where_they_would_mislead():
    """Where the recurrent weights carry what the gates forget, the gates say nothing about memory: no number is given."""

    def looped(weights):
        kernel, recurrent, bias = (np.array(weight) for weight in weights)
        # c_t is about 0.5 c_{t-1} through the forget gates and 0.4 c_{t-1} through h and the candidates.
        recurrent[:] = 0
        recurrent[:, 10:15] = 0.45 * np.eye(5)
        bias[:] = 0
        bias[:5], bias[15:] = 3, 3
        return [0.1 * kernel, recurrent, bias]

    report = report_on(layers.LSTM(5, return_sequences=True, name="lstm"), looped)
    finding = report["gate time scale of `lstm`"]
    assert np.isnan(finding.value)
    assert finding.advice.startswith("Not given: the gates say 1.4")
    report = report_on(layers.LSTM(5, return_sequences=True, name="lstm"), lambda weights: [10 * w for w in weights])
    assert report["gate time scale of `lstm`"].advice.startswith("Not given: gradients do not decay exponentially")


@pytest.mark.once
@pytest.mark.parametrize("make", [nets.two_layers, nets.nested_cell])
def test_any_layer_that_carries_can_be_measured(make):
    """Stacked layers and cells of one's own have a report; without targets the errors are a note."""
    model = rs.StatefulModel(make())
    windows = rs.Windows(nets.values(SERIES, 29, nets.FEATURES), length=LENGTH, batch_size=2)
    report = rs.health(model, windows)
    assert report["largest Lyapunov exponent"].value < 0
    assert report["error with the state zeroed"].level == "note"
    assert model.states.keys == ()
    assert str(report).count("\n") == len(report)


@pytest.mark.once
@pytest.mark.parametrize(
    ("net", "window"),
    [
        (lambda x: layers.Conv1D(3, 4, padding="causal")(x), None),
        (lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True), 5),
        (lambda x: rs.layers.LRU(4, return_sequences=True)(x), None),
    ],
)
def test_layers_without_gates_are_measured_too(net, window):
    """Convolutions, attention and linear recurrences: every part that needs no gates is there."""
    x = keras.Input((None, 2))
    model = rs.StatefulModel(keras.Model(x, layers.Dense(1)(net(x))), attention_window=window)
    data = nets.values(SERIES, 43, 2)
    report = rs.health(model, rs.Windows(data, nets.values(SERIES, 43, 1), length=LENGTH, batch_size=2))
    names = [finding.name for finding in report]
    assert {"largest Lyapunov exponent", "half-life of a reset", "dimensions used", "useful context"} <= set(names)
    assert not any("gate" in name for name in names)
    assert report["largest Lyapunov exponent"].value < 0.01


@pytest.mark.once
def test_both_directions_are_measured_as_far_as_they_can_be():
    """Of a `Bidirectional` layer the forward half is measured, with gates and the worth of its state; the rest is named."""
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, 2)), both, layers.Dense(1)]))
    kernel, recurrent, bias = both.forward_layer.get_weights()
    bias[3:6] = 9.0  # the forget gates stay open
    both.forward_layer.set_weights([kernel, recurrent, bias])
    data = nets.values(SERIES, 43, 2)
    report = rs.health(model, rs.Windows(data, nets.values(SERIES, 43, 1), length=LENGTH, batch_size=2))
    assert report["saturated forget gates of `both/forward`"].level == "warning"
    assert report["saturated input gates of `both/forward`"].level == "ok"
    assert report["still units of `both/forward/h`"].value == 0
    assert report["error with the state zeroed"].value > 0
    assert report["memory"].advice.startswith(
        "Exponent, half-life, gate time scales and useful context are not measured"
    )
    assert "largest Lyapunov exponent" not in [finding.name for finding in report]


@pytest.mark.once
def test_the_report_is_text_and_json():
    """Warnings come first, and each line has number, threshold and advice."""
    fine = HealthFinding("a", 1.0, "at most 2", "ok", "Good.", "here", "steps")
    bad = HealthFinding("b", 3.0, "at most 2", "warning", "Change it.", "here")
    report = Health([fine, bad], "1 sequence of 9 steps.")
    assert str(report).splitlines() == [
        "Health: 1 warning, 1 number within its threshold, 0 notes. Measured on 1 sequence of 9 steps.",
        "warning  b: 3 (healthy: at most 2). Change it.",
        "ok       a: 1 steps (healthy: at most 2). Good.",
    ]
    assert report.to_json()["findings"][1]["value"] == 3
    assert report.warnings == [bad]


@pytest.mark.once
def test_short_data_are_refused():
    """Fewer than eight steps say nothing."""
    model = rs.StatefulModel(nets.small())
    with pytest.raises(rs.DataError, match=r"at least 8 steps. Received: 7 at most"):
        rs.health(model, rs.Windows(nets.values(2, 7, 2), length=3, batch_size=2))
