"""Every page runs in the environment of a reader who has installed the core alone: JAX, no extra, no `KERAS_BACKEND`.

Each page is a process that sees the default requirements of this package and nothing else. A block behind
`<!-- needs: NAME -->` needs an extra or another backend, and is left out.
"""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import documents
import rnnstate

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def runs(page):
    """Return whether a page has Python blocks that the core can run."""
    return any(kind == "python" and need in (None, "jax_backend") for need, kind, *_ in documents.blocks(page))


def core_distributions():
    """Return the names of the distributions that the default install brings."""
    found, left = set(), [Requirement(line) for line in metadata.requires("rnnstate")]
    while left:
        requirement = left.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            inner = Requirement(line)
            if not inner.marker or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                inner.marker = None
                left.append(inner)
    return found


@pytest.fixture(scope="session")
def core(tmp_path_factory):
    """A folder with links to the modules of the core alone, and an empty folder for Keras' settings."""
    folder = tmp_path_factory.mktemp("core")
    for name in core_distributions():
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(
                    Path(file.locate()).parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
                )

    (folder / "rnnstate").symlink_to(Path(rnnstate.__file__).parent)
    return folder


def run_in_core(core, arguments, folder, python=None, **more):
    """Run Python in a process that sees the core alone, with more variables of the environment."""
    hidden = ("KERAS_BACKEND", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONPATH": str(core), "KERAS_HOME": str(core / ".keras"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= more
    # `-S` leaves out site-packages, and so everything that the folder does not hold.
    command = [python or sys.executable, "-S", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_the_core_has_no_other_backend(core, tmp_path):
    """Negative control: the environment has no TensorFlow, PyTorch or pandas."""
    code = "import importlib.util as u; print([n for n in ('tensorflow', 'torch', 'pandas') if u.find_spec(n)])"
    assert run_in_core(core, ["-c", code], tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.name)
def test_a_page_runs_with_the_core_alone(page, core, tmp_path, warm_python):
    """All blocks of a page, pasted from top to bottom, run without an error and print what the page shows."""
    # Newcomers begin with these two pages. For the others XLA compiles with less effort, and Keras is imported once.
    first = page.stem in ("README", "tutorial")
    more = {} if first else {"python": warm_python, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = run_in_core(core, [documents.__file__, page], tmp_path, **more)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_demo_runs_with_the_core_alone(core, tmp_path):
    """The command of README trains, and writes its table to standard output and a report into the folder."""
    done = run_in_core(core, ["-m", "rnnstate", "demo", "--epochs", "1"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "model, state carried" in done.stdout
    assert "The report is in rnnstate-demo.html." in done.stderr
    assert "<h1>" in (tmp_path / "rnnstate-demo.html").read_text()
