"""StateSpec: what the state of a model must look like, and when two models have the same."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs


def spec_of(*stack):
    """Return the spec of a network of these layers."""
    return rs.StatefulModel(keras.Sequential([nets.series_input(), *stack])).state_spec


LEAVES = {
    "simple_rnn": {"rnn/h": (5,)},
    "gru": {"gru/h": (5,)},
    "lstm": {"lstm/h": (5,), "lstm/c": (5,)},
    "stack_of_cells": {"rnn/0/h": (5,), "rnn/0/c": (5,), "rnn/1/h": (7,), "rnn/2/h": (3,), "rnn/2/c": (3,)},
    "custom_cell": {"rnn/0": (3,), "rnn/1": (5,)},
    "nested_cell": {"rnn/0": (3,), "rnn/1/0": (5,), "rnn/1/1": (7,)},
    "conv_lstm": {"conv/h": (5, 3), "conv/c": (5, 3)},
    "nested_model": {"encoder/lstm/h": (5,), "encoder/lstm/c": (5,), "gru/h": (3,)},
    "two_branches": {"left/h": (5,), "left/c": (5,), "right/h": (3,)},
    "shared_layer": {"shared/h": (2,), "shared/c": (2,), "shared/call_1/h": (2,), "shared/call_1/c": (2,)},
    "stateful": {"lstm/h": (5,), "lstm/c": (5,), "gru/h": (3,)},
}


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_are_named_by_layer_path(name):
    """Leaves have the paths of their layers and the shapes of one row."""
    spec = nets.shared(name).state_spec
    assert {leaf: row.shape for leaf, row in spec.items()} == LEAVES[name]
    assert {row.dtype for row in spec.values()} == {"float32"}


def test_a_cell_may_name_its_leaves():
    """An attribute `state_names` of a cell replaces the numbers."""
    cell = nets.TwoSpeedCell()
    cell.state_names = ["slow", "fast"]
    assert list(spec_of(layers.RNN(cell, name="rnn"))) == ["rnn/slow", "rnn/fast"]


@pytest.mark.parametrize("name", nets.ZOO)
def test_fingerprint_is_that_of_the_architecture(name):
    """Two models of one architecture, built in one process, have one fingerprint."""
    again = rs.StatefulModel(nets.ZOO[name]())
    assert again.state_spec.fingerprint == nets.shared(name).state_spec.fingerprint


def test_fingerprints_without_names_of_ones_own():
    """Keras' running numbers in layer names do not count, whichever layers were made before."""
    first = spec_of(layers.LSTM(5, return_sequences=True), layers.LSTM(3))
    layers.LSTM(2)
    second = spec_of(layers.LSTM(5, return_sequences=True), layers.LSTM(3))
    assert list(first) != list(second)
    assert first.fingerprint == second.fingerprint
    assert list(second.adopt({name: np.zeros((1, *leaf.shape)) for name, leaf in first.items()})) == list(second)


def test_fingerprints_differ():
    """Units, order, dtype and kind of leaf all count."""
    base = spec_of(layers.LSTM(5, return_sequences=True), layers.GRU(3))
    others = [
        spec_of(layers.LSTM(5, return_sequences=True), layers.GRU(7)),
        spec_of(layers.GRU(3, return_sequences=True), layers.LSTM(5)),
        spec_of(layers.LSTM(5, return_sequences=True), layers.LSTM(3)),
        spec_of(layers.LSTM(5, return_sequences=True), layers.SimpleRNN(3)),
        spec_of(layers.LSTM(5, return_sequences=True), layers.GRU(3, name="other")),
        spec_of(layers.LSTM(5)),
        rs.StateSpec({name: rs.LeafSpec(leaf.shape, "float16") for name, leaf in base.items()}),
        rs.StateSpec({}),
    ]
    prints = {base.fingerprint, *(spec.fingerprint for spec in others)}
    assert len(prints) == len(others) + 1


def test_adopt_refuses_another_architecture():
    """A state of another architecture is refused, with both fingerprints."""
    spec = rs.StateSpec({"lstm/h": rs.LeafSpec((5,)), "lstm/c": rs.LeafSpec((5,))})
    expected = r"same architecture: StateSpec\(lstm/h: .*lstm/c: .*\). Received: "
    with pytest.raises(rs.SpecMismatchError, match=expected + r"1 leaves, lstm/h: \(1, 5\)"):
        spec.adopt({"lstm/h": np.zeros((1, 5))})
    with pytest.raises(rs.SpecMismatchError, match=expected + r"2 leaves, gru/h: \(1, 5\), gru/c: \(1, 5\)"):
        spec.adopt({"gru/h": np.zeros((1, 5)), "gru/c": np.zeros((1, 5))})


def test_describe():
    """Shapes are written as a reader thinks of them."""
    assert rs.LeafSpec((8,)).describe(10) == "(batch=10, units=8)"
    assert rs.LeafSpec((8,)).describe() == "(batch, units=8)"
    assert rs.LeafSpec((5, 3)).describe(2) == "(batch=2, 5, 3)"
    spec = rs.StateSpec({"gru/h": rs.LeafSpec((3,))})
    assert repr(spec) == "StateSpec(gru/h: (batch, units=3) float32)"
    assert {spec: 1}[rs.StateSpec({"gru/h": rs.LeafSpec([3])})] == 1
