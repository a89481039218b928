"""Steps of an exported ONNX file with NumPy and onnxruntime alone, for machines without Keras and a backend.

You may copy this one file to a device. It imports no other part of rnnstate.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class OnnxStep:
    """The step model of an ONNX file that `rnnstate.export` wrote.

    Args:
        path: The file. Its manifest lies next to it, with `.json` added to the name.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If there is no manifest, or it describes another file.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True, name="gru")])
    >>> done = rs.export(rs.StatefulModel(net), "gru.onnx")
    >>> step = OnnxStep("gru.onnx")
    >>> y, state = step.step(np.ones((4, 5, 2)), step.initial_state(batch_size=4))
    >>> y.shape, state["gru/h"].shape
    ((4, 5, 3), (4, 3))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        self._session = _session(self.path)
        initial = self.manifest["initial"]
        self._initial = initial and _session(self.path.with_name(initial["file"]))

    def initial_state(self, batch_size: int, observed: Any = None) -> dict[str, np.ndarray]:
        """Return the state in which every sequence starts.

        Args:
            batch_size: The number of rows.
            observed: Known values `(batch_size, values)`, if the initial state is computed from them.

        Returns:
            The leaves by name, each `(batch_size, *shape)`.

        Raises:
            ValueError: If observed values are missing, have the wrong shape, or have no use, or if the file holds no
                initial state because the caller must give it.
        """
        _check_observed(self.manifest["initial"], observed)
        if self._initial is None:
            return {leaf["leaf"]: _initial(leaf, batch_size) for leaf in self.manifest["state"]}
        (tensor,) = self.manifest["initial"]["inputs"]
        values = _fitted("Observed values", observed, tensor)
        if len(values) != batch_size:
            raise ValueError(f"Observed values must have {batch_size} rows. Received: shape={values.shape}.")
        results = self._initial.run([leaf["input"] for leaf in self.manifest["state"]], {tensor["name"]: values})
        return dict(zip((leaf["leaf"] for leaf in self.manifest["state"]), results, strict=True))

    def step(self, x: Any, state: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
        """Run a chunk from a given state.

        Args:
            x: The input `(batch, time, features)`. For a network with several inputs, a mapping of arrays by name.
            state: The state to start from: the leaves by name, each `(batch, *shape)`.

        Returns:
            The output, or a mapping of outputs by name if there are several, and the state after the chunk.

        Raises:
            ValueError: If an input or a leaf is missing, unknown, or has the wrong shape; or if the number of steps is no
                multiple of the strides of the network.
        """
        feeds = {**self._inputs(x), **self._leaves(state)}
        _check_batch(feeds)
        names = [output["name"] for output in self.manifest["outputs"]]
        names += [leaf["output"] for leaf in self.manifest["state"]]
        results = dict(zip(names, self._session.run(names, feeds), strict=True))
        after = {leaf["leaf"]: results.pop(leaf["output"]) for leaf in self.manifest["state"]}
        return (results.popitem()[1] if len(results) == 1 else results), after

    def run(self, inputs: list[np.ndarray], leaves: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Run a chunk without checks. Arrays come and go in the order of the manifest, inputs and leaves in its dtypes."""
        names = [tensor["name"] for tensor in self.manifest["inputs"]] + [
            leaf["input"] for leaf in self.manifest["state"]
        ]
        wanted = [output["name"] for output in self.manifest["outputs"]]
        wanted += [leaf["output"] for leaf in self.manifest["state"]]
        results = self._session.run(wanted, dict(zip(names, [*inputs, *leaves], strict=True)))
        count = len(self.manifest["outputs"])
        return results[:count], results[count:]

    def _inputs(self, x: Any) -> dict[str, np.ndarray]:
        expected = self.manifest["inputs"]
        given = x if isinstance(x, Mapping) else {expected[0]["name"]: x}
        _check_names("inputs", [tensor["name"] for tensor in expected], list(given))
        feeds = {t["name"]: _fitted(f"Input `{t['name']}`", given[t["name"]], t) for t in expected}
        _check_strides(feeds, expected, self.manifest.get("strides", 1))
        return feeds

    def _leaves(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        expected = self.manifest["state"]
        _check_names("leaves", [leaf["leaf"] for leaf in expected], list(state))
        return {leaf["input"]: _fitted(f"State leaf `{leaf['leaf']}`", state[leaf["leaf"]], leaf) for leaf in expected}


def load(path: str | os.PathLike[str]) -> OnnxStep:
    """Return the step model of an ONNX file that `rnnstate.export` wrote.

    Args:
        path: The file. Its manifest lies next to it, with `.json` added to the name.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If there is no manifest, or it describes another file.

    Example:

    >>> load("missing.onnx")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: The manifest of `missing.onnx` must lie next to it. ...
    """
    return OnnxStep(path)


def _read_manifest(path: Path) -> dict[str, Any]:
    place = path.with_name(f"{path.name}.json")
    try:
        manifest: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        whole = manifest["format"] == "rnnstate-export" and manifest["kind"] == "onnx"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The manifest of `{path}` must lie next to it. Received: `{place}` ({error}). "
            "Copy the `.json` file too, or export the model again."
        ) from error
    if not whole or manifest["format_version"] > 1:
        raise ValueError(f"`{place}` must be the manifest of an ONNX file, of format 1. Received: another manifest.")
    for file in filter(None, (manifest, manifest["initial"])):
        _check_hash(path.with_name(file["file"]) if file is not manifest else path, file["sha256"])
    return manifest


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file() or expected != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ValueError(
            f"`{path}` must be the file that its manifest describes. Received: another file. Export it again."
        )


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("`onnx_step` needs onnxruntime. Install it with: pip install onnxruntime") from error
    return onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])


def _check_observed(initial: Any, observed: Any) -> None:
    if initial and observed is None:
        raise ValueError(
            f"The initial state is computed from observed values, {tuple(initial['inputs'][0]['shape'])}. Received: none. "
            "Give `observed=`."
        )
    if observed is not None and not initial:
        raise ValueError("The initial state takes no observed values. Received: some. Leave `observed` out.")


def _initial(leaf: Mapping[str, Any], batch_size: int) -> np.ndarray:
    if leaf["initial"] is None:
        raise ValueError(
            f"The initial state of `{leaf['leaf']}` must be given whole. Received: a manifest without it. "
            "Give the whole state to `step`."
        )
    shape = (batch_size, *leaf["shape"][1:])
    return np.broadcast_to(np.asarray(leaf["initial"], dtype=leaf["dtype"]), shape).copy()


def _check_names(kind: str, expected: list[str], given: list[str]) -> None:
    if set(expected) != set(given):
        raise ValueError(f"The {kind} must be {expected}. Received: {given}.")


def _fitted(what: str, value: Any, tensor: Mapping[str, Any]) -> np.ndarray:
    """Return an array in the dtype of a tensor of the manifest, after checking its shape.

    A size that is a text, such as `"batch"`, is free.
    """
    array = np.asarray(value)
    pairs = list(zip(tensor["shape"], array.shape, strict=False))
    if len(pairs) != len(tensor["shape"]) or any(isinstance(size, int) and size != got for size, got in pairs):
        raise ValueError(f"{what} must have shape {tuple(tensor['shape'])}. Received: shape={array.shape}.")
    return array.astype(tensor["dtype"], copy=False)


def _check_strides(feeds: Mapping[str, np.ndarray], expected: list[Any], strides: int) -> None:
    for tensor in expected:
        steps = feeds[tensor["name"]].shape[1] if "time" in tensor["shape"] else 0
        if steps % strides:
            raise ValueError(
                f"Each call must have a multiple of {strides} steps, the total stride of the network. Received: input "
                f"`{tensor['name']}` with {steps} steps."
            )


def _check_batch(feeds: Mapping[str, np.ndarray]) -> None:
    sizes = {name: len(value) for name, value in feeds.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"All inputs and leaves must have the same number of rows. Received: {sizes}.")
