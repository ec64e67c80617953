"""XGLM's and GPT-SW3's files, and classes that come as code beside their checkpoints, beside what reads them there."""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
import sentencepiece
import transformers

from multihead import AutoTokenizer
from multihead.errors import UnsupportedTokenizer
from multihead.tokenizers import spm

from .folders import TEXTS, train, write
from .test_ranks import ranks

MORE = ["people sop eop", "a  b\n\n c", " x", "the thing's 12345 中文abc ÀB", "<|im_start|>user\nhi<|im_end|>"]
EXACT = {"byte_fallback": True, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"}


def folder(path: Path, kind: str, **settings: Any) -> Path:
    path.mkdir(exist_ok=True)
    write(path, "tokenizer_config.json", {"tokenizer_class": f"{kind}Tokenizer", **settings})
    return path


def saved_alike(ours: Any, path: Path) -> None:
    ours.save_pretrained(path)
    again = AutoTokenizer.from_pretrained(path)
    assert all(again(text).input_ids == ours(text).input_ids for text in [*TEXTS, *MORE])


def test_xglm_is_read_by_the_references_rules(tmp_path):
    train(folder(tmp_path, "XGLM") / "sentencepiece.bpe.model")
    model = spm.read(tmp_path / "sentencepiece.bpe.model")
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab = [*first, *((piece.text, piece.score) for piece in model.pieces[3:])]
    theirs: Any = transformers.XGLMTokenizer(vocab=vocab, _spm_precompiled_charsmap=model.charsmap)
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.special == theirs.special_tokens_map
    for text in [*TEXTS, *MORE, "a <madeupword3> b</s>"]:
        assert ours(text).input_ids == theirs(text).input_ids, text
        assert ours.decode(ours(text).input_ids) == theirs.decode(theirs(text).input_ids)
    assert ours("a", "b").input_ids == theirs("a", "b").input_ids
    saved_alike(ours, tmp_path / "saved")


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_gpt_sw3_gives_the_references_ids(tmp_path, model):
    words = {"pad_id": 3, "user_defined_symbols": ["<|endoftext|>"]}
    train(folder(tmp_path, "GPTSw3") / "spiece.model", model, vocab_size=700, **words, **EXACT)
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.GPTSw3Tokenizer.from_pretrained(tmp_path)
    assert ours.special == theirs.special_tokens_map
    for text in [*TEXTS, *MORE, "a <|endoftext|> b", "<s> x<pad>y", "a\x84b\u2003c\ufffc\x7f", "a\u0308"]:
        assert ours(text).input_ids == theirs(text).input_ids, text
    for text in TEXTS:
        assert ours.decode(ours(text).input_ids) == theirs.decode(ours(text).input_ids)
    saved_alike(ours, tmp_path / "saved")


@pytest.mark.parametrize(
    ("kind", "prefix", "first"),
    [("InternLM2", False, [1]), ("Baichuan", True, [1]), ("ChatGLM", True, [701, 703])],  # 700 pieces
)
def test_ids_are_those_of_sentencepiece_after_the_first_tokens(tmp_path, kind, prefix, first):
    train(folder(tmp_path, kind) / "tokenizer.model", "bpe", vocab_size=700, add_dummy_prefix=prefix, **EXACT)
    ours = AutoTokenizer.from_pretrained(tmp_path)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for text in [*TEXTS, *MORE]:
        ids = pieces.encode(text)
        assert ours(text).input_ids == [*first, *ids], text
        assert ours.decode(ids) == pieces.decode(ids)
    assert ours("a", "b").input_ids[-1] == (2 if kind == "ChatGLM" else pieces.encode("b")[-1])
    saved_alike(ours, tmp_path / "saved")


def test_internlm2_names_reserved_pieces_as_its_settings_do(tmp_path):
    listed = {"699": {"content": "<|im_start|>", "special": True}}
    train(
        folder(tmp_path, "InternLM2", added_tokens_decoder=listed) / "tokenizer.model", "bpe", vocab_size=700, **EXACT
    )
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert 699 in ours("a <|im_start|>b").input_ids
    assert ours.decode([699]) == "<|im_start|>"
    assert len(ours) == 700


WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
SPACES = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CAPITALS, SMALL = (rf"[{kinds}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^\p{{Han}}]]" for kinds in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
LEAD = r"|[^\r\n\p{L}\p{N}]?"
KIMI = rf"[\p{{Han}}]+{LEAD}{CAPITALS}*{SMALL}+{ENGLISH}?{LEAD}{CAPITALS}+{SMALL}*{ENGLISH}?|\p{{N}}{{1,3}}{SPACES}"
GLM4 = "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|>".split()
LISTED = {"0": "[BOS]", "1": "[EOS]", "3": "<|im_end|>"}  # after the ranked tokens
CLASSES: dict[str, tuple[str, str, dict[int, str], list[int]]] = {
    # class -> file, pattern, special tokens by place, places of the first tokens
    "QWen": (
        "qwen.tiktoken", ENGLISH + WORDS + r"|\p{N}" + SPACES,
        dict(enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205))])), [],
    ),
    "ChatGLM4": ("tokenizer.model", ENGLISH + WORDS + r"|\p{N}{1,3}" + SPACES, dict(enumerate(GLM4)), [2, 4]),
    "TikToken": ("tiktoken.model", KIMI, {int(number): token for number, token in LISTED.items()}, []),
}  # fmt: skip


def merged(piece: bytes, known: Mapping[bytes, int]) -> list[int]:
    """Byte pairs as tiktoken joins them: the least rank first."""
    parts = [bytes([byte]) for byte in piece] if piece not in known else [piece]
    while pairs := [(known[a + b], n) for n, (a, b) in enumerate(pairwise(parts)) if a + b in known]:
        place = min(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return [known[part] for part in parts]


@pytest.mark.parametrize("kind", CLASSES)
def test_ids_are_those_of_tiktoken_with_the_patterns_of_the_class(tmp_path, kind):
    file, pattern, special, first = CLASSES[kind]
    known = {token: number for number, token in enumerate(ranks())}
    rows = (base64.b64encode(token) + f" {number}\n".encode() for token, number in known.items())
    decoder = {str(len(known) + int(n)): {"content": token, "special": True} for n, token in LISTED.items()}
    more = {"added_tokens_decoder": decoder} if kind == "TikToken" else {}
    (folder(tmp_path, kind, **more) / file).write_bytes(b"".join(rows))
    ours = AutoTokenizer.from_pretrained(tmp_path)
    ids = {token: len(known) + place for place, token in special.items()}
    names = "|".join(map(regex.escape, ids))
    for text in [*TEXTS, *MORE, "a[gMASK]<sop> <|extra_7|>[EOS]"]:
        expected = [len(known) + place for place in first]
        whole = unicodedata.normalize("NFC", text) if kind == "QWen" else text
        for part in regex.split(f"({names})", whole):
            found = regex.findall(pattern, part, flags=regex.V1)
            expected += [ids[part]] if part in ids else [n for word in found for n in merged(word.encode(), known)]
        assert ours(text).input_ids == expected, text
        assert ours.decode(ours(text).input_ids[len(first) :]) == whole
    assert len(ours) == len(known) + {"QWen": 208, "ChatGLM4": 10, "TikToken": 256}[kind]
    saved_alike(ours, tmp_path / "saved")


def test_ranked_files_of_classes_without_rules_are_refused(tmp_path):
    (folder(tmp_path, "HY") / "hy.tiktoken").write_bytes(b"YQ== 0\n")
    with pytest.raises(UnsupportedTokenizer, match=r"HYTokenizer is not built from hy\.tiktoken"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_a_model_type_names_the_class(tmp_path):
    rows = [base64.b64encode(token) + f" {number}\n".encode() for number, token in enumerate(ranks())]
    (tmp_path / "qwen.tiktoken").write_bytes(b"".join(rows))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen"}))
    assert AutoTokenizer.from_pretrained(tmp_path)("<|im_start|>").input_ids == [len(rows) + 1]
