"""`onnx_step`: NumPy and onnxruntime step an exported file exactly as the live model steps."""

import json
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import browser
import nets
import rnnstate as rs
from rnnstate import onnx_step
from rnnstate.initial.learned import Learned
from rnnstate.initial.observed import Observed

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a model whose initial state is learned, and the path of its ONNX file."""
    keras.utils.set_random_seed(1729)
    net = keras.Sequential([nets.series_input(), layers.LSTM(3, return_sequences=True, name="lstm"), layers.Dense(2)])
    model = nets.randomized(rs.StatefulModel(net, initial_state=Learned()))
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    rs.export(model, path)
    return model, path


def test_steps_as_the_model(exported):
    """The file gives the outputs and states of the model, chunk by chunk, from the learned initial state."""
    model, path = exported
    step = onnx_step.load(path)
    theirs, ours = step.initial_state(3), model.initial_state(3)
    assert nets.difference(ours, rs.State(theirs)) == 0.0
    assert np.abs(theirs["lstm/h"]).max() > 0.1
    for seed, length in enumerate((5, 1, 2)):
        x = nets.values(3, length, 2, seed=seed)
        y, theirs = step.step(x, theirs)
        expected, ours = model.step(x, ours)
        assert nets.difference(expected, y) < 1e-5
        assert nets.difference(ours, rs.State(theirs)) < 1e-5


def test_runs_without_keras(exported):
    """A program that steps the file imports neither Keras nor a backend."""
    program = (
        "import sys, numpy as np; from rnnstate import onnx_step\n"
        f"step = onnx_step.load({str(exported[1])!r})\n"
        "y, state = step.step(np.ones((2, 5, 2)), step.initial_state(2))\n"
        "print(y.shape, sorted(state), sorted({'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 5, 2) ['lstm/c', 'lstm/h'] []"


def test_wrong_inputs_are_refused(exported):
    """A wrong shape, leaf or number of rows is an error that names it."""
    step = onnx_step.load(exported[1])
    x, state = np.ones((2, 5, 2)), step.initial_state(2)
    with pytest.raises(
        ValueError, match=r"Input `x` must have shape \('batch', 'time', 2\). Received: shape=\(2, 5, 3\)"
    ):
        step.step(np.ones((2, 5, 3)), state)
    with pytest.raises(ValueError, match=r"leaves must be \['lstm/h', 'lstm/c'\]. Received: \['lstm/h'\]"):
        step.step(x, {"lstm/h": state["lstm/h"]})
    with pytest.raises(
        ValueError, match=r"State leaf `lstm/c` must have shape \('batch', 3\). Received: shape=\(2, 7\)"
    ):
        step.step(x, {**state, "lstm/c": np.ones((2, 7))})
    with pytest.raises(ValueError, match="same number of rows"):
        step.step(x, step.initial_state(3))


def test_a_manifest_of_another_file_is_refused(exported, tmp_path):
    """A file does not run without its manifest, or with the manifest of another file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported[1].read_bytes())
    with pytest.raises(ValueError, match=r"manifest of .* must lie next to it"):
        onnx_step.load(path)
    manifest = json.loads(exported[1].with_name("model.onnx.json").read_text())
    place = tmp_path / "model.onnx.json"
    place.write_text(json.dumps({**manifest, "sha256": "0"}))
    with pytest.raises(ValueError, match="must be the file that its manifest describes"):
        onnx_step.load(path)
    place.write_text(json.dumps({**manifest, "format_version": 2}))
    with pytest.raises(ValueError, match="of format 1"):
        onnx_step.load(path)


def test_an_initial_state_from_observed_values(tmp_path):
    """A second file computes the initial state from known values. Missing values and another file are refused."""
    net = keras.Sequential([nets.series_input(), layers.LSTM(3, return_sequences=True, name="lstm"), layers.Dense(2)])
    model = nets.randomized(rs.StatefulModel(net, initial_state=Observed(size=5)))
    rs.export(model, tmp_path / "model.onnx")
    step, observed = onnx_step.load(tmp_path / "model.onnx"), nets.values(3, 5, seed=11)
    ours = model.initial_state(3, observed=observed)
    assert nets.difference(ours, rs.State(step.initial_state(3, observed))) < 1e-6
    assert np.abs(nets.host(ours["lstm/h"])).max() > 0.1
    with pytest.raises(ValueError, match=r"computed from observed values, \('batch', 5\). Received: none"):
        step.initial_state(3)
    with pytest.raises(ValueError, match=r"Observed values must have shape \('batch', 5\). Received: shape=\(3, 2\)"):
        step.initial_state(3, np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"must have 2 rows. Received: shape=\(3, 5\)"):
        step.initial_state(2, observed)
    (tmp_path / "model.initial.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"model.initial.onnx` must be the file that its manifest describes"):
        onnx_step.load(tmp_path / "model.onnx")


def test_observed_values_that_nothing_takes_are_refused(exported):
    """A constant initial state takes no known values."""
    with pytest.raises(ValueError, match="takes no observed values"):
        onnx_step.load(exported[1]).initial_state(2, np.ones((2, 5)))


def test_a_whole_initial_state_must_be_given(exported, tmp_path):
    """If the whole initial state comes with the data, the file has none, and the message says to give it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported[1].read_bytes())
    manifest = json.loads(exported[1].with_name("model.onnx.json").read_text())
    manifest["state"][0]["initial"] = None
    (tmp_path / "model.onnx.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="`lstm/h` must be given whole"):
        onnx_step.load(path).initial_state(2)


def test_a_streamer_needs_the_file_alone(exported, tmp_path):
    """`Streamer("model.onnx")` gives what the model gives, for chunks and single steps, and imports no Keras."""
    model, path = exported
    streamer, live, x = rs.Streamer(path, max_steps=4), rs.Streamer(model, max_steps=4), nets.values(7, 2)
    theirs, ours = streamer.push({"a": x, "b": x[0]}), live.push({"a": x, "b": x[0]})
    for key in ours:
        assert nets.difference(theirs[key], ours[key]) < 1e-5
    assert nets.difference(streamer.rollout("a", 3), live.rollout("a", 3)) < 1e-5
    assert nets.difference(streamer.peek("a"), live.peek("a")) < 1e-5
    program = (
        "import sys, numpy as np, rnnstate as rs\n"
        f"streamer = rs.Streamer({str(path)!r}, rs.stores.LmdbStore('store'))\n"
        "y = streamer.push({'a': np.ones((5, 2))}, numbers={'a': 0})['a']\n"
        "streamer.checkpoint('a', 'c'); streamer.rewind('a', 'c'); streamer.write('a', {'lstm/h': [0.0, 0.0, 0.0]})\n"
        "streamer.store.save('all.safetensors')\n"
        "print(y.shape, sorted({'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == "(5, 2) []", done.stderr


def test_steps_in_a_browser_as_the_model(exported, tmp_path):
    """The page of `examples/browser` gives the outputs and states of the model, without its server and without a network."""
    model, path = exported
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "browser" / "start.py"))
    (tmp_path / "page").mkdir()
    example["assemble"](tmp_path / "page", path)
    server = example["files"](tmp_path / "page")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser.opened(f"http://127.0.0.1:{server.server_port}", tmp_path / "profile") as page:
        text = page.wait("window.session && document.getElementById('message').textContent")
        assert text == "The model runs in this page. No input leaves it."
        assert page.run("fetch('http://example.com').then(() => 'sent', error => error.name)") == "TypeError"
        server.shutdown()
        server.server_close()
        ours = model.initial_state(1)
        for seed, length in enumerate((5, 1, 2)):
            x = nets.values(1, length, 2, seed=seed)
            y = page.run(f"session.push({json.dumps(x[0].tolist())})")
            expected, ours = model.step(x, ours)
            assert nets.difference(expected[0], np.array(y)) < 1e-5
        state = page.run("Object.fromEntries(Object.entries(session.peek()).map(([k, v]) => [k, [...v]]))")
        assert nets.difference(ours, rs.State({leaf: np.array([row], "float32") for leaf, row in state.items()})) < 1e-5
        # The control: from the initial state the same input gives another output. A refused push changes nothing.
        assert "2 finite numbers" in page.run("session.push([[1, NaN]]).catch(error => error.message)")
        fresh = page.run(f"session.reset(), session.push({json.dumps(x[0].tolist())})")
        assert nets.difference(expected[0], np.array(fresh)) > 0.01
        shown = "document.forms[0].requestSubmit(), session.turn.then(() => document.querySelectorAll('meter').length)"
        assert page.run(shown) == 2 * 3
        assert page.run("session.steps") == 3
