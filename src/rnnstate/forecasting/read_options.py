"""How a data file is written: the options of `read_table`, and of the command line arguments with the same names.

`read_table(path, ReadOptions(decimal=",", na=("-",)))` reads the file; `table.options` keeps the options, and
`read_series` follows `sort`.
"""

from dataclasses import dataclass

from rnnstate.errors import DataError
from rnnstate.messages import quoted

# How common tools write a cell without a value. They are compared in lower case.
EMPTY = ("", "nan", "na", "n/a", "null", "none")


@dataclass(frozen=True)
class ReadOptions:
    """How a data file is written.

    Args:
        decimal: The decimal mark of numbers, `"."` or `","`.
        na: Further words for a missing value, such as `("-", "?")`. Upper and lower case count as equal.
        time_format: Format of the times, as for `datetime.strptime`. The default is ISO dates or numbers.
        encoding: Encoding of a CSV file.
        sort: Whether to sort the rows of each key by time. By default unsorted rows are an error.

    Raises:
        DataError: If the decimal mark or the encoding is unknown.

    Example:

    >>> ReadOptions(na=("-",)).empty
    ('', 'nan', 'na', 'n/a', 'null', 'none', '-')
    """

    decimal: str = "."
    na: tuple[str, ...] = ()
    time_format: str | None = None
    encoding: str = "utf-8"
    sort: bool = False

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise DataError(f"`--decimal` must be `.` or `,`. Received: {self.decimal!r}.")
        try:
            "".encode(self.encoding)  # a codec such as base64 is no encoding of text
        except (LookupError, ValueError):
            raise DataError(
                f"`--encoding` must be an encoding such as utf-8 or latin-1. Received: {self.encoding!r}."
            ) from None

    @property
    def empty(self) -> tuple[str, ...]:
        """All words for a missing value, in lower case."""
        return (*EMPTY, *(word.strip().lower() for word in self.na))

    def is_empty(self, cell: str) -> bool:
        """Return whether a text cell holds no value."""
        return cell.strip().lower() in self.empty

    def words(self) -> str:
        """Return the words for a missing value as error messages list them."""
        return quoted([word for word in self.empty if word], limit=9)
