"""The RUN that the tests of the command line share."""

from pathlib import Path

import pytest

from forecasting import TINY, TRAIN, rows, write_rows
from rnnstate.cli.app import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with RUN, the data it was trained on, and the data that follow, whole and in two halves."""
    folder = tmp_path_factory.mktemp("cli")
    data = write_rows(folder / "data.csv", rows(0, 61))
    assert main(["train", data, *TRAIN, *TINY, "--out", str(folder / "RUN")]) == 0
    write_rows(folder / "newer.csv", rows(61, 80))
    write_rows(folder / "all.csv", rows(0, 80))
    return folder
