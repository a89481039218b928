"""An exported ONNX file as an engine: NumPy and onnxruntime, without Keras and without a backend."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.onnx_step import OnnxStep
from rnnstate.state.spec import LeafSpec, StateSpec
from rnnstate.streaming.engine import Arrays, ArraySpec, card_of, fixed_shape


class OnnxEngine:
    """Steps sessions with a file that `rnnstate.export` wrote.

    Args:
        path: The file. Its manifest lies next to it.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If there is no manifest, or it describes another file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._step = OnnxStep(path)
        manifest = self._step.manifest
        self.spec = StateSpec(
            {leaf["leaf"]: LeafSpec(tuple(leaf["shape"][1:]), leaf["dtype"]) for leaf in manifest["state"]}
        )
        # With strides over time, a free number of steps is a multiple of them.
        strides = manifest.get("strides")
        self._time = "time" if manifest["time"] == "any" else int(manifest["time"])
        self.steps = strides if manifest["time"] == "any" else int(manifest["time"])
        self.rows = None if manifest["batch"] == "any" else int(manifest["batch"])
        self.inputs = tuple(self._spec_of(tensor) for tensor in manifest["inputs"])
        self.outputs = tuple(self._spec_of(tensor) for tensor in manifest["outputs"])
        self.whole = False  # a file whose windows differ from the whole is refused by `export`
        self.needs_observed = manifest["initial"] is not None
        self.card = card_of(self.spec, manifest["sha256"], self.inputs, self.outputs)

    def initial(self, count: int, observed: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        return self._step.initial_state(count, observed)

    def run(self, inputs: Arrays, leaves: Arrays) -> tuple[Arrays, Arrays]:
        return self._step.run(inputs, leaves)

    def packed(self, outputs: Sequence[NDArray[Any]]) -> Any:
        if len(outputs) == 1:
            return outputs[0]
        return dict(zip((spec.name for spec in self.outputs), outputs, strict=True))

    def rollout(self, x0: Any, state: Mapping[str, Any], steps: int, **options: Any) -> Any:
        if options or len(self.inputs) > 1 or len(self.outputs) > 1 or self.steps not in (None, 1):
            raise DataError(
                "A free run of an ONNX file needs one input, one output, a free number of steps, and no options. "
                f"Received: options {sorted(options)}. Use the Keras model."
            )
        x, outputs, leaves = np.asarray(x0)[:, None], [], dict(state)
        for _ in range(steps):
            x, leaves = self._step.step(x, leaves)
            outputs.append(x)
        return np.concatenate(outputs, axis=1)

    def _spec_of(self, tensor: dict[str, Any]) -> ArraySpec:
        shape = tensor["shape"]
        time, free = self._time, self._time == "time"
        # A fixed number of steps looks like a number of features. A tensor with one axis more has a time axis.
        per_step = len(shape) > 1 and (
            str(shape[1]).startswith("time") if free else shape[1] == time and len(shape) > 2
        )
        rest = fixed_shape(tensor["name"], shape[2 if per_step else 1 :])
        return ArraySpec(tensor["name"], rest, tensor["dtype"], per_step)
