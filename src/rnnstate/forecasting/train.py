"""Training with carried state on the training part of series, then a pass over all rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.ahead import look_ahead
from rnnstate.forecasting.continuation import Standing, Starts
from rnnstate.forecasting.errors_table import Score, score_ways
from rnnstate.forecasting.examples import PARTS, Examples, fill_rows, make_examples, measure, shortest, split_bounds
from rnnstate.forecasting.predict import advance, serve_reset
from rnnstate.forecasting.series import Series, count_gaps
from rnnstate.forecasting.settings import Settings, parse_layers
from rnnstate.messages import counted, quoted
from rnnstate.windows.scaling import Scaling

Say = Callable[[str], None]


class ShowsEpochs(Protocol):
    """Shows the epochs of a training while it runs."""

    def batch(self, epoch: int, epochs: int, batch: int, batches: int) -> None:
        """Show that batches 1 to `batch` of an epoch are done."""

    def epoch(self, epoch: int, epochs: int, logs: Mapping[str, Any]) -> None:
        """Show the losses of an epoch that is done."""


CARRIED = "model, state carried"


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training.

    Args:
        model: The `StatefulModel`.
        scaling: Scaling measured on the training part.
        end: Where each key stands after all of its data.
        middle: Where each key stands after its training part.
        history: Loss of each epoch, by name.
        scores: Errors on the test part.
        scored: Rows of the test part whose target is known.
    """

    model: Any
    scaling: Scaling
    end: Standing
    middle: Standing
    history: dict[str, list[float]]
    scores: list[Score]
    scored: int


def train(
    settings: Settings,
    series: Sequence[Series],
    say: Say,
    progress: ShowsEpochs | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train on `series` with `settings`.

    Args:
        settings: Arguments of the training.
        series: The data.
        say: Takes each line about the use of the data.
        progress: Shows the epochs.
        checkpoint: Folder of checkpoints. The training continues from the last one.

    Raises:
        DataError: If the data are too short for the window, or the loss is no longer a finite number.
    """
    scaling = measure(series, settings.fractions)
    parts = {part: examples_of(settings, series, scaling, part) for part in PARTS}
    _check_window(settings, parts["train"])
    for line in _about(settings, series, parts):
        say(line)
    model, history = _fit(settings, parts, say, progress, checkpoint)
    lows = [split_bounds(len(one), settings.fractions)["train"][1] for one in series]
    first, middle = advance(model, series, scaling, bounds=[(0, low) for low in lows])
    rest = [(low, len(one)) for one, low in zip(series, lows, strict=True)]
    crossing = [_crosses(one, low) for one, low in zip(series, lows, strict=True)]
    starts = Starts(np.where(crossing, np.arange(len(series)), -1), middle.state, {})
    outputs, end = advance(model, series, scaling, bounds=rest, starts=starts)
    whole = [np.where(np.isnan(after), before, after) for before, after in zip(first, outputs, strict=True)]
    end = replace(end, outlook=look_ahead(series, whole, settings.horizon))
    lows = [split_bounds(len(one), settings.fractions)["test"][0] for one in series]
    scores, scored = judge(model, series, scaling, settings, outputs, lows)
    return Trained(model, scaling, end, middle, history, scores, scored)


def judge(
    model: Any, series: Sequence[Series], scaling: Scaling, settings: Settings, carried: Sequence[Any], lows: list[int]
) -> tuple[list[Score], int]:
    """Score carried outputs from the rows `lows` on, and those of the same model with its state reset at each window."""
    ways = {CARRIED: carried}
    ways[f"model, reset every {counted(settings.window, 'step')}"] = serve_reset(
        model, series, scaling, lows, settings.window
    )
    return score_ways(series, ways, settings.targets, lows, settings.horizon)


def build_net(settings: Settings) -> Any:
    """Return the network: recurrent layers, then a dense layer with one output for each target and step."""
    import keras

    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    inputs = x = keras.Input((None, len(settings.columns.inputs)), name="inputs")
    for number, (kind, units) in enumerate(parse_layers(settings.layers), start=1):
        x = kinds[kind](units, return_sequences=True, name=f"{kind}_{number}")(x)
    return keras.Model(inputs, keras.layers.Dense(len(settings.targets), name="outputs")(x), name="forecaster")


def _fit(
    settings: Settings, parts: dict[str, Examples], say: Say, progress: ShowsEpochs | None, checkpoint: Path | None
) -> tuple[Any, dict[str, Any]]:
    import keras

    from rnnstate.model.stateful_model import StatefulModel

    keras.utils.set_random_seed(settings.seed)
    model = StatefulModel(build_net(settings))
    model.compile(optimizer=keras.optimizers.Adam(settings.learning_rate), loss="mse")
    say(f"Network: {_network(settings)}; {model.net.count_params():,} weights, on {keras.backend.backend()}.")
    validation = windows_of(settings, parts["validation"]) if parts["validation"].x else None
    # The patience is as long as the training, so training never stops early. The callback restores the best weights.
    best = keras.callbacks.EarlyStopping("val_loss", patience=settings.epochs, restore_best_weights=True)
    windows = windows_of(settings, parts["train"])
    history = model.fit(
        windows,
        validation_data=validation,
        epochs=settings.epochs,
        verbose=0,
        callbacks=[*([best] if validation else []), _shown(progress, settings.epochs, len(windows))],
        checkpoint=checkpoint,
    ).history
    history = {name: [float(value) for value in values] for name, values in history.items()}
    _check_history(history)
    if validation:
        lowest = min(history["val_loss"])
        say(f"Kept the weights of epoch {history['val_loss'].index(lowest) + 1}, of the lowest val_loss: {lowest:.4f}.")
    return model, history


def _shown(progress: ShowsEpochs | None, epochs: int, batches: int) -> Any:
    """Return the callback that shows the epochs. It is always there, because a checkpoint knows the callbacks of its run."""
    import keras

    if progress is None:
        return keras.callbacks.LambdaCallback()
    epoch = [1]

    def begin(index: int, logs: Any = None) -> None:
        epoch[0] = index + 1

    return keras.callbacks.LambdaCallback(
        on_epoch_begin=begin,
        on_train_batch_end=lambda batch, logs: progress.batch(epoch[0], epochs, batch + 1, batches),
        on_epoch_end=lambda index, logs: progress.epoch(index + 1, epochs, logs),
    )


def _check_history(history: dict[str, list[float]]) -> None:
    for name, losses in history.items():
        bad = next((epoch for epoch, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
        if bad is not None:
            raise DataError(
                f"The loss must stay a finite number. Received: {name} {losses[bad - 1]} in epoch {bad}. "
                "Lower --learning-rate."
            )


def examples_of(settings: Settings, series: Sequence[Series], scaling: Scaling, part: str) -> Examples:
    """Return one part of all series, scaled, with the targets that `settings` ask for."""
    return make_examples(series, settings.fractions, part, scaling, len(settings.targets), settings.horizon)


def windows_of(settings: Settings, examples: Examples) -> Any:
    """Return the windows in which a part is trained or validated."""
    from rnnstate.windows.windows import Windows

    filled = fill_rows(examples, settings.window, settings.batch_size)
    return Windows(filled.x, filled.y, length=settings.window, batch_size=settings.batch_size, targets="steps")


def _crosses(series: Series, row: int) -> bool:
    """True if no gap lies between `row` and the row before it."""
    return bool(((series.spans[:, 0] < row) & (series.spans[:, 1] > row)).any())


def _check_window(settings: Settings, examples: Examples) -> None:
    longest = max((len(x) for x in examples.x), default=0)
    if longest < settings.window:
        rows = longest + settings.horizon if longest else 0
        hint = f"Use --window {longest} or less" if longest > 1 else "Use more data, or a larger share with --split"
        raise DataError(
            f"A window of {settings.window} steps, predicting {settings.horizon} ahead, needs "
            f"{settings.window + settings.horizon} rows without a gap in the training part. "
            f"Received: {rows} at most. {hint}."
        )


def _network(settings: Settings) -> str:
    layers = [f"{kind} {units}" for kind, units in parse_layers(settings.layers)]
    ends = counted(len(settings.columns.inputs), "input"), counted(len(settings.targets), "output")
    return " -> ".join([ends[0], *layers, ends[1]])


def _about(settings: Settings, series: Sequence[Series], parts: dict[str, Examples]) -> list[str]:
    """Return the lines that tell a user how the data are used."""
    gaps, empty = count_gaps(series)
    rows, keys = sum(map(len, series)), len(series)
    of_keys = "" if settings.key is None else f" of {counted(keys, 'key')}"
    lines = [f"Data: {counted(rows, 'row')}{of_keys}, {counted(gaps, 'gap')} ({counted(empty, 'empty row')})."]
    bounds = [split_bounds(len(one), settings.fractions) for one in series]
    sizes = {part: sum(bound[part][1] - bound[part][0] for bound in bounds) for part in PARTS}
    lines.append(f"Split by time: {', '.join(f'{size:,} rows {part}' for part, size in sizes.items())}.")
    left_out = sum(part.left_out for part in parts.values())
    if left_out:
        least = shortest(settings.horizon)
        lines.append(f"Left out {counted(left_out, 'row')} in sequences of fewer than {least} rows.")
    lines += _about_columns(settings, series)
    if not parts["validation"].x:
        lines.append("No sequence is long enough for validation: the loss shown is that of training alone.")
    return lines + _about_pieces(settings, parts["train"])


def _about_columns(settings: Settings, series: Sequence[Series]) -> list[str]:
    bounds = [split_bounds(len(one), settings.fractions)["train"][1] for one in series]
    values = np.concatenate([one.values[:high] for one, high in zip(series, bounds, strict=True)])
    values = values[~np.isnan(values).any(axis=1)]
    constant = np.flatnonzero(values.min(axis=0) == values.max(axis=0))
    names = [settings.columns.inputs[index] for index in constant]
    return [f"Constant in the training part, so not scaled: {quoted(names)}."] if names else []


def _about_pieces(settings: Settings, examples: Examples) -> list[str]:
    filled = fill_rows(examples, settings.window, settings.batch_size)
    if filled is examples:
        return []
    before = counted(len(examples.x), "training sequence")
    return [
        f"Cut {before} into {counted(len(filled.x), 'piece')}, so that the {settings.batch_size} rows of a batch are "
        "full; each piece starts from the initial state."
    ]
