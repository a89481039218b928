"""The model as clients see it: its name, its tensors, and the structure of its outputs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rnnstate.streaming.engine import ArraySpec, Engine

VERSION = "1"
_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "bfloat16": "FP32", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
# Keras gives these names other numbers in each process.
_UNNAMED = re.compile(r"keras_tensor(_\d+)?(CLONE)?")


@dataclass(frozen=True)
class Served:
    """A model behind a server.

    Args:
        name: The name in addresses.
        platform: What steps it, such as `rnnstate_jax` or `rnnstate_onnx`.
        inputs: Its inputs, in the order of the model, under the names that clients use.
        outputs: Its outputs.
        own: The names of the inputs in the model.
        structure: The structure in which the model returns its outputs, with their places in it.
    """

    name: str
    platform: str
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    own: tuple[str, ...]
    structure: Any

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the Open Inference Protocol."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": self.platform,
            "inputs": [_described(spec) for spec in self.inputs],
            "outputs": [_described(spec) for spec in self.outputs],
        }

    def config(self) -> dict[str, Any]:
        """Return the model configuration as Triton has it. There is no axis for the batch: a request has one sequence."""
        return {
            "name": self.name,
            "platform": self.platform,
            "backend": "rnnstate",
            "max_batch_size": 0,
            "input": [_configured(spec) for spec in self.inputs],
            "output": [_configured(spec) for spec in self.outputs],
            "sequence_batching": {"max_sequence_idle_microseconds": "0"},
        }

    def flat(self, outputs: Any) -> list[Any]:
        """Return the outputs of a push in the order of `outputs`."""
        found = dict(_pairs(self.structure, outputs))
        return [found[at] for at in range(len(self.outputs))]


def describe(engine: Engine, name: str, platform: str) -> Served:
    """Return a model as clients see it."""
    return Served(
        name,
        platform,
        _named(engine.inputs, "input"),
        _named(engine.outputs, "output"),
        tuple(spec.name for spec in engine.inputs),
        engine.packed(list(range(len(engine.outputs)))),  # type: ignore[arg-type]
    )


def datatype(dtype: str) -> str:
    """Return the datatype of the protocol.

    Example:

    >>> datatype("float32")
    'FP32'
    """
    return _DATATYPES[dtype]


def _named(specs: Sequence[ArraySpec], word: str) -> tuple[ArraySpec, ...]:
    def name(at: int, given: str) -> str:
        return (f"{word}_{at}" if len(specs) > 1 else word) if _UNNAMED.fullmatch(given) else given

    return tuple(replace(spec, name=name(at, spec.name)) for at, spec in enumerate(specs))


def _described(spec: ArraySpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype(spec.dtype), "shape": _shape(spec)}


def _configured(spec: ArraySpec) -> dict[str, Any]:
    kind = datatype(spec.dtype)
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": [str(size) for size in _shape(spec)]}


def _shape(spec: ArraySpec) -> list[int]:
    return [-1, *spec.shape] if spec.per_step else list(spec.shape)


def _pairs(structure: Any, outputs: Any) -> Iterator[tuple[int, Any]]:
    """Yield the place of each output and the output."""
    if isinstance(structure, int):
        yield structure, outputs
        return
    names = structure if isinstance(structure, Mapping) else range(len(structure))
    for name in names:
        yield from _pairs(structure[name], outputs[name])
