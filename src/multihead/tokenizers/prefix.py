"""`add_prefix_space`: the leading space of a text, changed in a tokenizer.json."""

from __future__ import annotations

import json
from typing import Any

import tokenizers

from ..errors import UnsupportedOption

BYTES = frozenset((  # classes whose settings go before their tokenizer.json
    "Bart", "CodeGen", "Cohere", "Deberta", "GPT2", "GPTNeoX", "LED", "Longformer", "Mvp", "Qwen2", "Qwen3_5",
    "Roberta",
))  # fmt: skip

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
INNER = ("normalizers", "pretokenizers", "processors", "decoders")  # where sequences hold their steps


def with_prefix_space(backend: tokenizers.Tokenizer, wanted: bool) -> tokenizers.Tokenizer:
    """Return the tokenizer with or without a space before each text.

    Raises:
        UnsupportedOption: no step of it puts a space there.
    """
    data = {name: component_json(getattr(backend, name)) for name in PARTS}
    kinds = {step["type"] for name in ("normalizer", "pre_tokenizer") for step in component_steps(data[name])}
    if not {"ByteLevel", "Metaspace", "Prepend"} & kinds:
        if wanted:
            raise UnsupportedOption("add_prefix_space=True: no step of this tokenizer puts a space before a text.")
        return backend
    if wanted == has_prefix_space(data):
        return backend
    new = {name: change_component(name, data[name], wanted) for name in PARTS}
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | new, ensure_ascii=False))


def component_json(part: Any) -> Any:
    """Return a component in its tokenizer.json form."""
    return None if part is None else json.loads(part.__getstate__())


def component_steps(part: Any) -> list[dict[str, Any]]:
    """Return the steps of a sequence, or the component itself."""
    if part is None:
        return []
    return next((list(part[name]) for name in INNER if name in part), [part])


def has_prefix_space(data: dict[str, Any]) -> bool:
    """Return True if a space is added before each text."""
    return any(step["type"] == "Prepend" for step in component_steps(data["normalizer"])) or any(
        step.get("add_prefix_space", False) if step["type"] == "ByteLevel" else step.get("prepend_scheme") != "never"
        for step in component_steps(data["pre_tokenizer"])
        if step["type"] in ("ByteLevel", "Metaspace")
    )


def change_component(name: str, part: Any, wanted: bool) -> Any:
    """Return a component with or without the space in each of its steps; None for a step that is removed."""
    inner = next((each for each in INNER if each in (part or {})), "")
    if inner:
        changed = [change_component(name, step, wanted) for step in part[inner]]
        return part | {inner: [step for step in changed if step is not None]}
    kind = None if part is None else part["type"]
    if kind == "Metaspace":
        own = part.get("prepend_scheme", "always")
        return part | {"prepend_scheme": (own if own != "never" else "always") if wanted else "never"}
    if kind == "RobertaProcessing" or (kind == "ByteLevel" and name == "pre_tokenizer"):
        return part | {"add_prefix_space": wanted}
    gone = kind == "Prepend" or (name == "decoder" and kind == "Strip")
    return None if gone and not wanted else part
