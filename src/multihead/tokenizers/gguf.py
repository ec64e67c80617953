"""Tokenizers from the metadata of a GGUF file, as llama.cpp reads them (llama-vocab.cpp)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ..errors import CorruptFile, MultiheadError, UnsupportedTokenizer, warn
from . import recipes
from .frames import set_begin_end, set_special_tokens
from .pretokenizers import OLD, SplitRule, split_rule
from .special import to_added_token
from .tokenizer import Tokenizer as Ours

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # types of tokens
PAD = re.compile(r"\[PAD\d+\]")  # what llama.cpp's converter calls an id without a token
SENTINEL, SENTINELS = re.compile(r"<extra_id_\d+>"), 100
IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # llama.cpp's own spelling
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}
TURNS = {"eot_token": "eot_token_id", "eom_token": "eom_token_id"}  # ends of a turn, and of a message in it
DEFAULTS: Mapping[str, Mapping[str, int]] = {  # kind -> ids of files that leave them out
    "llama": {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0},
    "bert": {"cls_token_id": 101, "seperator_token_id": 102, "unknown_token_id": 100, "padding_token_id": 0,
             "mask_token_id": 103},
    "t5": {"eos_token_id": 1, "unknown_token_id": 2, "padding_token_id": 0},
}  # fmt: skip
ENDS = frozenset((  # of turns and texts: control tokens, whatever type a file gives them
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "<EOT>", "[EOT]", "[EOS]", "<end_of_utterance>", "<turn|>", "<｜end▁of▁sentence｜>",
))  # fmt: skip


@dataclass(frozen=True)
class Entries:
    """Checked tokenizer metadata of a GGUF file.

    Args:
        kind: `tokenizer.ggml.model`. types: a number a token, NORMAL where the file has none.
        scores: a number a token, None where the file has none.
    """

    metadata: Mapping[str, Any]
    kind: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] | None

    def get(self, name: str, type_: type, default: Any = None) -> Any:
        """Return an entry of `tokenizer.ggml`. Raises CorruptFile for another type."""
        value = self.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return default
        if type(value) is not type_:
            raise CorruptFile(f"tokenizer.ggml.{name} is {value!r}, no {type_.__name__}.")
        return value

    def cut(self) -> SplitRule:
        """The pretokenizer of the file; for older files, the one of the architecture."""
        if self.kind == "gemma4":
            return split_rule("gemma4")
        name, architecture = self.get("pre", str, ""), str(self.metadata.get("general.architecture"))
        if not name and architecture not in OLD:
            warn(
                "The GGUF file does not say how text is cut (no tokenizer.ggml.pre). It is cut as llama.cpp does, "
                "which may not be as its model was taught; a newer file of the model says it."
            )
        return split_rule(name or OLD.get(architecture, "default"))

    def special(self) -> dict[str, str]:
        """Return role -> token. Raises CorruptFile for an id without a token."""
        found = self.tokens_by_role(IDS)
        if self.kind == "bert" and self.get("cls_token_id", int) is None and "bos_token" in found:
            found["cls_token"] = found["bos_token"]  # newer files name it so
        return found

    def tokens_by_role(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Return name -> token for entries that hold ids. Raises CorruptFile for an id without a token."""
        found = {}
        for role, name in ids.items():
            number, default = self.get(name, int), DEFAULTS.get(self.kind, {}).get(name)
            if number is None and default is not None and default < len(self.tokens):
                number = default
            if number is not None:
                if not 0 <= number < len(self.tokens):
                    raise CorruptFile(f"tokenizer.ggml.{name} is {number}; there are {len(self.tokens)} tokens.")
                found[role] = self.tokens[number]
        return found

    def of_type(self, *types: int) -> list[str]:
        return [token for token, type_ in zip(self.tokens, self.types, strict=False) if type_ in types]


def entries_of(metadata: Mapping[str, Any]) -> Entries:
    """Read the metadata. Raises UnsupportedTokenizer without a tokenizer, CorruptFile for contradictions."""
    kind, tokens = (metadata.get(f"tokenizer.ggml.{name}") for name in ("model", "tokens"))
    if kind is None or kind in ("none", "no_vocab") or not tokens:
        raise UnsupportedTokenizer("The GGUF file holds no tokenizer (tokenizer.ggml.model and tokens).")
    types, scores = (metadata.get(f"tokenizer.ggml.{name}") for name in ("token_type", "scores"))
    size = len(column("tokens", tokens, [str], 0))
    found = [token or f"[EMPTY_{number}]" for number, token in enumerate(tokens)]
    if kind == "t5" and str(metadata.get("general.architecture", "")).startswith("t5"):
        found = with_sentinels(found)
    if len(set(found)) != size:
        raise CorruptFile("tokenizer.ggml.tokens names a token twice.")
    return Entries(
        metadata,
        str(kind),
        found,
        [NORMAL] * size if types is None else column("token_type", types, [int], size),
        None if scores is None else column("scores", scores, [int, float], size),
    )


def with_sentinels(tokens: list[str]) -> list[str]:
    """Restore the names of T5's 100 sentinels, which follow the vocabulary with the last number first."""
    lost = [number for number, token in enumerate(tokens) if PAD.fullmatch(token)][:SENTINELS]
    if "<extra_id_0>" in tokens or len(lost) < SENTINELS:
        return tokens
    names = {number: f"<extra_id_{SENTINELS - 1 - n}>" for n, number in enumerate(lost)}
    return [names.get(number, token) for number, token in enumerate(tokens)]


def column(name: str, values: Any, types: Sequence[type], size: int) -> Sequence[Any]:
    """Check an array entry. Raises CorruptFile for another type, a short array or other items."""
    if not isinstance(values, (list, tuple)) or not set(map(type, values)) <= set(types):
        raise CorruptFile(f"tokenizer.ggml.{name} is a list of another type, or no list.")
    if len(values) < size:
        raise CorruptFile(f"tokenizer.ggml.{name} has {len(values)} entries for {size} tokens.")
    return values


def from_gguf(metadata: Mapping[str, Any], **changes: Any) -> Ours:
    """Build the tokenizer that a file's metadata describe.

    Args:
        changes: entries of tokenizer_config.json that go before the file's.

    Raises:
        UnsupportedTokenizer: a kind that is not built here. CorruptFile: metadata that contradict themselves.
    """
    entries = entries_of(metadata)
    cut = entries.cut() if entries.kind in ("gpt2", "gemma4") else SplitRule()
    begin = entries.kind == "llama" or cut.begin
    settings = {
        "add_bos_token": (cut.raw and cut.begin) or entries.get("add_bos_token", bool, begin),
        "add_eos_token": entries.get("add_eos_token", bool, entries.kind == "t5"),
        "add_prefix_space": entries.get("add_space_prefix", bool, True if entries.kind in ("llama", "t5") else None),
        "chat_template": templates(metadata),
        "model_input_names": ["input_ids", "attention_mask"],
        **changes,
    }
    special, turns = entries.special(), entries.tokens_by_role(TURNS)
    with library_errors():
        if entries.kind == "bert":
            settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
            backend, more = bert(entries, {**settings, **special}), []
        else:
            backend = backend_of(entries, cut, settings, special)
            more = add_special_tokens(entries, backend, special, turns.values())
            separator = entries.get("add_sep_token", bool, cut.separator)
            set_file_frame(backend, special, settings, special.get("sep_token") if separator else None)
    present = {name: value for name, value in settings.items() if value is not None}
    return Ours(backend, special, present, more=more, named=turns)


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn the library's errors about a file's entries into CorruptFile."""
    try:
        yield
    except MultiheadError:
        raise
    except BaseException as error:  # the library's own are bare, and what panics in Rust is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CorruptFile(f"The GGUF file's tokenizer contradicts itself: {error}.") from error


def templates(metadata: Mapping[str, Any]) -> Any:
    """Return the chat template, or name -> template for several. Raises CorruptFile for other types."""
    own, names = metadata.get("tokenizer.chat_template"), metadata.get("tokenizer.chat_templates")
    listed = column("chat_templates", names or [], [str], 0)
    found = {} if own is None else {"default": own}
    found |= {name: metadata.get(f"tokenizer.chat_template.{name}") for name in listed}
    column("chat_template", list(found.values()), [str], 0)
    return found if listed else own


def backend_of(entries: Entries, cut: SplitRule, settings: Mapping[str, Any], special: Mapping[str, str]) -> Tokenizer:
    """Build the library's tokenizer without special tokens. Raises UnsupportedTokenizer for another kind."""
    if entries.kind in ("gpt2", "gemma4"):
        return byte_level_bpe(entries, cut, special)
    if entries.kind == "llama":
        return sentencepiece_bpe(entries, bool(settings["add_prefix_space"]), special)
    if entries.kind == "t5":
        return unigram(entries)
    raise UnsupportedTokenizer(
        f"The tokenizer model {entries.kind!r} is not built here; known: gpt2, gemma4, llama, bert, t5."
    )


def byte_level_bpe(entries: Entries, cut: SplitRule, special: Mapping[str, str]) -> Tokenizer:
    """Byte-level BPE with listed merges. Raises CorruptFile without merges."""
    vocab = {token: number for number, token in enumerate(entries.tokens)}
    listed = column("merges", entries.metadata.get("tokenizer.ggml.merges"), [str], 0)
    merges = [tuple(merge.split(" ", 1)) for merge in listed]
    unknown = special.get("unk_token") if cut.raw else None
    model = models.BPE(vocab, merges, ignore_merges=cut.ignore_merges, byte_fallback=cut.raw, unk_token=unknown)
    backend = Tokenizer(model)
    cut.set(backend)
    backend.decoder = piece_decoder() if cut.raw else decoders.ByteLevel()
    return backend


def piece_decoder(prefix: bool = False) -> decoders.Decoder:
    """Decoder of space marks and byte tokens; `prefix` removes the space before the first token."""
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)


def sentencepiece_bpe(entries: Entries, prefix: bool, special: Mapping[str, str]) -> Tokenizer:
    """SentencePiece BPE, whose merges follow from scores; a space precedes each text between special tokens."""
    vocab = {token: number for number, token in enumerate(entries.tokens)}
    ranks = None if entries.scores is None else dict(zip(entries.tokens, entries.scores, strict=False))
    merges = recipes.merges_of(vocab, ranks)
    backend = Tokenizer(
        models.BPE(vocab, merges, fuse_unk=True, byte_fallback=True, unk_token=special.get("unk_token"))
    )
    marks = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), marks]) if prefix else marks
    backend.decoder = piece_decoder(prefix)
    return backend


def unigram(entries: Entries) -> Tokenizer:
    """SentencePiece unigram model with its normalization. Raises CorruptFile without scores."""
    scores = column("scores", entries.scores, [int, float], len(entries.tokens))
    vocab = list(zip(entries.tokens, map(float, scores), strict=False))
    charsmap = entries.metadata.get("tokenizer.ggml.precompiled_charsmap") or []
    data = bytes(number & 255 for number in column("precompiled_charsmap", charsmap, [int], 0))
    prefix, merged = (entries.get(name, bool, True) for name in ("add_space_prefix", "remove_extra_whitespaces"))
    steps: list[Any] = [normalizers.Precompiled(data)] if data else []
    if merged:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    backend = Tokenizer(models.Unigram(vocab, entries.get("unknown_token_id", int, 2), byte_fallback=False))
    if merged:
        scheme = "always" if prefix else "never"
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme)
    else:
        steps += [normalizers.Prepend(" ")] if prefix else []
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Metaspace("▁", prepend_scheme="always" if prefix else "never")
    return backend


def bert(entries: Entries, settings: Mapping[str, Any]) -> Tokenizer:
    """WordPiece, from a file that marks the pieces that begin a word."""
    names = {
        token[1:] if token.startswith("▁") else f"##{token}" if type_ == NORMAL else token: number
        for number, (token, type_) in enumerate(zip(entries.tokens, entries.types, strict=False))
    }
    lower = entries.get("normalizer.lowercase", bool, True)
    strip = entries.get("normalizer.strip_accents", bool, lower)
    return recipes.wordpiece(names, {"do_lower_case": lower, "strip_accents": strip, **settings}).backend


def add_special_tokens(
    entries: Entries, backend: Tokenizer, special: Mapping[str, str], turns: Iterable[str]
) -> list[str]:
    """Add the tokens that are matched before anything else; return the special tokens without a role."""
    ends = [token for token in entries.of_type(NORMAL, USER_DEFINED) if token in ENDS]
    if entries.kind == "t5":
        ends += [token for token in entries.tokens if SENTINEL.fullmatch(token)]
    control = dict.fromkeys([*entries.of_type(CONTROL), *ends, *turns, *special.values()])
    backend.add_special_tokens([to_added_token(added_token(entries, token), special=True) for token in control])
    own = [token for token in entries.of_type(USER_DEFINED) if token not in control]
    backend.add_tokens([to_added_token(added_token(entries, token), special=False) for token in own])
    return [token for token in control if token not in special.values()]


def added_token(entries: Entries, token: str) -> dict[str, Any]:
    """Build an added token with the whitespace rule that GGUF files do not store."""
    model = str(entries.metadata.get("general.name", "")).lower()
    cut, kind = str(entries.metadata.get("tokenizer.ggml.pre", "")), entries.metadata.get("general.architecture")
    left = (token == "<mask>" and (cut.startswith("jina-v2-") or kind in ("nomic-bert-moe", "jina-bert-v3"))) or (
        token == "[MASK]" and cut == "modern-bert"
    )
    right = any(name in model for name in ("phi-3", "phi3")) and token not in ("<unk>", "<s>", "<|endoftext|>")
    return {"content": token, "normalized": False, "lstrip": left, "rstrip": right}


def set_file_frame(
    backend: Tokenizer, special: Mapping[str, str], settings: Mapping[str, Any], separator: str | None
) -> None:
    """Add begin and end tokens as the file says; in pairs the separator replaces the second begin token."""
    begin, end = bool(settings["add_bos_token"]), bool(settings["add_eos_token"])
    set_begin_end(backend, special, begin, end)
    if separator is not None:
        bos = special.get("bos_token") if begin else None
        eos = special.get("eos_token") if end else None
        first = [token for token in (bos, "$A", eos) if token]
        rest = [token for token in (separator, "$B", eos) if token]
        set_special_tokens(
            backend, " ".join(first), " ".join(first + rest), [token for token in (bos, eos, separator) if token]
        )
