"""The tokens with a role: beginning, end, unknown, separator, padding, class, mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import AddedToken

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def content(token: Any) -> str | None:
    """The text of a token as files hold it: a string, or an object with `content`."""
    if token is None or isinstance(token, str):
        return token
    return token.get("content") if isinstance(token, Mapping) else str(token)


def roles(*sources: Mapping[str, Any]) -> dict[str, str]:
    """role -> token, from files in rising order of authority."""
    found: dict[str, str] = {}
    for source in sources:
        for role in ROLES:
            if role in source:
                text = content(source[role])
                if text is None:
                    found.pop(role, None)
                else:
                    found[role] = text
    return found


def more_special(*sources: Mapping[str, Any]) -> list[str]:
    """Special tokens without a role of their own."""
    found: list[str] = []
    for source in sources:
        for name in ("additional_special_tokens", "extra_special_tokens"):
            given = source.get(name) or []
            for token in given.values() if isinstance(given, Mapping) else given:
                text = content(token)
                if text is not None and text not in found:
                    found.append(text)
    return found


def added(token: Any, *, special: bool, normalized: bool | None = None) -> AddedToken:
    """A token for the library, from a string, a file's object or such a token."""
    from tokenizers import AddedToken

    if isinstance(token, AddedToken):
        return token
    if isinstance(token, Mapping):
        flags = {k: bool(token[k]) for k in ("lstrip", "rstrip", "single_word", "normalized") if k in token}
        return AddedToken(str(token.get("content", "")), special=bool(token.get("special", special)), **flags)
    plain = not special if normalized is None else normalized
    return AddedToken(str(token), special=special, normalized=plain)
