"""Export of less common models: computed initial states, mixed precision, backward carrying, constants of layers."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers

import nets
import rnnstate as rs
from rnnstate.errors import ExportError
from rnnstate.exporting.formats import FORMATS
from rnnstate.exporting.signature import signature_of
from rnnstate.initial.bridge import Bridge
from rnnstate.initial.given import Given
from rnnstate.initial.learned import Learned
from rnnstate.initial.observed import Observed

# The backend that writes a format without another process, where there is one, in a tenth of the time.
HERE = {"torch": ["onnx"], "jax": ["stablehlo", "keras"], "tensorflow": ["saved_model", "litert"]}[
    keras.config.backend()
]


def small():
    """Return a network whose leaves are not in alphabetical order."""
    return keras.Sequential(
        [nets.series_input(), layers.LSTM(3, return_sequences=True, name="lstm"), layers.GRU(2, name="gru")]
    )


def run_initial(form, path, observed):
    """Run the second file of an export in its own runtime, and return its outputs by name."""
    if form == "onnx":
        session = onnxruntime.InferenceSession(path)
        return dict(
            zip([o.name for o in session.get_outputs()], session.run(None, {"observed": observed}), strict=True)
        )
    return keras.saving.load_model(path).predict({"observed": observed}, verbose=0)


@pytest.mark.parametrize(
    ("kind", "form"),
    [(kind, form) for form in HERE for kind in (Observed, Bridge) if kind is Observed or form == "keras"],
)
def test_a_computed_initial_state_is_a_second_file(tmp_path, kind, form):
    """An initial state that is computed from known values is exported too, verified, and named in the manifest."""
    model = nets.randomized(rs.StatefulModel(small(), initial_state=kind(units=5, size=2)))
    path = tmp_path / f"small{FORMATS[form].suffix}"
    done = rs.export(model, path, format=form)
    second = tmp_path / f"small.initial{FORMATS[form].suffix}"
    assert done.manifest["initial"]["file"] == second.name
    assert done.manifest["initial"]["inputs"] == [{"name": "observed", "shape": ["batch", 2], "dtype": "float32"}]
    assert second.exists()
    if form in ("onnx", "keras"):
        observed = nets.values(5, 2, seed=7)
        theirs, ours = run_initial(form, second, observed), model.initial_state(5, observed=observed)
        assert max(np.abs(theirs[f"state.{n.replace('/', '.')}"] - nets.host(v)).max() for n, v in ours.items()) < 1e-6
    assert sorted(place.name for place in tmp_path.iterdir()) == sorted([path.name, second.name, f"{path.name}.json"])


@pytest.mark.once
def test_other_initial_states():
    """A learned state is a constant row, a caller gives a whole state, and an unused map has no size yet."""
    assert signature_of(nets.make(small), None).observed is None
    assert signature_of(rs.StatefulModel(small(), initial_state=Given()), None).observed is None
    assert signature_of(rs.StatefulModel(small(), initial_state=Learned()), None).observed is None
    with pytest.raises(ExportError, match=r"must know how many values it takes. Received: `Observed` before"):
        signature_of(rs.StatefulModel(small(), initial_state=Observed()), None)


@pytest.mark.once
def test_model_export_is_export(tmp_path):
    """`model.export`, called as Keras' own method is, writes the step model: the file carries the state."""
    model = nets.randomized(rs.StatefulModel(small()))
    done = model.export(str(tmp_path / "small.onnx"))
    assert done.manifest["kind"] == "onnx"
    assert [leaf["leaf"] for leaf in done.manifest["state"]] == list(model.state_spec)
    step = rs.onnx_step.load(done.path)
    x = nets.values(3, 7, 2, seed=5)
    _, middle = step.step(x[:, :4], step.initial_state(3))
    y, end = step.step(x[:, 4:], middle)
    expected, final = model.step(x, model.initial_state(3))
    assert nets.difference(y, expected) < 1e-5
    assert nets.difference(final, rs.State(end)) < 1e-5
    with pytest.raises(ExportError, match="must not exist yet"):
        model.export(filepath=tmp_path / "small.onnx", format="onnx")


@pytest.mark.once
def test_model_export_takes_the_arguments_of_export(tmp_path):
    """`time`, `force` and `metadata` reach `rnnstate.export`; arguments that only Keras knows are refused."""
    model = rs.StatefulModel(small())
    (tmp_path / "small.keras").write_text("older")
    done = model.export(tmp_path / "small.keras", "keras", time=3, force=True, metadata={"who": "me"})
    assert (done.manifest["time"], done.manifest["metadata"]) == (3, {"who": "me"})
    with pytest.raises(
        ExportError, match=r"takes `format`, `time`, `force` and `metadata`.*Received: `input_signature`"
    ):
        model.export(tmp_path / "other.keras", input_signature=None)


@pytest.mark.once
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_written_in_float32(tmp_path, policy):
    """A network of mixed precision is exported in float32 with the same weights, and does not change itself."""
    keras.config.set_dtype_policy(policy)
    try:
        net = small()
    finally:
        keras.config.set_dtype_policy("float32")
    model = nets.randomized(rs.StatefulModel(net, initial_state=Learned()))
    whole = rs.StatefulModel(small(), initial_state=Learned())
    whole.net.set_weights(model.net.get_weights())
    whole.start.set_weights(model.start.get_weights())
    done = rs.export(model, tmp_path / "m.keras")
    assert model.net.layers[0].compute_dtype == policy.removeprefix("mixed_")
    x, initial = nets.values(3, 5, 2), whole.initial_state(3)
    file = keras.saving.load_model(done.path)
    given = {f"state.{name.replace('/', '.')}": nets.host(value) for name, value in initial.items()}
    y, _ = whole.step(x, initial)
    assert nets.difference(y, file.predict({"x": x, **given}, verbose=0)["y"]) < 1e-5
    half, _ = model.step(x, model.initial_state(3))
    assert nets.difference(nets.host(half).astype("float32"), y) > 1e-4


@pytest.mark.parametrize("form", [form for form in HERE if form != "keras"])
def test_carried_backward(tmp_path, form):
    """A file of a model that carries its backward direction has the leaves of that direction too."""
    net = nets.one(layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="rec"), name="both"))
    model = rs.StatefulModel(nets.randomized(net), carry_backward=True)
    done = rs.export(model, tmp_path / f"m{FORMATS[form].suffix}", form)
    assert [leaf["leaf"] for leaf in done.manifest["state"]] == [
        f"both/{side}/{name}" for side in ("forward", "backward") for name in "hc"
    ]


@pytest.mark.parametrize("form", [form for form in HERE if form in ("onnx", "litert", "stablehlo")])
def test_constants_of_layers(tmp_path, form):
    """The file holds the tensors that a layer keeps besides its weights, such as the mean of a `Normalization`."""
    net = keras.Sequential(
        [
            nets.series_input(),
            layers.Normalization(mean=[11.0, -7.0], variance=[5.0, 0.3]),
            layers.GRU(3, return_sequences=True, name="gru"),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[2.0, 3.0, 5.0], invert=True),
        ]
    )
    done = rs.export(nets.randomized(rs.StatefulModel(net)), tmp_path / f"m{FORMATS[form].suffix}", form)
    assert done.largest_difference <= 1e-5
