"""Experiment trackers: `StateLog` sends the same numbers to MLflow and to Weights & Biases, if they are installed.

A tracker is a function that takes numbers by name, distributions by name, and the epoch. The run belongs to the user: it is
the active run of MLflow, or the one that `wandb.init` has begun.
"""

from collections.abc import Callable, Iterable, Mapping

from rnnstate.errors import DataError
from rnnstate.insight.numbers.distribution import Distribution

Distributions = Mapping[str, Distribution]
Tracker = Callable[[Mapping[str, float], Distributions, int], None]


def trackers_of(names: str | Iterable[str]) -> list[Tracker]:
    """Return the trackers of some names.

    Args:
        names: `"mlflow"`, `"wandb"`, or several of them.

    Raises:
        DataError: If a name is unknown, its package is not installed, or no run of Weights & Biases has begun.
    """
    asked = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in asked if name not in _MAKERS]
    if unknown:
        raise DataError(f"`track` must name trackers: 'mlflow', 'wandb'. Received: {unknown[0]!r}.")
    return [_MAKERS[name]() for name in asked]


def _mlflow() -> Tracker:
    try:
        import mlflow
    except ImportError as error:
        raise _missing("MLflow", "mlflow") from error

    def track(values: Mapping[str, float], distributions: Distributions, epoch: int) -> None:
        mlflow.log_metrics(dict(values), step=epoch)  # it has no histograms

    return track


def _wandb() -> Tracker:
    try:
        import wandb
    except ImportError as error:
        raise _missing("Weights & Biases", "wandb") from error
    if wandb.run is None:
        raise DataError("Weights & Biases must have a run. Received: none. Call `wandb.init(...)` first.")

    def track(values: Mapping[str, float], distributions: Distributions, epoch: int) -> None:
        drawn = {
            name: wandb.Histogram(np_histogram=(found.counts, found.edges)) for name, found in distributions.items()
        }
        wandb.log({**values, **drawn, "epoch": epoch})

    return track


def _missing(name: str, package: str) -> DataError:
    return DataError(f"{name} needs its package. Received: no such package. Run `pip install {package}`.")


_MAKERS: dict[str, Callable[[], Tracker]] = {"mlflow": _mlflow, "wandb": _wandb}
