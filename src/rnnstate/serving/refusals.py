"""From errors to answers with a status."""

import math

from rnnstate.errors import RnnStateError, SequenceError, SpecMismatchError, StepError, StoreError, UnknownKeyError

_STATUS: tuple[tuple[type[RnnStateError], int], ...] = (
    (UnknownKeyError, 404),
    (SequenceError, 409),
    (SpecMismatchError, 409),
    (StoreError, 503),
    (StepError, 500),
    (RnnStateError, 400),
)


class RefusedError(Exception):
    """A call that is not carried out.

    Args:
        status: The status of HTTP.
        text: What was expected, what was received, and what to do.
        wait: After how many seconds the caller may try again, or `None`.
        challenge: The value of the header `WWW-Authenticate`, or empty.
    """

    def __init__(self, status: int, text: str, wait: float | None = None, challenge: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.wait, self.challenge = status, text, wait, challenge

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        found = {} if self.wait is None else {"Retry-After": str(max(1, math.ceil(self.wait)))}
        return found | ({"WWW-Authenticate": self.challenge} if self.challenge else {})


def refusal(error: RnnStateError, prefix: str = "") -> RefusedError:
    """Return the answer to an error of the library.

    Args:
        error: The error.
        prefix: The text before the keys of the caller in the store. The caller does not see it.

    Example:

    >>> refusal(UnknownKeyError("There must be a session with key 'ab/north'."), "ab/").text
    "There must be a session with key 'north'."
    """
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    text = str(error).replace(prefix, "") if prefix else str(error)
    return RefusedError(status, text, 1.0 if status == 503 else None)
