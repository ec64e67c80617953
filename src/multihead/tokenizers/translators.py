"""Recipes of translation tokenizers: vocabularies with language tokens, and pairs of vocabularies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import UnsupportedTokenizer
from .codes import M2M100, MBART50, MBART_CODES, NLLB_CODES, PLBART_CODES, WMT21
from .defaults import ROLES
from .frames import set_special_tokens
from .parts import (
    BuiltTokenizer,
    Settings,
    Vocabulary,
    piece_segmenter,
    register_special_tokens,
    role_tokens,
    special_pieces,
    unigram,
)
from .pieces import fairseq, whitespace_model
from .spm import CONTROL, NORMAL, SentencePiece


def with_languages(
    model: SentencePiece, settings: Settings, special: dict[str, str], languages: Sequence[str], *, exact: bool
) -> BuiltTokenizer:
    """Build fairseq's first four pieces, the model's pieces, one token a language, and a mask token.

    Args:
        exact: spaces as the model reads them itself; any white space ends a word otherwise.
    """
    mask = [special["mask_token"]] if "mask_token" in special else []
    vocab = [*fairseq(model, special), *((token, 0.0) for token in (*languages, *mask))]
    backend = piece_segmenter(model, vocab, 3) if exact else whitespace_model(model, vocab, 3)
    return register_special_tokens(backend, special, settings, languages, wide=["mask_token"], own=user_pieces(model))


def user_pieces(model: SentencePiece) -> list[object]:
    """Return the user-defined pieces; the control pieces are fairseq's, which have roles."""
    return [token for token in special_pieces(model) if not token.special]


def around(built: BuiltTokenizer, language: str, *, last: bool) -> BuiltTokenizer:
    """Add the language token before a text, or after its end token."""
    eos = built.special["eos_token"]
    begin, end = ("", f" {eos} {language}") if last else (f"{language} ", f" {eos}")
    set_special_tokens(built.backend, f"{begin}$A{end}", f"{begin}$A $B{end}", [eos, language])
    return built


def mbart(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """mBART (Liu et al., 2020, arXiv:2001.08210)."""
    built = with_languages(model, settings, role_tokens(settings, **ROLES["MBart"]), MBART_CODES, exact=False)
    return around(built, "en_XX", last=True)


def mbart50(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """mBART-50 (Tang et al., 2020, arXiv:2008.00401)."""
    special = role_tokens(settings, **ROLES["MBart50"])
    return around(with_languages(model, settings, special, MBART50, exact=True), "en_XX", last=False)


def nllb(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """NLLB (NLLB Team, 2022, arXiv:2207.04672)."""
    built = with_languages(model, settings, role_tokens(settings, **ROLES["Nllb"]), NLLB_CODES, exact=True)
    return around(built, "eng_Latn", last=bool(settings.get("legacy_behaviour", False)))


def plbart(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """PLBart's programming languages (Ahmad et al., 2021, arXiv:2103.06333); no language token until one is set."""
    kind = settings.get("language_codes", "base")
    if kind not in PLBART_CODES:
        raise UnsupportedTokenizer(f"language_codes of PLBart is 'base' or 'multi', not {kind!r}.")
    special = role_tokens(settings, **ROLES["PLBart"])
    if kind == "multi":
        special.pop("mask_token", None)
    built = with_languages(model, settings, special, PLBART_CODES[kind], exact=True)
    if kind == "multi":
        return around(built, "__en_XX__", last=True)
    eos = special["eos_token"]
    set_special_tokens(built.backend, f"$A {eos}", f"$A $B {eos}", [eos])
    return built


def m2m100(vocab: Mapping[str, int], model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """M2M-100: vocab.json gives the ids of the pieces; language tokens follow.

    Raises:
        UnsupportedTokenizer: the model has a piece that vocab.json lacks, or other languages.
    """
    kind = settings.get("language_codes", "m2m100")
    if kind not in ("m2m100", "wmt21"):
        raise UnsupportedTokenizer(f"language_codes of M2M-100 is 'm2m100' or 'wmt21', not {kind!r}.")
    special = role_tokens(settings, **ROLES["M2M100"])
    languages = [f"__{code}__" for code in (M2M100 if kind == "m2m100" else WMT21)]
    rows = numbered_rows(vocab, model, special["unk_token"])
    rows += [(token, 0.0) for token in languages]
    backend = piece_segmenter(model, rows, vocab[special["unk_token"]])
    built = register_special_tokens(backend, special, settings, languages, own=user_pieces(model))
    return around(built, "__en__", last=False)


def numbered_rows(vocab: Mapping[str, int], model: SentencePiece, unknown: str) -> Vocabulary:
    """Return the words of vocab.json by id, with the model's scores.

    Raises:
        UnsupportedTokenizer: the model has a piece that vocab.json lacks, or ids are left out.
    """
    scores = {piece.text: piece.score for piece in model.pieces if piece.kind != CONTROL}
    lacking = [piece.text for piece in model.pieces if piece.kind == NORMAL and piece.text not in vocab]
    if lacking:
        raise UnsupportedTokenizer(
            f"vocab.json lacks {len(lacking)} pieces of the SentencePiece model, {lacking[0]!r} first."
        )
    if unknown not in vocab:
        raise UnsupportedTokenizer(f"vocab.json has no {unknown!r}, which stands for unknown words.")
    ordered = sorted(vocab.items(), key=lambda item: item[1])
    if [number for _, number in ordered] != list(range(len(ordered))):
        raise UnsupportedTokenizer("vocab.json has gaps between its ids.")
    never = min(scores.values()) - 1e6  # words of another language: only where nothing else fits
    return [(text, scores.get(text, never)) for text, _ in ordered]


def marian_sides(vocab: Mapping[str, int], model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """Build one side of a Marian pair: a SentencePiece model whose ids are in vocab.json.

    Raises:
        UnsupportedTokenizer: the model has a piece that vocab.json lacks.
    """
    special = role_tokens(settings, **ROLES["Marian"])
    backend = unigram(numbered_rows(vocab, model, special["unk_token"]), vocab[special["unk_token"]], model.charsmap)
    codes = [text for text in vocab if text.startswith(">>") and text.endswith("<<")]
    built = register_special_tokens(backend, special, settings, codes)
    eos = special["eos_token"]
    set_special_tokens(backend, f"$A {eos}", f"$A $B {eos}", [eos])
    return built


RECIPES: Mapping[str, Callable[[SentencePiece, Settings], BuiltTokenizer]] = {
    "MBart": mbart,
    "MBart50": mbart50,
    "Nllb": nllb,
    "PLBart": plbart,
}
