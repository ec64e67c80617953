"""Language tokens of multilingual translation models: in the source or first in the target.

Tang et al., 2020 (mBART-50, arXiv:2008.00401); Fan et al., 2020 (M2M-100, arXiv:2010.11125); NLLB Team, 2022
(arXiv:2207.04672); Tiedemann and Thottingal, 2020 (OPUS-MT's `>>xxx<<`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, nearest

if TYPE_CHECKING:
    from tokenizers.processors import PostProcessor

    from .core import TokenizerCore

CODE = re.compile(r"__([a-z]{2,}(?:_[A-Za-z]+)?)__|>>([A-Za-z_]+)<<|<2([a-z]{2,3})>|([a-z]{2,3}_[A-Za-z]{2,4})")
IN_TEXT = (">>", "<2")  # how a token begins that names the target, before the source's words
MARKED = ("__", *IN_TEXT)  # how a language's token begins that need not be a special one
ENGLISH = frozenset(
    ("M2M100", "MBart", "MBart50", "Nllb")
)  # tokenizer classes whose default source language is English
NAMES: Mapping[str, str] = {  # of ISO 639-1, for prompts and for T5
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sv": "Swedish",
    "sw": "Swahili", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
ISO_639_3: Mapping[str, str] = {
    "ar": "arb", "bg": "bul", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "es": "spa",
    "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn",
    "ko": "kor", "nl": "nld", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sv": "swe", "tr": "tur",
    "uk": "ukr", "vi": "vie", "zh": "zho",
}  # fmt: skip


@dataclass(frozen=True)
class LanguageFrame:
    """Special tokens around a source, and the first tokens of a target.

    Args:
        before, after: ids around the source's own, None where the tokenizer frames it as ever.
        text: before the source's words. first: the token that a target begins with, None for no such token.
    """

    before: Sequence[int] | None = None
    after: Sequence[int] = ()
    text: str = ""
    first: int | None = None


def language_frame(tokenizer: TokenizerCore, source: str | None, target: str | None) -> LanguageFrame:
    """Return the language tokens of a model. Raises InvalidInput for an unknown language."""
    codes = language_tokens(tokenizer)
    if not codes:
        return LanguageFrame()
    tgt = None if target is None else language_token(target, codes, "tgt_lang")
    if target_in_source(codes):
        return LanguageFrame(text="" if tgt is None else f"{tgt} ")
    own = source or tokenizer.options.get("src_lang")
    if own is None or tgt is None:
        raise InvalidInput(
            f"This model translates between {len(codes)} languages: say which with src_lang and tgt_lang, such as "
            f"{', '.join(sorted(codes)[:3])}."
        )
    before, after = map(
        tokenizer.convert_tokens_to_ids, tokens_around(tokenizer, language_token(own, codes, "src_lang"))
    )
    return LanguageFrame(before, after, first=tokenizer.convert_tokens_to_ids(tgt))


def tokens_around(tokenizer: TokenizerCore, token: str) -> tuple[list[str], list[str]]:
    """Return the tokens before and after a text; the language token comes first, or last (`legacy_behaviour`)."""
    end = [tokenizer.eos_token]
    return ([], [*end, token]) if tokenizer.options.get("legacy_behaviour") else ([token], end)


def language_processor(tokenizer: TokenizerCore, language: Any, what: str) -> tuple[str, PostProcessor]:
    """Return a language's code and the post-processor that adds its tokens.

    Args:
        what: `src_lang` or `tgt_lang`, for the message.

    Raises:
        InvalidInput: a language that the tokenizer does not know.
    """
    from tokenizers import processors

    codes = language_tokens(tokenizer)
    if not codes or target_in_source(codes):
        how = f"its model reads {next(iter(codes.values()))} before the text" if codes else "it knows no languages"
        raise InvalidInput(f"{what} = {language!r} frames no text of this tokenizer: {how}.")
    token = language_token(str(language), codes, what)
    before, after = tokens_around(tokenizer, token)
    made = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", "$B", *after],
        special_tokens=[(own, tokenizer.convert_tokens_to_ids(own)) for own in (*before, *after)],
    )
    return next(code for code, own in codes.items() if own == token), made


def target_in_source(codes: Mapping[str, str]) -> bool:
    """Return True if one token before the source text names the target language."""
    return any(token.startswith(IN_TEXT) for token in codes.values())


def language_tokens(tokenizer: TokenizerCore) -> dict[str, str]:
    """Return language -> token."""
    special, found = set(tokenizer.all_special_tokens), {}
    for token in tokenizer.get_vocab():
        if token in special or token.startswith(MARKED):
            match = CODE.fullmatch(token)
            if match is not None:
                found[next(group for group in match.groups() if group)] = token
    return found


def language_token(language: str, codes: Mapping[str, str], what: str) -> str:
    """Return the token of a language code, or of the only code that begins with it. Raises InvalidInput."""
    plain = language.strip().strip("_><")
    if plain in codes:
        return codes[plain]
    if language in codes.values():
        return language
    longer = {plain.lower(), ISO_639_3.get(plain.lower(), plain.lower())}
    begins = sorted(code for code in codes if code.lower().split("_")[0] in longer)
    if len(begins) == 1:
        return codes[begins[0]]
    hint = f"It may be one of {', '.join(begins)}." if begins else nearest(plain, codes)
    raise InvalidInput(f"{what} = {language!r} is no language of this model. {hint}")


def name_of(code: str) -> str:
    """Return the English name of a code such as "pt" or "por_Latn"; the code itself where it is unknown."""
    short = re.split(r"[_-]", code)[0].lower()
    by_three = {three: two for two, three in ISO_639_3.items()}
    return NAMES.get(by_three.get(short, short), code)
