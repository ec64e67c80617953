"""Building blocks of tokenizer recipes: special tokens of the settings, and word models with their rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers.models import BPE, Unigram, WordLevel

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from ..errors import UnsupportedTokenizer
from .special import ROLES, special_roles, to_added_token, token_text
from .spm import BPE as PAIRS
from .spm import CONTROL, NORMAL, USER_DEFINED, SentencePiece
from .words import WordSplitter

Settings = Mapping[str, Any]
Vocabulary = list[tuple[str, float]]


@dataclass(frozen=True)
class BuiltTokenizer:
    """A library tokenizer and the roles of its special tokens.

    Args:
        more: special tokens without a role. words: what cuts texts in Python, None where the library does.
        files: name -> bytes, where no tokenizer.json can hold the tokenizer.
    """

    backend: Tokenizer
    special: dict[str, str]
    more: tuple[str, ...] = ()
    words: WordSplitter | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def role_tokens(settings: Settings, **defaults: str) -> dict[str, str]:
    """Return the tokens of all roles: the family's defaults, changed by the settings."""
    found = special_roles(defaults, settings)
    return {role: found[role] for role in ROLES if role in found}


def register_special_tokens(
    backend: Tokenizer,
    special: dict[str, str],
    settings: Settings,
    more: Sequence[Any] = (),
    *,
    wide: Sequence[str] = (),
    own: Sequence[Any] = (),
) -> BuiltTokenizer:
    """Register every special token so that it is never split.

    Args:
        more: special tokens without a role. wide: roles whose tokens take the space before them along, where the
            settings do not say. own: the SentencePiece model's tokens of its own.
    """
    listed = sorted((settings.get("added_tokens_decoder") or {}).items(), key=lambda entry: int(entry[0]))
    for _, token in listed:  # in the order of ids, not of roles
        if backend.token_to_id(token_text(token) or "") is None and token_text(token) not in special.values():
            backend.add_tokens([to_added_token(token, special=False)])
        elif token_text(token) in special.values():
            backend.add_special_tokens([to_added_token(token_text(token), special=True)])
    tokens = []
    for role, token in special.items():
        given = settings.get(role)
        entry = dict(given) if isinstance(given, Mapping) else {"content": token, "lstrip": role in wide}
        tokens.append(to_added_token(entry | {"special": True}, special=True))
    backend.add_special_tokens([*tokens, *(to_added_token(token, special=True) for token in more)])
    backend.add_tokens([token for token in own if token.content not in special.values()])
    texts = [token.content for token in own if token.special] + [token_text(token) or "" for token in more]
    return BuiltTokenizer(backend, special, tuple(dict.fromkeys(t for t in texts if t not in special.values())))


def whole_words(vocab: Mapping[str, int], unknown: str) -> WordLevel:
    """Word-level vocabulary. Raises UnsupportedTokenizer without an unknown token."""
    if unknown not in vocab:
        raise UnsupportedTokenizer(f"The vocabulary has no {unknown!r}, which stands for what it does not know.")
    return WordLevel(dict(vocab), unk_token=unknown)


def bert_normalizer(settings: Settings) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )


def byte_level(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], space: bool) -> Tokenizer:
    """Byte-level BPE (Radford et al., 2019)."""
    model = BPE(dict(vocab), list(merges), continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    return backend


def metaspace(backend: Tokenizer, scheme: str = "always", *, byte_fallback: bool = False) -> None:
    """Split at white space and mark each word that had a space before it."""
    mark = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), mark])
    backend.decoder = metaspace_decoder(scheme, byte_fallback)


def metaspace_decoder(scheme: str, byte_fallback: bool) -> decoders.Decoder:
    """Decoder: marks become spaces, byte tokens become bytes."""
    marks = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)
    return decoders.Sequence([decoders.ByteFallback(), marks]) if byte_fallback else marks


def unigram(
    vocab: Vocabulary,
    unknown: int,
    charsmap: bytes,
    steps: Sequence[Any] = (),
    scheme: str = "always",
    *,
    byte_fallback: bool = False,
) -> Tokenizer:
    """Unigram model (Kudo, 2018, arXiv:1804.10959) after the model's own normalization and further steps."""
    backend = Tokenizer(Unigram(vocab, unk_id=unknown, byte_fallback=byte_fallback))
    steps = [*steps, normalizers.Precompiled(charsmap)] if charsmap else list(steps)
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    metaspace(backend, scheme, byte_fallback=byte_fallback)
    return backend


def piece_segmenter(model: SentencePiece, vocab: Vocabulary, unknown: int, steps: Sequence[Any] = ()) -> Tokenizer:
    """SentencePiece model with its own character map, space rules and segmentation.

    Args:
        vocab: the pieces by their ids, which need not be the model's own. unknown: the id of unknown pieces.
        steps: rules of the family, before the model's.
    """
    rules = [*steps, normalizers.Precompiled(model.charsmap)] if model.charsmap else list(steps)
    if model.one_space:
        rules += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    backend = Tokenizer(piece_model(model, vocab, unknown))
    if rules:
        backend.normalizer = normalizers.Sequence(rules)
    scheme = prepend_scheme(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme=scheme, split=model.one_space and model.split_by_space
    )
    backend.decoder = metaspace_decoder(scheme, model.byte_fallback)
    return backend


def exact_segmenter(model: SentencePiece, vocab: Vocabulary, unknown: int, steps: Sequence[Any] = ()) -> Tokenizer:
    """SentencePiece model that reads each text between special tokens as the SentencePiece library does.

    A model that keeps all spaces puts its own before a text that begins with a space, too. Arguments are those of
    `piece_segmenter`.
    """
    backend = piece_segmenter(model, vocab, unknown, steps)
    if model.dummy_prefix and not model.one_space:
        rules = [*steps, normalizers.Precompiled(model.charsmap)] if model.charsmap else list(steps)
        marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence([*rules, *marks])
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    return backend


def prepend_scheme(model: SentencePiece) -> str:
    """Return the prepend scheme of the space mark that the text itself does not have."""
    if not model.dummy_prefix:
        return "never"
    whole = model.kind == PAIRS and any(piece.kind == USER_DEFINED for piece in model.pieces)
    return "first" if whole else "always"  # a user's piece is cut out before, and no word begins after it


def piece_model(model: SentencePiece, vocab: Vocabulary, unknown: int) -> Unigram | BPE:
    """Build the word model: unigram, or BPE whose merges follow from the pieces."""
    if model.kind != PAIRS:
        return Unigram(vocab, unk_id=unknown, byte_fallback=model.byte_fallback)
    numbers = {text: number for number, (text, _) in enumerate(vocab)}
    ranks = {piece.text: rank for rank, piece in enumerate(model.pieces) if piece.kind == NORMAL}
    merges = merges_of({text: rank for text, rank in ranks.items() if text in numbers})
    return BPE(numbers, merges, unk_token=vocab[unknown][0], fuse_unk=True, byte_fallback=model.byte_fallback)


def scored_pieces(model: SentencePiece) -> Vocabulary:
    return [(piece.text, piece.score) for piece in model.pieces]


def special_pieces(model: SentencePiece) -> list[Any]:
    """Return control pieces, which are special tokens, and user-defined pieces, which no BPE merge builds."""
    return [
        to_added_token({"content": p.text, "normalized": False}, special=p.kind == CONTROL)
        for p in model.pieces
        if p.kind == CONTROL or (p.kind == USER_DEFINED and model.kind == PAIRS)
    ]


def quotes_and_accents(settings: Settings, *, lower: bool, strip: bool) -> list[Any]:
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if strip:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case", lower):
        steps.append(normalizers.Lowercase())
    return steps


def spm_bpe(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], settings: Settings, unknown: str | None = None
) -> Tokenizer:
    """SentencePiece BPE as Llama reads it.

    Args:
        unknown: the token of characters that are no pieces, None where bytes stand for them.
    """
    model = BPE(dict(vocab), list(merges), unk_token=unknown, fuse_unk=True, byte_fallback=unknown is None)
    backend = Tokenizer(model)
    llama_spaces(backend, settings)
    return backend


def llama_spaces(backend: Tokenizer, settings: Settings) -> None:
    """Llama's space rule: every space counts, and one more begins a text."""
    space = settings.get("add_prefix_space")
    space = True if space is None else space
    scheme = "never" if not space else "first" if not settings.get("legacy", False) else "always"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if space else steps)


def merges_of(vocab: Mapping[str, int], scores: Mapping[str, float] | None = None) -> list[tuple[str, str]]:
    """Return the merges that a vocabulary implies: every split of a token into two tokens, by order or score."""
    found = []
    for token in vocab:
        parts = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [(a, b) for a, b in parts if a in vocab and b in vocab]
        rank = vocab[token] if scores is None else scores[token]
        found += [(rank, a, b) for a, b in sorted(pairs, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))]
    found.sort(key=lambda row: (row[0], len(row[1]), len(row[2])), reverse=scores is not None)
    return [(a, b) for _, a, b in found]
