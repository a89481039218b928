"""Every error that this library raises deliberately.

    RnnStateError
    ├── StateStructureError(ValueError)   leaves are missing, extra or ambiguous
    ├── StateShapeError(ValueError)       a leaf has the wrong shape or batch size
    ├── StateValueError(ValueError)       a leaf has the wrong dtype or a value that is not finite
    ├── SpecMismatchError(ValueError)     a state, a file or a model belongs to another model
    ├── UnknownKeyError(KeyError)         no sequence or leaf of that name
    ├── DataError(ValueError)             data that cannot be cut into windows in the requested way
    ├── UnsupportedModelError(ValueError) a network whose state cannot be made explicit
    ├── CarryError(RuntimeError)          a model whose compiled step would ignore its state
    ├── ExportError(RuntimeError)         a file that cannot be written, or that computes something else than the model
    ├── SequenceError(ValueError)         a push whose sequence number does not follow the number before it
    ├── StepError(RuntimeError)           a model that raises in the step of a session
    ├── StoreError(RuntimeError)          a store that cannot keep a record, or in which another worker holds the key
    ├── RankError(RuntimeError)           another process of a training has ended
    └── PushError(RuntimeError)           some keys of a push failed; it holds the results of the other keys

Each message says what was expected, what was received, where, and what to do, in this order.
"""

from typing import Any


class RnnStateError(Exception):
    """Base of all errors of this library."""


class StateStructureError(RnnStateError, ValueError):
    """A state has missing, extra or misnamed leaves."""


class StateShapeError(RnnStateError, ValueError):
    """A leaf has the wrong shape, or its leaves disagree about the batch."""


class StateValueError(RnnStateError, ValueError):
    """A leaf has the wrong dtype, or holds a value that is not finite."""


class SpecMismatchError(RnnStateError, ValueError):
    """A state, a file or a model was made for another model."""


class UnknownKeyError(RnnStateError, KeyError):
    """A key of a sequence, or the name of a leaf, that does not exist."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the sentence in quotes.
        return str(self.args[0]) if self.args else ""


class DataError(RnnStateError, ValueError):
    """Data that cannot be cut into windows, with the key and the step where it fails."""


class UnsupportedModelError(RnnStateError, ValueError):
    """A network whose recurrent state cannot be made explicit."""


class CarryError(RnnStateError, RuntimeError):
    """A model whose compiled step would ignore the state, or whose state was rebound."""


class ExportError(RnnStateError, RuntimeError):
    """An export that cannot be written, or whose file computes something else than the model."""


class SequenceError(RnnStateError, ValueError):
    """A push whose sequence number does not follow the number before it."""


class StepError(RnnStateError, RuntimeError):
    """A model that raises in the step of a session. The exception is the cause of this error."""


class StoreError(RnnStateError, RuntimeError):
    """A store that cannot keep a record, or in which another worker holds the key."""


class StoreFullError(StoreError):
    """A store that has no room for a record."""


class RankError(RnnStateError, RuntimeError):
    """A process that trains together with others has lost one of them."""


class PushError(RnnStateError, RuntimeError):
    """Some keys of a push failed. The other keys have advanced, and their results stand.

    Args:
        message: What failed.
        results: The outputs of the keys that advanced, by key.
        errors: The error of each key that did not advance, by key.
    """

    def __init__(
        self, message: str, results: dict[Any, Any] | None = None, errors: dict[Any, Exception] | None = None
    ) -> None:
        super().__init__(message)
        self.results, self.errors = results or {}, errors or {}


class StoreWarning(UserWarning):
    """A report about a store: it belonged to another model, or it does not keep what it acknowledges."""


class KeyWarning(UserWarning):
    """Keys differ only by white space, so one sequence may have been split by a mistake in writing."""
