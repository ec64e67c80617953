"""How each family's tokenizer is put together from older files, equal to the reference's own conversion.

A recipe gives the library's tokenizer and the special tokens' roles, from the settings in tokenizer_config.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers.models import BPE, Unigram, WordPiece

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from ..errors import UnsupportedTokenizer
from .special import added, content, roles
from .spm import CONTROL, USER_DEFINED, SentencePiece

Settings = Mapping[str, Any]
Vocabulary = list[tuple[str, float]]


@dataclass(frozen=True)
class Built:
    """A tokenizer and the roles of its special tokens."""

    backend: Tokenizer
    special: dict[str, str]
    more: tuple[str, ...] = ()


def named(settings: Settings, **defaults: str) -> dict[str, str]:
    """The roles' tokens: a family's defaults, changed by the settings."""
    return roles(defaults, settings)


def finished(backend: Tokenizer, special: dict[str, str], settings: Settings, more: Sequence[Any] = ()) -> Built:
    """Makes every special token one that is never split."""
    given = {content(settings.get(role)): settings.get(role) for role in special}
    tokens = [added(given.get(token) or token, special=True) for token in special.values()]
    backend.add_special_tokens([*tokens, *(added(token, special=True) for token in more)])
    return Built(backend, special, tuple(content(token) or "" for token in more))


def numbered(backend: Tokenizer, token: str) -> int:
    """The id of a token that every text is framed by."""
    number = backend.token_to_id(token)
    if number is None:
        raise UnsupportedTokenizer(f"The vocabulary has no {token!r}, which frames every text.")
    return number


def framed(backend: Tokenizer, single: str, pair: str, tokens: Sequence[str]) -> None:
    """Sets the special tokens around a text and around a pair."""
    ids = [(token, numbered(backend, token)) for token in dict.fromkeys(tokens)]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def bert_normalizer(settings: Settings) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )


def wordpiece(vocab: Mapping[str, int], settings: Settings) -> Built:
    """BERT's WordPiece (Wu et al., 2016, arXiv:1609.08144), framed [CLS] text [SEP]."""
    special = named(
        settings, unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]"
    )
    backend = Tokenizer(WordPiece(dict(vocab), unk_token=special["unk_token"]))
    backend.normalizer = bert_normalizer(settings)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    built = finished(backend, special, settings)
    cls, sep = special["cls_token"], special["sep_token"]
    framed(backend, f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1", [cls, sep])
    return built


def byte_level(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], space: bool) -> Tokenizer:
    """Byte-level BPE (Radford et al., 2019)."""
    model = BPE(dict(vocab), list(merges), continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    return backend


def gpt2(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], settings: Settings) -> Built:
    end = "<|endoftext|>"
    special = named(settings, unk_token=end, bos_token=end, eos_token=end)
    backend = byte_level(vocab, merges, settings.get("add_prefix_space", False))
    built = finished(backend, special, settings)
    bound(backend, special, settings.get("add_bos_token", False), settings.get("add_eos_token", False))
    return built


def roberta(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], settings: Settings) -> Built:
    special = named(settings, bos_token="<s>", eos_token="</s>", sep_token="</s>", cls_token="<s>", unk_token="<unk>",
                    pad_token="<pad>", mask_token="<mask>")  # fmt: skip
    space, trim = settings.get("add_prefix_space", False), settings.get("trim_offsets", True)
    backend = byte_level(vocab, merges, space)
    built = finished(backend, special, settings)
    end, begin = special["sep_token"], special["cls_token"]
    ends = (end, numbered(backend, end)), (begin, numbered(backend, begin))
    backend.post_processor = processors.RobertaProcessing(ends[0], ends[1], trim, space)
    return built


def bound(backend: Tokenizer, special: Mapping[str, str], begin: bool, end: bool) -> None:
    """Puts the begin token before each text and the end token after it, as asked."""
    bos = special.get("bos_token") if begin else None
    eos = special.get("eos_token") if end else None
    single = f"{bos + ':0 ' if bos else ''}$A:0{' ' + eos + ':0' if eos else ''}"
    pair = f"{single}{' ' + bos + ':1' if bos else ''} $B:1{' ' + eos + ':1' if eos else ''}"
    framed(backend, single, pair, [token for token in (bos, eos) if token])


def metaspace(backend: Tokenizer, scheme: str = "always") -> None:
    """Words at white space, each with a mark where its space was."""
    mark = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), mark])
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)


def unigram(
    vocab: Vocabulary, unknown: int, charsmap: bytes, steps: Sequence[Any] = (), scheme: str = "always"
) -> Tokenizer:
    """Unigram (Kudo, 2018, arXiv:1804.10959) after the model's own normalization and these steps."""
    backend = Tokenizer(Unigram(vocab, unk_id=unknown, byte_fallback=False))
    steps = [*steps, normalizers.Precompiled(charsmap)] if charsmap else list(steps)
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    metaspace(backend, scheme)
    return backend


def scored(model: SentencePiece) -> Vocabulary:
    return [(piece.text, piece.score) for piece in model.pieces]


def own_tokens(model: SentencePiece) -> list[Any]:
    """Control and user-defined pieces, which are never split."""
    return [
        added({"content": p.text, "normalized": False}, special=p.kind == CONTROL)
        for p in model.pieces
        if p.kind in (CONTROL, USER_DEFINED)
    ]


def t5(model: SentencePiece, settings: Settings) -> Built:
    """T5: ends with </s>, 100 sentinels after the vocabulary, the last number first."""
    special = named(settings, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    count = int(settings.get("extra_ids", 100))
    sentinels = [f"<extra_id_{number}>" for number in range(count)]
    vocab = scored(model) + [(token, 0.0) for token in reversed(sentinels)]
    backend = unigram(vocab, model.unknown, model.charsmap)
    built = finished(backend, special, settings, sentinels)
    eos = special["eos_token"]
    framed(backend, f"$A {eos}", f"$A {eos} $B {eos}", [eos])
    return built


def quotes_and_accents(settings: Settings, *, lower: bool, strip: bool) -> list[Any]:
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if strip:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case", lower):
        steps.append(normalizers.Lowercase())
    return steps


def albert(model: SentencePiece, settings: Settings) -> Built:
    special = named(settings, bos_token="[CLS]", eos_token="[SEP]", unk_token="<unk>", sep_token="[SEP]",
                    pad_token="<pad>", cls_token="[CLS]", mask_token="[MASK]")  # fmt: skip
    steps = quotes_and_accents(settings, lower=True, strip=not settings.get("keep_accents", False))
    backend = unigram(scored(model), model.unknown, model.charsmap, steps)
    built = finished(backend, special, settings)
    cls, sep = special["cls_token"], special["sep_token"]
    framed(backend, f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1", [cls, sep])
    return built


def xlnet(model: SentencePiece, settings: Settings) -> Built:
    special = named(settings, bos_token="<s>", eos_token="</s>", unk_token="<unk>", sep_token="<sep>",
                    pad_token="<pad>", cls_token="<cls>", mask_token="<mask>")  # fmt: skip
    backend = unigram(
        scored(model), model.unknown, model.charsmap, quotes_and_accents(settings, lower=False, strip=True)
    )
    built = finished(backend, special, settings, ["<eop>", "<eod>"])
    sep, cls = special["sep_token"], special["cls_token"]
    framed(backend, f"$A:0 {sep}:0 {cls}:2", f"$A:0 {sep}:0 $B:1 {sep}:1 {cls}:2", [sep, cls])
    return built


def xlm_roberta(model: SentencePiece, settings: Settings) -> Built:
    """fairseq's order of the first four pieces, and a mask after the last."""
    special = named(settings, bos_token="<s>", eos_token="</s>", sep_token="</s>", cls_token="<s>", unk_token="<unk>",
                    pad_token="<pad>", mask_token="<mask>")  # fmt: skip
    first = [(special[role], 0.0) for role in ("bos_token", "pad_token", "eos_token", "unk_token")]
    vocab = [*first, *scored(model)[3:], (special["mask_token"], 0.0)]
    backend = unigram(vocab, 3, model.charsmap)
    built = finished(backend, special, settings)
    bos, eos = special["bos_token"], special["eos_token"]
    framed(backend, f"{bos} $A {eos}", f"{bos} $A {eos} {eos} $B {eos}", [bos, eos])
    return built


def llama(model: SentencePiece, settings: Settings) -> Built:
    """SentencePiece's BPE with bytes for unknown characters."""
    special = named(settings, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    vocab = {piece.text: number for number, piece in enumerate(model.pieces)}
    built = finished(spm_bpe(vocab, merges_of(vocab), settings), special, settings)
    bound(built.backend, special, settings.get("add_bos_token", True), settings.get("add_eos_token", False))
    return built


def spm_bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], settings: Settings) -> Tokenizer:
    backend = Tokenizer(BPE(dict(vocab), list(merges), fuse_unk=True, byte_fallback=True))
    space = settings.get("add_prefix_space")
    space = True if space is None else space
    scheme = "never" if not space else "first" if not settings.get("legacy", False) else "always"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if space else steps)
    return backend


def merges_of(vocab: Mapping[str, int], scores: Mapping[str, float] | None = None) -> list[tuple[str, str]]:
    """The merges that a vocabulary implies: each token's splits into two others, in the order of tokens or scores."""
    found = []
    for token in vocab:
        parts = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [(a, b) for a, b in parts if a in vocab and b in vocab]
        rank = vocab[token] if scores is None else scores[token]
        found += [(rank, a, b) for a, b in sorted(pairs, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))]
    found.sort(key=lambda row: (row[0], len(row[1]), len(row[2])), reverse=scores is not None)
    return [(a, b) for _, a, b in found]


def marian_sides(vocab: Mapping[str, int], model: SentencePiece, settings: Settings) -> Built:
    """One side of a Marian pair in the Hugging Face format: a SentencePiece model whose ids are in vocab.json.

    Raises:
        UnsupportedTokenizer: the model has a piece that vocab.json lacks.
    """
    special = named(settings, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    scores = {p.text: p.score for p in model.pieces if p.kind not in (CONTROL,)}
    lacking = [text for text in scores if text not in vocab and text != special["unk_token"]]
    if lacking:
        raise UnsupportedTokenizer(
            f"vocab.json lacks {len(lacking)} pieces of the SentencePiece model, {lacking[0]!r} first."
        )
    never = min(scores.values()) - 1e6  # words of the other language: only where nothing else fits
    ordered = sorted(vocab.items(), key=lambda item: item[1])
    if [number for _, number in ordered] != list(range(len(ordered))):
        raise UnsupportedTokenizer("vocab.json has gaps between its ids.")
    backend = unigram(
        [(text, scores.get(text, never)) for text, _ in ordered], vocab[special["unk_token"]], model.charsmap
    )
    codes = [text for text in vocab if text.startswith(">>") and text.endswith("<<")]
    built = finished(backend, special, settings, codes)
    eos = special["eos_token"]
    framed(backend, f"$A {eos}", f"$A $B {eos}", [eos])
    return built


def marian_small(model: SentencePiece, settings: Settings) -> Built:
    """The vocabulary of Marian's small models, which both languages share; padding is a word after it."""
    special = named(settings, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    backend = unigram(scored(model), model.unknown, model.charsmap)
    built = finished(backend, special, settings)
    framed(backend, "$A </s>", "$A $B </s>", [special["eos_token"]])
    return built


WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {  # llama.cpp's names of pre-tokenizers (llama-vocab.cpp) -> how text is cut before byte-level BPE
    "llama-bpe": WORDS + r"\p{N}{1,3}" + REST,
    "qwen2": WORDS + r"\p{N}" + REST,
    "gpt-2": None,
    "default": None,
    "smollm": r"\p{N}",
}
SPLITS = {**SPLITS, "llama3": SPLITS["llama-bpe"], "llama-v3": SPLITS["llama-bpe"], "deepseek-r1-qwen": SPLITS["qwen2"]}


def split_as(backend: Tokenizer, kind: str) -> None:
    """Cuts text as llama.cpp's pre-tokenizer of this name does.

    Raises:
        UnsupportedTokenizer: a name that is not known here.
    """
    if kind not in SPLITS:
        raise UnsupportedTokenizer(f"The pre-tokenizer {kind!r} is not built here; known: {', '.join(sorted(SPLITS))}.")
    pattern = SPLITS[kind]
    if kind == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    elif pattern is not None:
        cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        marks = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([cut, marks])


SPM: Mapping[str, Callable[[SentencePiece, Settings], Built]] = {
    "Albert": albert,
    "Llama": llama,
    "T5": t5,
    "XLMRoberta": xlm_roberta,
    "XLNet": xlnet,
}
BPES: Mapping[str, Callable[[Mapping[str, int], Sequence[tuple[str, str]], Settings], Built]] = {
    "GPT2": gpt2,
    "Roberta": roberta,
    "Tapex": roberta,
}
FAMILIES = {  # model_type in config.json -> stem of the tokenizer's class
    "albert": "Albert",
    "bart": "Roberta",
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "gpt2": "GPT2",
    "llama": "Llama",
    "m2m_100": "M2M100",
    "marian": "Marian",
    "mbart": "MBart",
    "mistral": "Llama",
    "mt5": "T5",
    "nllb-moe": "Nllb",
    "plbart": "PLBart",
    "roberta": "Roberta",
    "t5": "T5",
    "xlm-roberta": "XLMRoberta",
    "xlnet": "XLNet",
}
WORDPIECE = ("Bert", "DistilBert", "Electra", "MobileBert", "Funnel", "ConvBert", "LayoutLM", "SqueezeBert")
