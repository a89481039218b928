"""Export: every format holds the step model under the names of its leaves, and is kept only if it agrees with the model."""

import importlib.util
import json
import random
import subprocess

import keras
import numpy as np
import onnxruntime
import pytest
import torch  # noqa: TID251 - its exporter is what must be caught
from keras import layers

import nets
import rnnstate as rs
from rnnstate.errors import ExportError
from rnnstate.exporting import chunked_run as chunks
from rnnstate.exporting import exporter, job, verification
from rnnstate.exporting.formats import FORMATS
from rnnstate.exporting.plain_keras import plain_step_model
from rnnstate.exporting.programs import call_step, links_of, programs_of
from rnnstate.exporting.signature import signature_of


def small():
    """Return a network whose leaves are not in alphabetical order."""
    return keras.Sequential(
        [nets.series_input(), layers.LSTM(3, return_sequences=True, name="lstm"), layers.GRU(2, name="gru")]
    )


def bidirectional():
    """Return a network whose backward direction is not carried."""
    return nets.one(layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="rec"), name="both"))


def masking():
    """Return a network that computes a mask."""
    return keras.Sequential(
        [nets.series_input(), layers.Masking(0.5), layers.LSTM(3, return_sequences=True, name="lstm")]
    )


def step_of(model, signature):
    """Return the first of a model's programs, its step."""
    return programs_of(model, signature)[0]


def trained():
    """Return a model that has states in training and in inference."""
    model = nets.make(small)
    model.compile("sgd", "mse")
    windows = rs.Windows(
        nets.series([7, 5]), nets.series([7, 5], features=2, seed=3), length=3, batch_size=2, targets="last"
    )
    model.fit(windows, verbose=0)
    return model


def everything(model):
    """Return all values of a model, and the state of the random numbers."""
    return [nets.host(v).copy() for v in [*model.variables, *model.optimizer.variables]], random.getstate()


@pytest.fixture(scope="module")
def model():
    """Return one trained model for all formats."""
    keras.utils.set_random_seed(1729)
    return trained()


@pytest.mark.parametrize("form", FORMATS)
def test_formats(model, tmp_path, monkeypatch, form):
    """Every format is written from every backend and verified, and the live model stays as it was, bit for bit."""
    monkeypatch.setattr(job, "subprocess", subprocess)  # a new process, as users have it
    values, numbers = everything(model)
    done = rs.export(model, tmp_path / f"small{FORMATS[form].suffix}", format=form)
    after, numbers_after = everything(model)
    assert all(np.array_equal(one, other) for one, other in zip(values, after, strict=True))
    assert numbers == numbers_after
    assert done.path.exists()
    assert done.largest_difference <= 1e-5
    manifest = json.loads(done.manifest_path.read_text())
    assert manifest == done.manifest
    assert manifest["kind"] == form
    assert manifest["time"] == ("any" if FORMATS[form].dynamic_time else 1)
    assert manifest["fingerprint"] == model.state_spec.fingerprint
    assert [leaf["input"] for leaf in manifest["state"]] == ["state.lstm.h", "state.lstm.c", "state.gru.h"]
    assert [leaf["output"] for leaf in manifest["state"]] == [
        "next_state.lstm.h",
        "next_state.lstm.c",
        "next_state.gru.h",
    ]
    assert {leaf["initial"] for leaf in manifest["state"]} == {0.0}
    assert manifest["inputs"] == [
        {"name": "x", "shape": ["batch", manifest["time"] if manifest["time"] == 1 else "time", 2], "dtype": "float32"}
    ]
    assert manifest["verified"]["largest_difference"] == done.largest_difference


PLAIN = [
    nets.conv_lstm,
    nets.nested_model,
    nets.shared_layer,
    nets.several_inputs,
    nets.stack_of_cells,
    bidirectional,
    masking,
]


def runs_backward():
    """Return a network with a layer that runs backward alone, after a layer that runs both ways."""
    net = [layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")]
    return keras.Sequential([nets.series_input(), *net, layers.LSTM(5, go_backwards=True, return_sequences=True)])


CASES = [*((build, False) for build in [*PLAIN, runs_backward]), (bidirectional, True), (runs_backward, True)]


@pytest.mark.parametrize(("build", "carry"), CASES, ids=lambda case: getattr(case, "__name__", f"carry={case}"))
def test_plain_networks(tmp_path, build, carry):
    """The step model of stock layers, saved and loaded, is the step model, for every composition."""
    model = rs.StatefulModel(nets.randomized(build()), carry_backward=carry)
    signature = signature_of(model, None)
    runs = verification.make_runs(signature, None)
    plain_step_model(model.net, signature).save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    file = chunks.run_chunks(loaded.predict_on_batch, runs, links_of(signature))
    assert verification.largest_difference(verification.live_outputs(step_of(model, signature), runs), file) <= 1e-6


def test_names_of_several_inputs():
    """Named inputs and outputs keep their names, after `x` and `y`."""
    model = nets.make(nets.several_inputs)
    signature = signature_of(model, 4)
    assert [tensor.name for tensor in signature.inputs] == ["x.kind", "x.place", "x.series"]
    assert [tensor.name for tensor in signature.outputs] == ["y.mean", "y.spread"]
    assert [tensor.shape for tensor in signature.inputs] == [("batch", 4), ("batch", 3), ("batch", 4, 2)]
    assert type(signature).from_json(json.loads(json.dumps(signature.to_json()))) == signature


def unrolled_at_one_step(model, signature):
    """Return the known trap: a function that computes only the first step, whatever the length."""
    live = call_step

    def step(inputs):
        outputs = live(model, signature, {**inputs, "x": inputs["x"][:, :1]})
        return {name: nets.host(value) for name, value in outputs.items()}

    return step


def test_a_file_that_unrolled_its_time_is_caught():
    """A file that is right only at the traced length is refused, and the error says where it differs."""
    model = nets.make(small)
    signature = signature_of(model, None)
    runs = verification.make_runs(signature, None)
    live = verification.live_outputs(step_of(model, signature), runs)
    links = links_of(signature)
    file = chunks.run_chunks(unrolled_at_one_step(model, signature), runs, links)
    with pytest.raises(
        ExportError, match=r"within 1e-05. Received: `.*` of chunk \d of 3 \(batch=\d\), which differs by"
    ):
        verification.largest_difference(live, file)
    assert verification.largest_difference(live, live) == 0.0


class Unrolled(torch.nn.Module):
    """An LSTM written as a Python loop, like Keras' on PyTorch: a tracer sees only the steps of its example."""

    def __init__(self, layer):
        super().__init__()
        self.cell = torch.nn.LSTMCell(nets.FEATURES, 3)
        arrays = rs.weights.to_torch(layer)
        self.load_state_dict({f"cell.{n.removesuffix('_l0')}": torch.tensor(a) for n, a in arrays.items()})

    def forward(self, x, h, c):
        """Return the outputs and the final state."""
        outputs = []
        for step in range(x.shape[1]):
            h, c = self.cell(x[:, step], (h, c))
            outputs.append(h)
        return torch.stack(outputs, 1), h, c


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("length", "right"), [(1, False), (4, True)])
def test_the_exporter_of_pytorch_is_caught(tmp_path, length, right):
    """A file of PyTorch's exporter is right at the traced length, and refused for any other length."""
    lstm = layers.LSTM(3, return_sequences=True, name="lstm")
    model = nets.make(lambda: keras.Sequential([nets.series_input(), lstm]))
    signature = signature_of(model, 4 if right else None)
    names = [tensor.name for tensor in signature.all_inputs]
    path, outputs = str(tmp_path / "traced.onnx"), [tensor.name for tensor in signature.all_outputs]
    rows = {name: {0: "batch"} for name in (*names, *outputs)}
    torch.onnx.export(
        Unrolled(lstm),
        (torch.zeros(1, length, nets.FEATURES), torch.zeros(1, 3), torch.zeros(1, 3)),
        path,
        input_names=names,
        output_names=outputs,
        dynamic_axes={**rows, "x": {0: "batch", 1: "time"}},
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path)
    program = step_of(model, signature)
    runs = verification.make_runs(signature, None)
    file = chunks.run_chunks(
        lambda inputs: dict(zip(outputs, session.run(outputs, inputs), strict=True)), runs, program.links
    )
    live = verification.live_outputs(program, runs)
    if right:
        assert verification.largest_difference(live, file) < 1e-6
        return
    with pytest.raises(ExportError, match=r"Received: `y` of chunk 2 of 3 \(batch=1\), which differs by inf"):
        verification.largest_difference(live, file)


def test_a_file_that_forgets_is_caught():
    """A file that starts every chunk from the first state is refused."""
    model = nets.make(small)
    signature = signature_of(model, None)
    runs = verification.make_runs(signature, None)
    live = verification.live_outputs(step_of(model, signature), runs)
    first = runs[0][0]
    frozen = {tensor.name: first[tensor.name] for tensor in signature.state_inputs.values()}

    def step(inputs):
        rows = len(inputs["x"])
        outputs = call_step(model, signature, {**inputs, **{k: np.repeat(v, rows, 0) for k, v in frozen.items()}})
        return {name: nets.host(value) for name, value in outputs.items()}

    with pytest.raises(ExportError, match="must give what the model gives"):
        verification.largest_difference(live, chunks.run_chunks(step, runs, links_of(signature)))


@pytest.mark.parametrize("wrong", [np.nan, 1.0])
def test_nothing_is_kept_of_a_file_that_differs(monkeypatch, tmp_path, wrong):
    """A file beyond the tolerance is deleted, with its manifest; NaN is beyond it."""

    def work(self):
        self.artifact("step").write_text("wrong")
        outputs = verification.live_outputs(self.programs[0], chunks.load_runs(self.folder / "step.inputs.npz"))
        outputs[-1][-1]["y"][0, 0] += wrong
        chunks.save_runs(self.folder / "step.outputs.npz", outputs)

    monkeypatch.setattr(job.Job, "_work", work)
    with pytest.raises(ExportError, match=r"Received: `y` of chunk 3 of 3 \(batch=3\), which differs by .*was deleted"):
        rs.export(nets.make(small), tmp_path / "small.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_uses_are_refused(monkeypatch, tmp_path):
    """Each wrong argument is an error, and nothing is written."""
    model = nets.make(small)
    with pytest.raises(ExportError, match=r'one of "onnx" \(.onnx\), .* Received: format=\'pickle\''):
        rs.export(model, tmp_path / "m", format="pickle")
    with pytest.raises(ExportError, match=r"Received: path='.*m.bin'"):
        rs.export(model, tmp_path / "m.bin")
    with pytest.raises(ExportError, match=r"must end with `.tflite`. Received: .*Use '.*m.tflite'"):
        rs.export(model, tmp_path / "m.onnx", format="litert")
    with pytest.raises(ExportError, match=r"must be a `StatefulModel`.*Received: Sequential"):
        rs.export(model.net, tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"`time` must be at least 1. Received: time=0"):
        rs.export(model, tmp_path / "m.onnx", time=0)
    (tmp_path / "mine.onnx").write_text("mine")
    with pytest.raises(ExportError, match=r"must not exist yet.*`force=True`"):
        rs.export(model, tmp_path / "mine.onnx")
    assert (tmp_path / "mine.onnx").read_text() == "mine"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r'without `tensorflow`, `tf2onnx`.*pip install "rnnstate\[onnx\]"'):
        rs.export(model, tmp_path / "m.onnx")


@pytest.mark.once
@pytest.mark.parametrize("older", ["file", "folder"])
def test_force_replaces_a_file_and_a_folder(tmp_path, older):
    """With `force=True` a file or a folder at the path gives way to the export, and no temporary file stays."""
    path = tmp_path / "m.keras"
    if older == "file":
        path.write_text("older")
    else:
        path.mkdir()
        (path / "inside").write_text("older")
    done = rs.export(nets.make(small), path, force=True)
    assert keras.saving.load_model(done.path).name
    assert sorted(place.name for place in tmp_path.iterdir()) == ["m.keras", "m.keras.json"]


@pytest.mark.once
@pytest.mark.parametrize("older", ["file", "folder"])
def test_a_kept_folder_replaces_a_file_and_a_folder(tmp_path, older):
    """A folder of a SavedModel takes the place of an older file or folder, whole."""
    artifact, place = tmp_path / "artifact", tmp_path / "deep" / "saved"
    artifact.mkdir()
    (artifact / "new").write_text("new")
    place.parent.mkdir()
    if older == "file":
        place.write_text("older")
    else:
        place.mkdir()
        (place / "old").write_text("older")
    exporter._keep(artifact, place)
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in place.parent.iterdir()] == ["saved"]


def test_networks_that_no_format_holds_are_refused(tmp_path):
    """A fixed time is kept, and any other axis that stays open is an error."""
    fixed = rs.StatefulModel(keras.Sequential([keras.Input((4, 2)), layers.GRU(3)]))
    assert signature_of(fixed, None).time == 4
    with pytest.raises(ExportError, match=r"`time` must be 4, .*Received: time=5"):
        rs.export(fixed, tmp_path / "m.onnx", time=5)
    x = keras.Input((None, 2), name="x")
    other = keras.Input((None, None), name="other")
    y = layers.Add()([layers.GRU(1)(x), layers.Lambda(lambda t: t[:, 0, :1])(other)])
    model = rs.StatefulModel(keras.Model([x, other], y))
    with pytest.raises(ExportError, match=r"Only batch and time may be open.*`x.1` with shape \(None, None, None\)"):
        rs.export(model, tmp_path / "m.onnx")


def test_classes_that_no_process_can_import_are_refused(tmp_path):
    """A class that is defined inside a function cannot be found by the process that writes the file."""

    class Local(layers.Dense):
        pass

    net = keras.Sequential([nets.series_input(), layers.GRU(3, return_sequences=True), Local(2)])
    form = "stablehlo" if keras.config.backend() != "jax" else "onnx"
    with pytest.raises(ExportError, match=r"Received: `.*Local`, defined where no module can be imported"):
        rs.export(rs.StatefulModel(net), tmp_path / f"m{FORMATS[form].suffix}", form)


class Running(layers.Layer):
    """Sums over time."""

    def call(self, x):
        return keras.ops.cumsum(x, axis=1)

    def compute_output_shape(self, input_shape):
        return input_shape


class RunningPort(rs.Port):
    """Carries the sum."""

    def spec(self, layer):
        return {"sum": rs.LeafSpec((2,))}

    def call(self, x, state, mask=None, training=False):
        y = self.layer(x) + state["sum"][:, None]
        return y, {"sum": y[:, -1]}


def test_a_memory_of_ones_own_is_no_stock_layer(tmp_path):
    """The plain format refuses a layer whose memory is carried by a custom port, and names it."""
    rs.register_port(Running, RunningPort)
    x = nets.series_input()
    model = rs.StatefulModel(keras.Model(x, Running(name="sum")(x)))
    with pytest.raises(ExportError, match=r"Received: layer `sum`, whose memory is carried by RunningPort"):
        rs.export(model, tmp_path / "m.keras")
