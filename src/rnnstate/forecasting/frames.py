"""Results as frames of the library that the data came in."""

import os
from collections.abc import Mapping
from typing import Any


def is_path(data: Any) -> bool:
    """Return whether data are the path of a file."""
    return isinstance(data, (str, os.PathLike))


def as_frame(columns: Mapping[str, Any], like: Any) -> Any:
    """Return columns as a frame of the library of `like`, or as a table of pyarrow if `like` is a path or `None`.

    Example:

    >>> as_frame({"hour": [1, 2]}, None).column_names
    ['hour']
    """
    import narwhals as nw
    import pyarrow

    arrays = {name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()}
    table = pyarrow.table(arrays)
    library = "" if like is None or is_path(like) else type(like).__module__.split(".")[0]
    if library == "pandas":
        return nw.from_arrow(table, backend="pandas").to_native()
    return nw.from_arrow(table, backend="polars").to_native() if library == "polars" else table
