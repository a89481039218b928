"""Files and folders that appear whole or not at all, and that survive a power cut once they are there.

The order is the usual one: write a temporary sibling, flush it to the disk, rename it, flush the folder's list of names.
A rename within one folder is atomic, so a reader sees the old content or the new content, never a part.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, prefix: str = "") -> Iterator[Path]:
    """Give a temporary file in the folder of `path`. It takes the place of `path` if the body succeeds.

    Args:
        path: The file to write or to replace.
        prefix: How the name of the temporary file begins. The default is a dot and the name of `path`.

    Yields:
        The temporary file. The body writes to it. If the body raises, the file is removed and `path` is as it was.

    Example:

    >>> with replacing(Path("notes.txt")) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> Path("notes.txt").read_text()
    'whole'
    """
    # The suffix stays, because some libraries choose the format by it.
    handle, name = tempfile.mkstemp(prefix=prefix or f".{path.name}.", suffix=path.suffix, dir=path.absolute().parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # `mkstemp` lets the owner alone read a file
        flush(temporary)
        os.replace(temporary, path)
        flush(path.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes, prefix: str = "") -> None:
    """Write all bytes of a file, or leave `path` as it was."""
    with replacing(path, prefix) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `path` if the body succeeds, and is removed otherwise.

    Args:
        path: The folder to make or to replace. Its parent must exist.

    Yields:
        The temporary folder, a sibling of `path`.
    """
    parent = path.absolute().parent
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent))
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        for file in folder.rglob("*"):
            flush(file)
        flush(folder)
        _swap(folder, path)
        flush(parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until the content of a file, or the list of names of a folder, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and writes names together with files
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`. An older folder at `path` is removed only after the new one is in place."""
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


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    return mask
