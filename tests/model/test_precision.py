"""Precision: states stay in the dtype of the variables between windows, and what is given is cast or refused."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import nets
import policies
import rnnstate as rs
from nets import difference, host


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_float32_between_windows(policy):
    """States between windows are float32 in the bank, in `step`, and when read; layers compute in 16 bits."""
    keras.config.set_dtype_policy(policy)
    model = nets.make(nets.two_layers)
    x, y = policies.data_of(model)
    windows = rs.Windows(x, y, length=3, batch_size=2)
    output, state = model.step(windows[0][0]["x"], model.initial_state(2))
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
    policies.trained(model, windows, rate=0.0)
    read = model.states.read(windows.keys)
    for leaves in (state, read, model.initial_state(2), model.states.bank.leaves):
        assert {keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves.values()} == {"float32"}
    keras.config.set_dtype_policy("float32")
    full = nets.make(nets.two_layers)
    _, expected = full.predict(rs.Windows(x, length=3, batch_size=2), return_state=True, verbose=0)
    assert difference(read, expected) < 3e-2  # 8 bits of bfloat16


def test_a_given_state_is_not_rounded_to_16_bits():
    """Under mixed precision a given state comes back bit for bit where no step changes it."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = nets.make(nets.lstm)
    state = {name: nets.values(2, 5, seed=i) for i, name in enumerate(model.state_spec)}
    model.states.write(["a", "b"], state)
    assert model.states.read(["a", "b"]) == state


def recurrent_layers():
    """Return a network of recurrent layers alone."""
    lstm = keras.layers.LSTM(5, return_sequences=True, name="lstm")
    gru = keras.layers.GRU(3, return_sequences=True, name="gru")
    return keras.Sequential([nets.series_input(), lstm, gru])


def check_float64():
    """Run carried windows in float64 and compare them with the whole to 12 digits; used on JAX in a process of its own."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    # Without `Dense`: on PyTorch, Keras 3.15.1 multiplies float64 in single precision, and its bits depend on the shapes.
    model = nets.make(recurrent_layers)
    x = {key: rows.astype("float64") for key, rows in nets.series((9, 9)).items()}
    assert {leaf.dtype for leaf in model.state_spec.values()} == {"float64"}
    outputs, state = model.predict(rs.Windows(x, length=3, batch_size=2), return_state=True, verbose=0)
    # Not against the network itself: in float64 Keras' own LSTM loop on JAX is exact to single precision only (5e-8).
    whole = host(model.step(policies.stacked(x), model.initial_state(2))[0])
    assert outputs["k0"].dtype == whole.dtype == state["lstm/c"].dtype == np.dtype("float64")
    assert difference(np.stack(list(outputs.values())), whole) < 1e-13
    y = {key: np.ones((9, 3)) for key in x}
    policies.trained(model, rs.Windows(x, y, length=3, batch_size=2), rate=0.0)
    assert difference(model.states.read(tuple(x)), state) < 1e-13
    fine = {name: leaf + 1e-12 for name, leaf in state.items()}
    model.states.write(tuple(x), fine)
    assert model.states.read(tuple(x)) == fine


def test_float64(backend):
    """In float64 windows equal the whole to 13 digits, and states keep every bit; on JAX with x64 switched on."""
    if backend != "jax":
        check_float64()
        return
    source = Path(rs.__file__).parents[1]
    code = "import test_precision; test_precision.check_float64()"
    # Thirteen digits need the code that XLA makes by default, whatever the tests ask for.
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "KERAS_BACKEND": "jax", "XLA_FLAGS": ""}
    here = Path(__file__).parent
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [source, here, here.parent / "support"]))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_given_dtypes():
    """Floating states are cast to the model's dtype; integers and booleans are refused with the cast to make."""
    model = nets.shared("gru")
    x, h = nets.values(2, 3, 2), nets.values(2, 5, seed=1)
    y, _ = model.step(x, {"gru/h": h})
    for dtype in ("float64", "float16"):
        cast, state = model.step(x, {"gru/h": h.astype(dtype)})
        assert keras.backend.standardize_dtype(state["gru/h"].dtype) == "float32"
        assert difference(cast, y) < 1e-3
    for dtype in ("int32", "int64", "bool"):
        with pytest.raises(
            rs.StateValueError, match=rf"`gru/h` must have a floating dtype \(float32\). Received: dtype={dtype}"
        ):
            model.step(x, {"gru/h": h.astype(dtype)})
    assert rs.State({"gru/h": h}).cast("float64")["gru/h"].dtype == np.dtype("float64")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(value):
    """NaN, infinity, and what becomes infinite in the model's dtype, are refused with leaf and row; nothing is written."""
    model = nets.make(nets.gru)
    h = nets.values(2, 5, seed=1).astype("float64")
    model.states.write(["a", "b"], {"gru/h": h})
    before = model.states.read(["a", "b"])
    bad = h.copy()
    bad[1, 3] = value
    with pytest.raises(rs.StateValueError, match=r"`gru/h` must hold finite values. Received: .* in row 1 \(1 of 10"):
        model.states.write(["a", "b"], {"gru/h": bad})
    with pytest.raises(rs.StateValueError, match="`gru/h` must hold finite values"):
        model.step(nets.values(2, 3, 2), {"gru/h": bad})
    assert model.states.read(["a", "b"]) == before
