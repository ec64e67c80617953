"""Names for test programs: skips for absent packages, captured output, the device to test on."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from .availability import availability, has_module


def torch_device() -> str:
    """Return "cuda" where there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def slow(test_case: Any) -> Any:
    """Skip a test, unless RUN_SLOW is set."""
    return unittest.skipUnless(os.environ.get("RUN_SLOW", "").lower() in ("1", "yes", "true"), "slow")(test_case)


def require(name: str) -> Callable[[Any], Any]:
    """Return a decorator that skips a test where a package or a device is not there."""
    kind = name.removeprefix("require_")

    def decorate(test_case: Any) -> Any:
        if kind in ("torch_gpu", "torch_accelerator", "torch_multi_gpu", "torch_multi_accelerator"):
            import torch

            there = torch.cuda.device_count() > ("multi" in kind)
        else:
            known = availability(f"is_{kind}_available")
            there = known() if known is not None else has_module(kind)
        return unittest.skipUnless(there, f"needs {kind}")(test_case)

    return decorate


class CaptureStd:
    """Keeps what a block writes to the standard output (`out`) and error (`err`)."""

    def __init__(self, out: bool = True, err: bool = True, replay: bool = True) -> None:
        self.texts = {name: io.StringIO() for name, wanted in (("out", out), ("err", err)) if wanted}
        self.out = self.err = ""
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> CaptureStd:
        redirect: dict[str, Any] = {"out": contextlib.redirect_stdout, "err": contextlib.redirect_stderr}
        for name, text in self.texts.items():
            self.stack.enter_context(redirect[name](text))
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)
        for name, text in self.texts.items():
            setattr(self, name, text.getvalue())


class CaptureStdout(CaptureStd):
    """Keeps what a block writes to the standard output."""

    def __init__(self, replay: bool = True) -> None:
        super().__init__(err=False)


class CaptureStderr(CaptureStd):
    """Keeps what a block writes to the standard error."""

    def __init__(self, replay: bool = True) -> None:
        super().__init__(out=False)


class CaptureLogger:
    """Keeps what a logger says in a block, as `out`."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger, self.out = logger, ""

    def __enter__(self) -> CaptureLogger:
        self.text = io.StringIO()
        self.handler = logging.StreamHandler(self.text)
        self.logger.addHandler(self.handler)
        return self

    def __exit__(self, *error: Any) -> None:
        self.logger.removeHandler(self.handler)
        self.out = self.text.getvalue()


@contextlib.contextmanager
def mockenv_context(*remove: str, **update: str) -> Iterator[None]:
    """Set and remove environment variables for a block."""
    before = dict(os.environ)
    try:
        os.environ.update(update)
        for name in remove:
            os.environ.pop(name, None)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def nested_simplify(obj: Any, decimals: int = 3) -> Any:
    """Return a value with plain, rounded numbers."""
    if isinstance(obj, (list, tuple)):
        return type(obj)(nested_simplify(one, decimals) for one in obj)
    if isinstance(obj, dict):
        return {name: nested_simplify(value, decimals) for name, value in obj.items()}
    plain = obj.tolist() if hasattr(obj, "tolist") else obj
    if isinstance(plain, list):
        return nested_simplify(plain, decimals)
    return round(plain, decimals) if isinstance(plain, float) else plain


class TestCasePlus(unittest.TestCase):
    """A test case with folders that are removed after the test."""

    __test__ = False  # pytest collects subclasses alone

    def get_auto_remove_tmp_dir(self) -> str:
        """Return a new folder."""
        import tempfile

        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name


CLASSES = (CaptureStd, CaptureStdout, CaptureStderr, CaptureLogger, TestCasePlus)
NAMES: dict[str, Any] = {one.__name__: one for one in (*CLASSES, slow, mockenv_context, nested_simplify)}


def testing_name(name: str) -> Any:
    """Return what the reference's testing module calls by a name; None for a name that is not here."""
    if name == "torch_device":
        return torch_device()
    return require(name) if name.startswith("require_") and "greater_or_equal" not in name else NAMES.get(name)
