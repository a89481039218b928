"""A saved model loads in a new process, in either order of imports, before any name of the package is used."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import nets
import rnnstate as rs
from rnnstate.saved_classes import HOMES, Deferred

LOAD = """
model, repaired = (keras.saving.load_model(path) for path in sys.argv[1:])
print(type(model).__name__, type(model.start).__name__, *[type(metric).__name__ for metric in model.metrics[-1:]])
print(type(repaired.layers[-1]).__name__)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the files of a model with an initial state and a wrapped metric, and of a repaired one."""
    folder = tmp_path_factory.mktemp("saved")
    model = rs.StatefulModel(nets.small(), initial_state=rs.initial.Learned())
    model.compile("sgd", "mse")
    model.save(folder / "m.keras")
    rs.repair(keras.Sequential([nets.series_input((3, None, 2)), keras.layers.GRU(3, stateful=True)])).save(
        folder / "r.keras"
    )
    return [str(folder / "m.keras"), str(folder / "r.keras")]


@pytest.mark.once
@pytest.mark.parametrize(
    "imports", ["import rnnstate, sys; assert 'keras' not in sys.modules; import keras", "import keras, rnnstate, sys"]
)
def test_either_order_of_imports(imports, saved):
    """Both orders load both files; without rnnstate Keras does not know the class."""
    done = subprocess.run([sys.executable, "-c", imports + LOAD, *saved], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[:2] == ["StatefulModel", "Learned"]
    assert done.stdout.split()[-1] == "CarryingLayer"


@pytest.mark.once
def test_every_registered_class_is_known():
    """The table names each class that the package registers with Keras, and the module that defines it."""
    source = Path(rs.__file__).parent
    found = {}
    for path in source.rglob("*.py"):
        text = path.read_text()
        names = re.findall(r'register_keras_serializable\("rnnstate"\)(?:\n@.*)*\nclass (\w+)', text)
        names += re.findall(r'register_keras_serializable\("rnnstate"\)\((\w+)\)', text)
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        found |= dict.fromkeys(names, module)
    assert found == HOMES
    assert len(found) == sum(
        path.read_text().count('register_keras_serializable("rnnstate")') for path in source.rglob("*.py")
    )


@pytest.mark.once
def test_a_deferred_class_makes_way_for_the_real_one():
    """A deferred class makes an instance of the real one, and the finder has gone from `sys.meta_path`."""
    config = rs.initial.Zeros(at="window").get_config()
    assert Deferred("Zeros").from_config(config).at == "window"
    assert keras.saving.get_registered_object("rnnstate>Zeros") is rs.initial.Zeros
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "rnnstate.saved_classes"]
