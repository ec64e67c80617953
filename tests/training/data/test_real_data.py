"""Real data sets go through from their files as they were published."""

from __future__ import annotations

import re

import numpy as np
import pytest

from multihead.pipelines.question_answering.spans import characters
from multihead.training.data import (
    causal_lm,
    masked_lm,
    question_answering,
    sentence_pairs,
    seq2seq,
    text_classification,
)
from multihead.training.data.causal_lm import CausalLMOptions
from multihead.training.data.masked_lm import MaskedLMOptions
from multihead.training.data.question_answering import QuestionAnsweringOptions
from multihead.training.data.sentence_pairs import SentencePairOptions
from multihead.training.data.seq2seq import Seq2SeqOptions
from multihead.training.data.source import Rows
from multihead.training.data.text_classification import TextClassificationOptions


def test_sst2_is_two_classes(real, wordpiece):
    features = text_classification.prepare(
        real / "sst2/train.tsv", wordpiece, TextClassificationOptions(max_length=128)
    )
    assert len(features) == 6921
    assert features.metadata["labels"] == ("negative", "positive")
    assert features.lengths.max() <= 128
    assert features.location(0) == "line 2 of train.tsv"
    assert re.fullmatch(r"\d+ of 6,921 texts are longer than 128 tokens and were cut\.", features.notes[0])


def test_sentence_polarity_is_put_together_of_two_files(real, wordpiece):
    rows = [
        {"text": row["text"], "label": name}
        for name in ("neg", "pos")
        for row in Rows.of(real / f"sentence_polarity/{name}.txt")
    ]
    features = text_classification.prepare(rows, wordpiece, TextClassificationOptions())
    assert np.bincount(features.numbers["labels"]).tolist() == [5331, 5331]


@pytest.mark.parametrize("language", ["en", "de"])
def test_xquads_answers_are_found_again_from_their_tokens(real, wordpiece, language):
    source, options = (
        real / f"xquad/xquad.{language}.json",
        QuestionAnsweringOptions(max_length=384, stride=64),
    )
    features = question_answering.prepare(source, wordpiece, options)
    questions = question_answering.Questions.of(source, options)
    seen = 0
    for index in range(0, len(features), 97):
        example, number = features[index], int(features.row[index])
        if not example["start_positions"]:
            continue
        asked = questions[number]
        own = question_answering.encode_windows([asked], wordpiece, options, features.rows, [number])[0]
        window = own[features.extras["window"][index]]
        first, last = characters(window, int(example["start_positions"]), int(example["end_positions"]), 1, False)
        assert asked.answers[0][1] in asked.context[first:last]
        assert last - first < len(asked.answers[0][1]) + 20
        seen += 1
    assert seen > 5
    assert len(np.unique(features.row)) == 1190


def test_subjqas_answers_all_stand_in_their_reviews(real):
    questions = question_answering.Questions.of(str(real / "subjqa/*.csv"), QuestionAnsweringOptions())
    answers = [questions.read(number, row).answers for number, row in enumerate(questions.rows)]
    assert len(answers) == 10_120
    assert sum(map(bool, answers)) == 10_120 - 5352


def test_scitldrs_sentences_are_joined(real, t5):
    features = seq2seq.prepare(real / "scitldr/dev.jsonl", t5, Seq2SeqOptions(max_length=512, max_target_length=64))
    row = Rows.of(real / "scitldr/dev.jsonl")[3]
    assert features[3]["input_ids"].tolist() == t5.encode(" ".join(row["source"]), truncation=True, max_length=512)
    assert features[3]["labels"].tolist() == t5.encode(row["target"][0], truncation=True, max_length=64)


def test_multi30k_is_read_from_parallel_files(real, t5, wordpiece):
    files = {language: real / f"multi30k/val.{language}" for language in ("en", "de")}
    features = seq2seq.prepare(files, t5, Seq2SeqOptions(source_lang="en", target_lang="de"))
    assert len(features) == 1014
    pairs = sentence_pairs.prepare(files, wordpiece, SentencePairOptions(text_columns=["en", "de"]))
    assert len(pairs) == 1014


def test_shakespeare_is_one_text_or_many(real, bytes_bpe, wordpiece):
    path = real / "tinyshakespeare/input.txt"
    whole = causal_lm.prepare(path, bytes_bpe, CausalLMOptions(whole_file=True, max_length=256, append_eos=False))
    text = path.read_text()
    assert set(whole.lengths[:-1].tolist()) == {256}
    assert bytes_bpe.decode(whole.ragged["input_ids"].flat[:3000].tolist()) in text
    lines = masked_lm.prepare(path, wordpiece, MaskedLMOptions(packing="blocks", max_length=128))
    assert set(lines.lengths[:-1].tolist()) == {128}
    assert lines.notes[0].endswith("of 40,000 rows have an empty text and were left out.")
