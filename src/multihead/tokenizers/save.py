"""Writing a tokenizer so that the reference reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import write_json
from ..errors import InvalidInput

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> tuple[str, ...]:
    """Writes the files whole or not at all; gives their paths.

    Raises:
        InvalidInput: the path is a file.
    """
    if folder.is_file():
        raise InvalidInput(f"{folder} is a file; save_pretrained needs a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_text(folder / "tokenizer.json", tokenizer.backend.to_str(pretty=True))]
    options = {k: v for k, v in tokenizer.options.items() if k not in ("chat_template", "added_tokens_decoder")}
    settings: dict[str, Any] = {
        **options,
        **tokenizer.special_tokens_map,
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "model_input_names": tokenizer.model_input_names,
        "clean_up_tokenization_spaces": tokenizer.clean_up_tokenization_spaces,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    template = tokenizer.chat_template
    if isinstance(template, str):
        written.append(write_text(folder / "chat_template.jinja", template))
    elif template:
        settings["chat_template"] = [{"name": k, "template": v} for k, v in dict(template).items()]
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", tokenizer.special_tokens_map)
    return (*written, str(folder / "tokenizer_config.json"), str(folder / "special_tokens_map.json"))


def write_text(path: Path, text: str) -> str:
    """Writes under a temporary name, then renames."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return str(path)
