"""Serve an exported model to a browser, which runs it in the page: `python examples/browser/start.py [MODEL.onnx]`.

Without MODEL.onnx it exports an LSTM that was not trained, which needs `pip install "rnnstate[onnx]"`.
npm fetches onnxruntime-web once; from then on nothing leaves this machine.
"""

import argparse
import functools
import http.server
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def assemble(folder, model):
    """Copy the page and a model with its manifest to a folder, and install the runtime there."""
    for path in HERE.iterdir():
        if path.suffix in (".html", ".js", ".json"):
            shutil.copy(path, folder)
    shutil.copy(model, folder / "model.onnx")
    shutil.copy(model.with_name(f"{model.name}.json"), folder / "model.onnx.json")
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("The example needs npm. On Debian: apt-get install npm")
    install = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run([npm, *install], cwd=folder, check=True, stdout=subprocess.DEVNULL)


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves the folder. The browser runs a module only if its type is that of JavaScript."""

    extensions_map = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_):
        """Write no line for a request."""


def files(folder, port=0):
    """Return a server of a folder, for this machine alone."""
    handler = functools.partial(Files, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def untrained(folder):
    """Export a small network, and return the path of its file."""
    import rnnstate as rs  # before keras: it chooses a backend that is installed

    import keras  # isort: skip

    keras.utils.set_random_seed(0)
    lstm = keras.layers.LSTM(8, return_sequences=True, name="lstm")
    net = keras.Sequential([keras.Input((None, 2)), lstm, keras.layers.Dense(1)])
    rs.export(rs.StatefulModel(net), folder / "lstm.onnx", format="onnx")
    return folder / "lstm.onnx"


def main():
    """Put the page together and serve it until Ctrl+C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a file that `rnnstate export` wrote, with its manifest")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "page").mkdir()
        assemble(folder / "page", given.model or untrained(folder))
        server = files(folder / "page", given.port)
        print(f"Open http://127.0.0.1:{given.port} (Ctrl+C stops it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
