"""What a training was asked for: the arguments of `rnnstate train`, checked, and kept in RUN."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rnnstate.errors import DataError
from rnnstate.forecasting.examples import parse_split
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
        horizon: How many steps ahead.
        window: Steps of a window.
        layers: Recurrent layers, such as `lstm:8,gru:16`.
        split: Fractions for training, validation and test, such as `0.7,0.1,0.2`.
        epochs: Passes over the training part.
        batch_size: Rows of a batch.
        learning_rate: Of Adam.
        seed: Of weights and dropout.

    Raises:
        DataError: If an argument makes no sense.
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

    def __post_init__(self) -> None:
        for name in ("horizon", "window", "epochs", "batch_size"):
            check_count(name, getattr(self, name))
        if not 0 < self.learning_rate < float("inf"):
            raise DataError(f"`--learning-rate` must be above 0. Received: {self.learning_rate}.")
        if not 0 <= self.seed < 2**32:
            raise DataError(f"`--seed` must be a whole number from 0 to 4294967295. Received: {self.seed}.")
        parse_layers(self.layers)
        parse_split(self.split)
        _ = self.columns

    @property
    def columns(self) -> Columns:
        """Which column is what."""
        return Columns(self.targets, self.features, self.key, self.time)

    @cached_property
    def fractions(self) -> tuple[float, float, float]:
        """Share of the training, validation and test part."""
        return parse_split(self.split)

    def to_json(self) -> dict[str, Any]:
        """Return the arguments for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Settings":
        """Return the settings that `to_json` wrote."""
        columns = {name: tuple(values[name]) for name in ("targets", "features")}
        return cls(**{**values, **columns})


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
