"""Guards around the `tokenizers` library: a lock, clear errors, and conversion of ids."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import InvalidInput, UnknownPart, nearest
from .special import ROLES

ATTRIBUTES = frozenset((  # what tokenizers hold, besides roles and properties
    "backend", "special", "more", "named", "options", "target", "name_or_path", "files", "model_max_length",
    "padding_side", "truncation_side", "model_input_names", "chat_template", "pad_token_type_id",
    "clean_up_tokenization_spaces", "split_special_tokens", "words",
))  # fmt: skip


class Lock:
    """Lock that deep copies and pickles replace by a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


def check_settable(kind: type, name: str) -> None:
    """Raise UnknownPart for an attribute that does not exist or is read-only."""
    own = getattr(kind, name, None)
    if isinstance(own, property) and own.fset is None:
        raise UnknownPart(f"tokenizer.{name} is shown, not set: add_special_tokens and add_tokens change it.")
    if own is None and not name.startswith("_") and name not in ATTRIBUTES:
        properties = [each for each in dir(kind) if getattr(getattr(kind, each), "fset", None) is not None]
        raise UnknownPart(
            f"A tokenizer has no {name!r} to set: nothing would change. "
            f"{nearest(name, [*ATTRIBUTES, *properties, *ROLES])}"
        )


@contextmanager
def input_errors(inputs: Sequence[Any]) -> Iterator[None]:
    """Turn the library's errors about inputs into InvalidInput."""
    try:
        yield
    except TypeError as error:
        raise surrogate_error(inputs) or InvalidInput(
            f"Texts are strings, or lists of words with is_split_into_words=True: {error}."
        ) from error
    except BaseException as error:
        raise library_error("The text cannot be encoded with these options", error) from error


@contextmanager
def id_errors() -> Iterator[None]:
    """Turn the library's errors about ids or tokens into InvalidInput."""
    try:
        yield
    except BaseException as error:
        raise library_error("The ids cannot be decoded", error) from error


def library_error(what: str, error: BaseException) -> InvalidInput:
    """Build an InvalidInput from a library error; a panic in Rust is no Exception.

    A panic is a stride without new tokens, say, or a regular expression that takes more than ten million steps back.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    words = str(error).rstrip(".")
    if "retry-limit" in words:
        return InvalidInput(
            f"{what}: a regular expression of this tokenizer takes more steps back than the {10**7:,} that are allowed "
            f"({words}). Its tokenizer.json is not fit for this text."
        )
    return InvalidInput(f"{what}: {words}.")


def surrogate_error(inputs: Any) -> InvalidInput | None:
    """Return the error for the first text with a lone surrogate, or None."""
    if isinstance(inputs, (list, tuple)):
        return next((found for found in map(surrogate_error, inputs) if found is not None), None)
    chars = inputs if isinstance(inputs, str) else ""
    place = next((n for n, char in enumerate(chars) if 0xD800 <= ord(char) < 0xE000), None)
    if place is None:
        return None
    return InvalidInput(
        f"The text {chars[max(place - 40, 0) : place + 40]!r} has half of a character at {place} (the lone surrogate "
        f"U+{ord(chars[place]):04X}), which is no Unicode. Read its file again, or replace it: "
        "text.encode('utf-8', 'replace').decode()."
    )


def to_plain_ids(ids: Any) -> Any:
    """Convert ids to Python numbers and lists. Raises InvalidInput for other values."""
    if type(ids) is list and set(map(type, ids)) == {int}:  # by far the most calls: a token of a text that grows
        return ids
    if hasattr(ids, "tolist"):
        return ids.tolist()
    if isinstance(ids, int):
        return ids
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InvalidInput(f"Ids are numbers, in lists, arrays or tensors; not {type(ids).__name__}.")
    return [to_plain_ids(one) for one in ids]
