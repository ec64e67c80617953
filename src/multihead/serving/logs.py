"""Lines of the log: text for people, or a JSON object a line."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from ..terminal import mask_secrets, visible

NOISY = ("uvicorn", "httpx", "filelock", "huggingface_hub")  # only their warnings


class TextFormatter(logging.Formatter):
    """Time, level, message and NAME=VALUE for fields; texts of requests cannot begin a line of their own."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        fields = getattr(record, "fields", {})
        pairs = "".join(f" {name}={quote(value)}" for name, value in fields.items())
        line = visible(f"{when} {record.levelname} {mask_secrets(record.getMessage())}{pairs}".replace("\n", " "))
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """A JSON object: time (seconds since 1970), level, message, fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3), "level": record.levelname.lower(),
            "message": mask_secrets(record.getMessage()), **getattr(record, "fields", {}),
        }  # fmt: skip
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def quote(value: Any) -> str:
    """Return a value for a text line: quoted if it has a space or a quote."""
    text = str(value)
    return json.dumps(text) if any(char in text for char in ' "=') or not text else text


def set_up(log_format: str = "text", level: int = logging.INFO) -> None:
    """Write all logs of the process to stderr in a format: text or json."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.raiseExceptions = False  # a full disk or a closed pipe must not end requests
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
