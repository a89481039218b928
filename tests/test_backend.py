"""The backend is the user's choice; without one it is the first that is installed."""

import json
import os
import subprocess
import sys

import keras
import pytest

from rnnstate import backend as choosing

pytestmark = pytest.mark.once


def run(code, **environment):
    """Run code in a new process and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    result = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_the_asked_backend_runs():
    """The tests run on the backend that was asked for: a Keras that fell back to another would prove nothing."""
    asked = os.environ.get("KERAS_BACKEND")
    assert asked in (None, keras.config.backend())
    tensor = keras.ops.ones((2,))
    module = type(tensor).__module__.split(".")[0].removesuffix("lib")
    assert module == keras.config.backend()


def test_keras_and_the_kernels_agree():
    """The operations of the bank are those written for the active backend, and agree with the definition."""
    import numpy as np

    from rnnstate.kernels import kernels, reference

    assert kernels().__name__ == f"rnnstate.kernels.{keras.config.backend()}"
    rows, slots = np.arange(10, dtype="float32").reshape(5, 2), keras.ops.convert_to_tensor([3, 0], "int32")
    one, other = keras.Variable(rows, trainable=False), keras.Variable(rows, trainable=False)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernels().take_rows([one], slots)[0]), rows[[3, 0]])
    new = keras.ops.convert_to_tensor([[9.0, 8.0], [7.0, 6.0]])
    kernels().put_rows([one], slots, [new])
    reference.put_rows([other], slots, [new])
    rows[[3, 0]] = [[9, 8], [7, 6]]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), rows)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(other), rows)


@pytest.fixture
def nobody_chose(monkeypatch, tmp_path):
    """Pretend that Keras is not imported and nothing is configured."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("installed", "chosen"), [("jax torch tensorflow", "jax"), ("tensorflow torch", "torch"), ("tensorflow",) * 2]
)
def test_the_first_installed_backend_is_chosen(installed, chosen, nobody_chose, monkeypatch):
    """Of jax, torch and tensorflow the first that is installed is set."""
    monkeypatch.setattr(choosing.importlib.util, "find_spec", lambda name: name in installed.split() or None)
    assert choosing.choose_backend() == chosen
    assert os.environ["KERAS_BACKEND"] == chosen


def test_nothing_installed(nobody_chose, monkeypatch):
    """Without any backend nothing is set, and Keras says what it misses."""
    monkeypatch.setattr(choosing.importlib.util, "find_spec", lambda name: None)
    assert choosing.choose_backend() is None
    assert "KERAS_BACKEND" not in os.environ


def test_the_user_is_never_overridden(nobody_chose, monkeypatch):
    """An environment variable, an imported Keras, and another backend in `keras.json` all come first."""
    (nobody_chose / "keras.json").write_text(json.dumps({"backend": "torch"}))
    assert choosing.choose_backend() is None
    (nobody_chose / "keras.json").write_text("not json")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert choosing.choose_backend() is None
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert choosing.choose_backend() is None


def test_keras_own_default_says_nothing(nobody_chose, monkeypatch):
    """Keras writes "tensorflow" into `keras.json` by itself, so that is no choice."""
    (nobody_chose / "keras.json").write_text(json.dumps({"backend": "tensorflow"}))
    monkeypatch.setattr(choosing.importlib.util, "find_spec", lambda name: name == "jax" or None)
    assert choosing.choose_backend() == "jax"


def test_an_unset_backend_starts_keras_with_an_installed_one(tmp_path):
    """In a new process, importing the package before Keras sets a backend that Keras then runs."""
    code = "import os, rnnstate; print(os.environ['KERAS_BACKEND'])"
    assert run(code, KERAS_HOME=str(tmp_path)) in choosing.PREFERENCE


CARRIED_TRAINING = """
import sys, importlib.util
import rnnstate as rs
import keras, numpy as np
layers = [keras.layers.LSTM(3, return_sequences=True), keras.layers.GRU(2, return_sequences=True)]
model = rs.StatefulModel(keras.Sequential([keras.Input((None, 2)), *layers]))
model.compile("adam", "mse")
model.fit(rs.Windows(np.ones((5, 7, 2)), np.ones((5, 7, 2)), length=3, batch_size=5), verbose=0)
print(bool(importlib.util.find_spec("tensorflow")), "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_training_on_another_backend_leaves_tensorflow_alone(name):
    """Where TensorFlow is installed too, `StatefulModel`, `compile` and `fit` do not import it."""
    assert run(CARRIED_TRAINING, KERAS_BACKEND=name) == "True False"
