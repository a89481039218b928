"""The checkpoints of a training run: when they are written, and which file of the folder is read.

A run continues from the newest file that is whole and belongs to it. Older files stay in case the newest one is damaged:
damage then costs the time between two checkpoints, and a warning reports it. A folder with checkpoints of which none is
usable is an error, and never a fresh start.
"""

import logging
import operator
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnstate.errors import DataError, RnnStateError, SpecMismatchError
from rnnstate.training.resume.file import UNFINISHED, read_sealed, write_sealed

_NAME = re.compile(r"checkpoint-\d{8}\.safetensors")
_log = logging.getLogger("rnnstate")


@dataclass(frozen=True)
class Checkpoint:
    """The folder of checkpoints and how often `fit` writes one: `model.fit(windows, checkpoint=Checkpoint("run"))`.

    `fit` writes a checkpoint before the first batch and at the end of each epoch, and between them as given here.

    Args:
        directory: A folder that is new or empty, or holds checkpoints of the same run. The run then continues from these.
        every_batches: Number of batches after which a checkpoint is written, counted from the start of an epoch.
        every_seconds: Number of seconds after the last checkpoint. The next batch that ends then writes one.
        keep: Number of files that stay. With 1, a damaged file costs the whole run.

    Raises:
        ValueError: If a number is not positive.

    Example:

    >>> Checkpoint("power.checkpoints", every_batches=100).keep
    2
    """

    directory: str | os.PathLike[str]
    every_batches: int | None = None
    every_seconds: float | None = 60.0
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("every_batches", "keep"):
            value = getattr(self, name)
            if (value is not None or name == "keep") and not _is_count(value):
                raise ValueError(f"`{name}` must be a whole number of at least 1. Received: {name}={value!r}.")
        if self.every_seconds is not None and not self.every_seconds > 0:
            raise ValueError(f"`every_seconds` must be positive. Received: every_seconds={self.every_seconds!r}.")


class CheckpointFolder:
    """The checkpoint files of one run.

    Args:
        path: The folder; `write` makes it.
        keep: Number of files that stay.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int = 2) -> None:
        self.path, self._keep = Path(path), keep

    def files(self) -> list[Path]:
        """Return the checkpoint files, newest first."""
        if not self.path.is_dir():
            return []
        return sorted((file for file in self.path.iterdir() if _NAME.fullmatch(file.name)), reverse=True)

    def write(self, content: Mapping[str, Any]) -> Path:
        """Write the next checkpoint, then delete all files but the newest `keep`.

        Raises:
            DataError: If the content cannot be packed.
            OSError: If the file cannot be written. The older files stay as they are.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        files = self.files()
        number = int(files[0].name[11:19]) + 1 if files else 0
        path = self.path / f"checkpoint-{number:08d}.safetensors"
        write_sealed(path, content)
        for old in files[self._keep - 1 :]:
            old.unlink(missing_ok=True)
        return path

    def newest(self, check: Callable[[dict[str, Any], str], None]) -> dict[str, Any] | None:
        """Return the newest checkpoint that is whole and passes `check`, or `None` if there is none.

        Args:
            check: Takes the content and the file name. Raises an `RnnStateError` for the checkpoint of another run.

        Raises:
            DataError: If no file is usable, or the folder holds other files.
            SpecMismatchError: If no file is usable and one belongs to another run.
        """
        self._check_own()
        refused: list[RnnStateError] = []
        for file in self.files():
            try:
                content = read_sealed(file)
                check(content, str(file))
            except RnnStateError as error:
                refused.append(error)
                continue
            if refused:
                warnings.warn(f"{refused[0]} Going on from the older `{file}`.", RuntimeWarning, stacklevel=2)
            _log.info("Going on from `%s`.", file)
            return content
        if refused:
            raise self._unusable(refused)
        return None

    def clean(self) -> None:
        """Remove the unfinished files of a killed writer."""
        for file in self.path.glob(f"{UNFINISHED}*"):
            file.unlink(missing_ok=True)

    def _check_own(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"`checkpoint` must be a folder. Received: `{self.path}`, which is a file.")
        if self.files() or not self.path.is_dir():
            return
        others = sorted(file.name for file in self.path.iterdir() if not file.name.startswith("."))
        if others:
            raise DataError(
                "`checkpoint` must be a folder that is new, empty, or of an earlier start of this run. Received: "
                f"`{self.path}`, which holds `{others[0]}` ({len(others)} in all) and no checkpoint. "
                "Name another folder."
            )

    def _unusable(self, refused: list[RnnStateError]) -> RnnStateError:
        kinds = [type(error) for error in refused if isinstance(error, SpecMismatchError)]
        reasons = " ".join(dict.fromkeys(str(error) for error in refused[:3]))
        total = f" ({len(refused)} in all)" if len(refused) > 3 else ""
        return (kinds[0] if kinds else DataError)(
            f"A folder that holds checkpoints must hold a usable one. Received: `{self.path}`{total}. {reasons} "
            "Repair what differs, or name a new folder for a new run."
        )


def _is_count(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and operator.index(value) >= 1
    except TypeError:
        return False
