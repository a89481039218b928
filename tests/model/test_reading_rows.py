"""States are read by key: the rows that are asked for travel to the host, and never the whole bank."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from rnnstate.kernels import kernels
from rnnstate.model import bank as banks

KEYS = 300


@pytest.fixture
def model():
    """Return a model whose bank holds many sequences."""
    net = keras.Sequential([nets.series_input(), keras.layers.LSTM(5, return_sequences=True, name="lstm")])
    model = rs.StatefulModel(net)
    values = np.arange(KEYS * 5, dtype="float32").reshape(KEYS, 5)
    model.states.write(list(range(KEYS)), {"lstm/h": values, "lstm/c": -values})
    return model


@pytest.fixture
def copied(monkeypatch):
    """Return the shapes of all arrays that the bank copies to the host."""
    shapes, one, several = [], banks.to_numpy, kernels().arrays

    def to_numpy(value):
        shapes.append(tuple(value.shape))
        return one(value)

    def arrays(values):
        shapes.extend(tuple(value.shape) for value in values)
        return several(values)

    monkeypatch.setattr(banks, "to_numpy", to_numpy)
    monkeypatch.setattr(kernels(), "arrays", arrays)
    return shapes


@pytest.mark.parametrize("keys", [[7], [299, 0, 7], []], ids=["one", "several", "none"])
def test_only_the_rows_asked_for_are_copied(model, copied, keys):
    """Reading some keys copies their rows of each leaf, in the order of the keys."""
    state = model.states.read(keys)
    assert copied == [(len(keys), 5)] * 2
    rows = np.arange(KEYS * 5, dtype="float32").reshape(KEYS, 5)[np.array(keys, dtype=int)]
    np.testing.assert_array_equal(state["lstm/h"], rows)
    np.testing.assert_array_equal(state["lstm/c"], -rows)


def test_what_is_read_is_a_copy(model):
    """Rows that were read stay as they are when the bank changes."""
    state = model.states.read([7])
    before = state["lstm/h"].copy()
    model.states.write([7], {"lstm/h": before + 1})
    np.testing.assert_array_equal(state["lstm/h"], before)
    np.testing.assert_array_equal(model.states.read([7])["lstm/h"], before + 1)


def test_a_small_bank_is_copied_whole(model, copied):
    """Where most rows are asked for, each leaf is copied once, with at most twice these rows."""
    state = model.states.read()
    assert copied == [(512, 5)] * 2
    rows = np.arange(KEYS * 5, dtype="float32").reshape(KEYS, 5)
    np.testing.assert_array_equal(state["lstm/h"], rows)
    np.testing.assert_array_equal(state["lstm/c"], -rows)
