"""Saving of tokenizers in files that the reference reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import write_json
from ..errors import InvalidInput, UnsupportedOption
from ..files import rebuild_folder
from .frames import ENDS
from .settings import FSMT_FILES, MARIAN_FILES, TEMPLATE_FILE, TEMPLATE_FOLDER
from .special import MORE

if TYPE_CHECKING:
    from .core import TokenizerCore


PAIRS = {"Marian": MARIAN_FILES, "FSMT": FSMT_FILES}
TRANSLATORS = frozenset(("MBart", "MBart50", "Nllb"))  # the reference's classes that read tokenizer.json and languages


def save(tokenizer: TokenizerCore, folder: Path) -> tuple[str, ...]:
    """Write the files whole or not at all, and return their paths.

    Raises:
        InvalidInput: the path is a file. UnsupportedOption: a pair of vocabularies that no files hold.
    """
    if folder.is_file():
        raise InvalidInput(f"{folder} is a file; save_pretrained needs a folder.")
    left = ("chat_template", "added_tokens_decoder", *MORE)
    options = {k: v for k, v in tokenizer.options.items() if k not in left}
    options |= {name: getattr(tokenizer, name) for name in ENDS if name in options}
    stem = re.sub(r"Tokenizer(Fast)?$", "", str(options.get("tokenizer_class")))
    settings: dict[str, Any] = {
        **options,
        **tokenizer.special_tokens_map,
        **({"extra_special_tokens": tokenizer.named} if tokenizer.named else {}),
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "model_input_names": tokenizer.model_input_names,
        "clean_up_tokenization_spaces": tokenizer.clean_up_tokenization_spaces,
        "split_special_tokens": tokenizer.split_special_tokens,
        "tokenizer_class": f"{stem}Tokenizer" if stem in TRANSLATORS else "PreTrainedTokenizerFast",
    }
    tables = tokenizer.files
    if tokenizer.target is not None:
        settings |= pair_settings(tokenizer)
    elif tokenizer.words is not None or (
        stem == "Tapas" and tables
    ):  # another library's class cuts the words as the settings say
        settings |= {"tokenizer_class": f"{stem}Tokenizer", "added_tokens_decoder": added_after_vocabulary(tokenizer)}
    if tokenizer.target is None and not tables:
        tables = {"tokenizer.json": tokenizer.to_json().encode()}
    return write_files(folder, *save_templates(tokenizer.chat_template, tables, settings), tokenizer.special_tokens_map)


def write_files(
    folder: Path, tables: Mapping[str, bytes], settings: Mapping[str, Any], specials: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write the files of a tokenizer and return their paths. Raises InvalidInput where that fails."""
    try:
        with rebuild_folder(folder, "tokenizer_config.json", lambda name: name == TEMPLATE_FILE) as stage:
            for name, data in tables.items():
                (stage / name).write_bytes(data)
            write_json(stage / "tokenizer_config.json", settings)
            write_json(stage / "special_tokens_map.json", specials)
        for old in (folder / TEMPLATE_FOLDER).glob("[!.]*.jinja"):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be written: {error.strerror or error}.") from error
    return tuple(str(folder / name) for name in (*tables, "tokenizer_config.json", "special_tokens_map.json"))


def pair_settings(tokenizer: TokenizerCore) -> dict[str, Any]:
    """Return the tokenizer_config.json entries of a pair: the class, and tokens added to both sides.

    Raises:
        UnsupportedOption: a pair that was not read from such files, or tokens that have an id on each side.
    """
    stem = next((stem for stem, names in PAIRS.items() if set(names) <= set(tokenizer.files)), None)
    if stem is None:
        raise UnsupportedOption(
            f"A tokenizer with a target of its own is saved as {' or '.join(map(', '.join, PAIRS.values()))}; this one "
            "was not read from such files. Save the two sides separately: save_pretrained of the tokenizer without a "
            "target, and of its target."
        )
    more = added_after_vocabulary(tokenizer)
    if more and ("target_vocab.json" in tokenizer.files or stem == "FSMT"):
        raise UnsupportedOption(
            f"{next(iter(more.values()))['content']!r} was added to a source and a target with vocabularies of their "
            "own; no file holds an added token with two ids. Save the tokenizer without it."
        )
    return {"tokenizer_class": f"{stem}Tokenizer", "added_tokens_decoder": more}


def added_after_vocabulary(tokenizer: TokenizerCore) -> dict[str, dict[str, Any]]:
    """Return the tokens added after the vocabulary: id -> entry of tokenizer_config.json."""
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    found = tokenizer.backend.get_added_tokens_decoder().items()
    return {str(n): {flag: getattr(token, flag) for flag in flags} for n, token in found if n >= tokenizer.vocab_size}


def save_templates(
    given: Any, tables: Mapping[str, bytes], settings: Mapping[str, Any]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files with the chat template added, or the settings with several templates."""
    if isinstance(given, str):
        return {**tables, TEMPLATE_FILE: given.encode()}, dict(settings)
    if given:
        listed = [{"name": name, "template": template} for name, template in dict(given).items()]
        return dict(tables), {**settings, "chat_template": listed}
    return dict(tables), dict(settings)
