"""The entry point of the command line: it parses the arguments, runs a command, and returns an exit status.

Exit status: 0 done; 1 `diff` or `audit` found something; 2 an error or wrong usage, in one line on standard error; 3 one of
several processes was lost; 130 interrupted; 141 the reader of standard output is gone.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rnnstate.cli.arguments import parse
from rnnstate.cli.backend_choice import use_backend
from rnnstate.cli.dispatch import COMMANDS
from rnnstate.cli.output import Output, complain
from rnnstate.errors import KeyWarning, RankError, RnnStateError

TROUBLE, LOST, INTERRUPTED, CLOSED_PIPE = 2, 3, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(given)
    options.given = ["rnnstate", *given]
    # TensorFlow and JAX's absl read this variable: 2 hides their start-up messages and keeps their errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    output = Output(getattr(options, "quiet", False))
    try:
        use_backend(getattr(options, "backend", None))
        with warnings.catch_warnings():
            warnings.simplefilter("always", KeyWarning)
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            return COMMANDS[options.command](options, output)
    except KeyboardInterrupt:
        resumable = getattr(options, "resume", False) or getattr(options, "checkpoint", None)
        left = "the same command goes on from the last checkpoint" if resumable else "nothing was kept"
        return _fail(f"Interrupted: {left}.", INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output is gone. Without this line Python would report it once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        return _fail(f"Error: {error.strerror}: {error.filename}." if error.filename else f"Error: {error}")
    except RankError as error:
        return _fail(f"Error: {error}", LOST)
    except RnnStateError as error:
        return _fail(f"Error: {error}")
    except Exception as error:
        if os.environ.get("RNNSTATE_TRACEBACK"):
            raise
        return _fail(f"Error: {type(error).__name__}: {error} Set RNNSTATE_TRACEBACK=1 to see where.")


def _show_warning(otherwise: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning about DATA in one line, and any other warning as Python does."""
    if issubclass(category, KeyWarning):
        complain(f"Warning: {message}")
    else:
        otherwise(message, category, *place)


def _fail(text: str, status: int = TROUBLE) -> int:
    complain(text)
    return status
