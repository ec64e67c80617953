"""Post-processors that add begin and end tokens to each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, UnsupportedTokenizer

if TYPE_CHECKING:
    from tokenizers.processors import PostProcessor

    from tokenizers import Tokenizer as Backend

    from .core import TokenizerCore

ENDS = {"add_bos_token": "bos_token", "add_eos_token": "eos_token"}


def token_id(backend: Backend, token: str) -> int:
    """Return the id of a special token that every text gets. Raises UnsupportedTokenizer where it is missing."""
    number = backend.token_to_id(token)
    if number is None:
        raise UnsupportedTokenizer(f"The vocabulary has no {token!r}, which frames every text.")
    return number


def special_tokens_processor(backend: Backend, single: str, pair: str, tokens: Sequence[str]) -> PostProcessor:
    """Build the post-processor that adds special tokens to a text and to a pair."""
    from tokenizers import processors

    ids = [(token, token_id(backend, token)) for token in dict.fromkeys(tokens)]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def set_special_tokens(backend: Backend, single: str, pair: str, tokens: Sequence[str]) -> None:
    """Set the special tokens around a text and around a pair."""
    backend.post_processor = special_tokens_processor(backend, single, pair, tokens)


def begin_end_processor(backend: Backend, special: Mapping[str, str], begin: bool, end: bool) -> PostProcessor:
    """Build the post-processor that adds the begin token, the end token, or both."""
    bos = special.get("bos_token") if begin else None
    eos = special.get("eos_token") if end else None
    single = f"{bos + ':0 ' if bos else ''}$A:0{' ' + eos + ':0' if eos else ''}"
    pair = f"{single}{' ' + bos + ':1' if bos else ''} $B:1{' ' + eos + ':1' if eos else ''}"
    return special_tokens_processor(backend, single, pair, [token for token in (bos, eos) if token])


def set_begin_end(backend: Backend, special: Mapping[str, str], begin: bool, end: bool) -> None:
    """Set whether each text gets the begin token and the end token."""
    backend.post_processor = begin_end_processor(backend, special, begin, end)


def has_begin_end(tokenizer: TokenizerCore, name: str) -> bool:
    """Return True if each text gets the begin token (`add_bos_token`) or the end token (`add_eos_token`)."""
    number = getattr(tokenizer, f"{ENDS[name]}_id")
    found = tokenizer.run(["a"], words=False, special=True, limits=None)[0]
    place = 0 if name == "add_bos_token" else -1
    return bool(found.ids) and found.special_tokens_mask[place] == 1 and found.ids[place] == number


def change_begin_end(tokenizer: TokenizerCore, name: str, wanted: Any) -> PostProcessor | None:
    """Build the post-processor with one of the two tokens added or removed; None where nothing changes.

    Raises:
        InvalidInput: no such token to put there, or a value that is neither True nor False.
    """
    from tokenizers import processors

    if not isinstance(wanted, bool):
        raise InvalidInput(f"{name} is True or False, not {wanted!r}.")
    if has_begin_end(tokenizer, name) == wanted:
        return None
    if wanted and tokenizer.special.get(ENDS[name]) is None:
        raise InvalidInput(f"{name} = True needs the token: set tokenizer.{ENDS[name]} first.")
    now = {each: has_begin_end(tokenizer, each) for each in ENDS} | {name: wanted}
    made = begin_end_processor(tokenizer.backend, tokenizer.special, now["add_bos_token"], now["add_eos_token"])
    offsets = offset_trimmer(tokenizer.backend.post_processor)
    return made if offsets is None else processors.Sequence([offsets, made])


def offset_trimmer(processor: Any) -> PostProcessor | None:
    """Return the step of a post-processor that trims the offsets of byte-level tokens, or None."""
    from tokenizers import processors

    if isinstance(processor, processors.RobertaProcessing):
        return processors.ByteLevel(trim_offsets=processor.trim_offsets)
    steps = list(processor) if isinstance(processor, processors.Sequence) else [processor]  # type: ignore[call-overload]
    return next((step for step in steps if isinstance(step, processors.ByteLevel)), None)
