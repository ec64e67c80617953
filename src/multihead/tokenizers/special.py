"""Special tokens and their roles: begin, end, unknown, separator, padding, class, mask."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

MORE = ("additional_special_tokens", "extra_special_tokens")
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def token_text(token: Any) -> str | None:
    """Return the text of a token in a file: a string, or an object with `token_text`."""
    if token is None or isinstance(token, str):
        return token
    return token.get("content") if isinstance(token, Mapping) else str(token)


def special_roles(*sources: Mapping[str, Any]) -> dict[str, str]:
    """Return role -> token, from files in rising order of authority."""
    found: dict[str, str] = {}
    for source in sources:
        for role in ROLES:
            if role in source:
                text = token_text(source[role])
                if text is None:
                    found.pop(role, None)
                else:
                    found[role] = text
    return found


def listed_tokens(given: Any) -> tuple[list[Any], dict[str, str]]:
    """Return special tokens without a role from a list or a mapping, and the names of a mapping."""
    if isinstance(given, Mapping):
        return list(given.values()), {name: token_text(token) or "" for name, token in given.items()}
    return list(given or []), {}


def extra_special_tokens(*sources: Mapping[str, Any]) -> list[str]:
    """Return the special tokens without a role, from files in rising order of authority."""
    given = [listed_tokens(source.get(name))[0] for source in sources for name in MORE]
    texts = [*named_tokens(*sources).values(), *(token_text(token) for tokens in given for token in tokens)]
    return list(dict.fromkeys(text for text in texts if text is not None))


def named_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> token for special tokens with a name of their own, such as `image_token`."""
    found: dict[str, str] = {}
    for source in sources:
        for name, token in source.items():
            text = token_text(token) if isinstance(token, (str, Mapping)) else None
            if name.endswith("_token") and name not in ROLES and text is not None:
                found[name] = text
        for name in MORE:
            found |= listed_tokens(source.get(name))[1]
    return found


def token_objects(*sources: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return token -> its description as a special token, from files in rising order of authority."""
    given = [source.get(role) for source in sources for role in ROLES]
    given += [token for source in sources for name in MORE for token in listed_tokens(source.get(name))[0]]
    rows = [dict(token) for token in given if isinstance(token, Mapping)]
    return {str(token.get("content", "")): token | {"special": True} for token in rows}


def to_added_token(token: Any, *, special: bool) -> AddedToken:
    """Build an AddedToken from a string, an object of a file, or an AddedToken.

    A special token is matched as it is written, whatever its file says of `normalized`: the library would not know it
    again when it decodes.
    """
    from tokenizers import AddedToken

    if isinstance(token, AddedToken):
        return token
    flags: dict[str, bool] = {}
    if isinstance(token, Mapping):
        special = bool(token.get("special", special))
        flags = {k: bool(token[k]) for k in ("lstrip", "rstrip", "single_word", "normalized") if k in token}
        token = str(token.get("content", ""))
    flags["normalized"] = not special and flags.get("normalized", True)
    return AddedToken(str(token), special=special, **flags)


def exact_special_tokens(backend: Tokenizer, special: Iterable[str]) -> Tokenizer:
    """Return the library's tokenizer with special tokens matched exactly as `to_added_token` says.

    Args:
        special: tokens with a role, which need not be marked as special in their file.
    """
    import tokenizers

    rules, roles_ = backend.normalizer, set(special)
    if rules is None:
        return backend
    wrong = [
        token.content
        for token in backend.get_added_tokens_decoder().values()
        if token.normalized and (token.special or token.content in roles_)
        and rules.normalize_str(token.content) != token.content
    ]  # fmt: skip
    if not wrong:
        return backend
    data = json.loads(backend.to_str())
    for token in data["added_tokens"]:
        if token["content"] in wrong:
            token |= {"normalized": False, "special": True}
    return tokenizers.Tokenizer.from_str(json.dumps(data, ensure_ascii=False))
