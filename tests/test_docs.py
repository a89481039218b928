"""The documents run: every Python fence, every example, every docstring; and the reference lists every public name.

`test_core_install.py` runs each page on JAX, with the default install. This file runs the pages whose blocks need an extra
or another backend. `support/documents.py` says how a page shows output.
"""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

import rnnstate as rs
from documents import FENCE, Page, blocks, fences
from rnnstate import initial, layers, scale, stores

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The tests of Spark and Ray run the examples of both, where the engines have started already.
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if not path.stem.endswith("_scoring"))

EVERYWHERE = ("README.md", "training-loops.md")


def at_hand(need):
    """Return whether a block may run here: each extra is installed, and one backend runs."""
    return not need.endswith("_backend") or need == f"{keras.config.backend()}_backend"


def where(path):
    """Return the page as a parameter, with the mark that says on which backends it runs in this process."""
    if path.name in EVERYWHERE:
        mark = pytest.mark.skipif(keras.config.backend() == "jax", reason="test_core_install.py runs the page on JAX")
    else:
        mark = pytest.mark.skipif(keras.config.backend() != "jax", reason="the page shows numbers of JAX")
    return pytest.param(path, id=path.name, marks=mark)


def more_than_the_core(path):
    """Return whether a page runs here: on each backend, or because a block needs an extra."""
    extras = [need for need, *_ in blocks(path) if need and not need.endswith("_backend")]
    return path.name in EVERYWHERE or bool(extras)


@pytest.mark.parametrize("path", [where(path) for path in PAGES if more_than_the_core(path)])
def test_every_python_fence_runs(path, tmp_path, monkeypatch, backend):
    """The code of a page runs from top to bottom, in an empty folder, and prints what the page shows."""
    monkeypatch.chdir(tmp_path)
    Page(path, exact=backend == "jax", has=at_hand).run()


@pytest.mark.parametrize(
    "wrong",
    ['print("a")  # prints: b', "print(1.25)  # prints: 1.35", "raise ValueError", 'print("a")\n```\n\n```text\nb'],
)
def test_a_page_that_lies_fails(wrong, tmp_path):
    """The control: wrong words, wrong numbers, code that fails and a wrong block of output are all found."""
    path = tmp_path / "page.md"
    path.write_text(f"Words.\n\n```python\n{wrong}\n```\n")
    with pytest.raises((AssertionError, ValueError)):
        Page(path, exact=True, has=at_hand).run()


@pytest.mark.parametrize("needed", ["jax", "torch", "tensorflow"])
def test_a_block_for_one_backend_runs_there_alone(needed, tmp_path, backend):
    """A block that needs a backend runs on that backend, and is left out on the others."""
    path = tmp_path / "page.md"
    path.write_text(f"<!-- needs: {needed}_backend -->\n```python\nraise ValueError\n```\n")
    with pytest.raises(ValueError, match=r"^$") if needed == backend else nullcontext():
        Page(path, exact=True, has=at_hand).run()


@cache
def run_example(path, python):
    """Run an example from an empty folder, as its reader would, and return what it printed; a small one where it can."""
    arguments = ["--quick"] if "--quick" in path.read_text() else []
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([python, path, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.once
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs(path, warm_python):
    """Each example runs to its end and prints something."""
    assert run_example(path, warm_python).strip()


@pytest.mark.once
def test_the_first_example_shows_what_it_says(warm_python):
    """Carried and known starts are better than zeros, given states are started from, a wrong size changes nothing."""
    printed = run_example(ROOT / "examples" / "01_minibatch_states.py", warm_python)
    carried, alone = (float(re.search(rf"([\d.]+), {words}", printed)[1]) for words in ("state carried", "each window"))
    assert carried > alone + 0.05
    losses = re.findall(r"loss ([\d.]+), from the given states ([\d.]+)", printed)
    assert len(losses) == 4
    assert all(abs(float(loss) - float(expected)) < 2e-4 for loss, expected in losses)
    assert "`lstm_8/h` must have shape (batch=10, units=8). Received: shape=(10, 2)" in printed
    assert "every state is as it was: True" in printed
    assert "lstm_8/h (2, 8), lstm_8/c (2, 8), lstm_16/h (2, 16), lstm_16/c (2, 16)" in printed
    (known,) = re.findall(r"\(d\).*?ten steps of each window: ([\d.]+)", printed, re.DOTALL)
    assert float(known) > alone + 0.05


# Modules that can be imported only where their own backend or library runs.
ELSEWHERE = re.compile(
    r"\.(kernels\.(jax|torch|tensorflow|loops|native|step)\b|bench\.contenders|exporting\.on_)|__main__"
)
MODULES = sorted(
    found.name for found in pkgutil.walk_packages(rs.__path__, "rnnstate.") if not ELSEWHERE.search(found.name)
)


# The examples of these packages give the same on every backend.
NEUTRAL = re.compile(
    r"rnnstate\.(bench|cli|exporting|forecasting|insight\.(numbers|plots)|onnx_step|serving|streaming|windows)\b"
)


# The other examples run on the backend of the default install, where readers paste them.
READ_ON = "jax"
NEUTRAL_MODULES = [pytest.param(name, marks=pytest.mark.once) for name in MODULES if NEUTRAL.match(name)]
OTHER_MODULES = [name for name in MODULES if not NEUTRAL.match(name)] if keras.config.backend() == READ_ON else []


@pytest.mark.parametrize("name", NEUTRAL_MODULES + OTHER_MODULES)
def test_docstrings_run(name, tmp_path, monkeypatch):
    """The examples of every docstring give what they show."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {public: getattr(rs, public) for public in rs.__all__} | vars(module) | {"np": np, "keras": keras, "rs": rs}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names):
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)


MODULES_OF_CLASSES = {"initial": initial, "layers": layers, "stores": stores, "scale": scale}


def public_names():
    """Return every public name, those of `rnnstate.initial` and `rnnstate.layers` with their prefix."""
    inner = [f"{part}.{name}" for part, module in MODULES_OF_CLASSES.items() for name in own_names(module)]
    return [*rs.__all__, *inner]


def own_names(module):
    """Return the public classes and functions of a module, as far as they are of this package."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    values = {name: getattr(module, name) for name in names}
    return [
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("rnnstate")
    ]


@pytest.mark.once
def test_the_reference_lists_the_names_of_modules_and_the_members_of_states():
    """Each function and class of a public module is in docs/api.md, and so is each member of a state."""
    text = (ROOT / "docs" / "api.md").read_text()
    modules = {"testing": rs.testing, "weights": rs.weights, "plots": rs.plots}
    wanted = {f"{name}.{member}" for name, module in modules.items() for member in own_names(module)}
    wanted |= {"onnx_step.load", "onnx_step.OnnxStep"}
    kinds = {"state": rs.State, "spec": rs.StateSpec}
    wanted |= {f"{kind}.{name}" for kind, owner in kinds.items() for name in vars(owner) if not name.startswith("_")}
    wanted -= {"state.fits", "state.unchecked"} | ({"State.unchecked"} if "State.unchecked" in text else set())
    assert sorted(name for name in wanted if f"`{name}" not in text) == []


@pytest.mark.once
def test_every_name_that_a_page_mentions_is_there():
    """`rs.` and a name, in a document, is a name of the package, and after `import rnnstate` alone."""
    for path in PAGES:
        for mention in set(re.findall(r"\brs\.([a-zA-Z_]\w*(?:\.[a-zA-Z_]\w*)?)", path.read_text())):
            value = rs
            for part in mention.split("."):
                value = getattr(value, part)


@pytest.mark.once
def test_the_reference_lists_every_public_name():
    """Each public name has its entry in docs/api.md, and nothing else has."""
    text = (ROOT / "docs" / "api.md").read_text()
    entries = set(re.findall(r"^\| `(?:class )?rs\.([\w.]+)", text, re.MULTILINE))
    assert entries == set(public_names())


def test_public_names_are_documented():
    """Each public class and function has a docstring. A function's docstring explains its arguments."""
    for name in rs.__all__:
        value = getattr(rs, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
        if inspect.isfunction(value):
            assert "Args:" in inspect.getdoc(value), name


def examples_of(value):
    """Return the examples in the docstring of a class or function."""
    return doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")


def test_every_public_name_has_an_example():
    """The docstring of each public class and function has an example, and `test_docstrings_run` runs it."""
    inner = [getattr(module, name) for module in MODULES_OF_CLASSES.values() for name in own_names(module)]
    values = [getattr(rs, name) for name in rs.__all__] + inner
    documented = [
        value
        for value in values
        if inspect.isfunction(value) or (inspect.isclass(value) and not issubclass(value, Exception))
    ]
    assert [value.__name__ for value in documented if not examples_of(value)] == []
    assert {value.__module__ for value in documented} <= {*MODULES}


def test_the_tree_names_what_is_there():
    """Each file and folder in the tree of docs/how-it-works.md exists, and every package and module is in the tree."""
    (tree,) = (
        content for kind, _, content in fences((ROOT / "docs" / "how-it-works.md").read_text()) if kind == "tree"
    )
    source = ROOT / "src" / "rnnstate"
    folder, named = "", set()
    for line in tree.splitlines()[1:]:
        name = line.split()[0]
        folder = name if line.startswith("  ") and not line.startswith("    ") and name.endswith("/") else folder
        path = source / (folder + name if line.startswith("    ") else name)
        assert path.exists(), line
        named.add(path.relative_to(source).parts[0])
    there = {path.name for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - named == {"__init__.py", "__main__.py"}


def test_links_lead_somewhere():
    """Every relative link of a page leads to a file of this repository."""
    for path in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def anchors(path):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#{1,6} (.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.once
def test_anchors_lead_to_a_heading_and_each_question_is_one_click_from_the_readme():
    """A link to a part of a page finds its heading, and README links to each question of docs/faq.md."""
    for path in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", FENCE.sub("", path.read_text())):
            assert anchor in anchors(path.parent / target if target else path), f"{path.name}: {target}#{anchor}"
    clicks = set(re.findall(r"docs/faq\.md#([^)]+)", (ROOT / "README.md").read_text()))
    assert clicks == anchors(ROOT / "docs" / "faq.md") - {"questions"}


def test_examples_run_on_the_backend_that_was_asked_for(backend):
    """Sub-processes inherit the backend, so that no example runs on another one unnoticed."""
    program = "import rnnstate, keras; print(keras.config.backend())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == os.environ.get("KERAS_BACKEND", backend)
