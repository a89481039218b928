"""Every test runs on the backend that was asked for, from its own seed, and leaves Keras' settings as it found them."""

import gc

gc.disable()  # the imports below take a quarter longer with it; `pytest_collection_finish` enables it
# ruff: noqa: E402

import os
import subprocess
import sys
from types import SimpleNamespace

import hypothesis
import keras
import pytest

import warm
from rnnstate.exporting import job

# How long an example takes says nothing about a law.
hypothesis.settings.register_profile("rnnstate", deadline=None)
hypothesis.settings.load_profile("rnnstate")

ASKED = os.environ.get("KERAS_BACKEND")


def pytest_ignore_collect(collection_path, config) -> bool | None:
    """Leave out files without a single test for this backend, so that no process imports what they test."""
    if config.getoption("-m") != "not once" or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.once\n" in collection_path.read_text() or None


def pytest_collection_finish(session) -> None:
    """Let the garbage collector leave out what is imported by now, and look less often at what tracing makes."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    gc.enable()


def pytest_report_header() -> str:
    """Say which backend the run is about."""
    return f"keras {keras.__version__} on {keras.config.backend()}"


@pytest.fixture(scope="session")
def backend() -> str:
    """Return the backend; another one than was asked for is an error, never a skip."""
    loaded = keras.config.backend()
    if ASKED is not None and loaded != ASKED:
        pytest.fail(
            f"KERAS_BACKEND must be the backend that runs. Received: KERAS_BACKEND={ASKED}, Keras runs {loaded}."
        )
    return loaded


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory) -> str:
    """Return the path of a Python that has imported Keras already. All test processes share what it starts."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if shared else tmp_path_factory.getbasetemp()
    # Another system than Linux, or a path that is too long for the name of a socket: programs start in the usual way.
    if not hasattr(os, "pidfd_open") or len(str(folder)) > 80:
        return sys.executable
    return warm.executable(folder, os.getppid() if shared else os.getpid())


@pytest.fixture
def warm_processes(warm_python, monkeypatch):
    """Let the code under test start warm processes."""
    monkeypatch.setattr(sys, "executable", warm_python)


@pytest.fixture(scope="session", autouse=True)
def _warm_exports(warm_python):
    """Let exports start warm processes. `tests/exporting/test_export.py` starts new ones for each format."""
    with pytest.MonkeyPatch.context() as patch:
        run = lambda command, **options: subprocess.run([warm_python, *command[1:]], **options)  # noqa: E731
        patch.setattr(job, "subprocess", SimpleNamespace(run=run))
        yield


@pytest.fixture(autouse=True)
def _same_start(backend):
    """Seed everything, and put Keras' float type and policy back afterwards."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.utils.set_random_seed(1729)
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
