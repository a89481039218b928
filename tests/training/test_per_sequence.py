"""Targets per sequence: only the last window of each sequence counts, in the loss and in the metrics."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import weights_of
from nets import difference

TOLERANCE = 1e-5
LENGTHS = (17, 11, 5, 13)
DATA = nets.series(LENGTHS)
LABELS = dict(zip(DATA, (1, 0, 1, 1), strict=True))


def compiled():
    """Return a compiled classifier of two classes, one output per window."""
    model = nets.make(nets.last_step)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], weighted_metrics=[keras.metrics.MeanMetricWrapper(
        keras.losses.sparse_categorical_crossentropy, name="ce", from_logits=True)])  # fmt: skip
    return model


def labelled(**kwargs):
    """Return windows with a class per sequence."""
    return rs.Windows(DATA, LABELS, length=5, batch_size=3, targets="sequence", **kwargs)


@pytest.fixture(scope="module")
def trained():
    """Return a model trained on the classes of sequences, and its windows."""
    model, windows = compiled(), labelled()
    model.fit(windows, epochs=2, verbose=0)
    return model, windows


def test_training_weighs_last_windows_alone(trained):
    """Weights are those of labels that are repeated for each window, and weighed by hand; without weights they differ."""
    model, _ = trained
    counts = {key: -(-len(x) // 5) for key, x in DATA.items()}
    repeated = {key: np.full(n, LABELS[key]) for key, n in counts.items()}
    last = {key: np.eye(n, dtype="float32")[-1] for key, n in counts.items()}
    by_hand, all_windows = compiled(), compiled()
    by_hand.fit(rs.Windows(DATA, repeated, length=5, batch_size=3, sample_weight=last), epochs=2, verbose=0)
    assert difference(weights_of(model), weights_of(by_hand)) < TOLERANCE
    all_windows.fit(rs.Windows(DATA, repeated, length=5, batch_size=3), epochs=2, verbose=0)
    assert difference(weights_of(model), weights_of(all_windows)) > 1e-3


def test_evaluate_is_the_mean_over_sequences(trained):
    """`predict` has one output per sequence, of which loss and metrics are those by hand."""
    model, windows = trained
    results = model.predict(windows, verbose=0)
    for key, x in DATA.items():
        assert difference(results[key], nets.host(model.step(x[None], model.initial_state(1))[0])[0]) < TOLERANCE
    logits = np.stack([results[key] for key in DATA]).astype("float64")
    right = logits[np.arange(4), list(LABELS.values())]
    losses = np.log(np.exp(logits).sum(axis=1)) - right
    got = model.evaluate(windows, verbose=0, return_dict=True)
    assert abs(got["loss"] - losses.mean()) < TOLERANCE
    assert abs(got["ce"] - losses.mean()) < TOLERANCE
    assert abs(got["accuracy"] - np.mean(right == logits.max(axis=1))) < TOLERANCE
    weights = {"k0": 2.0, **dict.fromkeys(("k1", "k2", "k3"), 1.0)}
    weighted = rs.Windows(DATA, LABELS, length=5, batch_size=3, targets="sequence", sample_weight=weights)
    assert abs(model.evaluate(weighted, verbose=0)[0] - (losses.sum() + losses[0]) / 4) < TOLERANCE


def test_predict_without_labels(trained):
    """Windows without `y` give one output per sequence if `targets` says so, else one per window."""
    model, windows = trained
    one = model.predict(rs.Windows(DATA, length=5, batch_size=3, targets="sequence"), verbose=0)
    assert difference(one, model.predict(windows, verbose=0)) < TOLERANCE
    each = model.predict(rs.Windows(DATA, length=5, batch_size=3), verbose=0)
    assert each["k0"].shape == (4, 2)
    assert difference(each["k0"][-1], one["k0"]) < TOLERANCE


def test_a_network_per_step_is_refused():
    """A target per sequence needs an output per window."""
    model = nets.make(nets.small)
    model.compile("sgd", "mse")
    with pytest.raises(
        rs.DataError, match=r"so targets must be per step.*Received: one per sequence.*return_sequences"
    ):
        model.fit(labelled())
