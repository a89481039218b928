"""Names, keys, counts and tables of text, as error messages and the command line print them."""

from collections.abc import Iterable, Sequence


def quoted(names: Iterable[object], limit: int = 3) -> str:
    """Return names in backticks. Show at most `limit` names, then the total.

    Example:

    >>> quoted(["lstm/h", "lstm/c", "gru/h"], limit=2)
    '`lstm/h`, `lstm/c`, ... (3 in all)'
    """
    return _cut([f"`{name}`" for name in names], limit)


def listed(keys: Iterable[object], limit: int = 3) -> str:
    """Return the keys of sequences as Python writes them. Show at most `limit` keys, then the total.

    Example:

    >>> listed(["north", 7])
    "'north', 7"
    """
    return _cut([repr(key) for key in keys], limit)


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    Args:
        number: The count.
        one: The noun in the singular.
        many: The noun in the plural. The default is `one` with an `s`.

    Example:

    >>> counted(1, "row"), counted(12345, "row")
    ('1 row', '12,345 rows')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table with aligned columns; columns with an index in `right` are flush right.

    Example:

    >>> text_table(("a", "count"), [("x", "12")], right=[1])
    ['a  count', '-  -----', 'x     12']
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return ["  ".join(_pad(line, widths, right)).rstrip() for line in lines]


def _cut(shown: list[str], limit: int) -> str:
    if len(shown) <= limit:
        return ", ".join(shown)
    return f"{', '.join(shown[:limit])}, ... ({len(shown)} in all)"


def _pad(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    sized = enumerate(zip(cells, widths, strict=True))
    return [cell.rjust(width) if index in right else cell.ljust(width) for index, (cell, width) in sized]
