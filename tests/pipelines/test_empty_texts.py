"""Texts that say nothing to a model are error rows, and words that a vocabulary lacks are named."""

from __future__ import annotations

import pytest
import transformers

from multihead.errors import InvalidInput
from multihead.pipelines.emoji import name_emoji
from multihead.pipelines.text_checks import is_empty
from tests.conftest import SIZES, saved
from tests.tokenizers import folders

from .conftest import exact

EMPTY = ["", "   ", "\n\t", "\u200b\u200d", "\ufeff", "\x00\x07", "\u3164", "\ufe0f", "\u2800", "\u2028\u3000"]
UNKNOWN = ["😡", "👎👎", "€ 🎉"]  # the tiny vocabulary has no such characters


@pytest.mark.parametrize("text", EMPTY, ids=ascii)
def test_invisible_texts_are_empty(text):
    assert is_empty(text)


@pytest.mark.parametrize(
    "text", [".", "a", " é", "你", "😡", "\u200bx", "0", "क", "۝", "\u0600", "\u0301", "\ue000"], ids=ascii
)
def test_visible_texts_are_not(text):
    assert not is_empty(text)


def failures(pipe, items, **options):
    """Return the error of each item; None for an answer."""
    stream = pipe.stream(items, strict=False, **options)
    return [str(answer.error) if hasattr(answer, "error") else None for answer in stream]


@pytest.mark.parametrize(
    ("task", "folder", "options"),
    [("text-classification", "classifier", {}), ("text-classification", "llama", {}),
     ("zero-shot-classification", "judge", {"candidate_labels": "dog,fox"}),
     ("zero-shot-classification", "bert", {"candidate_labels": "dog,fox"}),
     ("zero-shot-classification", "llama", {"candidate_labels": "dog,fox"}), ("feature-extraction", "bert", {})],
)  # fmt: skip
def test_empty_and_unknown_texts_are_errors_and_the_rest_is_answered(request, task, folder, options):
    pipe = exact(task, request.getfixturevalue(folder))
    assert failures(pipe, ["the dog", *EMPTY, "fox"], **options) == [
        None, *(f"Input {number} is empty." for number in range(1, len(EMPTY) + 1)), None
    ]  # fmt: skip
    if folder != "llama":  # which knows every byte
        for error, text in zip(failures(pipe, UNKNOWN, **options), UNKNOWN, strict=True):
            assert f"holds no token that the model knows: {text!r}" in error
    with pytest.raises(InvalidInput, match="Input 1 is empty"):
        pipe(["the dog", ""], **options)


def test_an_empty_side_of_a_pair_is_named(classifier):
    pipe = exact("text-classification", classifier)
    rows = [{"text": "", "text_pair": "dog"}, {"text": "dog", "text_pair": " "}, {"text": "dog", "text_pair": "😡"}]
    assert failures(pipe, rows) == [
        "Input 0 has an empty text.", "Input 1 has an empty text_pair.",
        "Input 2 holds no token in its text_pair that the model knows: '😡'.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [("Fine 👍", "Fine thumbs up sign"), ("so😡!", "so pouting face !"), ("👍🏽❤️", "thumbs up sign heavy black heart"),
     ("5 € © → é", "5 € © → é"), ("", ""), ("no emoji", "no emoji"), ("🎉🎉 a", "party popper party popper a")],
)  # fmt: skip
def test_emoji_are_read_by_their_names_where_a_call_says_so(classifier, text, named):
    assert name_emoji(text) == named
    pipe = exact("text-classification", classifier)
    assert failures(pipe, ["the 😡"], emoji_names=True) == [None]
    assert pipe("dog 👍", emoji_names=True) == pipe("dog thumbs up sign")


def test_a_text_that_the_tokenizer_removes_is_an_error_beside_another_text_too(classifier, judge):
    pipe = exact("text-classification", classifier)
    pairs = [
        {"text": "dog", "text_pair": "\ufffd"},
        {"text": "\u0301", "text_pair": "dog"},
        {"text": "dog", "text_pair": "."},
    ]
    assert failures(pipe, pairs) == [
        "Input 0 holds no token in its text_pair that the model knows: '\ufffd'.",
        "Input 1 holds no token in its text that the model knows: '\u0301'.", None,
    ]  # fmt: skip
    inference = exact("zero-shot-classification", judge, candidate_labels="dog,fox")
    assert failures(inference, ["\ufffd", "."]) == ["Input 0 holds no token that the model knows: '\ufffd'.", None]


def test_the_space_that_sentencepiece_puts_before_a_text_is_no_known_token(tmp_path):
    folders.pieces(tmp_path, "sentencepiece.bpe.model", "XLMRoberta")
    words = len(transformers.AutoTokenizer.from_pretrained(tmp_path))
    config = transformers.XLMRobertaConfig(**SIZES, vocab_size=words, max_position_embeddings=66, pad_token_id=1)
    pipe = exact("text-classification", saved(transformers.XLMRobertaForSequenceClassification, config, tmp_path))
    assert failures(pipe, ["😡", "😡 👎", ".", "the 😡"]) == [
        "Input 0 holds no token that the model knows: '😡'.", "Input 1 holds no token that the model knows: '😡 👎'.",
        None, None,
    ]  # fmt: skip


def test_a_special_token_of_gpt2_is_not_unknown_although_it_is_its_unknown_token(llama):
    answers = exact("text-classification", llama)(["the dog <|endoftext|> fox"])
    assert not answers.metadata.notices


def test_words_that_the_vocabulary_lacks_are_notices(classifier):
    pipe = exact("text-classification", classifier)
    answers = pipe(["the dog", "the dog 😡 fox😡 😡", "fox"])
    assert len(answers) == 3
    assert answers.metadata.notices == [(1, "not in the model's vocabulary, and read as [UNK]: '😡', 'fox😡'")]
    stream = pipe.stream(["the dog", "the 😡"])
    assert [len(stream.metadata.row_notices) for _ in stream] == [0, 1]


def test_empty_sentences_are_errors_and_empty_documents_are_left_out_of_rankings(bert, tmp_path):
    similar = exact("sentence-similarity", bert)
    rows = [{"source_sentence": " ", "sentences": ["dog"]}, {"source_sentence": "dog", "sentences": ["fox", ""]}]
    assert failures(similar, rows) == ["Input 0 has an empty source_sentence.", "Input 1 has an empty sentence 1."]
    config = transformers.AutoConfig.from_pretrained(bert, num_labels=1)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    for folder in (bert, tmp_path):
        pipe = exact("text-ranking", folder)
        documents = ["the dog", "", "fox", "😡", "the 😡"]
        answer = pipe({"query": "dog", "documents": documents})
        assert sorted(row["corpus_id"] for row in answer) == [0, 2, 4]
        alone = pipe({"query": "dog", "documents": ["fox"]})[0]["score"]
        assert next(row["score"] for row in answer if row["corpus_id"] == 2) == pytest.approx(alone, abs=1e-5)
        notices = [text for _, text in answer.metadata.notices]
        assert "left out, since they say nothing to the model: documents 1, 3" in notices
        assert any(text.startswith("document 4: not in the model's vocabulary") for text in notices)
        rows = [{"query": "", "documents": ["dog"]}, {"query": "dog", "documents": ["", " "]}]
        assert failures(pipe, rows)[0] == "Input 0 has an empty query."
        assert "has no document that says something" in failures(pipe, rows)[1]


def test_an_empty_text_has_no_entity_and_a_mask_may_stand_alone(tagger, bert):
    tag = exact("token-classification", tagger)
    assert tag("") == [] == tag("  ", aggregation_strategy="simple")
    assert "holds no token" in failures(tag, ["😡"])[0]
    fill = exact("fill-mask", bert)
    assert len(fill("[MASK]")) == 5
    assert "holds no token that the model knows" in failures(fill, ["😡 [MASK]"])[0]
    assert fill(["the 😡 [MASK]"]).metadata.notice_count == 1


def test_a_blank_label_is_refused(bert):
    with pytest.raises(InvalidInput, match="not empty"):
        exact("zero-shot-classification", bert)("the dog", ["dog", " "])
