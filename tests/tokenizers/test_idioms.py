"""What programs ask of tokenizers and encodings, beside the reference; vocabularies from other texts."""

from __future__ import annotations

import copy
import pickle

import numpy
import pytest
import torch
import transformers

from multihead import AutoTokenizer, DataCollatorForLanguageModeling, DataCollatorWithPadding
from multihead.errors import InvalidInput, UnsupportedOption, UnsupportedTokenizer
from tokenizers import AddedToken, models

from . import folders

KINDS = {
    "wordpiece": lambda path: folders.wordpiece(path),
    "bytes": lambda path: folders.bytes_bpe(path, "GPT2", pad_token="<|endoftext|>"),
    "roberta": lambda path: folders.bytes_bpe(path, "Roberta"),
    "unigram": lambda path: folders.pieces(path, "spiece.model", "T5"),
}


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """Our tokenizer and the reference's, of files that the reference has saved."""
    folder, saved = tmp_path_factory.mktemp(request.param), tmp_path_factory.mktemp("saved")
    transformers.AutoTokenizer.from_pretrained(KINDS[request.param](folder)).save_pretrained(saved)
    return AutoTokenizer.from_pretrained(saved), transformers.PreTrainedTokenizerFast.from_pretrained(saved)


def state(token: AddedToken) -> tuple[str, ...]:
    return tuple(str(getattr(token, n)) for n in ("content", "lstrip", "rstrip", "single_word", "special"))


def test_parts_are_shown_as_the_reference_shows_them(both):
    ours, theirs = both
    names = (
        "added_tokens_encoder max_len_single_sentence max_len_sentences_pair all_special_ids vocab is_fast "
        "SPECIAL_TOKENS_ATTRIBUTES padding_side"
    )
    for name in names.split():
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    shown = [{number: state(token) for number, token in t.added_tokens_decoder.items()} for t in both]
    assert shown[0] == shown[1]
    assert ours.backend_tokenizer.to_str() == ours.backend.to_str()
    assert ours.decoder.decode(["a", "b"]) == theirs.decoder.decode(["a", "b"])
    assert ours.init_kwargs["name_or_path"] == ours.name_or_path
    assert ours.clean_up_tokenization("it 's , so") == theirs.clean_up_tokenization("it 's , so")
    ours.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True  # as programs do


def test_the_vocabulary_alone_is_saved_under_the_librarys_names(both, tmp_path):
    files = both[0].save_vocabulary(tmp_path)
    assert set(files) == {str(path) for path in tmp_path.iterdir()}
    assert [path.rsplit("/", 1)[1] for path in files] in (["vocab.txt"], ["vocab.json", "merges.txt"], ["unigram.json"])
    with pytest.raises(InvalidInput, match="folder"):
        both[0].save_vocabulary(tmp_path / "none")


CORPUS = [["low lower lowest", "new newer newest"] * 6, ["wide wider widest, the slow snow"] * 9]


def alike(ours, theirs) -> None:
    """The same tokens; the same ids too, where the library's trainer gives these twice alike."""
    assert set(ours.get_vocab()) == set(theirs.get_vocab())
    if isinstance(ours.backend.model, models.BPE):
        assert ours.get_vocab() == theirs.get_vocab()
    for text in ("the newest snow is lower", "é?", " "):
        assert ours.convert_ids_to_tokens(ours(text, "wide").input_ids) == (
            theirs.convert_ids_to_tokens(theirs(text, "wide").input_ids)
        )
        assert ours.decode(ours(text).input_ids) == theirs.decode(theirs(text).input_ids)


def test_another_vocabulary_is_trained_as_the_reference_trains_it(both):
    ours, theirs = (t.train_new_from_iterator(iter(CORPUS), 300, show_progress=False) for t in both)
    alike(ours, theirs)
    assert ours.special == theirs.special_tokens_map
    assert ours.model_max_length == theirs.model_max_length


def test_special_tokens_are_added(both):
    options = {"new_special_tokens": ["<new>"], "show_progress": False}
    ours, theirs = (t.train_new_from_iterator(CORPUS, 300, **options) for t in both)
    alike(ours, theirs)
    assert "<new>" in ours.all_special_tokens
    assert ours.convert_ids_to_tokens(ours("low<new>").input_ids) == (
        theirs.convert_ids_to_tokens(theirs("low<new>").input_ids)
    )
    assert pickle.loads(pickle.dumps(ours))("low").input_ids == ours("low").input_ids


def test_special_tokens_are_renamed_and_their_old_names_go(both):
    old = both[0].unk_token
    options = {"special_tokens_map": {old: "<other>"}, "show_progress": False}
    ours, theirs = (t.train_new_from_iterator(CORPUS, 300, **options) for t in both)
    assert set(ours.get_vocab()) == set(theirs.get_vocab()) - {old}  # the reference adds it once more
    assert ours.unk_token == "<other>"
    assert old not in ours.all_special_tokens
    assert ours("\U0001f999").input_ids == theirs("\U0001f999").input_ids or "WordPiece" in ours.backend.to_str()


def test_a_trained_tokenizer_is_saved_and_read_by_both(both, tmp_path):
    ours = both[0].train_new_from_iterator(CORPUS, 300, show_progress=False)
    ours.save_pretrained(tmp_path)
    for library in (AutoTokenizer, transformers.AutoTokenizer):
        assert library.from_pretrained(tmp_path)("the lowest, wide").input_ids == ours("the lowest, wide").input_ids


def test_what_cannot_be_trained_is_one_clear_error(both, tmp_path):
    with pytest.raises(InvalidInput, match="trained"):
        both[0].train_new_from_iterator([1, 2], 300, show_progress=False)
    with pytest.raises(InvalidInput, match="trained"):
        both[0].train_new_from_iterator(CORPUS, "many", show_progress=False)
    with pytest.raises(UnsupportedTokenizer, match="target"):
        AutoTokenizer.from_pretrained(folders.marian(tmp_path)).train_new_from_iterator(CORPUS, 300)


def test_a_message_is_encoded_as_what_it_adds(both):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}. {% endfor %}"
    chat = [{"role": "user", "content": "low"}, {"role": "assistant", "content": "new"}]
    for before in (None, [], chat[:1]):
        got = [t.encode_message_with_chat_template(chat[1], before, chat_template=template) for t in both]
        assert got[0] == got[1]
    with pytest.raises(UnsupportedOption, match="add_generation_prompt"):
        both[0].encode_message_with_chat_template(chat[0], chat_template=template, add_generation_prompt=True)


def test_encodings_become_tensors_when_asked(both):
    for options, kind in (({"padding": True}, "pt"), ({"padding": True}, "np")):
        got, expected = (t(["a b c", "d"], **options).convert_to_tensors(kind) for t in both) if options else ()
        assert type(got["input_ids"]) is type(expected["input_ids"])
        assert got["input_ids"].tolist() == expected["input_ids"].tolist()
        assert got["input_ids"].dtype == expected["input_ids"].dtype
    got, expected = (t("a b c").convert_to_tensors("pt", prepend_batch_axis=True) for t in both)
    assert got["attention_mask"].shape == expected["attention_mask"].shape
    assert got.convert_to_tensors("pt")["input_ids"] is got["input_ids"]
    assert both[0]("a").convert_to_tensors()["input_ids"] == both[0]("a")["input_ids"]
    with pytest.raises(InvalidInput, match="padding=True"):
        both[0](["a b c", "d"]).convert_to_tensors("pt")
    with pytest.raises(InvalidInput, match="'pt', 'np'"):
        both[0](["a"]).convert_to_tensors("tf")


def test_encodings_tell_the_text_of_a_token_and_are_cut_by_rows(both):
    got, expected = (t("a b", "c") for t in both)
    assert got.n_sequences == expected.n_sequences == 2
    places = range(len(got["input_ids"]))
    assert [got.token_to_sequence(n) for n in places] == [expected.token_to_sequence(n) for n in places]
    columns = [t.pad({"input_ids": [[1, 2], [3]]}) if t.pad_token else None for t in both]
    if columns[0] is not None:
        assert columns[0][:1] == columns[1][:1]
        assert columns[0].n_sequences is None


def test_columns_of_a_data_set_are_padded_as_rows_are(both):
    if both[0].pad_token is None:
        pytest.skip("it has no padding token")
    columns = {**both[0](["a b c", "d"]).data, "label": [0, 1]}
    rows = [{name: values[n] for name, values in columns.items()} for n in range(2)]
    expected = transformers.DataCollatorWithPadding(both[1])(dict(columns))
    for given in (columns, rows):
        got = DataCollatorWithPadding(both[0])(given)
        assert {n: v.tolist() for n, v in got.items()} == {n: v.tolist() for n, v in expected.items()}
    for kind in ("pt", "np"):
        padded = [t.pad(dict(columns), return_tensors=kind) for t in both]
        assert {n: v.tolist() for n, v in padded[0].items()} == {n: v.tolist() for n, v in padded[1].items()}
    hidden = DataCollatorForLanguageModeling(both[0], mlm=False)({"input_ids": columns["input_ids"]})
    assert hidden["labels"].shape == got["input_ids"].shape
    with pytest.raises(InvalidInput, match="as many rows"):
        DataCollatorWithPadding(both[0])({**columns, "label": [0]})
    assert isinstance(torch.as_tensor(numpy.asarray(padded[0]["label"])), torch.Tensor)


@pytest.mark.parametrize("kind", [None, "pt", "np"])
def test_no_words_are_one_text_without_words(both, kind):
    got, expected = (t([], is_split_into_words=True, return_tensors=kind) for t in both)
    for name in expected:
        values = [list(t[name]) if kind is None else (t[name].dtype, t[name].tolist()) for t in (got, expected)]
        assert values[0] == values[1]
    none = both[0]([], return_tensors=kind)["input_ids"]
    assert len(none) == 0
    assert kind is None or "int64" in str(none.dtype)


def test_the_length_of_one_text_is_a_list(both):
    for options in ({}, {"return_tensors": "pt"}, {"return_tensors": "np"}):
        lengths = [list(t("a b", return_length=True, **options)["length"]) for t in both]
        assert lengths[0] == lengths[1]


def test_lists_of_special_tokens_replace_each_other_unless_asked_otherwise(both):
    texts = []
    for t in copy.deepcopy(both):
        t.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]})
        t.add_special_tokens({"additional_special_tokens": ["<c>"]}, replace_extra_special_tokens=False)
        kept = [x in t.all_special_tokens for x in ("<a>", "<b>", "<c>", "<d>")]
        t.add_special_tokens({"extra_special_tokens": ["<d>"]})
        ids = t("<a><d>x", add_special_tokens=False).input_ids
        left = [x in t.all_special_tokens for x in ("<a>", "<b>", "<c>", "<d>")]
        texts.append((kept, left, t.decode(ids, skip_special_tokens=True), len(t)))
    assert texts[0] == texts[1]
    assert texts[0][:2] == ([True, True, True, False], [False, False, False, True])


def test_options_that_would_be_ignored_are_refused(both, tmp_path):
    with pytest.raises(UnsupportedOption, match="replace_all"):
        both[0].add_special_tokens({"additional_special_tokens": ["<a>"]}, replace_all=True)
    for options in ({"filename_prefix": "x"}, {"legacy_format": True}, {"nonsense": 1}):
        with pytest.raises(UnsupportedOption, match="save_pretrained"):
            both[0].save_pretrained(tmp_path / "no", **options)
    assert not (tmp_path / "no").exists()


def test_calls_by_the_references_names_of_arguments(both, tmp_path):
    both[0].save_pretrained(save_directory=tmp_path, push_to_hub=False, legacy_format=None)
    assert (tmp_path / "tokenizer.json").is_file()
    assert both[0].get_chat_template(chat_template="{{ 1 }}") == "{{ 1 }}"
    if both[0].pad_token is not None:
        assert both[0].pad(encoded_inputs={"input_ids": [[1], [1, 2]]})["attention_mask"][0].count(1) == 1
    ids = [t("a , b").input_ids for t in both]
    assert both[0].batch_decode([ids[0]], False, True) == both[1].batch_decode([ids[1]], False, True)
    found = both[0]("a b")
    assert found.copy() == found
    assert found.copy().tokens() == found.tokens()
