"""Weights to and from PyTorch and ONNX: with translated weights, both libraries compute the same outputs."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch  # noqa: TID251 - the library to agree with
from keras import layers
from onnx import TensorProto, helper, numpy_helper

import nets
from rnnstate import weights
from rnnstate.errors import SpecMismatchError

KINDS = {"lstm": (torch.nn.LSTM, layers.LSTM), "gru": (torch.nn.GRU, layers.GRU)}
FEATURES, UNITS = 3, 5


def keras_net(kind, depth=1, bidirectional=False, **kwargs):
    """Return a network of recurrent layers with random weights."""
    net = keras.Sequential([keras.Input((None, FEATURES))])
    for _ in range(depth):
        layer = KINDS[kind][1](UNITS, return_sequences=True, **kwargs)
        net.add(layers.Bidirectional(layer) if bidirectional else layer)
    return nets.randomized(net)


def run(net, x):
    """Return the outputs of a network, compiled once."""
    return net.predict_on_batch(x)


def torch_module(kind, depth=1, bidirectional=False, **kwargs):
    """Return a module of PyTorch with random weights."""
    torch.manual_seed(3)
    return KINDS[kind][0](FEATURES, UNITS, depth, batch_first=True, bidirectional=bidirectional, **kwargs)


def run_torch(module, x):
    """Return the outputs of a module of PyTorch."""
    with torch.no_grad():
        return module(torch.tensor(x))[0].numpy()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_torch(kind, depth, bidirectional):
    """Keras with PyTorch's weights gives PyTorch's outputs, and PyTorch with Keras' weights gives Keras' outputs."""
    x = nets.values(2, 7, FEATURES)
    module, net = torch_module(kind, depth, bidirectional), keras_net(kind, depth, bidirectional)
    weights.from_torch(module, net)
    assert nets.difference(run(net, x), run_torch(module, x)) < 1e-6
    nets.randomized(net, seed=1)
    assert nets.difference(run(net, x), run_torch(module, x)) > 0.1
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.to_torch(net).items()})
    assert nets.difference(run(net, x), run_torch(module, x)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_torch_without_bias(kind):
    """A module without biases fits layers without biases. It also fits layers with biases, which become zero."""
    x, module = nets.values(2, 7, FEATURES), torch_module(kind, bias=False)
    for use_bias in (False, True):
        net = keras_net(kind, use_bias=use_bias)
        weights.from_torch(module, net)
        assert nets.difference(run(net, x), run_torch(module, x)) < 1e-6


def onnx_model(kind, arrays, reset_after=True):
    """Return the bytes of an ONNX model of one recurrent node with given weights, `(time, batch, features)`."""
    directions = len(arrays["W"])
    attributes = {"linear_before_reset": int(reset_after)} if kind == "gru" else {}
    node = helper.make_node(
        kind.upper(),
        ["x", "W", "R", "B"],
        ["y"],
        name="node",
        hidden_size=UNITS,
        direction="bidirectional" if directions == 2 else "forward",
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, None, FEATURES))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None, directions, None, UNITS))],
        [numpy_helper.from_array(np.ascontiguousarray(arrays[name]), name) for name in "WRB"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run_onnx(model, x):
    """Return the outputs of a model of ONNX, `(batch, time, directions * units)`."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    y = session.run(None, {"x": x.transpose(1, 0, 2)})[0]
    return y.transpose(2, 0, 1, 3).reshape(*x.shape[:2], -1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "options"), [("lstm", {}), ("gru", {}), ("gru", {"reset_after": False})])
def test_onnx(tmp_path, kind, options, bidirectional):
    """A node with Keras' weights gives Keras' outputs, and a layer with the weights read from the node does too."""
    x, net = nets.values(2, 7, FEATURES), keras_net(kind, bidirectional=bidirectional, **options)
    model = onnx_model(kind, weights.to_onnx(net.layers[0]), **options)
    expected = run(net, x)
    assert nets.difference(expected, run_onnx(model, x)) < 1e-6
    onnx.save(model, tmp_path / "node.onnx")
    nets.randomized(net, seed=1)
    weights.from_onnx(weights.read_onnx(tmp_path / "node.onnx"), net.layers[0])
    assert nets.difference(expected, run(net, x)) < 1e-6


def test_layers_that_do_not_fit_are_refused():
    """Another depth, another size or a kind that PyTorch lacks is an error, and no layer changes."""
    net = keras_net("lstm", depth=2)
    before = [w.copy() for w in net.get_weights()]
    with pytest.raises(SpecMismatchError, match=r"layers must be those of the module.*12 in all.*Received: .*8 in all"):
        weights.from_torch(torch_module("lstm", 3), net)
    wide = torch.nn.LSTM(FEATURES, UNITS, 2).state_dict()
    wide["weight_ih_l1"] = torch.zeros(4 * UNITS, UNITS + 2)
    with pytest.raises(SpecMismatchError, match=r"must have shape \(5, 20\). Received: shape=\(7, 20\)"):
        weights.from_torch(wide, net)
    assert all(np.array_equal(one, other) for one, other in zip(before, net.get_weights(), strict=True))
    with pytest.raises(SpecMismatchError, match=r"`reset_after=True`, as PyTorch's GRU. Received: reset_after=False"):
        weights.to_torch(keras_net("gru", reset_after=False))
    with pytest.raises(SpecMismatchError, match=r"must have `use_bias=True`"):
        weights.from_torch(torch_module("lstm"), keras_net("lstm", use_bias=False))


def test_nodes_that_do_not_fit_are_refused(tmp_path):
    """Another number of directions, another place of the reset gate, or a missing node is an error."""
    net = keras_net("gru")
    arrays = weights.to_onnx(net.layers[0])
    with pytest.raises(SpecMismatchError, match="run in 1 directions"):
        weights.from_onnx(arrays, keras_net("gru", bidirectional=True).layers[0])
    onnx.save(onnx_model("gru", arrays, reset_after=False), tmp_path / "node.onnx")
    with pytest.raises(SpecMismatchError, match=r"`reset_after=False`, as the node has `linear_before_reset=0`"):
        weights.from_onnx(weights.read_onnx(tmp_path / "node.onnx"), net.layers[0])
    with pytest.raises(SpecMismatchError, match=r"LSTM or GRU node.*Received: node='other', of 0 found"):
        weights.read_onnx(tmp_path / "node.onnx", "other")
    with pytest.raises(SpecMismatchError, match=r"built LSTM or GRU. Received: `simple` \(SimpleRNN\)"):
        weights.to_onnx(layers.SimpleRNN(3, name="simple"))
