"""Recipes of vocab.txt, one token a line: WordPiece of BERT and its relatives, and ESM's letters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers.models import WordLevel, WordPiece

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors

from ..errors import UnsafeFile, UnsupportedTokenizer
from .defaults import ROLES
from .frames import set_begin_end, set_special_tokens, token_id
from .parts import BuiltTokenizer, Settings, bert_normalizer, register_special_tokens, role_tokens, whole_words
from .words import Jieba, JiebaPieces, Mecab

Lines = Mapping[str, int]


def backend_of(vocab: Lines, settings: Settings, unknown: str) -> Tokenizer:
    """WordPiece (Wu et al., 2016, arXiv:1609.08144) with BERT's rules."""
    backend = Tokenizer(WordPiece(dict(vocab), unk_token=unknown))
    backend.normalizer = bert_normalizer(settings)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def add_segment_tokens(backend: Tokenizer, special: Mapping[str, str], first: int = 0) -> None:
    """Add [CLS] text [SEP]; the second text of a pair has type 1; `first` is the type of [CLS]."""
    cls, sep = special["cls_token"], special["sep_token"]
    start = f"{cls}:{first} $A:0 {sep}:0"
    set_special_tokens(backend, start, f"{start} $B:1 {sep}:1", [cls, sep])


def wordpiece(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """BERT: [CLS] text [SEP]."""
    special = role_tokens(settings, **ROLES["Bert"])
    backend = backend_of(vocab, settings, special["unk_token"])
    built = register_special_tokens(backend, special, settings)
    add_segment_tokens(backend, special)
    return built


def tapas(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """TAPAS: BERT's words, and a token for empty cells."""
    special = role_tokens(settings, **ROLES["Bert"])
    backend = backend_of(vocab, settings, special["unk_token"])
    built = register_special_tokens(backend, special, settings, [settings.get("empty_token", "[EMPTY]")])
    add_segment_tokens(backend, special)
    return built


def prophetnet(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """ProphetNet: text [SEP]; [X_SEP] separates sentences of a summary."""
    special, more = role_tokens(settings, **ROLES["ProphetNet"]), [settings.get("x_sep_token", "[X_SEP]")]
    backend = backend_of(vocab, settings, special["unk_token"])
    built = register_special_tokens(backend, special, settings, more)
    sep = special["sep_token"]
    set_special_tokens(backend, f"$A {sep}", f"$A {sep} $B {sep}", [sep])
    return built


def funnel(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """Funnel: like BERT, with begin and end tokens, and a type of its own for the first token."""
    special = role_tokens(settings, **ROLES["Funnel"])
    backend = backend_of(vocab, settings, special["unk_token"])
    built = register_special_tokens(backend, special, settings)
    add_segment_tokens(backend, special, first=2)
    return built


def mpnet(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """MPNet: BERT's words with RoBERTa's special tokens."""
    special = role_tokens(settings, **ROLES["MPNet"])
    backend = backend_of(vocab, settings, special["unk_token"])
    built = register_special_tokens(backend, special, settings, wide=["mask_token"])
    end, begin = ((special[role], token_id(backend, special[role])) for role in ("sep_token", "cls_token"))
    backend.post_processor = processors.RobertaProcessing(end, begin, True, False)
    return built


def splinter(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """Splinter: a pair is a question, a question token, a full stop, and the context."""
    question = str(settings.get("question_token", "[QUESTION]"))
    special = role_tokens(settings, **ROLES["Bert"])
    backend = backend_of(vocab, settings, special["unk_token"])
    built = register_special_tokens(backend, special, settings, [question])
    cls, sep = special["cls_token"], special["sep_token"]
    pair = f"{cls}:0 $A:0 {question} . {sep}:0 $B:1 {sep}:1"
    if settings.get("padding_side") == "left":
        pair = f"{cls}:0 $A:0 {sep}:0 $B:1 {question} . {sep}:1"
    set_special_tokens(backend, f"{cls}:0 $A:0 {sep}:0", pair, [cls, sep, question, "."])
    return built


def esm(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """ESM: vocabulary tokens match exactly; text between them is unknown up to the next white space."""
    special = role_tokens(settings, **ROLES["Esm"])
    vocab = {token.strip(): number for token, number in vocab.items()}
    backend = Tokenizer(whole_words(vocab, special["unk_token"]))
    longest = sorted((token for token in vocab if token), key=len, reverse=True)
    found = pre_tokenizers.Split(Regex("|".join(re.escape(token) for token in longest)), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([found, pre_tokenizers.WhitespaceSplit()])
    built = register_special_tokens(backend, special, settings)
    cls, eos = special["cls_token"], special["eos_token"]
    set_special_tokens(backend, f"{cls} $A {eos}", f"{cls} $A {eos} $B {eos}", [cls, eos])
    return built


def japanese(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """Japanese BERT: words by MeCab, then WordPiece or characters.

    Raises:
        UnsupportedTokenizer: words by another program, or MeCab is not installed.
    """
    words, parts = settings.get("word_tokenizer_type", "basic"), settings.get("subword_tokenizer_type", "wordpiece")
    if parts not in ("wordpiece", "character") or words not in ("mecab", "basic") or not settings.get(
        "do_word_tokenize", True
    ):  # fmt: skip
        raise UnsupportedTokenizer(
            f"BertJapaneseTokenizer with word_tokenizer_type {words!r} and subword_tokenizer_type {parts!r} is not "
            "built here: words by 'mecab' or 'basic', parts 'wordpiece' or 'character' are."
        )
    plain = {"do_lower_case": False, "tokenize_chinese_chars": False, **settings}
    special = role_tokens(settings, **ROLES["Bert"])
    backend = backend_of(vocab, plain, special["unk_token"])
    characters = parts == "character"
    if characters:
        backend.model = whole_words(vocab, special["unk_token"])
    mecab = None
    if words == "mecab":
        backend.normalizer = None
        mecab = tagger(settings.get("mecab_kwargs") or {}, bool(plain["do_lower_case"]), characters)
        mecab.attach(backend)
    elif characters:
        single = pre_tokenizers.Split(Regex("."), behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), single])
    built = register_special_tokens(backend, special, settings)
    add_segment_tokens(backend, special)
    return BuiltTokenizer(built.backend, built.special, built.more, mecab)


def tagger(options: Mapping[str, Any], lower: bool, characters: bool) -> Mecab:
    """Build MeCab from the settings' `mecab_kwargs`.

    Raises:
        UnsupportedTokenizer: an unknown one. UnsafeFile: `mecab_option`, a command line that names files to read and
            write.
    """
    known = {"mecab_dic", "mecab_option", "normalize_text", "do_lower_case", "never_split"}
    if unknown := sorted(set(options) - known):
        raise UnsupportedTokenizer(f"mecab_kwargs has {unknown[0]!r}, which is not known here.")
    if options.get("mecab_option"):
        raise UnsafeFile(
            f"mecab_kwargs has mecab_option {options['mecab_option']!r}: MeCab's command line may name any file to "
            "read or write, and is not taken from a tokenizer's files. Take it out; mecab_dic chooses a dictionary."
        )
    return Mecab(
        options.get("mecab_dic", "unidic_lite"),
        bool(options.get("normalize_text", True)),
        bool(options.get("do_lower_case", lower)),
        characters,
    )


def roformer(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """RoFormer: words by jieba. Raises UnsupportedTokenizer where it is not installed."""
    built = wordpiece(vocab, {**settings, "tokenize_chinese_chars": False})
    jieba = Jieba(dict(vocab))
    jieba.attach(built.backend)
    return BuiltTokenizer(built.backend, built.special, built.more, jieba)


def cpmant(vocab: Lines, settings: Settings) -> BuiltTokenizer:
    """CPM-Ant: <s> text; pieces of jieba's words. Two tokens stand for a space and for a line break.

    Raises:
        UnsupportedTokenizer: jieba is not installed, or the vocabulary lacks a special token.
    """
    special, stands = role_tokens(settings, **ROLES["CpmAnt"]), {"space_token": "</_>", "line_token": "</n>"}
    written = {str(settings.get(name, usual)): text for (name, usual), text in zip(stands.items(), " \n", strict=True)}
    more = [str(settings.get(f"{name}_token", usual)) for name, usual in (("bod", "<d>"), ("eod", "</d>"))]
    if missing := [token for token in (*special.values(), *written, *more) if token not in vocab]:
        raise UnsupportedTokenizer(f"vocab.txt has no line {missing[0]!r}, which is a special token of CPM-Ant.")
    pieces = {written.get(token, token): number for token, number in vocab.items()}
    backend = Tokenizer(WordLevel(pieces, special["unk_token"]))
    built = register_special_tokens(backend, special, settings, more)
    set_begin_end(backend, special, True, False)
    jieba = JiebaPieces(pieces, tuple(written))
    jieba.attach(backend)
    return BuiltTokenizer(backend, built.special, built.more, jieba)


RECIPES: Mapping[str, Callable[[Lines, Settings], BuiltTokenizer]] = {
    **dict.fromkeys(
        ("Bert", "ConvBert", "DistilBert", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader", "Electra",
         "LayoutLM", "Lxmert", "MobileBert", "Realm", "RetriBert", "SqueezeBert"), wordpiece,
    ),
    "BertJapanese": japanese,
    "CpmAnt": cpmant,
    "Esm": esm,
    "Funnel": funnel,
    "MPNet": mpnet,
    "RoFormer": roformer,
    "Splinter": splinter,
    "Tapas": tapas,
}  # fmt: skip
