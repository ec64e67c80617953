"""The call's surface: what it takes, what it refuses, and that threads do not disturb each other."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch
import transformers

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


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Our tokenizer and the reference's."""
    folder = folders.wordpiece(tmp_path_factory.mktemp("pair"))
    return AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


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
        {"truncation": True, "max_length": 10, "stride": 8},
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
    assert encoded.tokens()[0] == "[CLS]"
    assert encoded.char_to_token(4) == encoded.word_to_tokens(1)[0]
    begin, end = encoded.token_to_chars(encoded.char_to_token(4))
    assert "the lazy dog"[begin:end].startswith("l")
    with pytest.raises(AttributeError, match="input_ids"):
        _ = encoded.nothing


def test_encodings_are_moved_and_changed_in_place(tokenizer):
    encoded = tokenizer("the lazy dog", return_tensors="pt")
    assert encoded.to("meta") is encoded
    assert encoded["input_ids"].device.type == "meta"
    encoded.update({"labels": [1]})
    del encoded["input_ids"]
    assert encoded.pop("token_type_ids", None) is not None
    assert encoded.pop("token_type_ids", None) is None
    assert list(encoded) == ["attention_mask", "labels"]


def test_rows_encoded_apart_are_padded_together(tokenizer):
    rows = [tokenizer("a b c"), tokenizer("a")]
    padded = tokenizer.pad(rows, return_tensors="pt")
    assert padded["input_ids"].shape == padded["attention_mask"].shape
    assert padded["attention_mask"].sum(1).tolist() == [len(row["input_ids"]) for row in rows]
    with pytest.raises(InvalidInput, match="input_ids"):
        tokenizer.pad([{"ids": [1]}])


ROWS = [{"input_ids": [2, 9, 8, 3], "label": 1}, {"input_ids": [2, 3], "label": 0}]


@pytest.mark.parametrize(
    "encoded",
    [
        ROWS,
        ROWS[0],
        {"input_ids": [[2, 9, 3], [2, 3]], "token_type_ids": [[0, 0, 1], [0, 0]]},
        [{"input_ids": torch.tensor([2, 9, 3])}, {"input_ids": torch.tensor([2, 3])}],
        [{"input_ids": numpy.array([2, 9, 3]), "label": 0.5}, {"input_ids": numpy.array([2, 3]), "label": 1.0}],
        {"input_ids": torch.tensor([[2, 9, 3]]), "attention_mask": torch.tensor([[1, 1, 0]])},
        [{"input_ids": [2, 3], "offset_mapping": [(0, 0), (0, 0)], "special_tokens_mask": [1, 1], "name": "a"}],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": "max_length"}, {"padding": "max_length", "max_length": 7}, {"padding_side": "left"},
     {"pad_to_multiple_of": 8}], ids=str,
)  # fmt: skip
def test_padding_means_what_it_means_to_the_reference(pair, encoded, options):
    got, expected = (t.pad(copy.deepcopy(encoded), **options) for t in pair)
    assert set(got) == set(expected)
    for name, values in expected.items():
        assert type(got[name]) is type(values)
        assert (
            getattr(got[name], "tolist", lambda name=name: got[name])()
            == getattr(values, "tolist", lambda v=values: v)()
        )


def test_rows_stay_as_long_as_they_are_where_no_padding_is_asked_for(pair):
    got, expected = (t.pad(copy.deepcopy(ROWS), padding=False) for t in pair)
    assert dict(got) == dict(expected)


def test_padding_says_what_makes_no_tensor_and_where_no_limit_is(pair, tmp_path):
    with pytest.raises(InvalidInput, match="name makes no tensor"):
        pair[0].pad([{"input_ids": [2, 3], "name": "a"}], return_tensors="pt")
    with pytest.raises(InvalidInput, match="labels"):
        pair[0].pad([{"input_ids": [2], "labels": [1, 2]}, {"input_ids": [3], "labels": [1]}], return_tensors="pt")
    unlimited = AutoTokenizer.from_pretrained(folders.wordpiece(tmp_path), model_max_length=None)
    with pytest.raises(InvalidInput, match="max_length"):
        unlimited.pad(ROWS, padding="max_length")


def test_the_references_collators_work_with_our_tokenizer(pair):
    made = []
    for one in pair:
        torch.manual_seed(0)
        rows = [{**one(text), "label": n} for n, text in enumerate(("the lazy dog", "the dog"))]
        made.append([
            transformers.DataCollatorWithPadding(one)(rows),
            transformers.DataCollatorForLanguageModeling(one)([one("the lazy dog"), one("the dog")]),
        ])  # fmt: skip
    for got, expected in zip(*made, strict=True):
        assert {k: v.tolist() for k, v in got.items()} == {k: v.tolist() for k, v in expected.items()}


def test_a_mask_tells_special_tokens_from_others(pair):
    ids = pair[0]("the [MASK] dog")["input_ids"]
    expected = pair[1].get_special_tokens_mask(ids, already_has_special_tokens=True)
    assert pair[0].get_special_tokens_mask(torch.tensor(ids), already_has_special_tokens=True) == expected
    with pytest.raises(UnsupportedOption, match="already_has_special_tokens"):
        pair[0].get_special_tokens_mask(ids)


def test_decoding_takes_lists_tensors_and_arrays(pair):
    ours, theirs = pair
    ids = ours("the lazy dog")["input_ids"]
    for skip in (False, True):
        expected = theirs.decode(ids, skip_special_tokens=skip)
        alike = [ids, torch.tensor(ids), numpy.array(ids), list(torch.tensor(ids)), list(numpy.array(ids)), iter(ids)]
        assert [ours.decode(one, skip_special_tokens=skip) for one in alike] == [expected] * len(alike)
    rows = torch.tensor([ids, ids])
    assert ours.batch_decode(rows) == ours.decode(list(rows)) == theirs.batch_decode(rows)
    assert ours.batch_decode(ids) == theirs.batch_decode(ids) == ours.batch_decode(torch.tensor(ids))
    assert ours.decode(ids[1]) == ours.decode([ids[1]]) == ours.decode(numpy.int64(ids[1]))
    assert (ours.batch_decode([]), ours.decode([])) == ([], "")
    for wrong in ("dog", None, [0.5]):
        with pytest.raises(InvalidInput, match="Ids are numbers"):
            ours.decode(wrong)


@pytest.mark.parametrize("text", ["dog \ud83d fox", "\udc00"])
def test_half_of_a_character_is_an_error_that_shows_its_text(tokenizer, text):
    calls = (
        lambda: tokenizer(["the", text]),
        lambda: tokenizer("the", text),
        lambda: tokenizer([["the", text]], is_split_into_words=True),
        lambda: tokenizer.tokenize(text),
        lambda: tokenizer.encode_ids(["the", text]),
        lambda: tokenizer.encode_ids(["the"], [text]),
    )
    for call in calls:
        with pytest.raises(InvalidInput, match=r"lone surrogate U\+D") as told:
            call()
        assert repr(text) in str(told.value)


def read(job):
    tokenizer, text = job
    return tokenizer(text, truncation=True, max_length=5)["input_ids"]


def test_copies_and_other_processes_have_the_same_tokenizer(tokenizer):
    job = (tokenizer, "the quick brown fox jumps")
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer), copy.copy(tokenizer)):
        assert read((again, job[1])) == read(job)
        assert again.special_tokens_map == tokenizer.special_tokens_map
    code = (
        "import pickle, sys; from tests.tokenizers.test_calls import read; print(read(pickle.load(sys.stdin.buffer)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(job), capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(read(job))


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


BERT, GPT2 = ({"config.json": f'{{"model_type": "{kind}"}}'} for kind in ("bert", "gpt2"))


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (BERT, ModelNotFound),
        ({"tokenizer.json": "{"}, CorruptFile),
        ({"tokenizer.json": '{"model": {"type": "Magic"}}'}, CorruptFile),
        ({"tokenizer_config.json": "[]", "vocab.txt": "a\n"}, CorruptFile),
        ({"vocab.txt": "", **BERT}, CorruptFile),
        ({"vocab.json": '{"a": "b"}', "merges.txt": "", **GPT2}, CorruptFile),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n", **GPT2}, CorruptFile),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b c\n", **GPT2}, CorruptFile),
        ({"vocab.txt": "a"}, UnsupportedTokenizer),
        ({"vocab.json": "{}", "merges.txt": ""}, UnsupportedTokenizer),
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
