"""ONNX, SavedModel and LiteRT: one traced function with a free batch size and, if the format allows it, a free time."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rnnstate.exporting.chunked_run import Arrays, Step
from rnnstate.exporting.programs import Program
from rnnstate.exporting.signature import Tensor
from rnnstate.model.stateful_model import StatefulModel

OPSET = 17


def write(form: str, path: Path, model: StatefulModel, program: Program) -> Step:
    """Write a file, and return a function that runs it in its runtime."""
    function = tf.function(program.call, autograph=False)
    return _WRITERS[form](path, model, program, function)


def _saved_model(path: Path, model: StatefulModel, program: Program, function: Any) -> Step:
    _save(path, model, program, function)
    loaded = tf.saved_model.load(str(path))  # the closure below keeps its variables alive

    def run(inputs: Arrays) -> dict[str, Any]:
        return dict(getattr(loaded, program.name)({name: tf.constant(value) for name, value in inputs.items()}))

    return run


def _save(path: Path, model: StatefulModel, program: Program, function: Any) -> None:
    module = tf.Module()
    setattr(module, program.name, function)
    # A SavedModel holds the variables that an attribute of the module refers to.
    module.weights = [variable.value for variable in [*model.net.variables, *model.start.variables]]
    tf.saved_model.save(module, str(path), signatures=function.get_concrete_function(_specs(program)))


def _litert(path: Path, model: StatefulModel, program: Program, function: Any) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder), model, program, function)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()

    def step(inputs: Arrays) -> dict[str, np.ndarray]:
        return dict(runner(**inputs))

    return step


def _onnx(path: Path, model: StatefulModel, program: Program, function: Any) -> Step:
    import onnx
    import tf2onnx

    names = [tensor.name for tensor in program.inputs]

    # The converter recognizes Keras' loops only outside of nested function calls, so this function takes a flat list.
    def positional(*arrays: Any) -> tuple[Any, ...]:
        outputs = program.call(dict(zip(names, arrays, strict=True)))
        return tuple(outputs[tensor.name] for tensor in program.outputs)

    specs = [_specs(program)[name] for name in names]
    function = tf.function(positional, autograph=False)
    graph, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=OPSET)
    _add_constants(graph, function.get_concrete_function(*specs))
    onnx.save(_named(graph, program), os.fspath(path))
    return run_onnx(path)


def run_onnx(path: Path) -> Step:
    """Return a function that runs an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _add_constants(graph: Any, concrete: Any) -> None:
    """Add the tensors that a layer keeps besides its weights, such as the mean of a `Normalization`.

    The converter leaves them out of the file, as if they were inputs.
    """
    from onnx import numpy_helper

    wanted = _used(graph.graph)
    # TensorFlow appends one placeholder for each captured tensor to the inputs of the function.
    kept = concrete.inputs[len(concrete.inputs) - len(concrete.captured_inputs) :]
    for placeholder, value in zip(kept, concrete.captured_inputs, strict=True):
        if placeholder.name in wanted and value.dtype != tf.resource:
            graph.graph.initializer.append(numpy_helper.from_array(value.numpy(), placeholder.name))


def _used(graph: Any) -> set[str]:
    """Return the names of all inputs of the nodes of a graph, and of the graphs inside its loops."""
    inner = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return {name for node in graph.node for name in node.input}.union(*map(_used, inner))


def _named(graph: Any, program: Program) -> Any:
    """Name the outputs and the free axes, which the converter only numbers."""
    from onnx import helper

    nodes = [
        helper.make_node("Identity", [old.name], [tensor.name])
        for old, tensor in zip(graph.graph.output, program.outputs, strict=True)
    ]
    types = {info.name: info.type.tensor_type.elem_type for info in graph.graph.input}
    kinds = [info.type.tensor_type.elem_type for info in graph.graph.output]
    inputs = [helper.make_tensor_value_info(t.name, types[t.name], t.shape) for t in program.inputs]
    outputs = [
        helper.make_tensor_value_info(tensor.name, kind, tensor.shape)
        for tensor, kind in zip(program.outputs, kinds, strict=True)
    ]
    graph.graph.node.extend(nodes)
    for fields, values in ((graph.graph.input, inputs), (graph.graph.output, outputs)):
        del fields[:]
        fields.extend(values)
    return graph


def _specs(program: Program) -> dict[str, Any]:
    return {tensor.name: _spec(tensor) for tensor in program.inputs}


def _spec(tensor: Tensor) -> Any:
    return tf.TensorSpec(tensor.sizes(None, None), tensor.dtype, name=tensor.name)


_WRITERS = {"saved_model": _saved_model, "litert": _litert, "onnx": _onnx}
