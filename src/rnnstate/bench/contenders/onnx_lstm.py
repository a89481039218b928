"""onnxruntime with the LSTM operator of ONNX, on one thread."""

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from rnnstate.bench.contenders.task import Array, Repeat, Task, repeated, weights

_GATES = [0, 3, 1, 2]  # ONNX orders the gates i, o, f, c; Keras orders them i, f, c, o


def step(task: Task) -> Repeat:
    """Return a step, from NumPy to NumPy."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(_model(task).SerializeToString(), options)
    leaves = [value.name for value in session.get_inputs()[1:]]
    state = {name: np.zeros((1, task.batch, task.units), "float32") for name in leaves}

    def call(x: Array) -> Any:
        y, *final = session.run(None, {"x": x.swapaxes(0, 1), **state})
        state.update(zip(leaves, final, strict=True))
        return y.swapaxes(0, 1)

    return repeated(call, task)


def _model(task: Task) -> Any:
    nodes, constants, given, final, last = [], [_constant("axis", np.array([1]))], [], [], "x"
    for layer in range(task.layers):
        constants += _weights(task, layer)
        leaves = [f"h{layer}", f"c{layer}"]
        inputs = [last, f"W{layer}", f"R{layer}", f"B{layer}", "", *leaves]
        outputs = [f"y{layer}", *(name.upper() for name in leaves)]
        nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=task.units))
        nodes.append(helper.make_node("Squeeze", [f"y{layer}", "axis"], [f"s{layer}"]))
        last = f"s{layer}"
        given += [_value(name, 1, task.batch, task.units) for name in leaves]
        final += [_value(name.upper(), 1, task.batch, task.units) for name in leaves]
    *_, kernel, bias = weights(task)
    constants += [_constant("kernel", kernel), _constant("bias", bias)]
    nodes += [helper.make_node("MatMul", [last, "kernel"], ["z"]), helper.make_node("Add", ["z", "bias"], ["y"])]
    x, y = (_value(name, task.window, task.batch, size) for name, size in (("x", task.features), ("y", 1)))
    graph = helper.make_graph(nodes, "step", [x, *given], [y, *final], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _weights(task: Task, layer: int) -> list[Any]:
    kernel, recurrent, bias = weights(task)[3 * layer : 3 * layer + 3]
    # The operator has a second bias, which stays zero.
    parts = {"W": _ordered(kernel.T), "R": _ordered(recurrent.T), "B": np.concatenate([_ordered(bias), 0 * bias])}
    return [_constant(f"{name}{layer}", value[None]) for name, value in parts.items()]


def _ordered(value: Any) -> Any:
    return value.reshape(4, -1, *value.shape[1:])[_GATES].reshape(value.shape)


def _constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.ascontiguousarray(value), name)


def _value(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
