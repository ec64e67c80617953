"""Methods of the library's loggers beside Python's: a thing said once, and advice that can be switched off."""

from __future__ import annotations

import logging
import os
from types import MethodType
from typing import Any

_said: set[tuple[Any, ...]] = set()


def say_once(logger: logging.Logger, level: int, message: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Log a message that this process has not logged before."""
    key = (logger.name, level, str(message), tuple(map(str, args)))
    if key not in _said:
        _said.add(key)
        logger.log(level, message, *args, **{"stacklevel": 3, **options})


def warning_once(logger: logging.Logger, message: Any, *args: Any, **options: Any) -> None:
    """Warn, unless the same warning was given before."""
    say_once(logger, logging.WARNING, message, args, options)


def info_once(logger: logging.Logger, message: Any, *args: Any, **options: Any) -> None:
    """Inform, unless it was said before."""
    say_once(logger, logging.INFO, message, args, options)


def warning_advice(logger: logging.Logger, message: Any, *args: Any, **options: Any) -> None:
    """Warn, unless TRANSFORMERS_NO_ADVISORY_WARNINGS is set."""
    if not os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        logger.warning(message, *args, **{"stacklevel": 2, **options})


def with_methods(logger: logging.Logger) -> Any:
    """Return a logger with these methods of its own."""
    for method in (warning_once, info_once, warning_advice):
        if method.__name__ not in vars(logger):
            setattr(logger, method.__name__, MethodType(method, logger))
    return logger
