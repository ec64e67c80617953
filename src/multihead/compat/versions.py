"""Checks of versions that programs begin with."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from ..errors import MissingPackage

REFERENCE = "5.23.0"  # the version of the reference whose names and numbers these are


def check_min_version(min_version: str) -> None:
    """Raise ImportError for a program that needs a later version of the reference than this package follows."""
    from packaging.version import parse

    if parse(min_version) > parse(REFERENCE):
        raise MissingPackage(
            f"This program needs the names of version {min_version}; those of {REFERENCE} are here. "
            "Update multihead, or take out check_min_version if the program uses nothing newer."
        )


def send_example_telemetry(example_name: str, *example_args: object, framework: str = "pytorch") -> None:
    """Send nothing: this library reports to nobody."""


def require_version(requirement: str, hint: str | None = None) -> None:
    """Check the version of an installed package, such as "torch>=2.1,<3" or "python>=3.10".

    Raises:
        MissingPackage: the package is not installed, or has another version.
    """
    from packaging.requirements import Requirement

    need = Requirement(requirement)
    try:
        found = platform.python_version() if need.name == "python" else version(need.name)
    except PackageNotFoundError as error:
        said = f"{requirement} is needed and {need.name} is not installed. {hint or ''}"
        raise MissingPackage(said.rstrip()) from error
    if not need.specifier.contains(found, prereleases=True):
        raise MissingPackage(f"{requirement} is needed, and {need.name} is {found}. {hint or ''}".rstrip())


def require_version_core(requirement: str) -> None:
    """As `require_version`."""
    require_version(requirement)


def get_torch_version() -> str:
    """Return the version of torch."""
    return version("torch")


def python_version() -> str:
    """Return the version of Python."""
    return ".".join(map(str, sys.version_info[:3]))
