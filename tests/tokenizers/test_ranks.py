"""Tokenizers in files that rank tokens: Mistral's tekken.json and tiktoken's, beside the reference's conversion."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import transformers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

from multihead import AutoTokenizer
from multihead.errors import CorruptFile
from multihead.tokenizers.pretokenizers import CUTS
from multihead.tokenizers.ranks import OLDER

from .folders import TEXTS

WORDS = "he in the er re on an ' t's th ing  x ä 東京 \U0001f600 hell hello lo ll".split(" ")
SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "<pad>"]


def ranks() -> list[bytes]:
    """Every byte, then words and what their merges go through, shorter ones first."""
    parts = {word.encode()[:size] for word in WORDS for size in range(2, len(word.encode()) + 1)}
    return [bytes([byte]) for byte in range(256)] + sorted(parts, key=lambda part: (len(part), part))


def tekken(folder: Path, **more: object) -> Path:
    told = {
        "config": {"pattern": CUTS["tekken"].patterns[0], "default_num_special_tokens": 9, "version": "v7"},
        "vocab": [{"rank": n, "token_bytes": base64.b64encode(token).decode()} for n, token in enumerate(ranks())],
        "special_tokens": [{"rank": n, "token_str": token, "is_control": True} for n, token in enumerate(SPECIAL)],
        **more,
    }
    (folder / "tekken.json").write_text(json.dumps({name: value for name, value in told.items() if value is not None}))
    (folder / "config.json").write_text('{"model_type": "mistral"}')
    return folder


def tiktoken(folder: Path, **settings: object) -> Path:
    lines = [base64.b64encode(token) + f" {n}\n".encode() for n, token in enumerate(ranks())]
    (folder / "tokenizer.model").write_bytes(b"".join(lines))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **settings})
    )
    return folder


@pytest.mark.parametrize("size", [None, 280])
def test_tekken_files_are_read_as_the_reference_converts_them(tmp_path, size):
    config = {"pattern": CUTS["tekken"].patterns[0], "default_num_special_tokens": 9, "default_vocab_size": size}
    folder = tekken(tmp_path, config=config)
    ours, theirs = AutoTokenizer.from_pretrained(folder), convert_tekken_tokenizer(str(folder / "tekken.json"))
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.special == theirs.special_tokens_map
    for text in [*TEXTS, "hello <s>[INST] the thing's ä<pad> <SPECIAL_7>"]:
        ids = ours(text).input_ids
        assert ids == theirs(text).input_ids, text
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    ours.save_pretrained(tmp_path / "saved")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")("hello").input_ids == ours("hello").input_ids


def test_older_tekken_files_do_not_list_their_special_tokens(tmp_path):
    config = {"pattern": CUTS["tekken"].patterns[0], "default_num_special_tokens": 30}
    ours = AutoTokenizer.from_pretrained(tekken(tmp_path, config=config, special_tokens=None))
    assert ours.convert_ids_to_tokens(list(range(30))) == [*OLDER, *(f"<SPECIAL_{n}>" for n in range(20, 30))]
    assert ours("[INST]a").input_ids == [3, 30 + ord("a")]


@pytest.mark.parametrize(
    "more",
    [
        {"vocab": None},
        {"config": {}},
        {"config": {"pattern": "["}},
        {"vocab": [{"rank": 0, "token_bytes": "?"}]},
        {"vocab": [{"rank": 0, "token_bytes": "YQ=="}] * 2},
        {"vocab": [{"rank": 0, "token_bytes": ""}]},
        {"vocab": [3]},
        {"special_tokens": [{"rank": 1, "token_str": "<s>"}]},
        {"special_tokens": [{"token_str": "<s>"}]},
        {"special_tokens": "abc"},
    ],
    ids=str,
)
def test_a_damaged_tekken_file_is_one_clear_error(tmp_path, more):
    with pytest.raises(CorruptFile, match="tekken"):
        AutoTokenizer.from_pretrained(tekken(tmp_path, **more))


def read(path: str) -> dict[bytes, int]:
    """What tiktoken, which is not among the tests' packages, reads from its file."""
    rows = [line.split() for line in Path(path).read_bytes().splitlines()]
    return {base64.b64decode(token): int(rank) for token, rank in rows}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"extra_special_tokens": ["<|a|>", "<|b|>"], "eos_token": "<|a|>"},
        {"added_tokens_decoder": {"330": {"content": "<|c|>", "special": True}}, "bos_token": "<|c|>"},
    ],
    ids=str,
)
def test_tiktokens_files_are_read_as_the_reference_converts_them(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(TikTokenConverter, "load_tiktoken_bpe", staticmethod(read))
    folder = tiktoken(tmp_path, **settings)
    ours, theirs = AutoTokenizer.from_pretrained(folder), transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert ours.get_vocab() == theirs.get_vocab()
    for text in [*TEXTS, "hello the <|a|> thing's <|c|>12345"]:
        assert ours(text).input_ids == theirs(text).input_ids, text
        assert ours.decode(ours(text).input_ids) == theirs.decode(ours(text).input_ids)


@pytest.mark.parametrize("line", [b"YQ== 5\n", b"YQ==\n", b"?? 0\n", b"YQ== x\n"])
def test_a_damaged_file_of_tiktokens_is_one_clear_error(tmp_path, line):
    path = tiktoken(tmp_path) / "tokenizer.model"
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(CorruptFile, match=r"tokenizer\.model"):
        AutoTokenizer.from_pretrained(tmp_path)
