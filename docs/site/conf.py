"""Sphinx builds the site from the pages of docs/, and the reference from the docstrings: run `scripts/docs`."""

import inspect
import re
import sys
from pathlib import Path

import rnnstate

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from notebooks import NOTEBOOKS, write_pages  # noqa: E402

# Pages of the site that show files outside docs/.
SHOWN = {
    "site/measurements": "benchmarks/README.md",
    "site/example-1": "examples/01_minibatch_states.py",
    "site/example-2": "examples/02_thermal_house.py",
    "site/example-3": "examples/03_streaming_tcn.py",
    "site/example-4": "examples/04_spark_scoring.py",
    "site/example-5": "examples/05_ray_scoring.py",
    "site/changelog": "CHANGELOG.md",
    "site/contributing": "CONTRIBUTING.md",
}
CHAPTERS = {
    "Start": ("tutorial", "faq", "site/example-1", "site/example-2", "site/example-3", "site/example-4",
              "site/example-5"),
    "Guides": ("windows", "data", "initial-states", "policies", "states-in-place", "training-loops", "causal-layers",
               "see-the-state", "linear-recurrences", "layers", "resume", "threads", "streaming", "serving",
               "scoring-at-scale", "scale", "export", "weights", "ports", "cli", "migration"),
    "Notebooks": tuple(f"site/notebooks/{path.stem}" for path in NOTEBOOKS),
    "Reference": ("api", "site/reference", "state-files", "glossary"),
    "Inside": ("how-it-works", "performance", "site/measurements", "native-loops", "site/changelog",
               "site/contributing"),
}  # fmt: skip
BASES = "Model, PyDataset, Mapping, Callback, Layer, RNN, Exception"  # their members are not ours
OF_KERAS = (
    "build, call, compute_output_shape, from_config, get_config, save_own_variables, load_own_variables, variables, input, "
    "output, output_names, metrics, compile_from_config, get_compile_config, compute_loss, compute_loss_and_updates, "
    "compute_metrics, get_metrics_result, make_train_function, train_step, test_step, predict_step"
)

project = "rnnstate"
author = copyright = "The rnnstate authors"
version = release = rnnstate.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "index"
myst_heading_anchors = 3  # a link such as faq.md#does-it-help leads to a heading, as on a code host

# Docstrings have Google's sections, and code in single backticks.
default_role = "literal"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
add_module_names = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_theme = "furo"
html_title = f"rnnstate {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False


def setup(app):
    """Run the notebooks, and let Sphinx read each page as the site needs it."""
    write_pages()
    app.connect("source-read", adapt)


def adapt(app, docname, source):
    """Show files outside docs/, lead links to them to their pages, and add the contents and the reference."""
    path = ROOT / SHOWN.get(docname, f"docs/{docname}.md")
    text = reference() if docname == "site/reference" else path.read_text()
    if path.suffix == ".py":
        text = f"# {path.name}\n\n```python\n{text}```\n"
    else:
        text = re.sub(r"\]\((?!https?:|#)([^)#]+)", lambda match: f"]({on_site(path.parent, match[1])}", text)
    source[0] = text.replace("```tree\n", "```text\n") + (contents() if docname == "index" else "")


def on_site(folder, target):
    """Return a link's target from a page in `folder`: a page of the site, or a file."""
    path = (folder / target).resolve().relative_to(ROOT).as_posix()
    pages = {shown: f"/{page}.md" for page, shown in SHOWN.items()} | {"README.md": "/index.md"}
    pages |= {one.relative_to(ROOT).as_posix(): f"/site/notebooks/{one.stem}.md" for one in NOTEBOOKS}
    return pages.get(path, f"/{path.removeprefix('docs/')}" if path.startswith("docs/") else f"/../{path}")


def contents():
    """Return the table of contents, which the side bar shows."""
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])
        for caption, pages in CHAPTERS.items()
    ]
    return "\n\n" + "\n\n".join(trees)


def reference():
    """Return a page with the docstring of every public name."""
    values = {name: getattr(rnnstate, name) for name in rnnstate.__all__}
    parts = [
        "# Every argument",
        "The docstrings of all public names. [The short reference](../api.md) has a line for each.",
    ]
    for name, value in values.items():
        if inspect.ismodule(value):
            lines = [
                line for member in own_names(value) for line in documented(f"{name}.{member}", getattr(value, member))
            ]
            parts += [f"## {name}", inspect.getdoc(value).splitlines()[0], *lines]
        elif callable(value):
            parts += [f"## {name}", *documented(name, value)]
    return "\n\n".join(parts) + "\n"


def documented(name, value):
    """Return the directive that shows a docstring."""
    members = ["   :members:", f"   :inherited-members: {BASES}", f"   :exclude-members: {OF_KERAS}"]
    kind, options = ("autoclass", members) if inspect.isclass(value) else ("autofunction", [])
    return ["\n".join(["```{eval-rst}", f".. {kind}:: rnnstate.{name}", *options, "```"])]


def own_names(module):
    """Return the public functions and classes of a module, as far as they are of this package."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return [name for name in names if getattr(getattr(module, name), "__module__", "").startswith("rnnstate")]
