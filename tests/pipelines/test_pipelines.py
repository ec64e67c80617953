"""What all pipelines share: inputs of every kind, streams, failures, metadata, the choice of what answers."""

from __future__ import annotations

import json
import math
import time
from itertools import islice
from types import SimpleNamespace

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import multihead
from multihead import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline
from multihead.errors import InvalidInput, ModelNotFound, MultiheadError, NetworkUnavailable, UnsupportedOption
from multihead.kernels.quantization.registry import PRECISIONS
from multihead.pipelines import streaming_batcher as flow
from multihead.pipelines.answers import MAX_NOTICES, Failure, Notice, WithNotices
from multihead.pipelines.base import batches
from multihead.pipelines.catalog import get_task
from multihead.pipelines.pipeline import default_model
from multihead.runtime.prepare import resolve_precision

from .conftest import exact, same

TEXTS = ["The fox jumps.", "A dog", "The quick brown fox jumps over the lazy dog.", "fox", "dog"]


@pytest.fixture(scope="module")
def labels(classifier):
    return exact("text-classification", classifier)


class Numbered:
    """A data set as torch has them: its rows by number, which nothing but its length ends."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, number):
        self.read.append(number)
        return TEXTS[number % len(TEXTS)]


def test_columns_in_memory_give_lists_and_everything_else_streams(labels):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    datasets = pytest.importorskip("datasets")
    expected = labels(TEXTS)
    frame = pandas.DataFrame({"text": TEXTS})
    table = pyarrow.table({"text": pyarrow.chunked_array([TEXTS[:2], TEXTS[2:]])})
    for column in (tuple(TEXTS), frame["text"], numpy.array(TEXTS), table["text"], pyarrow.array(TEXTS)):
        found = labels(column)
        assert isinstance(found, list)
        same(found, expected)
    streams = ((text for text in TEXTS), datasets.Dataset.from_dict({"text": TEXTS})["text"], iter(TEXTS), Numbered())
    for stream in streams:
        found = labels(stream)
        assert not isinstance(found, list)
        same(list(found), expected)
        assert found.metadata.inputs == len(TEXTS)
    assert labels([]) == []
    assert list(labels(iter([]))) == []


def test_rows_by_number_are_read_once_and_no_sooner_than_needed(labels, monkeypatch):
    from transformers.pipelines.pt_utils import KeyDataset

    monkeypatch.setattr(type(labels), "window", 2)
    rows = Numbered()
    stream = labels(rows)
    assert rows.read == []
    next(stream)
    assert rows.read == [0, 1, 2, 3]
    list(stream)
    assert rows.read == list(range(len(TEXTS)))
    same(list(labels(KeyDataset([{"text": text} for text in TEXTS], "text"))), labels(TEXTS))


def test_a_stream_is_answered_before_it_is_waited_for(labels, monkeypatch):
    monkeypatch.setattr(flow, "PATIENCE", 0.01)
    answered = []

    def texts():
        for number, text in enumerate(TEXTS):
            assert len(answered) == number, "an answer is held back until the next text comes"
            time.sleep(0.02)
            yield text

    for answer in labels(texts()):
        answered.append(answer)
    same(answered, labels(TEXTS))


def test_windows_grow_while_a_stream_keeps_nobody_waiting(monkeypatch):
    def sizes(most, live, slow=(), patience=flow.PATIENCE):
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(flow, "time", SimpleNamespace(perf_counter=lambda: clock.now))

        def texts():
            for number in range(300):
                clock.now += 6.0 if number in slow else 0.0
                yield str(number)

        return [(len(chunk.items), chunk.steady) for chunk in flow.chunk_stream(texts(), most, live, patience)]

    assert sizes(100, live=False) == [(100, True), (100, True), (100, True)]
    assert sizes(100, live=True) == [(1, False), (16, False), (100, True), (100, True), (83, False)]
    assert sizes(100, live=True, slow={2})[:4] == [(1, False), (2, False), (2, False), (32, False)]
    assert sizes(100, live=False, slow={2})[:2] == [(3, False), (3, False)]
    assert sizes(100, live=False, slow={2}, patience=math.inf) == [(100, True)] * 3, "of inputs in memory"


def test_a_row_that_is_no_unicode_is_named_and_the_rest_goes_on(labels, llama):
    found = list(labels.stream(["fine", "cut \ud83d", {"text": "a", "text_pair": "\udc80"}, "dog"], strict=False))
    assert [isinstance(row, Failure) for row in found] == [False, True, True, False]
    assert r"Input 1 has '\ud83d' at character 4" in str(found[1].error)
    with pytest.raises(InvalidInput, match="Input 1"):
        labels(["fine", "cut \ud83d"])
    talk = exact("text-generation", llama, max_new_tokens=1)
    rows = [[{"role": "user", "content": "\ud83d"}], "dog"]
    assert [isinstance(row, Failure) for row in talk.stream(rows, strict=False)] == [True, False]
    ask = exact("question-answering", llama, max_new_tokens=1, prompt="{question} {context}")
    rows = [{"question": "who?", "context": text} for text in ("\ud83d", "dog")]
    assert [isinstance(row, Failure) for row in ask.stream(rows, strict=False)] == [True, False]


def test_a_stream_holds_no_more_than_windows(labels):
    taken = 0

    def texts():
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield TEXTS[number % len(TEXTS)]

    stream = labels(texts())
    same(list(islice(stream, 3)), labels(TEXTS[:3]))
    assert taken <= 3 * labels.window
    stream.answers.close()


def test_answers_come_in_order_over_many_windows(labels, monkeypatch):
    expected = labels(TEXTS)
    monkeypatch.setattr(type(labels), "window", 2)
    same(labels(TEXTS * 3), expected * 3)
    same(labels(TEXTS, batch_size=1), expected)
    same(labels(TEXTS, token_budget=1), expected)


@given(st.lists(st.text(max_size=12), max_size=40), st.integers(1, 7), st.booleans())
@settings(max_examples=60, deadline=None)
def test_windows_lose_nothing(texts, most, live):
    found = [chunk.items for chunk in flow.chunk_stream(iter(texts), most, live)]
    assert [text for window in found for text in window] == texts
    assert all(0 < len(window) <= most for window in found)


def test_a_bad_row_is_named_and_the_rest_goes_on(labels):
    rows = ["fine", 7, "the dog and the fox " * 20, "dog", None]
    found = list(labels.stream(rows, strict=False))
    assert [isinstance(row, Failure) for row in found] == [False, True, True, False, True]
    assert [row.number for row in found if isinstance(row, Failure)] == [1, 2, 4]
    assert "Input 1 must be a text" in str(found[1].error)
    assert "Input 2 has 122 tokens" in str(found[2].error)
    same([found[0], found[3]], labels(["fine", "dog"]))
    with pytest.raises(InvalidInput, match="Input 1"):
        list(labels.stream(rows))
    with pytest.raises(InvalidInput, match="Input 1"):
        labels(rows)


def note_dogs(pipe, monkeypatch):
    """Let a pipeline give two notices for each text about a dog."""
    own = type(pipe).postprocess

    def postprocess(self, item, *rest):
        answer = own(self, item, *rest)
        return WithNotices(answer, ["a dog", "\x1b[31m"]) if "dog" in item else answer

    monkeypatch.setattr(type(pipe), "postprocess", postprocess)


def test_notices_name_their_row_and_change_no_answer(labels, monkeypatch):
    texts = ["dog", "cat", 7, "a dog"]
    wanted = [answer for answer in labels.stream(texts, strict=False) if not isinstance(answer, Failure)]
    note_dogs(labels, monkeypatch)
    stream, rows = labels.stream(texts, strict=False), []
    found = [(answer, rows.append(list(stream.metadata.row_notices)))[0] for answer in stream]
    same([answer for answer in found if not isinstance(answer, Failure)], wanted)
    assert [len(row) for row in rows] == [2, 0, 0, 2]
    assert stream.metadata.notices[::2] == [Notice(0, "a dog"), Notice(3, "a dog")]
    assert labels("dog").metadata.notice_count == 2


def test_a_long_stream_counts_all_notices_and_keeps_the_first(labels, monkeypatch):
    note_dogs(labels, monkeypatch)
    metadata = labels(["dog"] * 600).metadata
    assert (metadata.notice_count, len(metadata.notices)) == (1200, MAX_NOTICES)
    assert metadata.notices[-1].number == MAX_NOTICES // 2 - 1


def test_metadata_say_who_answered(labels):
    answers = labels(TEXTS)
    told = answers.metadata
    assert (told.task, told.precision, told.device, told.inputs) == ("text-classification", "float32", "cpu", 5)
    assert told.model == labels.model.name_or_path
    assert told.tokens == sum(map(len, labels.tokenizer(TEXTS).input_ids))
    assert told.seconds > 0
    assert json.loads(json.dumps(answers)) == list(answers)
    assert exact("zero-shot-classification", labels.model.name_or_path, problem_type=None) is not None


def test_the_default_precision_is_what_the_hardware_multiplies_best(classifier):
    from multihead.kernels.hardware import best_dtype

    assert pipeline("text-classification", classifier).model.dtype is best_dtype()
    assert pipeline("text-classification", classifier, dtype="auto").precision == "float32"
    assert pipeline("text-classification", classifier, dtype=torch.float16).precision == "float16"


@pytest.mark.parametrize("precision", ["auto", *(name for name, row in PRECISIONS.items() if not row.needs_file)])
def test_a_model_is_prepared_as_it_is_loaded(classifier, precision):
    pipe = pipeline("text-classification", classifier, precision=precision)
    prepared = resolve_precision(precision)
    assert pipe.model.prepared == pipe.precision == pipe(TEXTS).metadata.precision == prepared
    same(pipe(TEXTS, top_k=None), exact("text-classification", classifier)(TEXTS, top_k=None), score=0.2)
    wide = pipeline("text-classification", classifier, precision=precision, dtype="float32")
    assert wide.model.dtype is torch.float32


def test_every_kind_of_task_takes_a_precision(bert, llama, marian):
    few = {"max_new_tokens": 2, "precision": "int8"}
    sentence = {"source_sentence": "fox", "sentences": TEXTS[:2]}
    for task, folder, text, options in (
        ("text-generation", llama, "The fox", few),
        ("translation_en_to_fr", marian, "The fox", few),
        ("sentence-similarity", bert, sentence, {"precision": "int8"}),
        ("text-ranking", bert, {"query": "fox", "documents": TEXTS[:2]}, {"precision": "int8"}),
    ):
        pipe = pipeline(task, folder, **options)
        assert pipe.precision == "int8"
        assert pipe(text)


def test_a_loaded_model_is_prepared_by_its_own_method(classifier):
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    loaded = {"model": model, "tokenizer": classifier}
    with pytest.raises(UnsupportedOption, match=r"call model\.prepare\('int8'\)"):
        pipeline("text-classification", **loaded, precision="int8")
    model.prepare("int8")
    assert pipeline("text-classification", **loaded).precision == "int8"
    assert pipeline("text-classification", **loaded, precision="int8").model is model
    with pytest.raises(UnsupportedOption, match="was prepared in int8: load it again"):
        pipeline("text-classification", **loaded, precision="int4")
    with pytest.raises(UnsupportedOption, match="int3"):
        pipeline("text-classification", classifier, precision="int3")


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction", "translation", "text-generation"])
def test_inputs_that_are_no_texts_are_named(request, task):
    folder = {"translation": "marian", "text-generation": "llama"}.get(task, "classifier")
    pipe = exact(task, request.getfixturevalue(folder))
    for wrong in (None, ["fine", 7], [None]):
        with pytest.raises(InvalidInput, match="string"):
            pipe(wrong)


def test_a_task_or_model_that_does_not_exist_is_named(bert, tagger):
    with pytest.raises(UnsupportedOption, match="text-generation"):
        pipeline("text-generator")
    with pytest.raises(MultiheadError, match="nowhere"):
        pipeline("text-generation", "./nowhere")
    with pytest.raises(InvalidInput, match="AutoModelForCausalLM"):
        pipeline("text-generation", AutoModel.from_pretrained(bert))
    model = AutoModel.from_pretrained(bert)
    pipe = pipeline("feature-extraction", model, tokenizer=str(bert), device="cpu")
    assert "feature-extraction with BertModel" in repr(pipe)
    with pytest.raises(UnsupportedOption, match="dtype"):
        pipeline("feature-extraction", model, tokenizer=str(bert), dtype="bfloat16", revision="x", hidden_size=3)


def test_what_answers_follows_the_checkpoint(bert, classifier, llama, marian, judge):
    kinds = {
        ("text-classification", classifier): "TextClassification",
        ("sentiment-analysis", llama): "PromptedClassification",
        ("zero-shot-classification", judge): "ZeroShotClassification",
        ("zero-shot-classification", llama): "PromptedZeroShot",
        ("question-answering", llama): "PromptedAnswers",
        ("question-answering", marian): "Text2TextAnswers",
        ("summarization", marian): "Summarization",
        ("summarization", llama): "PromptedSummarization",
        ("translation_en_to_fr", llama): "PromptedTranslation",
        ("text2text-generation", llama): "PromptedText2TextGeneration",
        ("table-question-answering", llama): "PromptedTableQuestionAnswering",
        ("text-ranking", bert): "TextRanking",
        ("feature-extraction", classifier): "FeatureExtraction",
    }
    for (task, folder), name in kinds.items():
        assert type(pipeline(task, folder)).__name__ == name, (task, folder)
    speaker = AutoModelForCausalLM.from_pretrained(llama)
    tokenizer = multihead.AutoTokenizer.from_pretrained(llama)
    assert type(pipeline("summarization", speaker, tokenizer)).__name__ == "PromptedSummarization"


def test_without_a_network_the_offline_default_answers_and_says_so(monkeypatch, bert):
    def unreachable(name, *_, **__):
        raise NetworkUnavailable(f"{name} is not here.")

    monkeypatch.setattr("multihead.hub.resolve", unreachable)
    entry = get_task("sentence-similarity")
    with pytest.warns(UserWarning, match="all-MiniLM-L6-v2 from the package index answers instead"):
        name, note = default_model("sentence-similarity", entry, {})
    assert name == entry.offline.name
    assert entry.hub in note
    with pytest.raises(NetworkUnavailable, match="bert-base-NER"):
        default_model("ner", get_task("ner"), {})
    with pytest.raises(NetworkUnavailable, match=r"distilroberta-base.*Name a model"):
        default_model("fill-mask", get_task("fill-mask"), {})
    with pytest.raises(NetworkUnavailable, match="opus-mt-de-fr"):
        default_model("translation_de_to_fr", get_task("translation_de_to_fr"), {})


def test_with_a_network_the_default_is_the_hubs(monkeypatch):
    monkeypatch.setattr("multihead.hub.resolve", lambda name, *_, **__: name)
    assert default_model("ner", get_task("ner"), {}) == ("dslim/bert-base-NER", "")
    name, _ = default_model("translation_de_to_fr", get_task("translation_de_to_fr"), {})
    assert name == "Helsinki-NLP/opus-mt-de-fr"

    def gone(name, *_, **__):
        raise ModelNotFound(f"{name} is not on the hub.")

    monkeypatch.setattr("multihead.hub.resolve", gone)
    with pytest.raises(ModelNotFound):
        default_model("ner", get_task("ner"), {})


def test_batches_hold_every_text_once_within_the_budget():
    lengths = [5, 900, 3, 77, 77, 4096, 2000, 12]
    found = list(batches(lengths, 4096))
    assert sorted(number for batch in found for number in batch) == list(range(8))
    assert all(len(batch) == 1 or sum(lengths[n] for n in batch) <= 4096 for batch in found)
    assert len(found) == math.ceil(sum(lengths) / 4096)
    assert list(batches([])) == []
