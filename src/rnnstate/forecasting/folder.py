"""A folder that appears whole or not at all: made beside its place, and renamed when everything is in it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnnstate.errors import DataError


@contextmanager
def new_run(path: Path, force: bool = False) -> Iterator[Path]:
    """Give an empty folder that becomes `path` if the body succeeds, and vanishes otherwise.

    Raises:
        DataError: If something stands at `path` and `force` is false, or is no RUN; or `path` cannot be written.
    """
    _check_replaceable(path, force)
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    except OSError as error:
        raise DataError(
            f"--out must be a folder that can be made. Received: {path} ({error.strerror}: {error.filename}). "
            "Give another place."
        ) from error
    try:
        yield folder
        mode = path.absolute().parent.stat().st_mode & 0o777
        folder.chmod(mode)
        _check_replaceable(path, force)
        _put_in_place(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_replaceable(path: Path, force: bool) -> None:
    if not (path.exists() or path.is_symlink()):
        return
    if not force:
        raise DataError(f"--out must not exist yet. Received: {path}. Give another name, or --force to replace it.")
    if not (path / "run.json").is_file():
        raise DataError(f"--force replaces a RUN only. Received: {path}, which is none. Give another name.")


def _put_in_place(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`; a RUN that stands there goes only when the new one has its place."""
    if not path.exists():
        folder.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.absolute().parent))
    path.rename(old / path.name)
    try:
        folder.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
