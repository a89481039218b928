"""The formats: the suffix of the file, the backend that writes it, and the packages that it needs."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from rnnstate.errors import ExportError
from rnnstate.messages import quoted


@dataclass(frozen=True)
class Format:
    """One format of export.

    Args:
        name: The name that `export(format=...)` takes.
        suffix: The suffix of the file; empty for a folder.
        backend: The Keras backend that writes the file; `None` stands for the backend of the live model.
        packages: The modules that are imported to write and verify the file.
        extra: The extra of this package that installs them.
        dynamic_time: Whether the number of steps may differ from call to call.
    """

    name: str
    suffix: str
    backend: str | None
    packages: tuple[str, ...]
    extra: str
    dynamic_time: bool = True


# The names of Keras' own `model.export`.
_NAMES_OF_KERAS = {"tf_saved_model": "saved_model"}

FORMATS = {
    form.name: form
    for form in (
        Format("onnx", ".onnx", "tensorflow", ("tensorflow", "tf2onnx", "onnx", "onnxruntime"), "onnx"),
        Format("saved_model", "", "tensorflow", ("tensorflow",), "tensorflow"),
        # LiteRT has no loop over a list of tensors. The steps are unrolled, so their number is fixed.
        Format("litert", ".tflite", "tensorflow", ("tensorflow", "ai_edge_litert"), "litert", dynamic_time=False),
        Format("stablehlo", ".stablehlo", "jax", ("jax", "flatbuffers"), "stablehlo"),
        Format("keras", ".keras", None, (), ""),
    )
}


def find_format(path: Path, name: str | None) -> Format:
    """Return the format of a name, or of the suffix of the path if there is no name.

    Args:
        path: The file that the user wants.
        name: The name of a format, or `None`.

    Raises:
        ExportError: If the format is unknown, the suffix belongs to another format, or packages are missing.
    """
    name = _NAMES_OF_KERAS.get(name or "", name)
    by_suffix = next((form for form in FORMATS.values() if form.suffix == path.suffix), None)
    form = by_suffix if name is None else FORMATS.get(name)
    if form is None:
        received = f"path={str(path)!r}" if name is None else f"format={name!r}"
        known = ", ".join(f'"{known.name}" ({known.suffix or "a folder"})' for known in FORMATS.values())
        raise ExportError(f"`format` must be one of {known}. Received: {received}.")
    if form.suffix and path.suffix != form.suffix:
        raise ExportError(
            f'A file of format "{form.name}" must end with `{form.suffix}`. Received: path={str(path)!r}. '
            f"Use {str(path.with_suffix(form.suffix))!r}."
        )
    _check_packages(form)
    return form


def _check_packages(form: Format) -> None:
    missing = [name for name in form.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f'format="{form.name}" needs {quoted(form.packages)}. Received: an environment without {quoted(missing)}. '
            f'Install them with: pip install "rnnstate[{form.extra}]".'
        )
