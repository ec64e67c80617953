"""Text for terminals: control characters are escaped, passwords and tokens are masked."""

from __future__ import annotations

import os
import re

# Control characters but tab and newline, marks of writing direction, line separators and lone surrogates. Sequences
# that move a cursor, name a window or fill a clipboard begin with a control character.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)  # fmt: skip
URL = re.compile(r"(\b[a-zA-Z][\w+.-]*://)[^\s/?#'\"]*@")
TOKEN = re.compile(r"\bhf_\w{8,}")
SETTINGS = re.compile(r".*_PROXY|.*INDEX_URL|PIP_PROXY|PIP_FIND_LINKS|HF_ENDPOINT", re.IGNORECASE)


def visible(text: str) -> str:
    r"""Return text for a terminal, with `\x1b` instead of an escape character. Pieces of a text may be passed alone."""
    return UNSAFE.sub(_escape, text)


def json_visible(text: str) -> str:
    r"""Return JSON with the same value, in which such characters are escapes like `\u009b`."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def mask_secrets(text: str) -> str:
    """Return text without passwords in URLs, of proxies or indexes, and without tokens of the hub."""
    for name, value in os.environ.items():
        if "@" in value and SETTINGS.fullmatch(name):
            for part in value.split():
                who = part.rpartition("@")[0].rpartition("://")[2]
                text = text.replace(f"{who}@", "***@") if who else text
    token = os.environ.get("HF_TOKEN", "")
    text = text.replace(token, "***") if len(token) >= 8 else text
    return TOKEN.sub("hf_***", URL.sub(r"\1***@", text))


def safe_message(text: str) -> str:
    """Return a message with control characters escaped and secrets masked."""
    return visible(mask_secrets(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
