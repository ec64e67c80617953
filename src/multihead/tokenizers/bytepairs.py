"""Recipes for vocab.json and merges.txt: byte-level BPE such as GPT-2's, and BPE over words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tokenizers.models import BPE

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from .defaults import ROLES
from .frames import set_begin_end, set_special_tokens, token_id
from .parts import BuiltTokenizer, Settings, byte_level, register_special_tokens, role_tokens, whole_words
from .words import SubwordCodes

Vocab = Mapping[str, int]
Merges = Sequence[tuple[str, ...]]
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

QWEN_MARKS = (  # combining marks belong to words (Qwen3.5)
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def pairs(merges: Merges) -> list[tuple[str, str]]:
    return [(first, second) for first, second in merges]


def gpt2(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["GPT2"])
    backend = byte_level(vocab, pairs(merges), bool(settings.get("add_prefix_space", False)))
    built = register_special_tokens(backend, special, settings)
    set_begin_end(backend, special, settings.get("add_bos_token", False), settings.get("add_eos_token", False))
    return built


def gpt_neox(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    built = gpt2(vocab, merges, {**ROLES["GPTNeoX"], **settings})
    built.backend.normalizer = normalizers.NFC()
    return built


def qwen2(vocab: Vocab, merges: Merges, settings: Settings, pattern: str = QWEN) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["Qwen2"])
    space = bool(settings.get("add_prefix_space") or False)
    backend = byte_level(vocab, pairs(merges), space)
    backend.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    marks = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, marks])
    built = register_special_tokens(backend, special, settings)
    set_begin_end(backend, special, settings.get("add_bos_token", False), settings.get("add_eos_token", False))
    return built


def roberta(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["Roberta"])
    space, trim = settings.get("add_prefix_space", False), settings.get("trim_offsets", True)
    backend = byte_level(vocab, pairs(merges), space)
    built = register_special_tokens(backend, special, settings)
    end, begin = ((special[role], token_id(backend, special[role])) for role in ("sep_token", "cls_token"))
    backend.post_processor = processors.RobertaProcessing(end, begin, trim, space)
    return built


def blenderbot(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    """Blenderbot: a text begins with a space and ends with </s>, as in training (Roller et al., 2020)."""
    special = role_tokens(settings, **ROLES["Blenderbot"])
    backend = byte_level(vocab, pairs(merges), bool(settings.get("add_prefix_space", True)))
    built = register_special_tokens(backend, special, settings, wide=["mask_token"])
    eos = special["eos_token"]
    set_special_tokens(backend, f"$A:0 {eos}:0", f"$A:0 {eos}:0 $B:1 {eos}:1", [eos])
    return built


def deberta(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    """DeBERTa v1: [CLS] text [SEP] text [SEP], as in training."""
    special = role_tokens(settings, **ROLES["Deberta"])
    backend = byte_level(vocab, pairs(merges), bool(settings.get("add_prefix_space", False)))
    built = register_special_tokens(backend, special, settings)
    cls, sep = special["cls_token"], special["sep_token"]
    set_special_tokens(backend, f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1", [cls, sep])
    return built


def words(vocab: Vocab, merges: Merges, unknown: str, normalizer: normalizers.Normalizer) -> Tokenizer:
    """BPE over words, whose last piece ends with `</w>`."""
    backend = Tokenizer(BPE(dict(vocab), pairs(merges), unk_token=unknown, end_of_word_suffix="</w>", fuse_unk=False))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    return backend


def openai(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    """GPT-1: lowercase words, no special token around a text."""
    special = role_tokens(settings, **ROLES["OpenAIGPT"])
    backend = words(vocab, merges, special["unk_token"], normalizers.BertNormalizer(lowercase=True))
    return register_special_tokens(backend, special, settings)


def herbert(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["Herbert"])
    rules = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend = words(vocab, merges, special["unk_token"], rules)
    built = register_special_tokens(backend, special, settings)
    end, begin = ((special[role], token_id(backend, special[role])) for role in ("sep_token", "cls_token"))
    backend.post_processor = processors.BertProcessing(end, begin)
    return built


def byte_of(mark: str) -> int:
    """Return the byte that a character of byte-level BPE encodes."""
    number = ord(mark)
    if number < 256:
        return number
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return [byte for byte in range(256) if byte not in plain][number - 256]


def codes(vocab: Vocab, merges: Merges, settings: Settings, special: dict[str, str], small: bool) -> BuiltTokenizer:
    """Subword codes (`@@`), each a token of the vocabulary or unknown."""
    backend = Tokenizer(whole_words(vocab, special["unk_token"]))
    cut = SubwordCodes([tuple(merge) for merge in merges], small)
    cut.attach(backend)
    built = register_special_tokens(backend, special, settings)
    return BuiltTokenizer(built.backend, built.special, built.more, cut)


def ctrl(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    """CTRL: words split at white space; a line break stays with the word before it."""
    return codes(vocab, merges, settings, role_tokens(settings, **ROLES["CTRL"]), small=False)


def blenderbot_small(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    special = role_tokens(settings, **ROLES["BlenderbotSmall"])
    return codes(vocab, merges, settings, special, small=True)


def byt5(settings: Settings) -> BuiltTokenizer:
    """ByT5: one token a byte, after three special tokens, and sentinels (Xue et al., 2022, arXiv:2105.13626)."""
    special = role_tokens(settings, **ROLES["T5"])
    marks = sorted(pre_tokenizers.ByteLevel.alphabet(), key=byte_of)
    first = [special[role] for role in ("pad_token", "eos_token", "unk_token")]
    vocab = {token: number for number, token in enumerate([*first, *marks])}
    backend = byte_level(vocab, [], False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    count = 0 if settings.get("additional_special_tokens") else settings.get("extra_ids", 125)
    sentinels = [f"<extra_id_{number}>" for number in range(count)]
    built = register_special_tokens(backend, special, settings, sentinels, wide=list(special))
    eos = special["eos_token"]
    set_special_tokens(backend, f"$A {eos}", f"$A {eos} $B {eos}", [eos])
    return built


RECIPES: Mapping[str, Callable[[Vocab, Merges, Settings], BuiltTokenizer]] = {
    **dict.fromkeys(("GPT2", "CodeGen"), gpt2),
    **dict.fromkeys(("Roberta", "Bart", "Longformer", "LED", "Mvp", "Tapex"), roberta),
    "Blenderbot": blenderbot,
    "BlenderbotSmall": blenderbot_small,
    "CTRL": ctrl,
    "Deberta": deberta,
    "GPTNeoX": gpt_neox,
    "Herbert": herbert,
    "OpenAIGPT": openai,
    "Qwen2": qwen2,
    "Qwen3_5": partial(qwen2, pattern=QWEN_MARKS),
}
