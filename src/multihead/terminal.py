"""What a terminal may be told: text whose control characters are written out, and whose passwords are not."""

from __future__ import annotations

import os
import re

# Control characters but tab and newline, what turns the direction of writing, line ends that terminals do not know, and
# halves of characters. What moves a cursor, names a window or fills a clipboard begins with one of the first.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)  # fmt: skip
URL = re.compile(r"(\b[a-zA-Z][\w+.-]*://)[^\s/?#'\"]*@")
TOKEN = re.compile(r"\bhf_\w{8,}")
SETTINGS = re.compile(r".*_PROXY|.*INDEX_URL|PIP_PROXY|PIP_FIND_LINKS|HF_ENDPOINT", re.IGNORECASE)


def visible(text: str) -> str:
    r"""Text for a terminal: `\x1b` in place of an escape. Pieces of a text may be made visible one by one."""
    return UNSAFE.sub(_written, text)


def json_visible(text: str) -> str:
    r"""JSON with the same value, in which no such character stands for itself but as `\u009b`."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def masked(text: str) -> str:
    """Text without the passwords of its URLs, those of proxies and indexes, and tokens of the hub."""
    for name, value in os.environ.items():
        if "@" in value and SETTINGS.fullmatch(name):
            for part in value.split():
                who = part.rpartition("@")[0].rpartition("://")[2]
                text = text.replace(f"{who}@", "***@") if who else text
    token = os.environ.get("HF_TOKEN", "")
    text = text.replace(token, "***") if len(token) >= 8 else text
    return TOKEN.sub("hf_***", URL.sub(r"\1***@", text))


def shown(text: str) -> str:
    """A message for people: visible, without passwords."""
    return visible(masked(text))


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
