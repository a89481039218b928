"""Layers with strides over time carry: windows of whole groups of steps equal one pass over the whole sequence."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from nets import difference, host

BATCH, TIME, FEATURES, TOTAL = 2, 30, 3, 6


def network():
    """Return outputs for every 2 and for every 6 steps: causal strides, a pool after zeros, a valid kernel in its group."""
    x = keras.Input((None, FEATURES))
    h = layers.Conv1D(5, 3, strides=2, padding="causal", activation="tanh", name="conv")(x)
    h = layers.LSTM(4, return_sequences=True, name="lstm")(h)
    pooled = layers.MaxPooling1D(4, 3, name="pool")(layers.ZeroPadding1D((2, 0))(h))
    inside = layers.Conv1D(4, 2, strides=3, name="inside")(h)
    coarse = layers.Conv1D(2, 2, padding="causal", name="coarse")(layers.Add()([pooled, inside]))
    return keras.Model(x, {"fine": layers.Dense(1, name="fine")(h), "coarse": coarse})


def half():
    """Return a network with one output for every 2 steps."""
    x = keras.Input((None, FEATURES))
    h = layers.Conv1D(4, 3, strides=2, padding="causal", name="conv")(x)
    return keras.Model(x, layers.Dense(1, name="read_out")(layers.GRU(4, return_sequences=True, name="gru")(h)))


@cache
def shared(build):
    """Return a model that tests share, because they never train it."""
    return nets.make(build)


def chunks(model, x, cuts, carry=True, **flags):
    """Return the outputs of windows, joined by name, and the last state."""
    state, outputs = model.initial_state(len(x)), []
    for begin, end in cuts:
        y, final = model.step(x[:, begin:end], state, **{name: flag[:, begin:end] for name, flag in flags.items()})
        state = final if carry else state
        outputs.append(y if isinstance(y, dict) else {"y": y})
    return {name: np.concatenate([host(y[name]) for y in outputs], axis=1) for name in outputs[0]}, state


def test_windows_equal_the_plain_network():
    """Windows of whole groups equal Keras on the whole sequence, and `trace` does; without carry they differ."""
    model, x = shared(network), nets.values(BATCH, TIME, FEATURES)
    assert (model.strides.total, model.strides.outputs) == (TOTAL, (TOTAL, 2))
    assert list(model.state_spec) == ["conv/past", "lstm/h", "lstm/c", "pool/past", "coarse/past"]
    whole, cuts = model.net(x), ((0, 6), (6, 18), (18, TIME))
    (windows, state), (fresh, _) = chunks(model, x, cuts), chunks(model, x, cuts, carry=False)
    traced, final, trace = model.trace(x, model.initial_state(BATCH))
    for name in ("fine", "coarse"):
        assert difference(windows[name], whole[name]) < 1e-6
        assert difference(traced[name], whole[name]) < 1e-6
        assert difference(fresh[name], whole[name]) > 1e-2
    assert difference(final, state) < 1e-6
    assert tuple(trace["conv/past"].shape) == (BATCH, TIME // TOTAL, 2, FEATURES)
    assert difference(host(trace["lstm/h"])[:, -1], state["lstm/h"]) < 1e-6


def test_masks_and_resets_of_whole_groups():
    """Padding and resets at the start of groups equal windows of one group by hand, outputs and state."""
    model, x = shared(network), nets.values(BATCH, TIME, FEATURES)
    keep = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]], bool)
    again = np.array([[0, 0, 1, 0, 0], [1, 0, 0, 1, 0]], bool)
    mask, reset = np.repeat(keep, TOTAL, axis=1), np.zeros((BATCH, TIME), bool)
    reset[:, ::TOTAL] = again
    y, state = model.step(x, model.initial_state(BATCH), mask=mask, reset=reset)
    initial = expected = model.initial_state(BATCH).numpy()
    for group in range(TIME // TOTAL):
        chosen = {
            name: np.where(again[:, group].reshape(-1, *[1] * (leaf.ndim - 1)), initial[name], leaf)
            for name, leaf in expected.items()
        }
        part, after = model.step(x[:, group * TOTAL : (group + 1) * TOTAL], chosen)
        for name, size in (("coarse", 1), ("fine", 3)):
            found = host(y[name])[:, group * size : (group + 1) * size]
            assert np.abs(found - host(part[name]))[keep[:, group]].max() < 1e-6
        expected = {
            name: np.where(keep[:, group].reshape(-1, *[1] * (leaf.ndim - 1)), leaf, chosen[name])
            for name, leaf in after.numpy().items()
        }
    assert difference(state, expected) < 1e-6


@pytest.mark.once
def test_a_convolution_by_hand():
    """An output of a causal convolution with strides is made from the first step of its group and those before it."""
    conv = layers.Conv1D(4, 5, strides=3, padding="causal")
    model = nets.make(lambda: keras.Sequential([keras.Input((None, FEATURES)), conv]))
    x = nets.values(BATCH, 12, FEATURES)
    padded = np.concatenate([np.zeros((BATCH, 4, FEATURES)), x], axis=1)
    kernel, bias = conv.get_weights()
    expected = np.stack([np.einsum("bkf,kfc->bc", padded[:, t : t + 5], kernel) for t in (0, 3, 6, 9)], axis=1) + bias
    assert difference(chunks(model, x, ((0, 3), (3, 12)))[0]["y"], expected.astype("float32")) < 1e-5


def test_training_scores_the_last_step_of_each_group(tmp_path):
    """`fit` on one window equals Keras with targets and weights of the last step of each group, gradients included."""
    x, y, weights = (nets.values(BATCH, 10, size, seed=size) for size in (FEATURES, 1, 2))
    weights = np.abs(weights[..., 0])
    model, plain = nets.make(half), nets.randomized(half())
    for one in (model, plain):
        one.compile(keras.optimizers.SGD(0.3), "mse")
    model.fit(rs.Windows(x, y, length=10, batch_size=BATCH, sample_weight=weights), verbose=0)
    plain.fit(x, y[:, 1::2], sample_weight=weights[:, 1::2], batch_size=BATCH, shuffle=False, verbose=0)
    for one, other in zip(model.net.get_weights(), plain.get_weights(), strict=True):
        assert difference(one, other) < 1e-6
    assert difference(model.net.get_weights()[0], nets.randomized(half()).get_weights()[0]) > 1e-3
    for key in range(BATCH):
        assert difference(model.states.read([key])["gru/h"], 0 * host(model.states.read([key])["gru/h"])) > 1e-2
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.strides == model.strides
    assert loaded.states.read() == model.states.read()


def test_evaluate_and_predict_of_sequences_of_unequal_lengths():
    """Padded windows and empty rows count in no output, no loss and no metric; each key ends where `step` does."""
    model, data = nets.make(half), nets.series([26, 14], features=FEATURES)
    targets = {key: nets.values(len(x), 1, seed=5) for key, x in data.items()}
    model.compile("sgd", "mse", metrics=[keras.metrics.RootMeanSquaredError(name="rmse")])
    windows = rs.Windows(data, targets, length=10, batch_size=2)
    found, state = model.predict(windows, return_state=True, verbose=0)
    errors = []
    for row, (key, x) in enumerate(data.items()):
        whole = host(model.net(x[None]))[0]
        assert difference(found[key], whole) < 1e-6
        assert difference(state.rows([row]), model.step(x[None], model.initial_state(1))[1].numpy()) < 1e-6
        errors.append(whole - targets[key][1::2])
    result = model.evaluate(windows, return_dict=True, verbose=0)
    assert abs(result["rmse"] - np.sqrt(np.mean(np.concatenate(errors) ** 2))) < 1e-5


@pytest.mark.once
def test_a_run_resumes(tmp_path):
    """A run that ends after one epoch, and is started again, gives the weights and states of one run of two epochs."""
    data = nets.series([12, 8], features=FEATURES)
    targets = {key: nets.values(len(x), 1, seed=5) for key, x in data.items()}

    def trained(folder, *epochs):
        for count in epochs:
            model = nets.make(half)
            model.compile(keras.optimizers.Adam(0.1), "mse")
            windows = rs.Windows(data, targets, length=4, batch_size=2, burn_in=2, order="lanes")
            model.fit(windows, epochs=count, checkpoint=tmp_path / folder, verbose=0)
        return model

    one, other = trained("one", 2), trained("other", 1, 2)
    assert difference(one.get_weights()[0], trained("third", 1).get_weights()[0]) > 1e-3
    assert all(np.array_equal(*pair) for pair in zip(one.get_weights(), other.get_weights(), strict=True))
    assert one.states.read() == other.states.read()


@pytest.mark.once
def test_one_output_per_window():
    """A network that ends in the last step takes whole groups, and its output is that of the whole."""
    strided = [layers.AveragePooling1D(3), layers.GRU(4)]
    model = nets.make(lambda: keras.Sequential([keras.Input((None, FEATURES)), *strided]))
    x = nets.values(BATCH, 12, FEATURES)
    _, state = model.step(x[:, :3], model.initial_state(BATCH))
    assert difference(model.step(x[:, 3:], state)[0], model.net(x)) < 1e-6
    assert model.strides.outputs == (0,)


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda m, x, s: m.step(x[:, :1], s), r"multiple of 6 steps.*`conv`.*window of 1 step\. .*are 6 and 12"),
        (lambda m, x, s: m.step(x[:, :10], s), r"total stride of 6.*`pool`.*10 steps.*are 6 and 12"),
        (lambda m, x, s: m.trace(x[:, :10], s), r"10 steps"),
        (lambda m, x, s: m(x[:, :10]), r"10 steps"),
        (lambda m, x, s: m.step(x, s, mask=np.arange(60).reshape(2, 30) < 40), r"whole groups of 6.*row 1, where 4 of"),
        (lambda m, x, s: m.step(x, s, reset=np.arange(60).reshape(2, 30) == 9), r"before step 9 of the window"),
        (lambda m, x, s: m.rollout(x[:, 0], s, steps=6), r"output for each step.*total stride of 6"),
        (lambda m, x, s: rs.Streamer(m).push({"a": x[0, :7]}), r"windows of 6 steps\. Received: 7 steps"),
        (lambda m, x, s: rs.Streamer(m).push({"a": x[0, 0]}), r"windows of 6 steps\. Received: 1 step\."),
        (lambda m, x, s: rs.export(m, "m.onnx", time=4), r"multiple of 6.*time=4"),
        (lambda m, x, s: rs.health(m, rs.Windows(x, length=6, batch_size=2)), r"state after each step.*total stride"),
    ],
)
def test_steps_that_are_no_groups_are_refused(call, reason):
    """An error names the total stride, the layers and the next allowed lengths."""
    model, x = shared(network), nets.values(BATCH, TIME, FEATURES)
    with pytest.raises(rs.RnnStateError, match=f"(?s){reason}"):
        call(model, x, model.initial_state(BATCH))


@pytest.mark.once
@pytest.mark.parametrize(
    ("steps", "arguments", "reason"),
    [
        (12, {"length": 5}, r"`length` of 5 steps.*4 and 6"),
        (12, {"length": 4, "burn_in": 3}, r"lead of 3 steps"),
        (12, {"length": 4, "vary": True}, r"Leave out `vary`"),
        (13, {"length": 4}, r"sequence 'a' with 13 steps, which leaves 1 over.*last 1 step,"),
        (
            12,
            {"length": 4, "gaps": {"a": 9 * (np.arange(12) == 5)}},
            r"with 12 steps, cut after 5.*Cut it at a multiple",
        ),
        (12, {"length": 4, "resets": {"a": np.arange(12) == 1}}, r"before step 1 of the window"),
    ],
)
def test_windows_that_are_no_groups_are_refused(steps, arguments, reason):
    """The check comes before anything changes, and names the sequence."""
    model = nets.make(half)
    model.compile("sgd", "mse")
    x, y = nets.values(steps, FEATURES), nets.values(steps, 1)
    before = model.net.get_weights()
    with pytest.raises(rs.DataError, match=reason):
        model.fit(rs.Windows({"a": x}, {"a": y}, batch_size=1, by="key", **arguments), verbose=0)
    assert all(np.array_equal(*pair) for pair in zip(before, model.net.get_weights(), strict=True))
    assert model.states.keys == ()


def _at_two_rates(x):
    gru = layers.GRU(FEATURES, return_sequences=True, name="gru")
    return layers.Dense(1)(gru(layers.MaxPooling1D(2)(gru(x))))


@pytest.mark.once
@pytest.mark.parametrize(
    ("steps", "outputs", "reason"),
    [
        (None, lambda x: layers.Add(name="add")([x, layers.MaxPooling1D(2)(x)]), r"`add` .*every 2 steps.*each step"),
        (None, lambda x: x + layers.AveragePooling1D(3)(x), r"Operation `add.*every 3 steps.*same strides"),
        (None, _at_two_rates, r"`gru` .*every 2 steps, and one with an entry for each step"),
        (12, lambda x: layers.MaxPooling1D(2, name="pool")(x), r"any number of steps.*12 steps.*`pool`"),
        (None, lambda x: layers.UpSampling1D(2)(layers.MaxPooling1D(2)(x)), r"makes several steps of one"),
    ],
)
def test_networks_that_cannot_carry_are_refused(steps, outputs, reason):
    """Series of different rates must not meet: a window of one group would broadcast."""
    x = keras.Input((steps, FEATURES))
    net = keras.Model(x, layers.GRU(2, return_sequences=True)(outputs(x)))
    with pytest.raises(rs.UnsupportedModelError, match=reason):
        rs.StatefulModel(net)


@pytest.mark.once
def test_windows_by_themselves_take_any_length():
    """With `time_mixing="allow"` a layer with strides takes each window by itself, as a file of release 0.1 did."""
    model = nets.make(lambda: keras.Model((net := half()).input, net.output), time_mixing="allow")
    assert list(model.state_spec) == ["gru/h"]
    assert tuple(model.step(nets.values(BATCH, 5, FEATURES), model.initial_state(BATCH))[0].shape) == (BATCH, 3, 1)
    assert [finding.layer for finding in rs.audit(model) if finding.code == "time-mixing"] == ["conv"]
    assert rs.audit(shared(network)) == []
    windows = rs.Windows(nets.values(BATCH, 12, FEATURES), length=4, batch_size=BATCH)
    with pytest.raises(rs.DataError, match=r"2 entries for windows of 4 steps\. Layer `conv` .*which `time_mixing"):
        model.predict(windows, verbose=0)
    assert model.predict_on_batch(*windows[0]).shape == (BATCH, 2, 1)


@pytest.mark.once
def test_streams_and_files(tmp_path):
    """A stream takes any number of groups, and so does a verified file, which says how many steps make a group."""
    model, x = shared(half), nets.values(1, 10, FEATURES)
    whole, streamer = host(model.net(x))[0], rs.Streamer(model)
    pushed = [streamer.push({"a": x[0, begin:end]})["a"] for begin, end in ((0, 2), (2, 8), (8, 10))]
    assert difference(np.concatenate(pushed), whole) < 1e-6
    done = rs.export(model, tmp_path / "m.onnx")
    assert (done.manifest["strides"], done.manifest["outputs"][0]["shape"]) == (2, ["batch", "time/2", 1])
    step = rs.onnx_step.load(tmp_path / "m.onnx")
    first, state = step.step(x[:, :4], step.initial_state(1))
    assert difference(np.concatenate([first, step.step(x[:, 4:], state)[0]], axis=1)[0], whole) < 1e-5
    with pytest.raises(ValueError, match=r"multiple of 2 steps.*3 steps"):
        step.step(x[:, :3], state)
    assert rs.Streamer(tmp_path / "m.onnx").push({"a": x[0, :4]})["a"].shape == (2, 1)
    assert rs.export(model, tmp_path / "m.stablehlo", format="stablehlo").manifest["verified"]["chunks"] == [2, 8, 2]
