"""A tokenizer that the tokenizers library has trained becomes one of ours, as the reference makes one of its own."""

from __future__ import annotations

import pickle

import pytest
import transformers

import multihead
from multihead.errors import CorruptFile, InvalidInput, ModelNotFound, UnsupportedTokenizer
from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, processors, trainers

from .folders import CORPUS, TEXTS

SETTINGS = {
    "unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": AddedToken("[CLS]", lstrip=True), "sep_token": "[SEP]",
    "model_max_length": 12, "padding_side": "left", "extra_special_tokens": ["<a>"],
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
}  # fmt: skip


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    made.enable_padding(pad_id=3, pad_token="[PAD]")
    return made


@pytest.mark.parametrize("from_file", [False, True])
def test_an_object_or_its_file_makes_the_references_tokenizer(backend, tmp_path, from_file):
    backend.save(str(tmp_path / "own.json"))
    given = {"tokenizer_file": str(tmp_path / "own.json")} if from_file else {"tokenizer_object": backend}
    ours, theirs = (x.PreTrainedTokenizerFast(**given, **SETTINGS) for x in (multihead, transformers))
    for name in ("pad_token_id", "cls_token", "unk_token_id", "model_max_length", "padding_side", "chat_template"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for options in ({}, {"padding": True}, {"truncation": True, "padding": "max_length"}):
        for text in ([*TEXTS[:9], "a <a> [SEP]b"], "one two"):
            got, expected = (t(text, **options) for t in (ours, theirs))
            assert got["input_ids"] == expected["input_ids"]
    assert backend.padding is not None  # as it was
    again = pickle.loads(pickle.dumps(ours))
    assert again("one two").input_ids == ours("one two").input_ids
    ours.save_pretrained(tmp_path / "saved")
    read = multihead.PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    assert read("one two").input_ids == ours("one two").input_ids
    assert isinstance(read, multihead.PreTrainedTokenizerFast)
    assert not isinstance(theirs, multihead.PreTrainedTokenizerFast)


def test_a_ready_made_tokenizer_of_the_library_is_taken():
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(CORPUS, vocab_size=300, show_progress=False)
    tokenizer = multihead.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")
    assert tokenizer("the dog").input_ids == made.encode("the dog").ids
    assert tokenizer.pad_token_id == len(tokenizer) - 1


def test_what_makes_no_tokenizer_is_one_clear_error(backend, tmp_path):
    make = multihead.PreTrainedTokenizerFast
    (tmp_path / "broken.json").write_text("{")
    for given, error, words in (
        ({}, InvalidInput, "tokenizer_file="),
        ({"tokenizer_object": backend, "tokenizer_file": "x"}, InvalidInput, "tokenizer_file="),
        ({"tokenizer_object": "x"}, InvalidInput, "not str"),
        ({"tokenizer_file": tmp_path / "none.json"}, ModelNotFound, "none.json"),
        ({"tokenizer_file": tmp_path / "broken.json"}, CorruptFile, "broken.json"),
        ({"tokenizer_object": backend, "padding_side": "up"}, UnsupportedTokenizer, "PreTrainedTokenizerFast"),
    ):
        with pytest.raises(error, match=words):
            make(**given)
