"""Logging: to standard error, as text for people or JSON for machines, with named fields in both.

Use `log = get(__name__)` and `log.info("what happened", shop=…, offset=…)`. Secrets and bodies never go in.
"""

import json
import logging
import sys
import time
from typing import Any

_FIELDS = "hooktape_fields"


class Logger:
    """A `logging.Logger` whose keyword arguments become fields of the line."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, **fields: Any) -> None:
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, *, exc: BaseException | None = None, **fields: Any) -> None:
        self._log(logging.ERROR, message, fields, exc)

    def _log(self, level: int, message: str, fields: dict[str, Any], exc: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, exc_info=exc, extra={_FIELDS: fields})


def get(name: str) -> Logger:
    """The logger of a module."""
    return Logger(name)


def configure(level: str = "info", form: str = "text") -> None:
    """Sends every log line of the process to standard error, in `form` (`text` or `json`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # httpx logs a line per request at INFO, with the address: noise here, and a leak elsewhere.
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.gmtime(record.created))
        pairs = "".join(f" {key}={_shown(value)}" for key, value in getattr(record, _FIELDS, {}).items())
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), "logger": record.name,
                "message": record.getMessage(), **getattr(record, _FIELDS, {})}  # fmt: skip
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _shown(value: Any) -> str:
    text = str(value)
    # Newlines and control characters from the outside must not forge a log line.
    return json.dumps(text) if not text.isprintable() or " " in text or not text else text
