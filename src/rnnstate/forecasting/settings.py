"""The arguments of `rnnstate train`, checked, and kept in the RUN."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from rnnstate.errors import DataError
from rnnstate.forecasting.examples import parse_split
from rnnstate.forecasting.read_options import ReadOptions
from rnnstate.forecasting.series import Columns
from rnnstate.windows.plan import check_count

LAYERS = ("lstm", "gru", "rnn")


@dataclass(frozen=True)
class Settings:
    """Arguments of a training.

    Args:
        targets: Columns to predict.
        features: Further inputs.
        key: Column that names the sequence.
        time: Column of dates or numbers.
        horizon: How many steps ahead to predict.
        window: Steps of a window.
        layers: Recurrent layers, such as `lstm:8,gru:16`.
        split: Fractions for training, validation and test, such as `0.7,0.1,0.2`.
        epochs: Passes over the training part.
        batch_size: Rows of a batch.
        learning_rate: Learning rate of Adam.
        seed: Seed of the weights.
        decimal: Decimal mark of the numbers, as in `ReadOptions`.
        na: Further words for a missing value, as in `ReadOptions`.
        time_format: Format of the times, as in `ReadOptions`.
        encoding: Encoding of a CSV file, as in `ReadOptions`.
        sort: Whether to sort the rows of each key by time, as in `ReadOptions`.

    Raises:
        DataError: If an argument has a value that it cannot have.

    Example:

    >>> Settings(targets=("load",), layers="gru:8").columns.inputs
    ('load',)
    """

    targets: tuple[str, ...]
    features: tuple[str, ...] = ()
    key: str | None = None
    time: str | None = None
    horizon: int = 1
    window: int = 96
    layers: str = "lstm:8,lstm:16"
    split: str = "0.7,0.1,0.2"
    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    decimal: str = "."
    na: tuple[str, ...] = ()
    time_format: str | None = None
    encoding: str = "utf-8"
    sort: bool = False

    def __post_init__(self) -> None:
        for name in ("horizon", "window", "epochs", "batch_size"):
            check_count(name, getattr(self, name))
        if not 0 < self.learning_rate < float("inf"):
            raise DataError(f"`--learning-rate` must be above 0. Received: {self.learning_rate}.")
        if not 0 <= self.seed < 2**32:
            raise DataError(f"`--seed` must be a whole number from 0 to 4294967295. Received: {self.seed}.")
        parse_layers(self.layers)
        parse_split(self.split)
        _ = self.columns, self.reading

    @property
    def columns(self) -> Columns:
        """The columns of the table and their uses."""
        return Columns(self.targets, self.features, self.key, self.time)

    @property
    def reading(self) -> ReadOptions:
        """How the data file is written. `rnnstate predict` and `evaluate` read their data alike."""
        return ReadOptions(**{field.name: getattr(self, field.name) for field in fields(ReadOptions)})

    @cached_property
    def fractions(self) -> tuple[float, float, float]:
        """Share of the training, validation and test part."""
        return parse_split(self.split)

    def to_json(self) -> dict[str, Any]:
        """Return the arguments for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Settings":
        """Return the settings that `to_json` wrote. Settings that an older release did not know have their defaults."""
        columns = {name: tuple(values[name]) for name in ("targets", "features")}
        return cls(**{**values, **columns, "na": tuple(values.get("na", ()))})


def parse_layers(text: str) -> list[tuple[str, int]]:
    """Return kind and units of each layer.

    Raises:
        DataError: If `text` is no such list.

    Example:

    >>> parse_layers("lstm:8,gru:16")
    [('lstm', 8), ('gru', 16)]
    """
    layers = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([a-z]+):0*([1-9]\d{0,5})\s*", part)
        if match is None or match[1] not in LAYERS:
            raise DataError(
                "`--layers` must be a list of lstm, gru or rnn, each with its number of units. "
                f"Received: {part.strip()!r} in {text!r}. Write for example lstm:8,lstm:16."
            )
        layers.append((match[1], int(match[2])))
    return layers
