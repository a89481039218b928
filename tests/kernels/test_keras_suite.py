"""Keras' own tests of its recurrent layers pass with the fast loops in the place of Keras' loops.

They ship with Keras, and are run from where it is installed.
"""

import importlib
from pathlib import Path

import keras
import pytest
from keras import layers

from rnnstate.ports.fast_path import run_fast

HOME = Path(keras.__file__).parent.parent
FOLDER = Path(keras.__file__).parent / "src" / "layers" / "rnn"


def load(name):
    """Return one of Keras' test modules; its cells are found again by the name that it has in Keras."""
    return importlib.import_module(".".join([*FOLDER.relative_to(HOME).parts, name]))


TestLSTM = load("lstm_test").LSTMTest
TestGRU = load("gru_test").GRUTest
TestSimpleRNN = load("simple_rnn_test").SimpleRNNTest
TestRNN = load("rnn_test").RNNTest
TestBidirectional = load("bidirectional_test").SimpleRNNTest
CALLS = {"fast": 0}
# On this machine these would be skipped: they need CUDA, or are about TensorFlow alone.
ELSEWHERE = [
    (TestGRU, "test_torch_cudnn_dispatch_fires"),
    (TestBidirectional, "test_torch_cudnn_bidirectional_gru_dispatch_fires"),
]
if keras.config.backend() != "tensorflow":
    ELSEWHERE.append((TestGRU, "test_stateful_with_symbolic_batch_size"))
for case, name in ELSEWHERE:
    setattr(case, name, None)


def routed(loop):
    """Return a loop that takes the fast one where there is one, and else goes on to Keras' `loop`."""

    def inner_loop(layer, sequences, initial_state, mask, training=False):
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        fast = run_fast(layer, sequences, initial_state, mask, training)
        if fast is None:
            return loop(layer, sequences, initial_state, mask, training)
        CALLS["fast"] += 1
        return fast[0], *fast

    return inner_loop


@pytest.fixture(autouse=True)
def _filtering_as_before():
    """Undo what Keras' test case switches off for the whole process."""
    yield
    keras.config.enable_traceback_filtering()


@pytest.fixture(autouse=True)
def _fast_loops(monkeypatch):
    for kind in (layers.RNN, layers.LSTM, layers.GRU):
        monkeypatch.setattr(kind, "inner_loop", routed(kind.inner_loop))


@pytest.mark.parametrize("case", [TestLSTM, TestGRU, TestSimpleRNN])
def test_fast_loops_run(case):
    """Negative control: Keras' tests do run fast loops here."""
    before = CALLS["fast"]
    test = case("test_pass_initial_state")
    test.setUp()
    test.test_pass_initial_state()
    assert CALLS["fast"] > before
