"""Several outputs: each is per step or per window on its own, in whatever order and structure they come."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from nets import difference

TOLERANCE = 1e-5
LENGTHS = (12, 7, 5)


def mixed(structure):
    """Return a network with an output per step, one per window and a forecast of 3 steps per window."""
    x = nets.series_input()
    h = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    last = layers.GRU(3, name="gru")(h)
    step = layers.Dense(1, name="step")(h)
    window = layers.Dense(2, name="window")(last)
    ahead = layers.Dense(1, name="ahead")(layers.RepeatVector(3)(last))
    return keras.Model(x, structure(step, window, ahead))


STRUCTURES = {
    "dict": lambda step, window, ahead: {"a": step, "b": window, "c": ahead},
    "dict, window first": lambda step, window, ahead: {"c": step, "a": window, "b": ahead},
    "list": lambda step, window, ahead: [step, window, ahead],
    "list, window first": lambda step, window, ahead: [ahead, window, step],
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_predict_decides_for_each_output(name):
    """Per step: the outputs of `step` over the whole sequence. Per window: those of `step` over each window."""
    structure = STRUCTURES[name]
    model = nets.make(lambda: mixed(structure))
    data = nets.series(LENGTHS)
    results = model.predict(rs.Windows(data, length=5, batch_size=2), verbose=0)
    for key, x in data.items():
        state, parts = model.initial_state(1), []
        for begin in range(0, len(x), 5):
            outputs, state = model.step(x[None, begin : begin + 5], state)
            parts.append([nets.host(part) for part in keras.tree.flatten(outputs)])
        for got, each in zip(keras.tree.flatten(results[key]), zip(*parts, strict=True), strict=True):
            per_step = each[0].shape[1:] == (5, 1)
            assert difference(got, np.concatenate(each, axis=1)[0] if per_step else np.concatenate(each)) < TOLERANCE
        keras.tree.assert_same_structure(results[key], structure(1, 2, 3))


def by_name(data):
    """Return random targets for the outputs `window` and `step`, the window's first."""
    windows = {key: nets.values(-(-len(x) // 5), 2, seed=i) for i, (key, x) in enumerate(data.items())}
    return {"window": windows, "step": {key: nets.values(len(x), 1, seed=9) for key, x in data.items()}}


@pytest.mark.parametrize("structure", [lambda s, w, _: [s, w], lambda s, w, _: {"window": w, "step": s}])
def test_targets_find_their_outputs_by_name(structure):
    """Losses and metrics are those by hand, named after the outputs, and `fit` trains."""
    model = nets.make(lambda: mixed(structure))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    data = nets.series((10, 10, 10))
    y = by_name(data)
    windows = rs.Windows(data, y, length=5, batch_size=3)
    assert windows.targets == {"window": "windows", "step": "steps"}
    got = model.predict(windows, verbose=0)
    got = (
        got
        if isinstance(got["k0"], dict)
        else {key: dict(zip(("step", "window"), got[key], strict=True)) for key in got}
    )
    losses = model.evaluate(windows, verbose=0, return_dict=True)
    for name in ("step", "window"):
        expected = np.mean([np.square(got[key][name] - y[name][key]).mean() for key in data])
        assert abs(losses[f"{name}_loss"] - expected) < TOLERANCE
    history = model.fit(windows, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_targets_of_another_name_or_kind_are_refused():
    """A target without an output, or of the other kind, is refused with the names."""
    model = nets.make(lambda: mixed(lambda s, w, _: [s, w]))
    model.compile("sgd", "mse")
    data = nets.series((10, 7))
    y = by_name(data)
    with pytest.raises(rs.DataError, match=r"names of the outputs of the network: 'step', 'window'. Received: 'other'"):
        model.fit(rs.Windows(data, {"step": y["step"], "other": y["window"]}, length=5, batch_size=2))
    swapped = rs.Windows(data, {"step": y["window"], "window": y["step"]}, length=5, batch_size=2)
    with pytest.raises(rs.DataError, match=r"one output per step for `step`.*Received: one per window"):
        model.fit(swapped)
