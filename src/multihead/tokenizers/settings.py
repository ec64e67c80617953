"""Types of the entries of tokenizer_config.json and special_tokens_map.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import accepts, describe, read_json
from ..errors import CorruptFile, UnsupportedTokenizer
from .special import MORE, ROLES

FLAGS = """
    add_bos_token add_eos_token add_prefix_space clean_up_tokenization_spaces do_basic_tokenize do_lower_case
    do_lowercase do_lowercase_and_remove_accent keep_accents legacy legacy_behaviour lowercase normalize remove_space
    separate_vocabs split_special_tokens strip_accents tokenize_chinese_chars trim_offsets
""".split()
TEXTS = "tokenizer_class src_lang tgt_lang padding_side truncation_side errors language_codes".split()
COUNTS = "extra_ids offset num_sentinels".split()
TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE_FOLDER = "additional_chat_templates"
MARIAN_SIDES = ("source.spm", "target.spm")
MARIAN_FILES = (*MARIAN_SIDES, "vocab.json")
FSMT_FILES = ("vocab-src.json", "vocab-tgt.json", "merges.txt")


def check(settings: Mapping[str, Any], source: object) -> None:
    """Raise UnsupportedTokenizer for an entry with a wrong type or value."""
    hints: dict[str, Any] = {
        **dict.fromkeys(FLAGS, bool | int | None), **dict.fromkeys(TEXTS, str | None),
        **dict.fromkeys(COUNTS, int | None), **dict.fromkeys(MORE, list | tuple | dict | None),
        "pad_token_type_id": int | None, "model_input_names": list[str] | None,
        "added_tokens_decoder": dict | None, "chat_template": str | list | dict | None, "sp_model_kwargs": dict | None,
    }  # fmt: skip
    for name, hint in hints.items():
        if name in settings and not accepts(hint, settings[name]):
            raise _wrong(source, name, settings[name], describe(hint))
    for name in ("padding_side", "truncation_side"):
        if settings.get(name) not in (None, "left", "right"):
            raise _wrong(source, name, settings[name], "left or right")
    for name in ("model_max_length", "max_len"):
        most = settings.get(name)
        number = isinstance(most, int) and not isinstance(most, bool)  # 10**30, which no tensor holds, means no limit
        if most is not None and not ((number or (isinstance(most, float) and math.isfinite(most))) and most >= 1):
            raise _wrong(source, name, most, "a number of tokens")
    for name in COUNTS:
        if not 0 <= (settings.get(name) or 0) <= 100_000:
            raise _wrong(source, name, settings[name], "a number of tokens, 100,000 at most")
    for name in ROLES:
        _token(settings.get(name), source, name)
    for name in MORE:
        given = settings.get(name) or []
        for token in given.values() if isinstance(given, Mapping) else given:
            _token(token, source, name)
    for number, token in (settings.get("added_tokens_decoder") or {}).items():
        if not str(number).isdecimal() or len(str(number)) > 9:
            raise _wrong(source, "added_tokens_decoder", number, "numbers of tokens as its names")
        _token(token, source, f"added_tokens_decoder.{number}", needed=True)
    _template(settings.get("chat_template"), source)


def ids(entries: Mapping[str, Any], source: object) -> None:
    """Raise CorruptFile unless a file (vocab.json, added_tokens.json) maps tokens to ids."""
    for token, number in entries.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
            raise CorruptFile(f"{source} must map tokens to their ids, not {token[:40]!r} to {number!r:.40}.")


PREFIX = re.compile(rb'"continuing_subword_prefix"\s*:\s*"(?!")')


def check_merges(path: Path) -> None:
    """Raise CorruptFile for merges of a tokenizer.json whose second parts lack the required prefix.

    The tokenizers library cuts that prefix off unseen, also in the middle of a character, and may end the process.
    """
    data = path.read_bytes()
    if b'"merges"' not in data or PREFIX.search(data) is None:
        return
    model = read_json(path).get("model")
    prefix = model.get("continuing_subword_prefix") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(prefix, str) or not isinstance(model.get("merges"), list):
        return
    for merge in model["merges"]:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not str(parts[1]).startswith(prefix):
            raise CorruptFile(f"{path}: the merge {merge!r:.80} has no second part with the prefix {prefix!r:.20}.")


def _token(token: Any, source: object, name: str, needed: bool = False) -> None:
    """Raise UnsupportedTokenizer for a value that is neither a text nor an object with one."""
    if (not needed and (token is None or isinstance(token, str))) or type(token).__name__ == "AddedToken":
        return
    if not isinstance(token, Mapping) or not isinstance(token.get("content"), str):
        raise _wrong(source, name, token, "a text, or an object with one as its content")
    for flag in ("lstrip", "rstrip", "single_word", "normalized", "special"):
        if not isinstance(token.get(flag, False), bool):
            raise _wrong(source, f"{name}.{flag}", token[flag], "true or false")


def _template(given: Any, source: object) -> None:
    """Raise UnsupportedTokenizer for chat templates that are no texts or have no names."""
    rows = given if isinstance(given, list) else []
    if isinstance(given, Mapping):
        rows = [{"name": name, "template": text} for name, text in given.items()]
    for row in rows:
        fields = isinstance(row, Mapping) and [row.get("name"), row.get("template")]
        if not fields or not all(isinstance(part, str) for part in fields):
            raise _wrong(source, "chat_template", row, "a template, or several, each with a name and a template")


def _wrong(source: object, name: str, value: Any, need: str) -> UnsupportedTokenizer:
    shown = repr(value) if len(repr(value)) < 100 else f"{repr(value)[:97]}..."
    return UnsupportedTokenizer(f"{source}: {name} is {shown}; it must be {need}.")
