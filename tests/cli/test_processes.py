"""Commands that read a RUN, each in a separate process."""

import shlex
import subprocess

import pytest

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "command", ["predict RUN newer.csv -o -", "evaluate RUN newer.csv", "inspect RUN", "audit RUN/model.keras"]
)
def test_commands_in_a_process_of_their_own(trained, warm_python, command: str) -> None:
    """A RUN is read by a process that has not trained it, as a user's next command does."""
    run = [warm_python, "-m", "rnnstate", *shlex.split(command)]
    done = subprocess.run(run, cwd=trained, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
