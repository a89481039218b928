"""Run the notebooks of examples/notebooks/, and write a page of the site for each, with its outputs.

The notebooks are kept without outputs, so a page shows what this version of the package really does. A cell that raises an
error is an error of the build. Notebooks of one backend share a process, because it takes some seconds to import a backend.
A notebook whose backend is not installed gets a page without outputs, which says so.
"""

import ast
import base64
import io
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
COMPILED = {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / "build" / "jax-cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
PAGES = Path(__file__).parent / "notebooks"


def cells_of(path):
    """Return the cells of a notebook: pairs of their kind and their text."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]


def backend_of(path):
    """Return the backend that a notebook asks for; the default is JAX."""
    asked = re.search(r'os\.environ\["KERAS_BACKEND"\] = "(\w+)"', "\n".join(text for _, text in cells_of(path)))
    return asked[1] if asked else "jax"


def write_pages():
    """Run all notebooks, two backends at a time, and write their pages.

    Raises:
        RuntimeError: If a cell raises an error.
    """
    PAGES.mkdir(exist_ok=True)
    groups = {}
    for path in NOTEBOOKS:
        groups.setdefault(backend_of(path), []).append(path)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_run_apart, groups, groups.values()))


def _run_apart(backend, paths):
    # The notebooks compile many functions and call each a few times, so code that is optimized less is ready sooner. What
    # JAX has compiled serves the next build too. More than one thread only waits in networks as small as these.
    environment = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0", "OMP_NUM_THREADS": "1"}
    for name, value in COMPILED.items():
        environment[name] = os.environ.get(name, value)
    names = [path.name for path in paths]
    command = [sys.executable, __file__, "run" if find_spec(backend) else "show", *names]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"The notebooks of {backend} must run: {', '.join(names)}.\n{result.stderr}")


def page_of(path, run):
    """Return the page of a notebook, with the outputs of its cells if it is to run."""
    names, parts = {"__name__": path.stem}, []
    for kind, text in cells_of(path):
        parts.append(text if kind == "markdown" else f"```python\n{text}\n```")
        if kind == "code" and run:
            parts += _shown(*outputs_of(text, names, path.stem))
    if not run:
        parts.append(f"*Shown without outputs: this site was built without {backend_of(path)}.*")
    source = path.relative_to(ROOT).as_posix()
    how = ", with the outputs that it gave when this site was built" if run else ""
    parts.insert(1, f"*This is `{source}`{how}.*")
    return "\n\n".join(parts) + "\n"


def outputs_of(text, names, title):
    """Run a cell among the names of its notebook; return what it printed, and the value of its last expression."""
    body, last = ast.parse(text).body, None
    if body and isinstance(body[-1], ast.Expr):
        last = ast.Expression(body.pop().value)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), title, "exec"), names)
        value = None if last is None else eval(compile(last, title, "eval"), names)
    return printed.getvalue(), value


def _shown(printed, value):
    """Yield the blocks that show the outputs of a cell."""
    if printed.strip():
        yield f"```text\n{printed.rstrip()}\n```"
    if hasattr(value, "savefig"):
        sys.path.insert(0, str(ROOT / "docs"))
        import matplotlib
        from pictures import SVG, for_dark_pages

        file = io.StringIO()
        with matplotlib.rc_context(SVG):
            value.savefig(file, format="svg", metadata={"Date": None})
        drawn = base64.b64encode(for_dark_pages(file.getvalue()).encode()).decode()
        label = ", ".join(part for part in (value.axes[0].get_ylabel(), value.axes[0].get_xlabel()) if part)
        yield f'<img alt="Picture: {" ".join(label.split())}" src="data:image/svg+xml;base64,{drawn}">'
    elif value is not None:
        yield f"```text\n{value!r}\n```"


def main(how, *names):
    """Write the pages of some notebooks of one backend."""
    folder = ROOT / "examples" / "notebooks"
    os.chdir(folder)  # as Jupyter does
    for name in names:
        (PAGES / f"{Path(name).stem}.md").write_text(page_of(folder / name, how == "run"))


if __name__ == "__main__":
    main(*sys.argv[1:])
