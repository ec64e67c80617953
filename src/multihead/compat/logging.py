"""The library's logger and how much it says: `logging.set_verbosity_error()`, `logging.get_logger(__name__)`.

The root of all loggers here is "multihead". TRANSFORMERS_VERBOSITY sets its first level, as in the reference.
"""

from __future__ import annotations

import logging as python_logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, NOTSET, WARN, WARNING
from typing import Any

from .logger import with_methods

LIBRARY = "multihead"
LEVELS = {"detail": DEBUG, "debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
EXPLICIT = "[%(levelname)s|%(filename)s:%(lineno)s] %(asctime)s >> %(message)s"
log_levels = LEVELS
_bars = {"shown": True}
_hook: dict[str, Callable[..., Any] | None] = {"hook": None}

__all__ = ["CRITICAL", "DEBUG", "ERROR", "FATAL", "INFO", "NOTSET", "WARN", "WARNING", "get_logger", "set_verbosity"]


class StderrHandler(python_logging.StreamHandler[Any]):
    """Writes to the standard error of the moment, which tests and notebooks replace."""

    def __init__(self) -> None:
        python_logging.Handler.__init__(self)
        self.setFormatter(python_logging.Formatter(f"[{LIBRARY}] %(message)s"))

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignore a stream: this one is always the standard error."""


@cache
def _handler() -> StderrHandler:
    """Return the library's handler, attached to its logger at the first call."""
    handler, root = StderrHandler(), python_logging.getLogger(LIBRARY)
    root.addHandler(handler)
    root.setLevel(LEVELS.get(os.environ.get("TRANSFORMERS_VERBOSITY", "warning").lower(), WARNING))
    root.propagate = False
    return handler


def _root() -> python_logging.Logger:
    _handler()
    return python_logging.getLogger(LIBRARY)


def get_logger(name: str | None = None) -> Any:
    """Return a logger that also has `warning_once`, `info_once` and `warning_advice`."""
    _handler()
    return with_methods(python_logging.getLogger(name or LIBRARY))


def get_log_levels_dict() -> dict[str, int]:
    """Return the names of levels."""
    return LEVELS


def get_verbosity() -> int:
    """Return the level of the library's logger."""
    return _root().getEffectiveLevel()


def set_verbosity(verbosity: int) -> None:
    """Set the level of the library's logger."""
    _root().setLevel(verbosity)


def set_verbosity_debug() -> None:
    """Log everything."""
    set_verbosity(DEBUG)


def set_verbosity_info() -> None:
    """Log information and warnings."""
    set_verbosity(INFO)


def set_verbosity_warning() -> None:
    """Log warnings and errors."""
    set_verbosity(WARNING)


def set_verbosity_error() -> None:
    """Log errors alone."""
    set_verbosity(ERROR)


def enable_default_handler() -> None:
    """Write logs to the standard error, as at first."""
    _root().addHandler(_handler())


def disable_default_handler() -> None:
    """Write no logs, but by handlers that were added."""
    _root().removeHandler(_handler())


def add_handler(handler: python_logging.Handler) -> None:
    """Add a handler to the library's logger."""
    _root().addHandler(handler)


def remove_handler(handler: python_logging.Handler) -> None:
    """Remove a handler of the library's logger. Raises ValueError for one that was not added."""
    if handler not in _root().handlers:
        raise ValueError("The library's logger has no such handler.")
    _root().removeHandler(handler)


def enable_propagation() -> None:
    """Give logs to Python's root logger too."""
    _root().propagate = True


def disable_propagation() -> None:
    """Keep logs from Python's root logger, as at first."""
    _root().propagate = False


def enable_explicit_format() -> None:
    """Write level, file, line and time before each message."""
    for handler in _root().handlers:
        handler.setFormatter(python_logging.Formatter(EXPLICIT))


def reset_format() -> None:
    """Write messages alone."""
    for handler in _root().handlers:
        handler.setFormatter(None)


def captureWarnings(capture: bool) -> None:
    """Log warnings of Python's `warnings` too, or no longer."""
    warnings = python_logging.getLogger("py.warnings")
    if not warnings.handlers:
        warnings.addHandler(_handler())
    warnings.setLevel(_root().level)
    python_logging.captureWarnings(capture)


def is_progress_bar_enabled() -> bool:
    """Return whether `tqdm` of this module shows bars."""
    return _bars["shown"]


def enable_progress_bar() -> None:
    """Show the bars of `tqdm` of this module."""
    _bars["shown"] = True


def disable_progress_bar() -> None:
    """Show no bars of `tqdm` of this module."""
    _bars["shown"] = False


def set_tqdm_hook(hook: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Set the function `(make, args, options) -> bar` that makes the bars; return the one before."""
    _hook["hook"], before = hook, _hook["hook"]
    return before


class HiddenBar:
    """A bar that is not shown: it iterates, and takes every call of a bar."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.rows = args[0] if args else options.get("iterable", ())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None

    def __enter__(self) -> HiddenBar:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


def tqdm(*args: Any, **options: Any) -> Any:
    """Return a progress bar of the package tqdm, or one that is not shown."""
    if not _bars["shown"]:
        return HiddenBar(*args, **options)
    make, hook = import_module("tqdm.auto").tqdm, _hook["hook"]
    return make(*args, **options) if hook is None else hook(make, args, options)
