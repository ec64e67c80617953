"""The call's surface: what it takes, what it refuses, and that threads do not disturb each other."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch

from multihead import AutoTokenizer
from multihead.errors import (
    CorruptFile,
    InvalidInput,
    ModelNotFound,
    MultiheadError,
    UnsupportedOption,
    UnsupportedTokenizer,
)

from . import folders


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(folders.wordpiece(tmp_path_factory.mktemp("calls")))


@pytest.mark.parametrize("text", [None, 7, b"bytes", ["a", None], [["a", "b", "c"]], [1, 2], {"a": 1}], ids=str)
def test_inputs_that_are_no_texts_are_refused(tokenizer, text):
    with pytest.raises(InvalidInput):
        tokenizer(text)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "longst"},
        {"truncation": "first"},
        {"padding_side": "top"},
        {"max_length": -1},
        {"truncation": True, "max_length": 10, "stride": 9},
        {"return_tensors": "tf"},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(tokenizer, options):
    with pytest.raises(InvalidInput):
        tokenizer(["a b c d e f g h i j k l", "c"], **options)


def test_an_unknown_option_is_refused_with_the_nearest_name(tokenizer):
    with pytest.raises(UnsupportedOption, match="truncation"):
        tokenizer("a", truncate=True)


def test_rows_of_unlike_lengths_make_no_tensor_and_the_error_says_padding(tokenizer):
    with pytest.raises(InvalidInput, match="padding=True"):
        tokenizer(["a", "a b c"], return_tensors="pt")
    assert tokenizer(["a", "a b c"], return_tensors="pt", padding=True)["input_ids"].dtype == torch.long
    assert isinstance(tokenizer(["a", "b"], return_tensors="np")["input_ids"], numpy.ndarray)


def test_texts_and_pairs_must_be_as_many(tokenizer):
    with pytest.raises(InvalidInput, match="2 texts and 1"):
        tokenizer(["a", "b"], ["c"])


def test_without_a_padding_token_the_error_says_how_to_set_one(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folders.bytes_bpe(tmp_path, "GPT2"))
    with pytest.raises(InvalidInput, match="pad_token"):
        tokenizer(["a", "b c"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer(["a", "b c"], padding=True)["attention_mask"][0][-1] == 0


def test_added_tokens_stay_whole_and_have_new_ids(tokenizer):
    before = len(tokenizer)
    assert tokenizer.add_tokens(["<new>", "<new>", "newword"]) == 2
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]}) == 1
    assert tokenizer.convert_tokens_to_ids(["<new>", "<x>"]) == [before, before + 2]
    assert "<new>" in tokenizer.tokenize("a <new> b")
    assert "<x>" in tokenizer.all_special_tokens
    with pytest.raises(UnsupportedOption, match="soup_token"):
        tokenizer.add_special_tokens({"soup_token": "x"})


def test_encodings_look_like_a_mapping_and_unpack(tokenizer):
    encoded = tokenizer("the lazy dog", return_tensors="pt")
    assert set(dict(**encoded)) == {"input_ids", "token_type_ids", "attention_mask"}
    assert encoded.input_ids is encoded["input_ids"]
    assert encoded.to("cpu")["input_ids"].shape == encoded["input_ids"].shape
    assert encoded.tokens()[0] == "[CLS]"
    assert encoded.char_to_token(4) == encoded.word_to_tokens(1)[0]
    begin, end = encoded.token_to_chars(encoded.char_to_token(4))
    assert "the lazy dog"[begin:end].startswith("l")
    with pytest.raises(AttributeError, match="input_ids"):
        _ = encoded.nothing


def test_rows_encoded_apart_are_padded_together(tokenizer):
    rows = [tokenizer("a b c"), tokenizer("a")]
    padded = tokenizer.pad(rows, return_tensors="pt")
    assert padded["input_ids"].shape == padded["attention_mask"].shape
    assert padded["attention_mask"].sum(1).tolist() == [len(row["input_ids"]) for row in rows]
    with pytest.raises(InvalidInput, match="input_ids"):
        tokenizer.pad([{"ids": [1]}])


def test_decoding_takes_lists_tensors_and_arrays(tokenizer):
    ids = tokenizer("the lazy dog")["input_ids"]
    expected = tokenizer.decode(ids)
    assert tokenizer.decode(torch.tensor(ids)) == tokenizer.decode(numpy.array(ids)) == expected
    assert tokenizer.batch_decode(torch.tensor([ids, ids])) == [expected] * 2
    assert tokenizer.decode(ids[1]) == tokenizer.decode([ids[1]])


def test_threads_with_different_limits_do_not_disturb_each_other(tokenizer):
    text = "the quick brown fox jumps over the lazy dog " * 4
    expected = {n: tokenizer(text, truncation=True, max_length=n)["input_ids"] for n in range(5, 45)}
    whole = tokenizer(text)["input_ids"]

    def work(n):
        if n % 3:
            return tokenizer(text, truncation=True, max_length=n)["input_ids"] == expected[n]
        return tokenizer(text)["input_ids"] == whole

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, list(range(5, 45)) * 5))


def test_loading_and_encoding_needs_no_torch_numpy_or_jinja(tmp_path):
    folders.wordpiece(tmp_path)
    code = (
        "import sys; from multihead import AutoTokenizer; t = AutoTokenizer.from_pretrained(sys.argv[1]); t('a b');"
        "print([m for m in ('torch', 'numpy', 'jinja2', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"config.json": '{"model_type": "bert"}'}, ModelNotFound),
        ({"tokenizer.json": "{"}, CorruptFile),
        ({"tokenizer.json": '{"model": {"type": "Magic"}}'}, CorruptFile),
        ({"tokenizer_config.json": "[]", "vocab.txt": "a\n"}, CorruptFile),
        ({"vocab.txt": ""}, CorruptFile),
        ({"vocab.json": '{"a": "b"}', "merges.txt": ""}, CorruptFile),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, CorruptFile),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b c\n"}, CorruptFile),
        ({"spiece.model": "nonsense"}, UnsupportedTokenizer),
        ({"spiece.model": "nonsense", "config.json": '{"model_type": "t5"}'}, CorruptFile),
        (
            {"tokenizer.model": "x", "tokenizer_config.json": '{"tokenizer_class": "AlbrtTokenizer"}'},
            UnsupportedTokenizer,
        ),
        ({"model.gguf": "GGUFnonsense"}, CorruptFile),
    ],
    ids=str,
)
def test_files_that_make_no_tokenizer_are_one_clear_error(tmp_path, files, error):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error) as told:
        AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(told.value, MultiheadError)


def test_a_damaged_sentencepiece_model_never_crashes(tmp_path):
    folders.pieces(tmp_path, "spiece.model", "T5", train={"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1})
    data = (tmp_path / "spiece.model").read_bytes()
    for cut in range(1, len(data), len(data) // 40):
        (tmp_path / "spiece.model").write_bytes(data[:cut])
        try:
            AutoTokenizer.from_pretrained(tmp_path)
        except MultiheadError:
            continue
