"""Address of the Hugging Face hub, and names of its repositories."""

from __future__ import annotations

import os
import re

from ..errors import InvalidInput

HOME = "https://huggingface.co"
NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_]([\w.-]*\w)?(/[A-Za-z0-9_]([\w.-]*\w)?)?", re.ASCII)
LONGEST = 96  # characters of a name


def endpoint() -> str:
    """Return the hub's address from the environment. Raises InvalidInput if it is no address."""
    address = (os.environ.get("HF_ENDPOINT") or HOME).rstrip("/")
    if not re.fullmatch(r"https?://([^/@\s]+@)?(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?(/[\w./~-]*)?", address):
        raise InvalidInput(f"HF_ENDPOINT={address!r} is no address; it is like {HOME}.")
    return address


def is_repository_name(name: str) -> bool:
    """Return whether a name is like those of repositories: `org/name`, or a name alone."""
    return bool(NAME.fullmatch(name)) and len(name) <= LONGEST
