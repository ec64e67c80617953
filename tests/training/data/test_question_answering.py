"""Answers stand at their tokens, in every window that holds them whole, whatever form they come in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import InvalidInput
from multihead.pipelines.question_answering.spans import characters
from multihead.training.data import question_answering as qa
from multihead.training.data.question_answering import QuestionAnsweringOptions

CONTEXT = "The quick brown fox jumps over the lazy dog; in 1969, the dog came back to München with 21.5 kilograms."
QUESTION = "Who came back?"


def row(answer="the dog", start=None, **more):
    start = CONTEXT.index(answer) if start is None else start
    return {"question": QUESTION, "context": CONTEXT, "answers": {"text": [answer], "answer_start": [start]}, **more}


def as_the_reference_places(tokenizer, answer, start, length, stride):
    """Ids and places of every window, by the reference's own char_to_token."""
    made = tokenizer(QUESTION, CONTEXT, truncation="only_second", max_length=length, stride=stride,
                     return_overflowing_tokens=True)  # fmt: skip
    found = []
    for window, ids in enumerate(made["input_ids"]):
        first = made.char_to_token(window, start, 1)
        last = made.char_to_token(window, start + len(answer) - 1, 1)
        inside = first is not None and last is not None
        found.append((ids, *((first, last) if inside else (0, 0))))
    return found


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_windows_and_places_are_those_of_char_to_token(wordpiece, their_wordpiece, data):
    words = [(i, i + len(w)) for w in CONTEXT.split() for i in [CONTEXT.index(w)]]
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 4, len(words) - 1)))
    start, end = words[first][0], words[last][1]
    if end <= start:
        return
    length, stride = data.draw(st.integers(24, 64)), data.draw(st.integers(0, 5))
    options = QuestionAnsweringOptions(max_length=length, stride=stride)
    features = qa.prepare([row(CONTEXT[start:end], start)], wordpiece, options)
    theirs = as_the_reference_places(their_wordpiece, CONTEXT[start:end], start, length, stride)
    ours = [(example["input_ids"].tolist(), int(example["start_positions"]), int(example["end_positions"]))
            for example in features]  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("kind", ["wordpiece", "bytes_bpe", "t5"])
def test_the_tokens_of_an_answer_say_the_answer_again(request, kind):
    tokenizer = request.getfixturevalue(kind)
    for answer in ("fox", "the lazy dog", "München", "21.5 kilograms"):
        features = qa.prepare([row(answer)], tokenizer, QuestionAnsweringOptions(max_length=300))
        asked = qa.Questions.of([row(answer)], QuestionAnsweringOptions())[0]
        window = qa.encode_windows([asked], tokenizer, QuestionAnsweringOptions(max_length=300), features.rows, [0])[0][
            0
        ]
        example = features[0]
        first, last = characters(window, int(example["start_positions"]), int(example["end_positions"]), 1, False)
        assert CONTEXT[first:last].strip() == answer


def test_evaluation_finds_each_examples_window_again(wordpiece):
    rows = [row(), row("fox"), {**row(), "answers": {"text": [], "answer_start": []}}]
    options = QuestionAnsweringOptions(max_length=30, stride=4)
    features = qa.prepare(rows, wordpiece, options)
    asked = [qa.Questions.of(rows, options)[n] for n in range(3)]
    made = qa.encode_windows(asked, wordpiece, options, features.rows, range(3))
    again = [made[number][window].ids for number, window in zip(features.row, features.extras["window"], strict=True)]
    assert [example["input_ids"].tolist() for example in features] == again
    assert features[-1]["start_positions"] == features[-1]["end_positions"] == 0
    assert [q.answers for q in asked] == [((CONTEXT.index("the dog"), "the dog"),), ((16, "fox"),), ()]


@pytest.mark.parametrize("answers", [
    {"answers": [{"text": "fox", "answer_start": 16}]},
    {"answers": [{"text": "fox", "start": 16}, {"text": "dog", "start": 40}]},
    {"answers": ["fox"]},
    {"answer": "fox"},
    {"answer": "fox", "answer_start": 16},
    {"answer_text": "fox", "answer_start": "16"},
    {"answers": "{'text': ['fox'], 'answer_start': [16]}"},
    {"human_ans_spans": "fox", "human_ans_indices": "(16, 19)"},
    {"human_ans_spans": "('fox', 'dog')", "human_ans_indices": "((16, 19), (40, 43))"},
    {"answers": {"text": ["fox"], "answer_start": [16]}, "is_impossible": False},
])  # fmt: skip
def test_answers_of_every_form_are_understood(answers):
    found = qa.Questions.of([{"question": QUESTION, "context": CONTEXT, **answers}], QuestionAnsweringOptions())[0]
    assert found.answers[0] == (16, "fox")
    assert found.id == "0"


@pytest.mark.parametrize("answers", [
    {"answers": {"text": [], "answer_start": []}}, {"answers": []}, {"answer": None}, {"answers": {"text": [""],
    "answer_start": [0]}}, {"human_ans_spans": "ANSWERNOTFOUND", "human_ans_indices": "(104, 118)"},
    {"answers": {"text": ["fox"], "answer_start": [16]}, "is_impossible": True},
])  # fmt: skip
def test_no_answer_is_an_answer_too(answers):
    context = CONTEXT + " ANSWERNOTFOUND"
    found = qa.Questions.of([{"question": QUESTION, "context": context, **answers}], QuestionAnsweringOptions())[0]
    assert found.answers == ()
    assert found.context == (CONTEXT if "human_ans_indices" in answers else context)


def test_copies_that_lost_spaces_and_brackets_are_read_from_the_review():
    text = "Good sound (for the price), really."
    found = qa.Questions.of([{"question": "?", "review": text + " ANSWERNOTFOUND", "human_ans_spans":
        "sound , really . ANSWERNOTFOUND", "human_ans_indices": "(5, 50)"}], QuestionAnsweringOptions())[0]  # fmt: skip
    assert found.answers == ((5, "sound (for the price), really."),)


@pytest.mark.parametrize(("changes", "message"), [
    ({"answers": {"text": ["cat"], "answer_start": [16]}}, "Row 1: the answer 'cat' is not in the context at character "
     "16, where the text is 'fox'; the context does not hold it.*The quick"),
    ({"answers": {"text": ["dog"], "answer_start": [16]}}, "it begins at 40"),
    ({"answers": {"text": ["dog"], "answer_start": [-3]}}, "is not in the context at character -3"),
    ({"answers": ["dog"]}, "the answer 'dog' occurs 2 times in the context .*answer_start"),
    ({"answers": ["cat"]}, "the answer 'cat' is not in the context"),
    ({"answers": {"text": ["fox", "dog"], "answer_start": [16]}}, "Row 1 has 2 answers and 1 positions"),
    ({"answers": [{"text": 5, "answer_start": 1}]}, "Row 1 has an answer that is no text with a position"),
    ({"answers": "{'text': array(['fox'])}"}, "Row 1 has answers that cannot be read"),
    ({"question": ""}, "Row 1 has an empty question"),
    ({"context": None}, "Row 1 has no context"),
    ({"question": "dog " * 70}, "Row 1 has a question that leaves 0 tokens for its context"),
])  # fmt: skip
def test_an_answer_that_is_not_there_is_named_with_its_row(wordpiece, changes, message):
    with pytest.raises(InvalidInput, match=message):
        qa.prepare([row(), {**row(), **changes}], wordpiece, QuestionAnsweringOptions())


def test_windows_that_cannot_be_are_refused(wordpiece):
    with pytest.raises(InvalidInput, match="stride = 64 must be smaller"):
        qa.prepare([row()], wordpiece, QuestionAnsweringOptions(stride=64))
    with pytest.raises(InvalidInput, match="smaller stride"):
        qa.prepare([row()], wordpiece, QuestionAnsweringOptions(max_length=30, stride=29))
    with pytest.raises(InvalidInput, match=r"is the answers.*answers_column"):
        qa.prepare([{"question": "a", "context": "b"}], wordpiece, QuestionAnsweringOptions())


def test_an_answer_longer_than_every_window_is_told_of(wordpiece):
    features = qa.prepare([row(CONTEXT[:-1], 0)], wordpiece, QuestionAnsweringOptions(max_length=30, stride=2))
    assert len(features) > 1
    assert not features.numbers["start_positions"].any()
    assert features.notes == [
        "1 of 1 answers fit into no window; their questions are trained as questions without an answer."
    ]


def test_squad_files_are_read_as_they_are(tmp_path, wordpiece):
    qas = [{"id": "q7", "question": QUESTION, "answers": [{"text": "fox", "answer_start": 16}]}]
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"data": [{"title": "T", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    assert qa.Questions.of(path, QuestionAnsweringOptions())[0].id == "q7"
    assert qa.prepare(path, wordpiece, QuestionAnsweringOptions()).location(0) == "row 0 of s.json"
