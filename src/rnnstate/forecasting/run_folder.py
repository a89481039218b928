"""RUN: the folder that a training leaves, written whole or not at all, and checked when it is read.

model.keras                the StatefulModel
states.safetensors         where each key stands after all of its data, one row for each key
states_train.safetensors   where each key stood after its training part
keys.json                  key, last time and usual step of each row of the two
run.json                   command, arguments, scaling, test errors, versions, format
history.json               loss of each epoch
"""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate import __version__
from rnnstate.errors import DataError
from rnnstate.forecasting.continuation import Place, Standing
from rnnstate.forecasting.examples import Scaling
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.train import Trained
from rnnstate.messages import quoted

FORMAT = 1
_STATES = {"end": "states.safetensors", "train": "states_train.safetensors"}
FILES = ("run.json", "history.json", "keys.json", "model.keras", *_STATES.values())


@dataclass(frozen=True, eq=False)
class Run:
    """What is needed to go on from a training.

    Args:
        path: The folder.
        settings: What the training was asked for.
        scaling: Of the training part.
        model: The `StatefulModel`.
        end: Where each key stands after all of its data.
        middle: Where each key stood after its training part.
        info: All of `run.json`.
        history: Loss of each epoch, by name.
    """

    path: Path
    settings: Settings
    scaling: Scaling
    model: Any
    end: Standing
    middle: Standing
    info: Mapping[str, Any]
    history: Mapping[str, list[float]]


def save_run(folder: Path, settings: Settings, trained: Trained, command: Sequence[str]) -> None:
    """Write all files of a RUN into an empty folder."""
    from rnnstate.state.files import save_state

    trained.model.save(folder / "model.keras")
    places = {}
    for name, standing in (("end", trained.end), ("train", trained.middle)):
        save_state(folder / _STATES[name], standing.state)
        places[name] = [asdict(place) for place in standing.places]
    _write_json(folder / "keys.json", places)
    _write_json(folder / "history.json", trained.history)
    _write_json(folder / "run.json", _info(settings, trained, command))


def load_run(path: Path) -> Run:
    """Read a RUN.

    Raises:
        DataError: If the folder is no RUN, of another format, not complete, or damaged.
    """
    from rnnstate.state.files import load_state

    info = read_info(path)
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise DataError(f"A RUN must hold {', '.join(FILES)}. Received: {path} without {quoted(missing)}. {_AGAIN}")
    model = load_model(path / "model.keras")
    places = _read_json(path / "keys.json")
    history = _read_json(path / "history.json")
    try:
        settings = Settings.from_json(info["arguments"])
        scaling = Scaling(np.array(info["scaling"]["mean"]), np.array(info["scaling"]["std"]))
        standings = {
            name: Standing(
                tuple(Place(**place) for place in places[name]),
                load_state(path / file, spec=model.state_spec),
            )
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
    return Run(path, settings, scaling, model, standings["end"], standings["train"], info, history)


def read_info(path: Path) -> Mapping[str, Any]:
    """Return `run.json` of a RUN of a format that this release reads."""
    if not (path / "run.json").is_file():
        what = "a folder without run.json" if path.is_dir() else "no folder"
        raise DataError(f"RUN must be a folder that `rnnstate train` made. Received: {path}, {what}.")
    info = _read_json(path / "run.json")
    found = info.get("format") if isinstance(info, dict) else None
    if found != FORMAT or not isinstance(info, dict):
        raise DataError(
            f"{path} must be a RUN of format {FORMAT}. Received: format {found}. "
            f"Use the release of rnnstate that wrote it, or train again."
        )
    return info


def load_model(path: Path) -> Any:
    """Load a `.keras` file.

    Raises:
        DataError: If it is missing, damaged, or made of classes that are not known here.
    """
    if not path.is_file():
        raise DataError(f"MODEL must be a .keras file. Received: {path}, which is no file.")
    import keras

    import rnnstate.model  # noqa: F401  (makes Keras know StatefulModel)

    try:
        return keras.saving.load_model(path)
    except Exception as error:
        # Keras raises many kinds of errors, over many lines, for a file that is damaged.
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
            "rnnstate": __version__,
            "keras": keras.__version__,
            "backend": f"{backend} {getattr(sys.modules.get(backend), '__version__', '')}".strip(),
            "numpy": np.__version__,
            "python": platform.python_version(),
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
