"""Strict reading of requests: every field is known and of its type, or an error names it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import InvalidInput, nearest

MOST_LEVELS, MOST_VALUES, MOST_BYTES = 32, 10_000, 256 * 1024  # of JSON in a request, as OpenAI limits it


class InvalidField(InvalidInput):
    """Field of a request that is unknown, missing or wrong.

    Attributes:
        param: path of the field, such as "questions[2].choices"; empty where the message alone is known.
    """

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


def read_fields(given: Any, path: str, required: Collection[str], optional: Collection[str] = ()) -> Mapping[str, Any]:
    """Return an object whose fields are all known. Raises InvalidField."""
    known = [*required, *optional]
    if not isinstance(given, Mapping):
        raise InvalidField(f"{path or 'the request'} is an object with {', '.join(known)}, not {given!r:.80}.", path)
    if unknown := [name for name in given if name not in known]:
        where = join_path(path, str(unknown[0]))
        raise InvalidField(f"{where} is no field that is known here. {nearest(str(unknown[0]), known)}", where)
    if missing := [name for name in required if name not in given]:
        where = join_path(path, missing[0])
        raise InvalidField(f"{where} is missing.", where)
    return given


def join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def read_list(given: Any, path: str, least: int, most: int) -> list[Any]:
    """Return a list with `least` to `most` entries. Raises InvalidField."""
    if not isinstance(given, (list, tuple)) or not least <= len(given) <= most:
        found = f"{len(given)}" if isinstance(given, (list, tuple)) else f"{given!r:.80}"
        raise InvalidField(f"{path} is a list of {least} to {most} entries, not {found}.", path)
    return list(given)


def read_text(given: Any, path: str, *, empty: bool = False) -> str:
    """Return a string, which says something unless `empty`. Raises InvalidField."""
    if not isinstance(given, str):
        raise InvalidField(f"{path} is a text (a string), not {given!r:.80}.", path)
    if not empty and not given.strip():
        raise InvalidField(f"{path} is empty.", path)
    return given


def write_json(value: Any, path: str) -> str:
    """Return data as JSON text, without escapes. Raises InvalidField for what is no JSON or too large."""
    check_size(value, path)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidField(f"{path} is no JSON data: {error}.", path) from error
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise InvalidField(f"{path} has more than {MOST_BYTES:,} bytes of JSON.", path)
    return text


def check_size(value: Any, path: str) -> None:
    """Raise InvalidField for data with too many levels or values."""
    values, layer = 0, [value]
    for _ in range(MOST_LEVELS + 1):
        values += len(layer)
        if values > MOST_VALUES:
            raise InvalidField(f"{path} has more than {MOST_VALUES:,} values.", path)
        inner = [each for each in layer if isinstance(each, (Mapping, list, tuple))]
        layer = [x for each in inner for x in (each.values() if isinstance(each, Mapping) else each)]
        if not inner:
            return
    raise InvalidField(f"{path} has more than {MOST_LEVELS} levels.", path)


def read_parts(given: Any, path: str, *, texts: Collection[str] = ("text", "input_text")) -> str:
    """Return the text of a content: a string, or a list of parts of text and JSON.

    Args:
        texts: types of parts with text.

    Raises:
        InvalidField: another part, such as an image, which no model of these pipelines reads.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, (list, tuple)):
        raise InvalidField(f"{path} is a text or a list of parts, not {given!r:.80}.", path)
    return "\n".join(read_part(part, f"{path}[{number}]", texts) for number, part in enumerate(given))


def read_part(part: Any, path: str, texts: Collection[str]) -> str:
    """Return the text of one part of a content. Raises InvalidField."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "input_json":
        fields = read_fields(part, path, ("type", "data"))
        data = fields["data"]
        objects = data if isinstance(data, (list, tuple)) else [data]
        if not all(isinstance(each, Mapping) for each in objects):
            where = f"{path}.data"
            raise InvalidField(f"{where} is an object or a list of objects, not {data!r:.80}.", where)
        return write_json(data, f"{path}.data")
    if kind not in texts:
        where, known = f"{path}.type", ", ".join([*texts, "input_json"])
        raise InvalidField(f"{where} is one of {known}, not {kind!r:.80}.", where)
    return read_text(read_fields(part, path, ("type", "text"))["text"], f"{path}.text", empty=True)
