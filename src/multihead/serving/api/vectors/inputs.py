"""Texts of requests: one or many, as strings or token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from ...errors import ApiError


def read_texts(value: Any, most: int, param: str = "input") -> list[str]:
    """Return one text or several as a list. Raises ApiError, which names `param`."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise ApiError(f"{param} is a text or a list of texts, and not empty.", param=param)
    check_count(texts, most, param)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ApiError(f"{param}[{number}] must be a text, not {json_name(text)}.", param=f"{param}[{number}]")
    return texts


def read_texts_or_ids(value: Any, most: int, param: str = "input") -> list[str] | list[list[int]]:
    """Return texts or lists of token ids: of a text, a list of texts, a list of ids, or a list of such lists.

    Raises:
        ApiError: anything else; it names `param`.
    """
    first = value[0] if isinstance(value, list) and value else None
    if is_id(first):
        return [read_ids(value, param)]
    if isinstance(first, list):
        check_count(value, most, param)
        return [read_ids(ids, f"{param}[{number}]") for number, ids in enumerate(value)]
    return read_texts(value, most, param)


def read_ids(value: Any, param: str) -> list[int]:
    """Return a list of token ids. Raises ApiError."""
    if not isinstance(value, list) or not all(map(is_id, value)):
        raise ApiError(f"{param} must be a list of token ids, which are whole numbers.", param=param)
    return value


def is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_count(values: Sequence[Any], most: int, param: str) -> None:
    """Raise ApiError for more inputs than a request may have."""
    if len(values) > most:
        raise ApiError(
            f"{param} has {len(values)} inputs, and a request takes at most {most}. Send several requests.", param=param
        )


def json_name(value: Any) -> str:
    """Return the name that JSON has for the type of a value."""
    names = {dict: "an object", list: "a list", bool: "a truth value", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), "a text")


def has_field(raw: bytes, name: str) -> bool:
    """Return whether a body is an object with a field, which tells the shapes of two interfaces apart."""
    try:
        body = from_json(raw)
    except ValueError:
        return False
    return isinstance(body, dict) and name in body
