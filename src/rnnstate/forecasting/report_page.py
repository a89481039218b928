"""The HTML of a report: one file without scripts and without anything from the network."""

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

# Dots per inch of a picture of 8 inches: sharp on a phone and in print.
_DENSITY = 115
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --ground: #ffffff; --warn: #b3401f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d; --ground: #0d1117; --warn: #ff9b70; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 1rem; color: var(--ink); background: var(--ground);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.note, figcaption, td.faint { color: var(--faint); font-size: 0.9rem; }
.scroll { overflow-x: auto; margin: 0.5rem 0; } figure { margin: 1.2rem 0; }
figure img { display: block; width: 100%; min-width: 34rem; background: white; border-radius: 6px; }
table { border-collapse: collapse; font-size: 0.9rem; overflow-wrap: normal; }
td:nth-child(5) { min-width: 14rem; } td.number { min-width: 0; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.warning { color: var(--warn); font-weight: 600; } code { font-size: 0.95em; }
pre { overflow-x: auto; font-size: 0.85rem; white-space: pre-wrap; }
@media print {
  :root { --ink: #000; --faint: #444; --line: #bbb; --ground: #fff; --warn: #8a2b10; }
  body { max-width: none; font-size: 11pt; } h2 { break-after: avoid; } p.note { break-before: avoid; }
  figure, table, tr, pre { break-inside: avoid; } thead { display: table-header-group; }
  table { font-size: 9pt; line-height: 1.3; } th, td { padding: 0.15rem 0.8rem 0.15rem 0; }
  figure img { min-width: 0; border: 1px solid var(--line); } .scroll { overflow: visible; }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: The title.
        parts: The HTML of the parts.

    Example:

    >>> page("a & b", [paragraph("Text.")]).partition("<title>")[2].partition("</title>")[0]
    'a &amp; b'
    """
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escaped(title)}</h1>\n"
    )
    return head + "\n".join(parts) + "\n</body>\n</html>\n"


def escaped(text: object) -> str:
    """Return text with the characters replaced that HTML would read as its own."""
    return html.escape(str(text))


def marked(text: object) -> str:
    """Return text as HTML. Backticks mark code, as in messages.

    Example:

    >>> marked("Use `a < b`.")
    'Use <code>a &lt; b</code>.'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", escaped(text))


def heading(text: str) -> str:
    """Return the heading of a part."""
    return f"<h2>{escaped(text)}</h2>"


def paragraph(text: str, note: bool = False) -> str:
    """Return a paragraph; a note is set smaller."""
    return f"<p{' class=note' if note else ''}>{marked(text)}</p>"


def code(text: str) -> str:
    """Return a command or a text with fixed lines."""
    return f"<pre>{escaped(text)}</pre>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """Return a table that scrolls by itself on a narrow screen; columns in `numbers` are flush right."""

    def cell(index: int, value: object) -> str:
        kind = " class=number" if index in numbers else " class=warning" if value == "warning" else ""
        return f"<td{kind}>{marked(value)}</td>"

    top = "".join(f"<th>{escaped(name)}</th>" for name in header)
    lines = ("<tr>" + "".join(cell(i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture(figure: Any, description: str) -> str:
    """Return a figure as part of the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DENSITY)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    caption = escaped(description)
    image = f'<div class="scroll"><img alt="{caption}" src="{source}"></div>'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
