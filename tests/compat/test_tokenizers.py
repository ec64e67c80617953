"""Tokenizers made by a class's constructor, and the classes of tokenizers."""

from __future__ import annotations

import json

import pytest
import transformers

import multihead
from multihead.errors import InvalidInput, MissingName, ModelNotFound

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "word", "##s", "two", ",", "é"]
TEXTS = ["Two words, a é", "a [MASK] word"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    letters = {chr(code): code - 33 for code in range(33, 127)} | {"Ġ": 94, "ab": 95, "Ġab": 96, "<|endoftext|>": 97}
    (folder / "vocab.json").write_text(json.dumps(letters), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\na b\nĠ ab\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}])
def test_a_vocabulary_is_the_references_tokenizer(folder, settings):
    ours = multihead.BertTokenizer(str(folder / "vocab.txt"), **settings)
    theirs = transformers.BertTokenizer(str(folder / "vocab.txt"), **settings)
    assert ours(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
    assert isinstance(ours, multihead.BertTokenizerFast)
    assert not isinstance(ours, multihead.GPT2Tokenizer)


def test_byte_pairs_are_the_references_tokenizer(folder):
    files = {"vocab_file": str(folder / "vocab.json"), "merges_file": str(folder / "merges.txt")}
    ours = multihead.GPT2Tokenizer(**files)
    theirs = transformers.GPT2Tokenizer(vocab=files["vocab_file"], merges=files["merges_file"])
    assert ours("ab ab b")["input_ids"] == theirs("ab ab b")["input_ids"]
    assert ours.eos_token == theirs.eos_token
    assert isinstance(ours, multihead.PreTrainedTokenizerBase)
    assert isinstance(ours, multihead.PreTrainedTokenizerFast)
    assert not isinstance(ours, multihead.PreTrainedTokenizer)


def test_a_saved_tokenizer_is_of_its_class(folder, tmp_path):
    multihead.BertTokenizer(folder / "vocab.txt", do_lower_case=False).save_pretrained(tmp_path)
    found = multihead.BertTokenizer.from_pretrained(tmp_path)
    assert isinstance(found, multihead.BertTokenizer)
    assert not isinstance(found, multihead.RobertaTokenizer)
    assert isinstance(multihead.AutoProcessor.from_pretrained(tmp_path), multihead.PreTrainedTokenizerBase)
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert found("Two words")["input_ids"] == theirs("Two words")["input_ids"]


def test_what_makes_no_tokenizer(folder):
    with pytest.raises(InvalidInput, match="from_pretrained"):
        multihead.BertTokenizer()
    with pytest.raises(ModelNotFound, match=r"no_file\.txt"):
        multihead.BertTokenizer("no_file.txt")
    with pytest.raises(MissingName, match="PreTrainedTokenizerFast"):
        multihead.PreTrainedTokenizer()


def test_a_batch_encoding_is_made_as_the_references(folder):
    rows = {"input_ids": [[1, 2], [3, 4]]}
    for library in (multihead, transformers):
        found = library.BatchEncoding(rows, tensor_type="pt")
        assert found.input_ids.tolist() == found["input_ids"].tolist() == rows["input_ids"]
        assert found["input_ids"].shape == (2, 2)
        assert list(found.keys()) == ["input_ids"]
        assert dict(**found).keys() == {"input_ids"}
        one = library.BatchEncoding({"input_ids": [1, 2]}, tensor_type="np", prepend_batch_axis=True)
        assert one["input_ids"].shape == (1, 2)
        assert len(library.BatchEncoding()) == 0
        assert not library.BatchEncoding(rows).is_fast
        with pytest.raises(KeyError):
            library.BatchEncoding(rows)[0]
    made = multihead.BertTokenizer(folder / "vocab.txt")(TEXTS)
    assert isinstance(made, multihead.BatchEncoding)
    assert made.is_fast
    assert multihead.BatchEncoding(made.data, made.encodings[0]).tokens() == made.tokens(0)


def test_older_calls_of_a_tokenizer(folder):
    tokenizer = multihead.BertTokenizer(folder / "vocab.txt")
    with pytest.warns(FutureWarning, match="encode_plus"):
        assert tokenizer.encode_plus("two words", "a").data == tokenizer("two words", "a").data
    with pytest.warns(FutureWarning, match="pad_to_max_length"):
        found = tokenizer.batch_encode_plus(TEXTS, max_length=12, truncation=True, pad_to_max_length=True)
    assert found.data == tokenizer(TEXTS, max_length=12, truncation=True, padding="max_length").data


def test_an_older_block_encodes_targets(folder):
    tokenizer = multihead.BertTokenizer(folder / "vocab.txt")
    seen = []
    tokenizer.__dict__["target"] = multihead.BertTokenizer(folder / "vocab.txt", do_lower_case=False)
    with pytest.warns(FutureWarning, match="text_target"), tokenizer.as_target_tokenizer() as same:
        seen.append(same("Two a")["input_ids"])
    assert seen == [tokenizer(text_target="Two a")["input_ids"]]
    assert seen != [tokenizer("Two a")["input_ids"]]
