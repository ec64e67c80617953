"""Names of files inside wheels: `pypi:NAME==VERSION/path/inside#sha256=HEX`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidInput
from . import local

FORM = "pypi:NAME==VERSION/path/inside#sha256=HEX, where the path and the hash may be left out"
PATTERN = re.compile(
    r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"(?P<path>/[^#]*)?(#sha256=(?P<sha256>[0-9A-Fa-f]{64}))?"
)


@dataclass(frozen=True)
class Wheel:
    """Release of a package, a path inside its wheel ("" for all of it), and the required hash, if any."""

    name: str
    version: str
    path: str = ""
    sha256: str | None = None

    @classmethod
    def parse(cls, text: str) -> Wheel:
        """Parse the text after `pypi:`. Raises InvalidInput for another form."""
        found = PATTERN.fullmatch(text)
        if found is None:
            raise InvalidInput(f"'pypi:{text}' is not of the form {FORM}.")
        path = str(local.safe_relative_path((found["path"] or "").strip("/"), "The path in a wheel"))
        sha256 = found["sha256"].lower() if found["sha256"] else None
        return cls(found["name"], found["version"], "" if path == "." else path, sha256)

    @property
    def release(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def key(self) -> str:
        """Folder name; names that the index treats as equal give the same one."""
        return f"{normalize_name(self.name)}-{self.version.lower().replace('-', '_')}"

    def is_from(self, file: str) -> bool:
        """Return True if a file name is a wheel of this release (packaging.python.org, "File name convention")."""
        parts = file.removesuffix(".whl").split("-")
        return (
            len(parts) >= 5
            and normalize_name(parts[0]) == normalize_name(self.name)
            and normalize_version(parts[1]) == normalize_version(self.version)
        )


def normalize_name(name: str) -> str:
    """Return a package name as the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def normalize_version(version: str) -> str:
    """Return a version without the differences that a file name may have."""
    return re.sub(r"[-_.]+", ".", version).lower()
