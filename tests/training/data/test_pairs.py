"""Sources with targets, sentences with sentences, answers that were preferred."""

from __future__ import annotations

import pytest
import transformers

from multihead import AutoTokenizer
from multihead.errors import InvalidInput
from multihead.tokenizers.defaults import SETTINGS
from multihead.training.data import preference, sentence_pairs, seq2seq
from multihead.training.data.preference import PreferenceOptions
from multihead.training.data.sentence_pairs import SentencePairOptions
from multihead.training.data.seq2seq import Seq2SeqOptions
from tests.tokenizers import folders

PAIR = {"source": "The fox jumps.", "target": "A fox."}


@pytest.fixture(scope="module")
def marian_folder(tmp_path_factory):
    return folders.marian(tmp_path_factory.mktemp("marian"))


@pytest.mark.parametrize("row", [
    PAIR, {"text": "The fox jumps.", "summary": "A fox."}, {"article": "The fox jumps.", "highlights": "A fox."},
    {"src": "The fox jumps.", "tgt": "A fox."}, {"source": ["The fox", "jumps."], "target": ["A fox."]},
])  # fmt: skip
def test_sources_and_targets_are_framed_texts(t5, row):
    example = seq2seq.prepare([row], t5, Seq2SeqOptions(prefix="summarize: "))[0]
    assert example["input_ids"].tolist() == t5.encode("summarize: The fox jumps.")
    assert example["labels"].tolist() == t5("x", text_target="A fox.")["labels"]


def test_both_sides_are_cut_and_counted_and_their_tokens_too(t5):
    rows = [PAIR, {"source": "fox " * 50, "target": "dog " * 50}]
    features = seq2seq.prepare(rows, t5, Seq2SeqOptions(max_length=30, max_target_length=9))
    assert features.lengths.tolist() == [len(features[0]["input_ids"]) + len(features[0]["labels"]), 39]
    assert features[1]["labels"].tolist()[-1] == t5.eos_token_id
    assert features.notes == ["1 of 2 sources are longer than 30 tokens and were cut.",
                              "1 of 2 targets are longer than 9 tokens and were cut."]  # fmt: skip


def test_a_translators_target_has_its_own_vocabulary(marian_folder):
    ours, theirs = (
        AutoTokenizer.from_pretrained(marian_folder),
        transformers.AutoTokenizer.from_pretrained(marian_folder),
    )
    rows = [{"translation": {"en": "The fox", "fr": "Le garçon"}}]
    example = seq2seq.prepare(rows, ours, Seq2SeqOptions(source_lang="en", target_lang="fr"))[0]
    wanted = theirs(">>fr<< The fox", text_target="Le garçon")
    assert example["input_ids"].tolist() == wanted["input_ids"]
    assert example["labels"].tolist() == wanted["labels"]
    plain = seq2seq.prepare([PAIR], ours, Seq2SeqOptions())[0]
    assert plain["input_ids"].tolist() == theirs(PAIR["source"])["input_ids"]


@pytest.mark.parametrize(("kind", "behind"), [("MBart50", False), ("MBart", True), ("Nllb", False)])
def test_a_translator_of_several_languages_has_a_code_on_both_sides(tmp_path, kind, behind):
    tokenizer = AutoTokenizer.from_pretrained(folders.pieces(tmp_path, "spiece.model", "T5"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["en_XX", "de_DE"]})
    tokenizer.options.update(SETTINGS.get(kind, {}))
    rows = [{"en": "The fox " * 9, "de": "Der Kaffee"}]
    options = Seq2SeqOptions(max_length=9, source_lang="en", target_lang="de", source_column="en", target_column="de")
    features = seq2seq.prepare(rows, tokenizer, options)
    for column, code, text in (("input_ids", "en_XX", rows[0]["en"]), ("labels", "de_DE", rows[0]["de"])):
        plain, language = tokenizer.encode(text, add_special_tokens=False), tokenizer.convert_tokens_to_ids(code)
        end = tokenizer.eos_token_id
        wanted = [*plain[:7], end, language] if behind else [language, *plain[:7], end]
        assert features[0][column].tolist() == wanted
    assert features.notes[0] == "1 of 1 sources are longer than 9 tokens and were cut."
    with pytest.raises(InvalidInput, match="src_lang and tgt_lang"):
        seq2seq.prepare([PAIR], tokenizer, Seq2SeqOptions())


def test_parallel_files_are_named_by_their_languages(tmp_path, t5):
    (tmp_path / "a.en").write_text("The fox\nA dog\n")
    (tmp_path / "a.de").write_text("Der Fuchs\nEin Hund\n")
    files = {"de": tmp_path / "a.de", "en": tmp_path / "a.en"}
    features = seq2seq.prepare(files, t5, Seq2SeqOptions(source_lang="en", target_lang="de"))
    assert features[1]["input_ids"].tolist() == t5.encode("A dog")
    assert features[1]["labels"].tolist() == t5.encode("Ein Hund")


@pytest.mark.parametrize(("row", "options", "message"), [
    ({"translation": {"en": "a", "de": "b"}}, {}, "source_lang and target_lang"),
    ({"translation": {"en": "a", "de": "b"}}, {"source_lang": "en", "target_lang": "fr"}, "has no translation 'fr'"),
    ({"source": "a", "target": ""}, {}, "Row 0 has an empty target"),
    ({"source": "a", "target": None}, {}, "Row 0 has no target"),
    ({"source": 7, "target": "a"}, {}, "Row 0 has a source that is no text"),
    ({"source": "a", "goal": "b"}, {}, "is the target.*source, goal.*target_column"),
])  # fmt: skip
def test_pairs_that_are_none_are_named(t5, row, options, message):
    with pytest.raises(InvalidInput, match=message):
        seq2seq.prepare([row], t5, Seq2SeqOptions(**options))


def test_empty_pairs_may_be_left_out_and_several_targets_are_told_of(t5):
    rows = [{"source": "", "target": ["a"]}, {"source": "b", "target": ["c", "d"]}]
    features = seq2seq.prepare(rows, t5, Seq2SeqOptions(skip_empty=True))
    assert features.row.tolist() == [1]
    assert features[0]["labels"].tolist() == t5.encode("c")
    assert features.notes == ["1 of 2 rows have an empty text and were left out.",
                              "1 of 2 rows have several targets; only the first is used."]  # fmt: skip


def test_triplets_and_scored_pairs_are_texts_by_number(wordpiece):
    triplet = {"anchor": "a fox", "positive": "the fox", "negative_2": "dog", "negative_1": "mind", "id": 3}
    features = sentence_pairs.prepare([triplet], wordpiece, SentencePairOptions())
    assert features.metadata == {"columns": ("input_ids_0", "input_ids_1", "input_ids_2", "input_ids_3")}
    texts = ["a fox", "the fox", "mind", "dog"]
    assert [features[0][name].tolist() for name in features.metadata["columns"]] == [wordpiece.encode(t) for t in texts]
    assert features.lengths.tolist() == [sum(len(wordpiece.encode(t)) for t in texts)]
    listed = [{"query": "a fox", "positive": "the fox", "negatives": ["mind", "dog"]}]
    again = sentence_pairs.prepare(listed, wordpiece, SentencePairOptions())[0]
    assert [again[f"input_ids_{n}"].tolist() for n in range(4)] == [wordpiece.encode(t) for t in texts]


def test_pairs_keep_their_score(wordpiece):
    pair = {"sentence1": "a fox", "sentence2": "the fox"}
    scored = sentence_pairs.prepare([{**pair, "score": 0.8}, {**pair, "score": 0.1}], wordpiece, SentencePairOptions())
    assert scored.metadata["problem_type"] == "regression"
    assert scored.numbers["labels"].tolist() == pytest.approx([0.8, 0.1])
    assert "labels" not in sentence_pairs.prepare([pair], wordpiece, SentencePairOptions()).columns


@pytest.mark.parametrize(("rows", "options", "message"), [
    ([{"anchor": "a", "positive": "b"}, {"anchor": "a", "positive": " "}], {}, "Row 1 has an empty"),
    ([{"anchor": "a", "positive": "b"}, {"anchor": "a", "positive": 5}], {}, "Row 1 has a value that is no text"),
    ([{"anchor": "a", "positive": ["b", "c"]}, {"anchor": "a", "positive": ["b"]}], {}, "Row 1 has 2 texts.*row 3"),
    ([{"x": "a", "y": "b"}], {}, "There are x, y.*text_columns"),
    ([{"x": "a", "y": "b"}], {"text_columns": ["x"]}, "at least two names"),
    ([{"x": "a", "y": "b"}], {"text_columns": ["x", "z"]}, "no column 'z'"),
])  # fmt: skip
def test_sentences_that_are_none_are_named(wordpiece, rows, options, message):
    with pytest.raises(InvalidInput, match=message):
        sentence_pairs.prepare(rows, wordpiece, SentencePairOptions(**options))


def learned(tokenizer, example, side):
    return tokenizer.decode([i for i in example[f"{side}_labels"].tolist() if i != -100])


ASKED = [{"role": "user", "content": "Who?"}]
SAID = [[{"role": "assistant", "content": text}] for text in ("The fox.", "A dog")]


@pytest.mark.parametrize("row", [
    {"prompt": "Who? It is ", "chosen": "The fox.", "rejected": "A dog"},
    {"chosen": "Who? It is The fox.", "rejected": "Who? It is A dog"},
])  # fmt: skip
def test_both_answers_follow_the_prompt_and_only_they_are_learned(bytes_bpe, row):
    example = preference.prepare([row], bytes_bpe, PreferenceOptions())[0]
    for side, answer in (("chosen", "The fox."), ("rejected", "A dog")):
        assert bytes_bpe.decode(example[f"{side}_input_ids"].tolist()) == f"Who? It is {answer}<|endoftext|>"
        assert learned(bytes_bpe, example, side) == f"{answer}<|endoftext|>"


@pytest.mark.parametrize("row", [
    {"prompt": ASKED, "chosen": SAID[0], "rejected": SAID[1]},
    {"chosen": ASKED + SAID[0], "rejected": ASKED + SAID[1]},
    {"prompt": "Who?", "chosen": ASKED + SAID[0], "rejected": ASKED + SAID[1]},
    {"prompt": "Who?", "chosen": SAID[0], "rejected": SAID[1]},
])  # fmt: skip
def test_conversations_share_their_prompt(bytes_bpe, row):
    features = preference.prepare([row], bytes_bpe, PreferenceOptions(max_length=300))
    for side, said in zip(("chosen", "rejected"), SAID, strict=True):
        whole = bytes_bpe.apply_chat_template(ASKED + said, tokenize=False)
        assert bytes_bpe.decode(features[0][f"{side}_input_ids"].tolist()) == whole
        assert learned(bytes_bpe, features[0], side) == said[0]["content"] + "<|end|>\n"
    both = [len(features[0][f"{side}_input_ids"]) for side in ("chosen", "rejected")]
    assert features.lengths.tolist() == [sum(both)]


@pytest.mark.parametrize(("row", "message"), [
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "Row 1 has the same answer"),
    ({"prompt": "a", "chosen": "b", "rejected": ""}, "Row 1 has an empty rejected"),
    ({"prompt": None, "chosen": "b", "rejected": "c"}, "Row 1 has no prompt"),
    ({"prompt": None, "chosen": SAID[0], "rejected": SAID[1]}, "Row 1 has no prompt"),
    ({"prompt": "a", "chosen": ASKED, "rejected": SAID[1]}, "Row 1 has conversations without a prompt"),
    ({"prompt": ASKED, "chosen": "b", "rejected": "c"}, "both must have one form"),
])  # fmt: skip
def test_preferences_that_are_none_are_named(bytes_bpe, row, message):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(InvalidInput, match=message):
        preference.prepare([good, row], bytes_bpe, PreferenceOptions())


def test_prompts_that_leave_no_room_are_left_out(bytes_bpe):
    rows = [{"prompt": "dog " * 40, "chosen": "b", "rejected": "c"}, {"prompt": "a ", "chosen": "b", "rejected": "c"}]
    features = preference.prepare(rows, bytes_bpe, PreferenceOptions(max_length=20))
    assert features.row.tolist() == [1]
    assert features.notes[1] == "1 of 2 prompts leave no room for an answer within 20 tokens and were left out."
