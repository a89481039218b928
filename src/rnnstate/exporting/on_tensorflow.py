"""ONNX, SavedModel and LiteRT: one traced function with batch, and where the format can, time left open."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rnnstate.exporting.chunks import Arrays, Step
from rnnstate.exporting.signature import Signature, Tensor, call_step

OPSET = 17


def write(form: str, path: Path, model: Any, signature: Signature) -> Step:
    """Write a file, and return a function that runs it in its own runtime."""
    function = tf.function(lambda inputs: call_step(model, signature, inputs), autograph=False)
    return _WRITERS[form](path, model, signature, function)


def _saved_model(path: Path, model: Any, signature: Signature, function: Any) -> Step:
    _save(path, model, signature, function)
    loaded = tf.saved_model.load(str(path))  # keeps its variables alive
    return lambda inputs: dict(loaded.step({name: tf.constant(value) for name, value in inputs.items()}))


def _save(path: Path, model: Any, signature: Signature, function: Any) -> None:
    module = tf.Module()
    module.step = function
    module.weights = [variable.value for variable in model.net.variables]
    tf.saved_model.save(module, str(path), signatures=function.get_concrete_function(_specs(signature)))


def _litert(path: Path, model: Any, signature: Signature, function: Any) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder), model, signature, function)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()

    def step(inputs: Arrays) -> dict[str, np.ndarray]:
        return dict(runner(**inputs))

    return step


def _onnx(path: Path, model: Any, signature: Signature, function: Any) -> Step:
    import onnx
    import tf2onnx

    names = [tensor.name for tensor in signature.all_inputs]

    # The converter knows Keras' loops only where they are not inside the call of another function.
    def positional(*arrays: Any) -> tuple[Any, ...]:
        outputs = call_step(model, signature, dict(zip(names, arrays, strict=True)))
        return tuple(outputs[tensor.name] for tensor in signature.all_outputs)

    specs = [_specs(signature)[name] for name in names]
    graph, _ = tf2onnx.convert.from_function(
        tf.function(positional, autograph=False), input_signature=specs, opset=OPSET
    )
    onnx.save(_named(graph, signature), os.fspath(path))
    return run_onnx(path)


def run_onnx(path: Path) -> Step:
    """Return a function that runs an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _named(graph: Any, signature: Signature) -> Any:
    """Give outputs and open axes their names; the converter numbers them."""
    from onnx import helper

    nodes = [
        helper.make_node("Identity", [old.name], [tensor.name])
        for old, tensor in zip(graph.graph.output, signature.all_outputs, strict=True)
    ]
    types = {info.name: info.type.tensor_type.elem_type for info in graph.graph.input}
    kinds = [info.type.tensor_type.elem_type for info in graph.graph.output]
    inputs = [helper.make_tensor_value_info(t.name, types[t.name], t.shape) for t in signature.all_inputs]
    outputs = [
        helper.make_tensor_value_info(tensor.name, kind, tensor.shape)
        for tensor, kind in zip(signature.all_outputs, kinds, strict=True)
    ]
    graph.graph.node.extend(nodes)
    for fields, values in ((graph.graph.input, inputs), (graph.graph.output, outputs)):
        del fields[:]
        fields.extend(values)
    return graph


def _specs(signature: Signature) -> dict[str, Any]:
    return {tensor.name: _spec(tensor) for tensor in signature.all_inputs}


def _spec(tensor: Tensor) -> Any:
    return tf.TensorSpec(tensor.sizes(None, None), tensor.dtype, name=tensor.name)


_WRITERS = {"saved_model": _saved_model, "litert": _litert, "onnx": _onnx}
