"""An ONNX file with its manifest whose state is the running sum of its input. It needs neither Keras nor a backend."""

import hashlib
import json

import onnx
from onnx import TensorProto, helper


def write_sums(path, offset=0):
    """Write the file and its manifest, and return the path. An offset in the initial sum makes it another model."""
    constants = {"time": ([1], [1]), "last": ([1], [-1]), "end": ([1], [2**31 - 1]), "axis": ([], [1])}
    given = [helper.make_tensor(name, TensorProto.INT64, shape, value) for name, (shape, value) in constants.items()]
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["added"]),
        helper.make_node("Unsqueeze", ["sum_in", "time"], ["before"]),
        helper.make_node("Add", ["added", "before"], ["y"]),
        helper.make_node("Slice", ["y", "last", "end", "time"], ["final"]),
        helper.make_node("Squeeze", ["final", "time"], ["sum_out"]),
    ]
    tensor = helper.make_tensor_value_info
    series, row = ["batch", "time", 1], ["batch", 1]
    graph = helper.make_graph(
        nodes,
        "sums",
        [tensor("x", TensorProto.FLOAT, series), tensor("sum_in", TensorProto.FLOAT, row)],
        [tensor("y", TensorProto.FLOAT, series), tensor("sum_out", TensorProto.FLOAT, row)],
        given,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = f"starts from {offset}"  # another start is another file
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    leaf = {
        "leaf": "sum",
        "input": "sum_in",
        "output": "sum_out",
        "shape": row,
        "dtype": "float32",
        "initial": [float(offset)],
    }
    manifest = {
        "format": "rnnstate-export",
        "format_version": 1,
        "kind": "onnx",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "batch": "any",
        "time": "any",
        "inputs": [{"name": "x", "shape": series, "dtype": "float32"}],
        "outputs": [{"name": "y", "shape": series, "dtype": "float32"}],
        "state": [leaf],
        "initial": None,
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(manifest))
    return path
