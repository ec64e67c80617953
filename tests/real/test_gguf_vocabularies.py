"""Real vocabularies in GGUF files give the ids that llama.cpp's own tests expect of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import transformers

from multihead import AutoTokenizer
from multihead.tokenizers.tokenizer import Tokenizer

from .source_packages import LLAMA_CPP, unpacked

pytestmark = pytest.mark.real
EXPECTED = (
    "bert-bge command-r deepseek-coder deepseek-llm falcon gemma-4 gpt-2 llama-bpe llama-spm mpt phi-3 qwen2 qwen35 "
    "refact starcoder"
).split()
BARE = "aquila baichuan gpt-neox nomic-bert-moe".split()  # without expected ids
BEGINS = {"bert-bge": [101], "command-r": [5], "deepseek-coder": [32013], "deepseek-llm": [100000], "gemma-4": [2],
          "llama-bpe": [128000], "llama-spm": [1], "phi-3": [1]}  # fmt: skip


@pytest.fixture(scope="module")
def vocabularies() -> Path:
    return unpacked(*LLAMA_CPP) / "models"


def cases(path: Path) -> list[tuple[str, list[int]]]:
    """(text, ids): the texts of a vocabulary stand in one file, their ids in another."""
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    rows = [[int(number) for number in row.split()] for row in Path(f"{path}.out").read_text().split("\n")[:-1]]
    assert len(texts) - len(rows) in (0, 1)  # the last text may be no more than the end of the file
    return list(zip(texts, rows, strict=False))


@pytest.fixture(scope="module", params=[*EXPECTED, *BARE])
def read(vocabularies, request) -> tuple[str, Path, Tokenizer]:
    """A vocabulary's name, its file, and the tokenizer in it."""
    path = vocabularies / f"ggml-vocab-{request.param}.gguf"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The GGUF file does not say how text is cut")
        return request.param, path, AutoTokenizer.from_pretrained(path)


def test_a_vocabulary_gives_the_expected_ids_and_the_texts_back(read):
    name, path, tokenizer = read
    if name in BARE:
        pytest.skip("no ids are expected of this one")
    begin = BEGINS.get(name, [])
    for text, ids in cases(path):
        assert tokenizer(text, add_special_tokens=False).input_ids == ids, text
        assert tokenizer(text).input_ids == [*begin, *ids, *([102] if name == "bert-bge" else [])], text
        if name != "bert-bge":  # it reads small letters without accents
            assert tokenizer.decode(ids) == text


def test_a_vocabulary_is_saved_as_the_reference_reads_it(read, tmp_path):
    tokenizer = read[2]
    tokenizer.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("  Grüße 1234 the  end\n\n 東京\t😀 ", "it's", " ", f"{tokenizer.all_special_tokens[0]} x"):
        ids = tokenizer(text).input_ids
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids) == tokenizer.decode(ids)


def test_the_tokens_of_phi_3_take_the_spaces_behind_them(vocabularies):
    tokenizer = AutoTokenizer.from_pretrained(vocabularies / "ggml-vocab-phi-3.gguf")
    chat = "<|user|>\nHi there<|end|>\n<|assistant|>\n"
    assert tokenizer(chat).input_ids == [1, 32010, 6324, 727, 32007, 32001]  # as the model's own tokenizer.json
