"""Law: models, checkpoints and RUNs that release 0.1.0 wrote load afterwards, and give what they gave.

`tests/golden/write_v1.py` wrote the files.
"""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import golden
import rnnstate as rs
from rnnstate.cli.app import main
from rnnstate.network.masks import MaskedMetric

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-5


def distance(found, expected):
    """Return the largest difference between two sets of arrays of the same names."""
    assert sorted(found) == sorted(expected)
    return max(float(np.abs(np.asarray(found[name]) - expected[name]).max()) for name in expected)


def kept(name):
    """Return the arrays of a golden `.npz`."""
    with np.load(GOLDEN / name) as file:
        return dict(file)


def test_a_model_of_release_0_1_loads():
    """A model has its weights and the states of its keys, and steps and predicts as it did."""
    assert rs.StatefulModel  # importing a public name registers the classes
    model = keras.saving.load_model(GOLDEN / "model_v1.keras")
    expected = kept("model_v1.npz")
    found = golden.answers(model)
    assert distance(found, expected) < TOLERANCE
    model.states.write(["north"], {name: leaf + 0.1 for name, leaf in model.states.read(["north"]).items()})
    assert distance(golden.answers(model), expected) > 0.05


class StopBeforeEpoch(keras.callbacks.Callback):
    """Has the name of the callback that the golden run was given. Notes the epochs that run."""

    def __init__(self, ran):
        super().__init__()
        self.ran = ran

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        self.ran.append(epoch)


@pytest.mark.filterwarnings("ignore:.*version.*")
def test_a_checkpoint_of_release_0_1_goes_on(tmp_path, backend):
    """A run that release 0.1.0 stopped before its last epoch ends with the weights of the run that was not stopped."""
    name = f"checkpoint_v1_{backend}"
    shutil.copytree(GOLDEN / name, tmp_path / name)
    model = golden.build()
    start = golden.weights(model)
    ran = []
    history = model.fit(
        golden.windows(), epochs=3, verbose=0, checkpoint=tmp_path / name, callbacks=[StopBeforeEpoch(ran)]
    )
    assert ran == [2]
    assert len(history.history["loss"]) == 3
    expected = kept(f"{name}.npz")
    assert distance(golden.weights(model), expected) < TOLERANCE
    # `fit` builds the map from observed values, so before it there are fewer weights, in other places.
    alike = [value for value in expected.values() if value.shape == start["0"].shape]
    assert alike
    assert min(float(np.abs(start["0"] - value).max()) for value in alike) > 1e-3


@pytest.mark.once
def test_a_run_of_release_0_1_forecasts(tmp_path, capsys):
    """A RUN gives the forecast that it gave, and other data give another one."""
    out = tmp_path / "forecast.csv"
    assert main(["predict", str(GOLDEN / "run_v1"), str(GOLDEN / "run_v1.csv"), "-o", str(out)]) == 0
    found, expected = (np.genfromtxt(path, delimiter=",", names=True) for path in (out, GOLDEN / "run_v1_forecast.csv"))
    assert found.dtype.names == expected.dtype.names
    for name in expected.dtype.names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert main(["inspect", str(GOLDEN / "run_v1")]) == 0
    assert "lstm" in capsys.readouterr().out


@pytest.mark.once
def test_configs_name_the_modules_of_release_0_1():
    """The identity of a checkpoint hashes the configs of these classes, and so the module that a config names."""
    metric = MaskedMetric(keras.metrics.RootMeanSquaredError())
    start = rs.initial.Learned()
    modules = [keras.saving.serialize_keras_object(part)["module"] for part in (metric, start)]
    assert modules == ["rnnstate.masking", "rnnstate.initial"]
