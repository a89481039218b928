"""On JAX, Keras empties a model's variables while it runs; a run that fails must not leave them empty."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def variables_kept(model: Any) -> Iterator[None]:
    """Give a model its variables back if `fit`, `evaluate` or `predict` is interrupted or fails.

    The values are those after the last step that was finished, or those of before if none was.
    """
    if not hasattr(model, "jax_state_sync"):
        yield
        return
    variables = _variables(model)
    before = [(variable, variable.value) for variable in variables]
    try:
        yield
    except BaseException:
        model.jax_state_sync()
        for variable, value in before:
            if _is_empty(variable):
                variable.assign(value)
        raise


def _variables(model: Any) -> list[Any]:
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *model.metrics_variables, *(optimizer.variables if optimizer is not None else [])]


def _is_empty(variable: Any) -> bool:
    try:
        return variable.value is None
    except (TypeError, AttributeError):  # Keras itself cannot read a variable that it has emptied
        return True
