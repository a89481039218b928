"""Law: kernels change no result. The fast loops equal their definition and Keras' own layers, gradients included."""

import importlib
import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from loops import FEATURES, a_loop, agree, flags
from nets import difference, host
from rnnstate.kernels import kernels
from rnnstate.kernels.loops.definition import GATES
from rnnstate.ports.fast_path import run_fast, slow_because

KINDS = tuple(GATES)
SIZES = [(3, 7, 5), (1, 7, 1), (1, 1, 5)]
ON_TENSORFLOW = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="only on TensorFlow may a loop run without XLA"
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "time", "units"), SIZES)
def test_loop_equals_its_definition(kind, batch, time, units):
    """Outputs, final leaves and the gradients of input, kernels, bias and leaves agree at odd sizes."""
    assert agree(a_loop(kind, batch, time, units))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mask", "reset"), [(True, False), (False, True), (True, True)])
def test_masked_and_reset_loops(kind, mask, reset):
    """Masked steps keep the leaves, resets put rows back before the step, and gradients flow into the initial leaves."""
    assert agree(a_loop(kind, 3, 7, 5, mask=mask, reset=reset))


MASKS = [(0, 1, 1, 0, 0), (0, 0, 0, 0, 0), (1, 1, 1, 1, 1)]
RESETS = [(0, 0, 0, 0, 0), (1, 0, 0, 0, 1), (0, 0, 1, 1, 0)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masks", [MASKS, MASKS[1:2], MASKS[2:]])
def test_masks_and_resets_at_the_edges(kind, masks):
    """Rows without a valid step, beside others or alone; resets at masked steps, first and last; flags never set."""
    rows = np.array(list(itertools.product(masks, RESETS)), dtype=bool)
    valid, fresh = (ops.convert_to_tensor(part) for part in (rows[:, 0], rows[:, 1]))
    assert agree(a_loop(kind, len(rows), 5, 3, mask=True, reset=True)._replace(mask=valid, reset=fresh))
    if masks is not MASKS:
        never = ops.zeros_like(fresh)
        assert agree(a_loop(kind, len(rows), 5, 3, mask=True, reset=True)._replace(mask=valid, reset=never))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masks", [MASKS, MASKS[1:2], MASKS[2:]])
@pytest.mark.parametrize("reset", [False, True])
def test_outputs_that_repeat_h(kind, masks, reset, backend):
    """Before a row's first valid step the output is h from before the window, with its gradient; with resets it is zero.

    Negative control: without the flag it is zero, but on JAX.
    """
    valid = ops.convert_to_tensor(np.array(masks, dtype=bool))
    loop = a_loop(kind, len(masks), 5, 3, mask=True, reset=reset)._replace(mask=valid, repeats_h=True)
    assert agree(loop)
    outputs, _ = kernels().recurrent_loop(loop)
    without, _ = kernels().recurrent_loop(loop._replace(repeats_h=False))
    for row in [row for row, mask in enumerate(masks) if not mask[0]]:
        h = loop.state[0][row]
        assert difference(outputs[row, 0], h * (not reset)) == 0
        assert difference(without[row, 0], h * (not reset and backend == "jax")) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", ["input", "shared", "each"])
@pytest.mark.parametrize("flags", [False, True])
def test_loops_with_dropout(kind, dropout, flags):
    """Factors of input and h act for all gates or for each, with masks and resets too."""
    count = GATES[kind] if dropout == "each" else 1
    recurrent = 0 if dropout == "input" else count
    assert agree(a_loop(kind, 3, 7, 5, mask=flags, reset=flags, dropout=count, recurrent_dropout=recurrent))


@pytest.mark.parametrize("kind", KINDS)
def test_loops_without_bias(kind):
    """No bias is a bias of zeros."""
    assert agree(a_loop(kind, 3, 7, 5, bias=False))


@ON_TENSORFLOW
def test_loops_without_a_compiler(monkeypatch):
    """Where XLA is missing, the loops run uncompiled."""
    loops = importlib.import_module("rnnstate.kernels.loops.tensorflow")
    assert loops.has_xla()
    monkeypatch.setattr(loops, "has_xla", lambda: False)
    assert agree(a_loop("lstm", 3, 7, 5, mask=True, reset=True))


@ON_TENSORFLOW
@pytest.mark.parametrize("kind", KINDS)
def test_large_loops_are_not_compiled_by_xla(kind, monkeypatch):
    """Size decides whether XLA compiles a loop, and changes no result."""
    asked = []
    loops = importlib.import_module("rnnstate.kernels.loops.tensorflow")
    made = loops._made
    monkeypatch.setattr(loops, "_made", lambda *args: asked.append(args[-1]) or made(*args))
    monkeypatch.setattr(loops, "XLA_UP_TO", 3 * 7 * 5)
    assert agree(a_loop(kind, 3, 7, 5, mask=True, reset=True))
    assert agree(a_loop(kind, 3, 7, 6, mask=True, reset=True))
    assert asked == [True, True, False, False]


LAYERS = {
    "lstm": (layers.LSTM, {}),
    "gru": (layers.GRU, {}),
    "gru_before": (layers.GRU, {"reset_after": False}),
    "rnn": (layers.SimpleRNN, {}),
    "cell": (lambda units, **kw: layers.RNN(layers.LSTMCell(units), **kw), {}),
}
SETTINGS = [
    {},
    {"return_sequences": False},
    {"zero_output_for_mask": True},
    {"zero_output_for_mask": True, "return_sequences": False},
    {"go_backwards": True},
]


def a_layer(kind, **settings):
    """Return a built layer with random weights that gives its state."""
    make, fixed = LAYERS[kind]
    layer = make(5, **{"return_sequences": True, "return_state": True, **fixed, **settings})
    layer.build((3, 7, FEATURES))
    return nets.randomized(layer)


@pytest.mark.parametrize("kind", LAYERS)
def test_loops_equal_the_layers_of_keras(kind):
    """With masks or without, backwards, with all outputs or the last, a layer gives the same in the fast loop."""
    x, mask = nets.values(3, 7, FEATURES), host(flags(3, 7, 8, 0.6))
    for settings, valid in itertools.product(SETTINGS, (None, mask)):
        layer = a_layer(kind, **settings)
        state = [ops.convert_to_tensor(nets.values(3, 5, seed=i)) for i in range(len(layer.state_size))]
        fast = run_fast(layer, ops.convert_to_tensor(x), state, valid, training=False)
        y, *final = layer(x, initial_state=state, mask=valid)
        assert fast is not None, (settings, valid)
        assert difference(fast[0], y) < 1e-6, (settings, valid)
        assert max(difference(*pair) for pair in zip(fast[1], final, strict=True)) < 1e-6


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_before", "rnn"])
@pytest.mark.parametrize("rates", [{"dropout": 0.4}, {"dropout": 0.4, "recurrent_dropout": 0.3}])
def test_the_same_dropout_is_drawn(kind, rates):
    """Training with dropout gives the same outputs from the same seed, call after call."""
    layer = a_layer(kind, **rates, seed=7)
    twin = a_layer(kind, **rates, seed=7)
    x = ops.convert_to_tensor(nets.values(3, 7, FEATURES))
    state = [ops.zeros((3, 5)) for _ in layer.state_size]
    for training in (True, False, True):
        fast = run_fast(layer, x, state, None, training)
        expected = twin(x, initial_state=state, training=training)[0]
        assert fast is not None
        assert difference(fast[0], expected) < 1e-6


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: layers.LSTM(3, activation="relu"), "activations are not tanh and sigmoid"),
        (lambda: layers.GRU(3, recurrent_activation="hard_sigmoid"), "activations are not tanh and sigmoid"),
        (lambda: layers.LSTM(3, unroll=True), "unrolled"),
        (lambda: layers.LSTM(3, dtype="mixed_bfloat16"), "computes in bfloat16 with weights in float32"),
        (lambda: layers.RNN(nets.TwoSpeedCell()), "this is TwoSpeedCell"),
        (lambda: layers.RNN([layers.LSTMCell(3)]), "this is StackedRNNCells"),
        (lambda: layers.ConvLSTM1D(3, 2), "this is ConvLSTM1D"),
        (lambda: layers.SimpleRNN(3, recurrent_dropout=1.0), "drops out everything"),
    ],
)
def test_the_reference_runs_elsewhere(layer, reason):
    """A layer outside the conditions of the fast loops takes Keras' own loop, and says why."""
    assert reason in slow_because(layer())


def test_audit_says_why():
    """`audit` notes each layer that takes the reference path, and no other where all can be fast."""
    net = keras.Sequential(
        [
            nets.series_input(),
            layers.LSTM(3, activation="relu", return_sequences=True, name="slow"),
            layers.LSTM(3, return_sequences=True, name="quick"),
        ]
    )
    found = {
        finding.layer: finding for finding in rs.audit(rs.StatefulModel(net)) if finding.code == "reference-kernel"
    }
    assert "tanh and sigmoid" in found["slow"].message
    assert "quick" not in found


def test_kernels_are_chosen_and_saved(tmp_path):
    """`kernels="reference"` takes Keras' loops everywhere, gives the same result, and survives saving."""
    net = nets.randomized(nets.two_layers())
    quick, slow = rs.StatefulModel(net), rs.StatefulModel(net, kernels="reference")
    x = nets.values(3, 7, nets.FEATURES)
    one, other = (model.step(x, model.initial_state(3)) for model in (quick, slow))
    assert difference(one[0], other[0]) < 1e-6
    assert difference(one[1], other[1]) < 1e-6
    assert {finding.code for finding in rs.audit(slow)} == {"reference-kernel"}
    slow.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").kernels == "reference"


def test_unknown_kernels_are_refused():
    """Another word for `kernels` is an error that names the two there are."""
    with pytest.raises(ValueError, match='`kernels` must be "auto" or "reference"'):
        rs.StatefulModel(nets.lstm(), kernels="fast")
