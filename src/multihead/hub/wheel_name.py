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
    """One release of a package, a path inside its wheel ("" for all of it), and the hash it must have, if any."""

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
        path = str(local.inside((found["path"] or "").strip("/"), "The path in a wheel"))
        sha256 = found["sha256"].lower() if found["sha256"] else None
        return cls(found["name"], found["version"], "" if path == "." else path, sha256)

    @property
    def release(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def key(self) -> str:
        """The folder's name: names that the index holds equal give the same one."""
        return f"{plain(self.name)}-{self.version.lower().replace('-', '_')}"

    def is_from(self, file: str) -> bool:
        """Whether a file's name is that of a wheel of this release (packaging.python.org, "File name convention")."""
        parts = file.removesuffix(".whl").split("-")
        return len(parts) >= 5 and plain(parts[0]) == plain(self.name) and same(parts[1]) == same(self.version)


def plain(name: str) -> str:
    """Return a package name as the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def same(version: str) -> str:
    """Return a version without the differences that a file name may have."""
    return re.sub(r"[-_.]+", ".", version).lower()
