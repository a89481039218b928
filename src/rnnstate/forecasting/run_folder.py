"""RUN: the folder that a training leaves. It is written whole or not at all, and checked when it is read.

model.keras                the StatefulModel
states.safetensors         where each key stands after all of its data: state, last time, usual step, next predictions
states_train.safetensors   where each key stood after its training part
run.json                   command, arguments, scaling, test errors, versions, format
history.json               loss of each epoch
report.html                a page about all of this, which no command reads

One file says where the keys stand, so that `write_standing` replaces all of it at once. RUNs of format 1 have the times in
a further file, `keys.json`. They can be read, and not updated.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.durable import replacing_folder
from rnnstate.errors import DataError
from rnnstate.forecasting.continuation import Standing
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.standing_file import fingerprint, read_standing, write_standing
from rnnstate.forecasting.train import Trained
from rnnstate.messages import quoted
from rnnstate.versions import installed_versions
from rnnstate.windows.scaling import Scaling

FORMAT = 2
_STATES = {"end": "states.safetensors", "train": "states_train.safetensors"}
FILES = ("run.json", "history.json", "model.keras", *_STATES.values())
_KEYS = "keys.json"  # of format 1
# A training writes it when the other files are complete. A RUN without it is whole.
REPORT = "report.html"


@dataclass(frozen=True, eq=False)
class Run:
    """The content of a RUN, loaded.

    Args:
        path: The folder.
        settings: Arguments of the training.
        scaling: Scaling measured on the training part.
        model: The `StatefulModel`.
        end: Where each key stands after all of its data.
        middle: Where each key stood after its training part.
        info: All of `run.json`.
        history: Loss of each epoch, by name.
        seen: Which content of `states.safetensors` was read.
    """

    path: Path
    settings: Settings
    scaling: Scaling
    model: Any
    end: Standing
    middle: Standing
    info: Mapping[str, Any]
    history: Mapping[str, list[float]]
    seen: str


@contextmanager
def new_run(path: Path, force: bool = False) -> Iterator[Path]:
    """Give an empty folder that becomes `path` if the body succeeds, and is removed otherwise.

    Args:
        path: The RUN to make. Missing parent folders are made too.
        force: Whether to replace a RUN that exists.

    Raises:
        DataError: If `path` exists and `force` is false, if `path` exists and is no RUN, or if it cannot be written.
    """
    _check_replaceable(path, force)
    with ExitStack() as stack:
        try:
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(replacing_folder(path))
        except OSError as error:
            raise DataError(
                f"--out must be a folder that can be made. Received: {path} ({error.strerror}: {error.filename}). "
                "Give another place."
            ) from error
        yield folder
        # A training takes long: something may have appeared at `path` meanwhile.
        _check_replaceable(path, force)


def is_complete(path: Path, settings: Settings) -> bool:
    """Return whether `path` is a RUN with all its files, and a training with the same settings wrote it.

    Raises:
        DataError: If `path` is a RUN of another format, or its `run.json` is damaged.
    """
    if any(not (path / name).is_file() for name in FILES):
        return False
    return read_settings(path) == settings


def _check_replaceable(path: Path, force: bool) -> None:
    if str(path) == "-":
        raise DataError("--out must be a folder, so it cannot be standard output. Received: -. Give a name.")
    if not (path.exists() or path.is_symlink()):
        return
    if not force:
        raise DataError(f"--out must not exist yet. Received: {path}. Give another name, or --force to replace it.")
    if not (path / "run.json").is_file():
        raise DataError(f"--force replaces a RUN only. Received: {path}, which is none. Give another name.")


def save_run(folder: Path, settings: Settings, trained: Trained, command: Sequence[str]) -> None:
    """Write all files of a RUN into an empty folder."""
    trained.model.save(folder / "model.keras")
    for name, standing in (("end", trained.end), ("train", trained.middle)):
        write_standing(folder / _STATES[name], standing)
    _write_json(folder / "history.json", trained.history)
    _write_json(folder / "run.json", _info(settings, trained, command))


def update_run(run: Run, standing: Standing) -> str:
    """Make a RUN stand where new data ended. A reader sees the old place of all keys, or the new one.

    Returns:
        The fingerprint of the new states, as `Run.seen`.

    Raises:
        DataError: If the RUN has format 1, or other data have moved it since it was read.
    """
    file = run.path / _STATES["end"]
    if run.info["format"] == 1:
        raise DataError(f"`--update` needs a RUN of format {FORMAT}. Received: {run.path}, of format 1. Train again.")
    if fingerprint(file) != run.seen:
        raise DataError(f"{run.path} must not change meanwhile. Received: states of another --update. Run it again.")
    write_standing(file, standing)
    return fingerprint(file)


def read_run(path: Path) -> Run:
    """Read a RUN.

    Raises:
        DataError: If the folder is no RUN, has another format, lacks a file, or is damaged.
    """
    info = read_info(path)
    files = (*FILES, _KEYS) if info["format"] == 1 else FILES
    missing = [name for name in files if not (path / name).is_file()]
    if missing:
        raise DataError(f"A RUN must hold {', '.join(files)}. Received: {path} without {quoted(missing)}. {_AGAIN}")
    model = load_model(path / "model.keras")
    places = _read_json(path / _KEYS) if info["format"] == 1 else None
    history = _read_json(path / "history.json")
    seen = fingerprint(path / _STATES["end"])
    try:
        settings = read_settings(path)
        scaling = Scaling(np.array(info["scaling"]["mean"]), np.array(info["scaling"]["std"]))
        standings = {
            name: read_standing(path / file, model.state_spec, places and places[name])
            for name, file in _STATES.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"The files of {path} must be as `rnnstate train` wrote them. Received: {error!r}. {_AGAIN}"
        ) from error
    for name, standing in standings.items():
        if standing.state.batch_size != len(standing.places):
            raise DataError(
                f"{path / _STATES[name]} must hold {len(standing.places)} rows, one for each key. "
                f"Received: {standing.state.batch_size}. {_AGAIN}"
            )
    _check_outlook(path, standings["end"], settings)
    return Run(path, settings, scaling, model, standings["end"], standings["train"], info, history, seen)


def run_of(path: Path, settings: Settings, trained: Trained) -> Run:
    """Return a RUN that was just written to `path`, without loading its model again."""
    files = read_info(path), trained.history, fingerprint(path / _STATES["end"])
    return Run(path, settings, trained.scaling, trained.model, trained.end, trained.middle, *files)


def _check_outlook(path: Path, standing: Standing, settings: Settings) -> None:
    outlook, keys = standing.outlook, len(standing.places)
    if outlook is None:
        return
    wanted = (keys, settings.horizon, len(settings.targets)), (keys, len(settings.columns.inputs))
    if (outlook.targets.shape, outlook.inputs.shape) != wanted:
        raise DataError(
            f"{path / _STATES['end']} must know the next steps in arrays of shapes {wanted[0]} and {wanted[1]}. "
            f"Received: {outlook.targets.shape} and {outlook.inputs.shape}. {_AGAIN}"
        )


def read_settings(path: Path) -> Settings:
    """Return the settings of a RUN, without loading its model.

    Raises:
        DataError: If the folder is no RUN, or its `run.json` is damaged.
    """
    try:
        return Settings.from_json(read_info(path)["arguments"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path / 'run.json'} must be as `rnnstate train` wrote it. Received: {error!r}. {_AGAIN}"
        ) from error


def read_info(path: Path) -> Mapping[str, Any]:
    """Return the content of `run.json`.

    Raises:
        DataError: If the folder is no RUN, or has a format that this release cannot read.
    """
    if not (path / "run.json").is_file():
        what = "a folder without run.json" if path.is_dir() else "no folder"
        raise DataError(f"RUN must be a folder that `rnnstate train` made. Received: {path}, {what}.")
    info = _read_json(path / "run.json")
    found = info.get("format") if isinstance(info, dict) else None
    if found not in (1, FORMAT) or not isinstance(info, dict):
        raise DataError(
            f"{path} must be a RUN of format {FORMAT}. Received: format {found}. "
            f"Use the release of rnnstate that wrote it, or train again."
        )
    return info


def load_model(path: Path) -> Any:
    """Load a `.keras` file.

    Raises:
        DataError: If the file is missing or damaged, or if Keras does not know one of its classes.
    """
    if not path.is_file():
        raise DataError(f"MODEL must be a .keras file. Received: {path}, which is no file.")
    import keras

    try:
        return keras.saving.load_model(path)
    except Exception as error:
        # For a damaged file Keras raises many kinds of errors, with messages of many lines.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} must be a whole Keras model. Received: {reason}") from error


_AGAIN = "Copy the whole folder again, or train again."


def _info(settings: Settings, trained: Trained, command: Sequence[str]) -> dict[str, Any]:
    import keras

    backend = keras.backend.backend()
    return {
        "format": FORMAT,
        "command": list(command),
        "arguments": settings.to_json(),
        "inputs": list(settings.columns.inputs),
        "scaling": {"mean": trained.scaling.mean.tolist(), "std": trained.scaling.std.tolist()},
        "test": {"rows": trained.scored, "errors": [asdict(score) for score in trained.scores]},
        "versions": {
            **installed_versions(["rnnstate", "keras", "numpy", "python"]),
            "backend": f"{backend} {installed_versions([backend]).get(backend, '')}".strip(),
        },
        "seed": settings.seed,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be whole JSON. Received: {error}. {_AGAIN}") from error
