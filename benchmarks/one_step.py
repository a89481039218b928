"""Compare one-row steps: the latency of a served model that carries its state from call to call.

Run: python benchmarks/one_step.py [--sizes 8,64] [--rounds 7] [--calls 200]
Each contender gets one step of one row as a NumPy array, keeps its state, and returns the output as a NumPy array.
"""

import argparse
import json
import os
import sys

import numpy as np
from contender import network, serve, weights
from train_step import compare, table, versions

SIZES = {units: {"batch": 1, "window": 1, "features": 2, "units": units} for units in (8, 64)}


def repeated(step):
    """Return a run of many calls on the same input; the last output tells whether all carried alike."""
    x = np.ones((1, 1, 2), "float32")

    def run(calls):
        for _ in range(calls):
            y = step(x)
        return float(np.asarray(y).ravel()[0])

    return run


def rnnstate_step(size):
    """`StatefulModel.step`."""
    import keras

    import rnnstate as rs

    model = rs.StatefulModel(network(size, stateful=False))
    kept = [model.initial_state(1)]

    def step(x):
        y, kept[0] = model.step(x, kept[0])
        return keras.ops.convert_to_numpy(y)

    return repeated(step)


def rnnstate_torch(size):
    """`StatefulModel.step` without gradients and on one thread, as one serves with PyTorch."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return rnnstate_step(size)


def keras_predict(size):
    """`predict_on_batch` of a stateful Keras model; on JAX it carries nothing."""
    return repeated(network(size, stateful=True).predict_on_batch)


def torch_step(size):
    """`torch.nn.LSTM` without gradients, on one thread."""
    import torch

    torch.set_num_threads(1)
    arrays = [torch.from_numpy(array) for array in weights(size)]
    lstm, dense = torch.nn.LSTM(2, size["units"], num_layers=2, batch_first=True), torch.nn.Linear(size["units"], 1)
    torch.set_grad_enabled(False)
    for layer in range(2):
        kernel, recurrent, bias = arrays[3 * layer : 3 * layer + 3]
        for name, value in (
            ("weight_ih", kernel.T),
            ("weight_hh", recurrent.T),
            ("bias_ih", bias),
            ("bias_hh", 0 * bias),
        ):
            getattr(lstm, f"{name}_l{layer}").copy_(value)
    dense.weight.copy_(arrays[6].T)
    dense.bias.copy_(arrays[7])
    kept = [(torch.zeros(2, 1, size["units"]),) * 2]

    def step(x):
        y, kept[0] = lstm(torch.from_numpy(x), kept[0])
        return dense(y).numpy()

    return repeated(step)


def onnx_step(size):
    """onnxruntime on its own LSTM operator, one thread."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    units, arrays, nodes, constants, last = size["units"], weights(size), [], [], "x"
    for layer in range(2):
        kernel, recurrent, bias = arrays[3 * layer : 3 * layer + 3]
        parts = {"W": kernel.T, "R": recurrent.T, "B": np.concatenate([bias, 0 * bias])}
        for name, value in parts.items():  # its gates are i, o, f, c
            blocks = [block[[0, 3, 1, 2]] for block in value.reshape(-1, 4, units, *value.shape[1:])]
            constants.append(numpy_helper.from_array(np.stack(blocks).reshape(1, *value.shape), f"{name}{layer}"))
        inputs = [last, f"W{layer}", f"R{layer}", f"B{layer}", "", f"h{layer}", f"c{layer}"]
        nodes.append(helper.make_node("LSTM", inputs, [f"y{layer}", f"H{layer}", f"C{layer}"], hidden_size=units))
        nodes.append(helper.make_node("Squeeze", [f"y{layer}", "axis"], [f"s{layer}"]))
        last = f"s{layer}"
    constants += [numpy_helper.from_array(arrays[6], "kernel"), numpy_helper.from_array(np.array([1]), "axis")]
    nodes.append(helper.make_node("MatMul", [last, "kernel"], ["y"]))
    leaves = [f"{leaf}{layer}" for layer in range(2) for leaf in "hc"]
    shape, out = [1, 1, units], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1])]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in leaves]
    final = [helper.make_tensor_value_info(name.upper(), TensorProto.FLOAT, shape) for name in leaves]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2])
    graph = helper.make_graph(nodes, "step", [x, *given], [*out, *final], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    state = {name: np.zeros(shape, "float32") for name in leaves}

    def step(x):
        y, *final = session.run(None, {"x": x, **state})
        state.update(zip(leaves, final, strict=True))
        return y

    return repeated(step)


CONTENDERS = {
    "rnnstate-jax": ("jax", rnnstate_step),
    "rnnstate-torch": ("torch", rnnstate_torch),
    "rnnstate-tensorflow": ("tensorflow", rnnstate_step),
    "keras-tensorflow-predict": ("tensorflow", keras_predict),
    "keras-jax-predict": ("jax", keras_predict),
    "torch-lstm": ("torch", torch_step),
    "onnxruntime": ("jax", onnx_step),
}


def main():
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8,64")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    options = parser.parse_args()
    versions()
    for units in map(int, options.sizes.split(",")):
        times = compare(SIZES[units], options.contenders.split(","), options.rounds, options.calls, "one_step.py")
        table(SIZES[units], times, "ms per call")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in CONTENDERS:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        serve(CONTENDERS, sys.argv[1], json.loads(sys.argv[2]), 1)
    else:
        main()
