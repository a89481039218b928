"""Runs the Python blocks of a document, and compares what they print with what the document shows.

A document shows output in one of two ways: `print(x)  # prints: text` on one line, or a `text` fence after a `python` fence,
which holds all that the fence before it printed. Words must be equal. A number with a decimal point must be equal to its
last digit on JAX, which made the numbers. Random weights differ on the other backends.

A block behind `<!-- needs: NAME -->` runs where NAME is at hand: an extra such as `pandas`, or `torch_backend`.

As a script, `python documents.py PAGE`, it runs a page on JAX without any extra.
"""

import re
import sys
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DECIMAL = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")
PROMISE = re.compile(r"^\s*print\(.*  # prints: (.*)$")
NEED = re.compile(r"<!-- needs: (\w+) -->")


def fences(text):
    """Return `(kind, first line, content)` of every fence of a page."""
    return [(m[1], text.count("\n", 0, m.start(2)), m[2]) for m in FENCE.finditer(text)]


def blocks(path):
    """Return `(need or None, kind, first line, content)` of every fence of a page."""
    text = Path(path).read_text()
    lines = text.splitlines()
    needs = {line: NEED.fullmatch(lines[line - 2]) for _, line, _ in fences(text)}
    return [(needs[line] and needs[line][1], kind, line, content) for kind, line, content in fences(text)]


def check_same(expected, actual, exact):
    """Assert that two texts are the same: words always, decimals to the digits shown if `exact`."""
    assert DECIMAL.sub("#", actual).split() == DECIMAL.sub("#", expected).split(), f"printed: {actual}"
    if exact:
        for shown, printed in zip(DECIMAL.findall(expected), DECIMAL.findall(actual), strict=True):
            unit = 10.0 ** -len(shown.split("e")[0].partition(".")[2]) * (10.0 ** int(shown.partition("e")[2] or 0))
            assert abs(float(shown) - float(printed)) < 1.5 * unit, f"shown {shown}, printed {printed}"


class Page:
    """Runs the fences of one page from top to bottom, and keeps what each line printed.

    Args:
        path: The document.
        exact: Whether decimals must be equal.
        has: Tells whether a need is met. Blocks with another need are left out.
    """

    def __init__(self, path, exact, has):
        self.path, self.exact, self.has = path, exact, has
        self.names = {"__name__": "__main__", "print": self.print}
        self.printed = []

    def print(self, *values, sep=" ", **kwargs):
        self.printed.append((sys._getframe(1).f_lineno, sep.join(map(str, values))))

    def run(self):
        for need, kind, line, content in blocks(self.path):
            if kind == "python":
                self.printed.clear()
                if need is None or self.has(need):
                    exec(compile("\n" * line + content, str(self.path), "exec"), self.names)
                    self.check_promises(line, content)
            elif kind == "text" and self.printed:
                check_same(content, "\n".join(text for _, text in self.printed), self.exact)
                self.printed.clear()

    def check_promises(self, first, content):
        for line, source in enumerate(content.splitlines(), start=first + 1):
            promise = PROMISE.match(source)
            if promise:
                check_same(promise[1], "\n".join(text for at, text in self.printed if at == line), self.exact)


if __name__ == "__main__":
    Page(sys.argv[1], exact=True, has=lambda need: need == "jax_backend").run()
