"""Response templates: a checkpoint's description of what its model writes, as fields between markers.

A template is the entry `response_template` of tokenizer_config.json, in the reference's format, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ChatTemplateError
from .response_field import Anchor, ResponseField, regex_library
from .response_values import CONTENT_KINDS, check_transform

TEMPLATE_KEYS = {"version", "defaults", "fields", "start_anchor", "start_anchor_pattern"}
FIELD_KEYS = {
    "open", "open_pattern", "close", "close_pattern", "content", "content_args", "repeats", "join", "optional",
    "transform", "transform_each",
}  # fmt: skip


@dataclass(frozen=True)
class ResponseTemplate:
    """A checked template. `start`: the marker behind which the assistant's message begins in a prompt."""

    defaults: Mapping[str, Any]
    fields: Mapping[str, ResponseField]
    start: Anchor

    @property
    def outside(self) -> ResponseField | None:
        """The field of what stands outside of the others."""
        return next((field for field in self.fields.values() if field.open is None), None)

    def message_part(self, prompt: str) -> str:
        """Return the part of a prompt that belongs to the assistant's message; all of it without the marker."""
        end = max((match.end() for match in self.start.pattern.finditer(prompt)), default=0)
        return prompt[end:]


def load_template(given: Any) -> ResponseTemplate:
    """Return a checked template.

    Raises:
        ChatTemplateError: a template that breaks the format. UnsupportedOption: the library is not installed.
    """
    if isinstance(given, ResponseTemplate):
        return given
    if not isinstance(given, Mapping):
        raise broken(f"it is {type(given).__name__}, not a dict")
    if given.get("version", 1) != 1:
        raise broken(f"its version is {given['version']!r}, not 1")
    check_keys(given, TEMPLATE_KEYS, "it")
    defaults, fields = given.get("defaults", {}), given.get("fields")
    if not isinstance(defaults, Mapping):
        raise broken("its defaults are no dict")
    if not isinstance(fields, Mapping) or not fields:
        raise broken("it has no fields")
    found = {name: load_field(str(name), field) for name, field in fields.items()}
    if len(outside := [name for name, field in found.items() if field.open is None]) > 1:
        raise broken(f"the fields {', '.join(outside)} have no open; at most one may hold what is outside")
    start = load_anchor(given, "start_anchor", "it")
    if start is None:
        raise broken("it has no start_anchor")
    return ResponseTemplate(dict(defaults), found, start)


def load_field(name: str, given: Any) -> ResponseField:
    """Return a checked field. Raises ChatTemplateError."""
    where = f"its field {name!r}"
    if not isinstance(given, Mapping):
        raise broken(f"{where} is no dict")
    check_keys(given, FIELD_KEYS, where)
    kind, join, transform = given.get("content", "text"), given.get("join"), given.get("transform")
    repeats, each = given.get("repeats", False), given.get("transform_each", False)
    begin, end = load_anchor(given, "open", where), load_anchor(given, "close", where)
    if kind not in CONTENT_KINDS:
        raise broken(f"{where} has the content {kind!r}, not {', '.join(CONTENT_KINDS)}")
    if join is not None and not (isinstance(join, str) and repeats):
        raise broken(f"{where} has a join, which must be text of a field that repeats")
    if not isinstance(each, bool) or (each and transform is None):
        raise broken(f"{where} has transform_each, which must be true or false, with a transform")
    groups = [group for anchor in (begin, end) if anchor for group in anchor.pattern.groupindex]
    if groups and transform is None:
        raise broken(f"{where} names the groups {', '.join(groups)}, which only a transform uses")
    if (problem := check_transform(transform)) is not None:
        raise broken(f"{where} has the transform {problem!r}; a name in braces must stand alone")
    return ResponseField(
        name, begin, end, kind, given.get("content_args") or {}, bool(repeats), join,
        bool(given.get("optional", True)), transform, each,
    )  # fmt: skip


def load_anchor(given: Mapping[str, Any], name: str, where: str) -> Anchor | None:
    """Return the marker of a name: one text, several, or a pattern under `name_pattern`. Raises ChatTemplateError."""
    regex = regex_library()
    texts, pattern = given.get(name), given.get(f"{name}_pattern")
    if name in given and f"{name}_pattern" in given:
        raise broken(f"{where} has both {name} and {name}_pattern")
    if f"{name}_pattern" in given:
        try:
            return Anchor(regex.compile(pattern, regex.DOTALL), False)
        except (regex.error, TypeError) as error:
            raise broken(f"{where} has a {name}_pattern that is no pattern: {error}") from error
    if name not in given:
        return None
    listed = [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list) or not listed or not all(isinstance(text, str) and text for text in listed):
        raise broken(f"{where} has a {name} that is no text, nor a list of texts")
    ordered = sorted(set(listed), key=lambda text: (-len(text), text))
    grows = any(one != other and one.startswith(other) for one in ordered for other in ordered)
    return Anchor(regex.compile("|".join(map(re.escape, ordered)), regex.DOTALL), not grows, tuple(ordered))


def check_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in given if key not in known)
    if unknown:
        raise broken(f"{where} has the unknown entries {', '.join(unknown)}")


def broken(problem: str) -> ChatTemplateError:
    return ChatTemplateError(f"The tokenizer's response_template cannot be used: {problem}.")
