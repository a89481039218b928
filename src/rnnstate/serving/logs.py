"""Logs: one JSON object for each line, on standard error."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

NAME = "rnnstate.serving"


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON: time, level, event, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def start_log(quiet: bool) -> logging.Logger:
    """Write the log of this server and the log of uvicorn to standard error.

    Args:
        quiet: Whether to leave out what is no warning and no error.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in (NAME, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
    return logging.getLogger(NAME)


def event(text: str, level: int = logging.INFO, *, failed: bool | BaseException = False, **fields: Any) -> None:
    """Write a line. `failed` adds the traceback of an exception, or with `True` of the one that is being handled."""
    logging.getLogger(NAME).log(level, text, exc_info=failed, extra={"fields": fields})
