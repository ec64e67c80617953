"""Tokenizers as the metadata of GGUF files, the inverse of `gguf`: BPE, WordPiece and unigram models."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokenizers.models import BPE

import tokenizers

from ..errors import UnsupportedTokenizer
from .gguf import CONTROL, IDS, NORMAL, USER_DEFINED
from .pretokenizers import CUTS
from .tokenizer import Tokenizer

UNKNOWN, UNUSED, BYTE = 2, 5, 6  # types of tokens
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def tokenizer_metadata(tokenizer: Tokenizer, size: int) -> dict[str, Any]:
    """Return the metadata of a tokenizer.

    Args:
        size: of the model's vocabulary; ids without a token get a name.

    Raises:
        UnsupportedTokenizer: another kind of model, or a pretokenizer that llama.cpp has no name for.
    """
    spec = json.loads(tokenizer.backend.to_str())
    kind = spec["model"].get("type")
    if kind not in KINDS:
        raise UnsupportedTokenizer(
            f"A tokenizer of kind {kind} is not written as GGUF; known kinds: {', '.join(KINDS)}."
        )
    found = {**tokens_and_types(tokenizer, spec, size)}
    found |= KINDS[kind](tokenizer.backend, spec, found)
    for role, name in IDS.items():
        if role in tokenizer.special:
            found[name] = tokenizer.convert_tokens_to_ids(tokenizer.special[role])
    begins = tokenizer.encode_ids(["a"])[0]
    marks = tokenizer.bos_token_id, tokenizer.eos_token_id
    if kind == "WordPiece":
        marks = tokenizer.cls_token_id, tokenizer.sep_token_id
    found["add_bos_token"] = bool(begins) and marks[0] is not None and begins[0] == marks[0]
    found["add_eos_token"] = bool(begins) and marks[1] is not None and begins[-1] == marks[1]
    found = {f"tokenizer.ggml.{name}": value for name, value in found.items()}
    if isinstance(tokenizer.chat_template, str):
        found["tokenizer.chat_template"] = tokenizer.chat_template
    return found


def tokens_and_types(tokenizer: Tokenizer, spec: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the list of tokens by id and the list of their types."""
    numbered = {number: token for token, number in tokenizer.get_vocab().items()}
    added = {token["id"]: token for token in spec["added_tokens"]}
    unknown, bytes_too = tokenizer.special.get("unk_token"), spec["model"].get("byte_fallback")

    def type_of(number: int) -> int:
        token = numbered.get(number)
        if token is None:
            return UNUSED
        if token == unknown:
            return UNKNOWN
        if number in added:
            return CONTROL if added[number]["special"] else USER_DEFINED
        return BYTE if bytes_too and BYTE_TOKEN.fullmatch(token) else NORMAL

    numbers = range(max(size, max(numbered, default=-1) + 1))
    return {"tokens": [numbered.get(n, f"[PAD{n}]") for n in numbers], "token_type": [type_of(n) for n in numbers]}


def bpe(backend: tokenizers.Tokenizer, spec: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what files say of a byte-level BPE, or of a SentencePiece BPE with byte tokens."""
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in spec["model"]["merges"]]
    if not spec["model"].get("byte_fallback"):
        return {"model": "gpt2", "pre": pretokenizer_name(backend), "merges": merges}
    first: dict[str, int] = {}
    for place, merge in enumerate(merges):
        first.setdefault(merge.replace(" ", "", 1), place)
    scores = [float(-first.get(token, len(merges))) for token in known["tokens"]]
    space = backend.encode("a", add_special_tokens=False).tokens[:1] != ["a"]
    return {"model": "llama", "scores": scores, "add_space_prefix": space}


def unigram(backend: tokenizers.Tokenizer, spec: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what files say of a SentencePiece unigram model: scores, and how text is normalized."""
    scores = {token: float(score) for token, score in spec["model"]["vocab"]}
    found: dict[str, Any] = {"model": "t5", "scores": [scores.get(token, 0.0) for token in known["tokens"]]}
    charsmap = next((step["precompiled_charsmap"] for step in steps_of(spec) if "precompiled_charsmap" in step), None)
    if charsmap:
        found["precompiled_charsmap"] = list(base64.b64decode(charsmap))
    pieces = [backend.encode(text, add_special_tokens=False).tokens for text in ("a  a", "a a", "a")]
    found["remove_extra_whitespaces"] = pieces[0] == pieces[1]
    found["add_space_prefix"] = pieces[2][:1] != ["a"]
    return found


def wordpiece(backend: tokenizers.Tokenizer, spec: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what files say of BERT's words, of which those that begin a word are marked."""
    tokens = [
        token if type_ != NORMAL else token.removeprefix("##") if token.startswith("##") else f"▁{token}"
        for token, type_ in zip(known["tokens"], known["token_type"], strict=True)
    ]
    own: Mapping[str, Any] = next((step for step in steps_of(spec) if step["type"] == "BertNormalizer"), {})
    lower = bool(own.get("lowercase"))
    strip = own.get("strip_accents")
    return {
        "model": "bert", "tokens": tokens, "token_type_count": 2, "normalizer.lowercase": lower,
        "normalizer.strip_accents": lower if strip is None else bool(strip),
    }  # fmt: skip


def steps_of(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of the normalizer."""
    own = spec.get("normalizer")
    if own:
        yield from own.get("normalizers") or [own]


def pretokenizer_name(backend: tokenizers.Tokenizer) -> str:
    """Return llama.cpp's name of the pre-tokenizer. Raises UnsupportedTokenizer."""
    own = (backend.pre_tokenizer.__getstate__() if backend.pre_tokenizer else None, backend.model.ignore_merges)
    for name, one in CUTS.items():
        plain = tokenizers.Tokenizer(BPE(ignore_merges=one.ignore_merges))
        one.set(plain)
        if (plain.pre_tokenizer.__getstate__(), plain.model.ignore_merges) == own:
            return name
    raise UnsupportedTokenizer(
        f"llama.cpp has no name, known here, for how this tokenizer cuts text; known: {', '.join(CUTS)}."
    )


Describe = Callable[[tokenizers.Tokenizer, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
KINDS: Mapping[str, Describe] = {"BPE": bpe, "Unigram": unigram, "WordPiece": wordpiece}
