"""API keys: who may ask, and as what."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput, ModelNotFound, MultiheadError

log = logging.getLogger("multihead.serving")
ROLES = ("user", "admin")
HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
ONE_KEY, MANY_KEYS = "MULTIHEAD_API_KEY", "MULTIHEAD_API_KEYS"
CHECK_SECONDS = 1.0  # between looks at the file


@dataclass(frozen=True)
class Key:
    """An API key.

    Args:
        name: what logs call it. digest: its SHA-256; the key itself is not kept.
    """

    name: str
    role: str
    digest: bytes

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    @property
    def salt(self) -> bytes:
        """Salt of the prefix cache: keys share no cached prefixes, whose timing would tell of other users' prompts."""
        return hashlib.sha256(b"multihead prefix cache" + self.digest).digest()


class KeyRing:
    """The keys of a server: of a file, which is read again when it changes, and of the environment."""

    def __init__(self, path: Path | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._given = tuple(environment_keys(environment))
        self._read: tuple[Key, ...] = ()
        self._stamp: tuple[int, int, int] | None = None
        self._looked = 0.0
        if path is not None:
            self._read, self._stamp = tuple(file_keys(path)), stamp(path)

    @property
    def keys(self) -> tuple[Key, ...]:
        """All keys; the file is read again if it has changed since."""
        now = time.monotonic()
        if self.path is not None and now - self._looked > CHECK_SECONDS:
            self._looked = now
            if stamp(self.path) != self._stamp:
                self.reload()
        return self._given + self._read

    def __bool__(self) -> bool:
        # a file without keys locks everybody out, rather than nobody
        return self.path is not None or bool(self._given)

    @property
    def has_admin(self) -> bool:
        return any(key.is_admin for key in self.keys)

    def find(self, secret: str) -> Key | None:
        """Return the key that a client sent. Takes the same time for every wrong key."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def reload(self) -> None:
        """Read the file again. A file that cannot be read changes nothing but the log."""
        if self.path is None:
            return
        self._stamp = stamp(self.path)
        try:
            self._read = tuple(file_keys(self.path))
        except MultiheadError as error:
            log.error("the API keys stay as they were: %s", error)
            return
        log.info("%d API keys are read", len(self._read))


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file changes; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def file_keys(path: Path) -> Iterator[Key]:
    """Yield the keys of a file: NAME:ROLE:KEY a line, where KEY may be sha256:HEX; # begins a comment.

    Raises:
        ModelNotFound: the file cannot be read. InvalidInput: a line is wrong, or a name comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelNotFound(f"The file of API keys {path} cannot be read: {type(error).__name__}.") from error
    names = set()
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line and not line.startswith("#"):
            key = parse_key(line, f"{path}, line {number}")
            if key.name in names:
                raise InvalidInput(f"{path}, line {number}: the name {key.name!r} is taken by a line above.")
            names.add(key.name)
            yield key


def environment_keys(environment: Mapping[str, str]) -> Iterator[Key]:
    """Yield the keys of MULTIHEAD_API_KEY (one user's) and MULTIHEAD_API_KEYS (NAME:ROLE:KEY, commas between)."""
    if secret := environment.get(ONE_KEY, "").strip():
        yield parse_key(f"environment:user:{secret}", ONE_KEY)
    for text in environment.get(MANY_KEYS, "").split(","):
        if text.strip():
            yield parse_key(text.strip(), MANY_KEYS)


def parse_key(text: str, where: str) -> Key:
    """Return a key of NAME:ROLE:KEY. Raises InvalidInput, which does not quote the key."""
    name, _, rest = text.partition(":")
    role, colon, secret = rest.partition(":")
    if not colon or not name:
        raise InvalidInput(f"{where}: a key is NAME:ROLE:KEY, with a role of {' or '.join(ROLES)}.")
    if role not in ROLES:
        raise InvalidInput(f"{where}: {role!r:.20} is no role; roles are {' and '.join(ROLES)}.")
    if not secret or any(not "!" <= char <= "~" for char in secret):
        raise InvalidInput(f"{where}: the key of {name!r:.40} must be ASCII without spaces, and not empty.")
    if secret.startswith("sha256:"):
        match = HASH.fullmatch(secret)
        if match is None:
            raise InvalidInput(f"{where}: sha256: must be followed by 64 hexadecimal digits.")
        return Key(name, role, bytes.fromhex(match[1]))
    return Key(name, role, hashlib.sha256(secret.encode()).digest())
