"""Errors of single keys in a push."""

from typing import Any

from rnnstate.errors import DataError, RnnStateError, StepError


class RaisedError(Exception):
    """The model has raised an exception in a step.

    Args:
        cause: The exception.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def mixed(given: int | None, last: int) -> str:
    """Return the text of an error: a session has sequence numbers and the push has none, or the reverse."""
    if given is None:
        return (
            f"the session has sequence numbers, the last of which is {last}. Received: a push without one. Give "
            f"`numbers={{key: {last + 1}}}`."
        )
    return (
        f"the session was pushed without sequence numbers. Received: number {given}. Start the numbers after `reset`."
    )


def of_key(key: Any, error: Exception) -> Exception:
    """Return an error that names its key."""
    kind = type(error) if isinstance(error, RnnStateError) else DataError
    named = kind(f"Key {key!r}: {error}")
    named.__cause__ = error
    return named


def failed(key: Any, error: Exception) -> StepError:
    """Return the error of a key for which the model raises."""
    found = StepError(
        f"Key {key!r}: the model must compute the step. Received: {type(error).__name__}: {str(error)[:200].rstrip('.')}. "
        "The session is as it was. Change the input, or repair the model."
    )
    found.__cause__ = error
    return found
