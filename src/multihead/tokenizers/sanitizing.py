"""Control tokens inside user messages, encoded as plain text; only the template's own are special tokens.

Before the template is rendered, each one is enclosed in two private-use characters, by which it is found afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ChatTemplateError

if TYPE_CHECKING:
    import jinja2

    from .core import TokenizerCore

OPEN, CLOSE = "\U000f0000", "\U000f0001"
EDGES = re.compile(f"[{OPEN}{CLOSE}]")


def control_tokens(tokenizer: TokenizerCore, source: str, environment: jinja2.Environment) -> list[str]:
    """Return special tokens, and added tokens that the template writes or that `chat_control_tokens` lists."""
    from jinja2 import nodes

    listed = tokenizer.options.get("chat_control_tokens")
    tree = environment.parse(source)
    texts = [node.data for node in tree.find_all(nodes.TemplateData)]
    texts += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]

    def controls(text: str) -> bool:
        if listed is not None:
            return text in listed
        return not text.isspace() and any(text in written for written in texts)

    return [t.content for t in tokenizer.added_tokens_decoder.values() if t.special or controls(t.content)]


def any_pattern(tokens: Iterable[str]) -> str:
    """Build a pattern that matches any of the tokens, longer ones first; with no tokens it matches nothing."""
    return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)"


def mark_tokens(value: Any, tokens: re.Pattern[str]) -> Any:
    """Mark the control tokens in plain data, and remove marks that the data itself contains."""
    if isinstance(value, str):
        return tokens.sub(rf"{OPEN}\g<0>{CLOSE}", EDGES.sub("", value))
    if isinstance(value, Mapping):
        return {key: mark_tokens(item, tokens) for key, item in value.items()}
    return [mark_tokens(item, tokens) for item in value] if isinstance(value, (list, tuple)) else value


def encode_marked(tokenizer: TokenizerCore, text: str) -> list[int]:
    """Encode a rendered conversation; marked parts are plain text.

    Each piece is encoded after a newline, whose tokens are removed again: SentencePiece would add a space to its start.

    Raises:
        ChatTemplateError: plain text is encoded to the control token itself.
    """
    whole = re.compile(f"{OPEN}({any_pattern(tokenizer.added_tokens_encoder)}){CLOSE}|[{OPEN}{CLOSE}]")
    pieces = whole.split(text)
    line = tokenizer.encode("\n", add_special_tokens=False)
    ids = tokenizer.encode(pieces[0], add_special_tokens=False)
    for number, piece in enumerate(pieces[1:], 1):
        if not piece:
            continue
        plain = number % 2 == 1
        found = (
            encode_plain(tokenizer, f"\n{piece}") if plain else tokenizer.encode(f"\n{piece}", add_special_tokens=False)
        )
        if found[: len(line)] == line:
            found = found[len(line) :]
        else:
            found = encode_plain(tokenizer, piece) if plain else tokenizer.encode(piece, add_special_tokens=False)
        if plain and tokenizer.convert_tokens_to_ids(piece) in found:
            raise ChatTemplateError(
                f"sanitize_control_tokens: the plain text {piece!r} is encoded to the control token itself."
            )
        ids += found
    return ids


def encode_plain(tokenizer: TokenizerCore, text: str) -> list[int]:
    """Encode a text without matching added tokens."""
    backend = tokenizer.backend
    text = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
    cuts = backend.pre_tokenizer
    pieces = [text] if cuts is None else [piece for piece, _ in cuts.pre_tokenize_str(text)]
    return [token.id for piece in pieces for token in backend.model.tokenize(piece)]
