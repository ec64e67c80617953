"""Recipes of SentencePiece models without language tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from ..errors import UnsupportedTokenizer
from .defaults import MORE, ROLES
from .frames import set_begin_end, set_special_tokens
from .parts import (
    BuiltTokenizer,
    Settings,
    Vocabulary,
    exact_segmenter,
    llama_spaces,
    merges_of,
    metaspace,
    piece_model,
    piece_segmenter,
    prepend_scheme,
    quotes_and_accents,
    register_special_tokens,
    role_tokens,
    scored_pieces,
    special_pieces,
    spm_bpe,
    unigram,
)
from .spm import BPE as PAIRS
from .spm import SentencePiece


def whitespace_model(model: SentencePiece, vocab: Vocabulary, unknown: int, steps: Sequence[Any] = ()) -> Tokenizer:
    """Build a model that splits at any white space, after its own character map and further steps.

    A model that puts no space before each text is read as it reads itself: words would lose theirs.
    """
    if prepend_scheme(model) != "always" or not model.one_space:
        return piece_segmenter(model, vocab, unknown, steps)
    backend = Tokenizer(piece_model(model, vocab, unknown))
    rules = [*steps, normalizers.Precompiled(model.charsmap)] if model.charsmap else list(steps)
    if rules:
        backend.normalizer = normalizers.Sequence(rules)
    metaspace(backend, byte_fallback=model.byte_fallback)
    return backend


def add_segment_tokens(backend: Tokenizer, special: Mapping[str, str]) -> None:
    """Add [CLS] text [SEP]; the second text of a pair has type 1."""
    cls, sep = special["cls_token"], special["sep_token"]
    set_special_tokens(backend, f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1", [cls, sep])


def fairseq(model: SentencePiece, special: Mapping[str, str]) -> Vocabulary:
    """Reorder the first four pieces as fairseq does."""
    first = [special.get(role, token) for role, token in
             (("bos_token", "<s>"), ("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))]  # fmt: skip
    return [*((token, 0.0) for token in first), *scored_pieces(model)[3:]]


def t5(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """T5: a text ends with </s>; 100 sentinels follow the vocabulary, the last number first."""
    special = role_tokens(settings, **ROLES["T5"])
    count = settings.get("extra_ids", 100)
    sentinels = [f"<extra_id_{number}>" for number in range(int(100 if count is None else count))]
    have = {piece.text for piece in model.pieces}
    vocab = scored_pieces(model) + [(token, 0.0) for token in reversed(sentinels) if token not in have]
    backend = whitespace_model(model, vocab, model.unknown)
    built = register_special_tokens(backend, special, settings, sentinels, own=special_pieces(model))
    eos = special["eos_token"]
    set_special_tokens(backend, f"$A {eos}", f"$A {eos} $B {eos}", [eos])
    return built


def cls_sep_model(
    model: SentencePiece, settings: Settings, build: Callable[..., Tokenizer], *, lower: bool, keep: bool
) -> BuiltTokenizer:
    """Build a tokenizer with [CLS] and [SEP]; settings override `lower` (case) and `keep` (accents)."""
    special = role_tokens(settings, **ROLES["Albert"])
    steps = quotes_and_accents(settings, lower=lower, strip=not settings.get("keep_accents", keep))
    backend = build(model, scored_pieces(model), model.unknown, steps)
    built = register_special_tokens(backend, special, settings, own=special_pieces(model))
    add_segment_tokens(backend, special)
    return built


def albert(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    return cls_sep_model(model, settings, whitespace_model, lower=True, keep=False)


def fnet(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """FNet: like ALBERT, but with capitals and accents unless the settings say otherwise."""
    return albert(model, {"do_lower_case": False, "keep_accents": True, **settings})


def rembert(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    return cls_sep_model(model, settings, piece_segmenter, lower=False, keep=True)


def xlnet(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["XLNet"])
    steps = quotes_and_accents(settings, lower=False, strip=not settings.get("keep_accents", False))
    backend = whitespace_model(model, scored_pieces(model), model.unknown, steps)
    built = register_special_tokens(
        backend, special, settings, MORE["XLNet"], wide=["mask_token"], own=special_pieces(model)
    )
    sep, cls = special["sep_token"], special["cls_token"]
    set_special_tokens(backend, f"$A:0 {sep}:0 {cls}:2", f"$A:0 {sep}:0 $B:1 {sep}:1 {cls}:2", [sep, cls])
    return built


def xlm_roberta(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """XLM-RoBERTa: fairseq's order of the first four pieces, and a mask token after the last piece."""
    special = role_tokens(settings, **ROLES["XLMRoberta"])
    vocab = [*fairseq(model, special), (special["mask_token"], 0.0)]
    backend = whitespace_model(model, vocab, 3)
    return add_bos_eos(register_special_tokens(backend, special, settings), special)


def camembert(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """CamemBERT: ids of fairseq's dictionary before the pieces; its own begin and end tokens are used."""
    special = role_tokens(settings, **ROLES["XLMRoberta"])
    unused = MORE["Camembert"]
    first = [(unused[0], 0.0), (special["pad_token"], 0.0), (unused[1], 0.0), (special["unk_token"], 0.0)]
    vocab = [*first, (unused[2], -100.0), *scored_pieces(model)[1:], (special["mask_token"], 0.0)]
    backend = whitespace_model(model, vocab, 3)
    return add_bos_eos(register_special_tokens(backend, special, settings, unused, wide=["mask_token"]), special)


def add_bos_eos(built: BuiltTokenizer, special: Mapping[str, str]) -> BuiltTokenizer:
    """Add <s> text </s>, with </s></s> between the texts of a pair."""
    bos, eos = special["bos_token"], special["eos_token"]
    set_special_tokens(built.backend, f"{bos} $A {eos}", f"{bos} $A {eos} {eos} $B {eos}", [bos, eos])
    return built


def xglm(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """XGLM (Lin et al., 2021, arXiv:2112.10668): fairseq's order, seven unused words, and </s> before a text."""
    special = role_tokens(settings, **ROLES["XGLM"])
    vocab = [*fairseq(model, special), *((word, 0.0) for word in MORE["XGLM"])]
    rules = [normalizers.Replace(Regex(" {2,}"), " ")]
    backend = unigram(vocab, 3, b"")
    charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    backend.normalizer = normalizers.Sequence([*charsmap, *rules])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    built = register_special_tokens(backend, special, settings, MORE["XGLM"])
    eos = special["eos_token"]
    set_special_tokens(backend, f"{eos} $A", f"{eos} $A {eos} {eos} $B", [eos])
    return built


NOT_PRINTED = r"[\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u00ad\u200b]"
WIDE_SPACES = r"[\u2002\u2003\u2005\u2008-\u200a\u202f\u3000\ufffc]"


def gpt_sw3(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """GPT-SW3 (Ekgren et al., 2023, arXiv:2305.12987): characters that nobody sees are left out before the model."""
    special = role_tokens(settings, **ROLES["GPTSw3"])
    seen = [*map(normalizers.Replace, map(Regex, (NOT_PRINTED, WIDE_SPACES)), ("", " ")), normalizers.NFC()]
    backend = exact_segmenter(model, scored_pieces(model), model.unknown, seen)
    return register_special_tokens(backend, special, settings, own=special_pieces(model))


def deberta_v2(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """DeBERTa v2 and v3 (He et al., 2021, arXiv:2111.09543)."""
    special = role_tokens(settings, **ROLES["DebertaV2"])
    steps = [normalizers.Lowercase()] if settings.get("do_lower_case", False) else []
    breaks = normalizers.Replace(Regex(r"[\n\r\t]"), " ")
    backend = piece_segmenter(model, scored_pieces(model), model.unknown, [*steps, breaks])
    if settings.get("split_by_punct", False):
        marks = pre_tokenizers.Punctuation(behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([marks, backend.pre_tokenizer])
    built = register_special_tokens(backend, special, settings, own=special_pieces(model))
    add_segment_tokens(backend, special)
    return built


def big_bird(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["BigBird"])
    backend = piece_segmenter(model, scored_pieces(model), model.unknown)
    built = register_special_tokens(backend, special, settings, wide=["mask_token"], own=special_pieces(model))
    add_segment_tokens(backend, special)
    return built


def bert_generation(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """BertGeneration: no special token around a text."""
    special = role_tokens(settings, **ROLES["BertGeneration"])
    backend = piece_segmenter(model, scored_pieces(model), model.unknown)
    return register_special_tokens(backend, special, settings, own=special_pieces(model))


def pegasus(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """Pegasus: two mask tokens and `offset` unused tokens before the pieces (Zhang et al., arXiv:1912.08777)."""
    offset = int(settings.get("offset", 103))
    masks = {} if offset else {"mask_token": "[MASK]"}
    special = role_tokens(settings, **{**ROLES["Pegasus"], **masks})
    sentence = settings.get("mask_token_sent", "<mask_1>" if offset else None)
    unused = [f"<unk_{number}>" for number in range(2, offset)]
    first = [special["pad_token"], special["eos_token"]]
    if offset:
        first += [*([str(sentence)] if sentence is not None else []), special["mask_token"]]
    vocab = [*((token, 0.0) for token in first), *((token, -100.0) for token in unused), *scored_pieces(model)[2:]]
    unknown = next((number for number, (text, _) in enumerate(vocab) if text == special["unk_token"]), None)
    if unknown is None:
        raise UnsupportedTokenizer(
            f"Pegasus' SentencePiece model has {special['unk_token']!r} after its first two pieces; this one has not."
        )
    backend = piece_segmenter(model, vocab, unknown)
    more = [*([str(sentence)] if sentence is not None else []), *unused]
    built = register_special_tokens(backend, special, settings, more)
    eos = special["eos_token"]
    set_special_tokens(backend, f"$A {eos}", f"$A $B {eos}", [eos])
    return built


def llama(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """Llama: SentencePiece pieces with byte tokens for unknown characters; every space is kept."""
    special = role_tokens(settings, **ROLES["Llama"])
    if model.kind == PAIRS:
        vocab = {piece.text: number for number, piece in enumerate(model.pieces)}
        unknown = None if model.byte_fallback else model.pieces[model.unknown].text
        backend = spm_bpe(vocab, merges_of(vocab), settings, unknown)
    else:
        backend = Tokenizer(piece_model(model, scored_pieces(model), model.unknown))
        llama_spaces(backend, settings)
    built = register_special_tokens(backend, special, settings, own=special_pieces(model))
    set_begin_end(backend, special, settings.get("add_bos_token", True), settings.get("add_eos_token", False))
    return built


def gemma(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """Gemma: every space is a mark, and no mark is added before a text."""
    special = role_tokens(settings, **ROLES["Gemma"])
    backend = Tokenizer(piece_model(model, scored_pieces(model), model.unknown))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    built = register_special_tokens(backend, special, settings, own=special_pieces(model))
    set_begin_end(backend, special, settings.get("add_bos_token", True), settings.get("add_eos_token", False))
    return built


def marian_small(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """Vocabulary of Marian's small models, which both languages share; the padding token follows it."""
    special = role_tokens(settings, **ROLES["Marian"])
    backend = unigram(scored_pieces(model), model.unknown, model.charsmap)
    built = register_special_tokens(backend, special, settings)
    set_special_tokens(backend, "$A </s>", "$A $B </s>", [special["eos_token"]])
    return built


RECIPES: Mapping[str, Callable[[SentencePiece, Settings], BuiltTokenizer]] = {
    "Albert": albert,
    "BertGeneration": bert_generation,
    "BigBird": big_bird,
    "Camembert": camembert,
    "DebertaV2": deberta_v2,
    "FNet": fnet,
    "GPTSw3": gpt_sw3,
    "Gemma": gemma,
    "Llama": llama,
    "Pegasus": pegasus,
    "RemBert": rembert,
    "T5": t5,
    "XGLM": xglm,
    "XLMRoberta": xlm_roberta,
    "XLNet": xlnet,
}
