"""Question answering over contexts of several windows: one ranking of all spans, passages, and no answer."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput
from multihead.pipelines.calibration import Calibration
from multihead.pipelines.question_answering.passages import choose_passages, split_passages, term_coverage
from tests.conftest import written

from .conftest import exact

NAMES = "ann bob cal dan eve fay gus hal".split()
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the a . , ? who sold bread fish in paris lyon and then".split() + NAMES
SIZES = {"max_seq_len": 20, "doc_stride": 5}
FILLER = "and then . " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=len(WORDS)
    )
    transformers.BertForQuestionAnswering(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    return folder


@pytest.fixture
def pipe(folder):
    return multihead.pipeline("question-answering", model=str(folder), dtype="float32")


def scripted(pipe, scores, null):
    """Let the model give tokens these scores, as start and end, and others 0; null(ids) is that of [CLS]."""
    by_id = {WORDS.index(word): score for word, score in scores.items()}

    def forward(inputs, o):
        found = []
        for each in inputs:
            logits = torch.tensor([by_id.get(id, 0.0) for id in each.ids])
            logits[0] = null([WORDS[id] for id in each.ids])
            found.append(torch.stack([logits, logits], -1))
        return found

    pipe.forward = forward


def test_a_window_without_the_answer_does_not_win(pipe):
    context = f"ann sold bread . {FILLER} gus sold fish and bob and ann and cal ."
    scripted(pipe, {"ann": 4.0, "bob": 3.5, "cal": 3.5, "gus": 2.0}, lambda words: 1.0 if "gus" in words else 6.0)
    asked = {"question": "who ?", "context": context, **SIZES, "passage_weight": 0}
    assert pipe(**asked)["start"] == context.rindex("ann")  # 3 above "no answer" of its window, not 2 below
    scripted(pipe, {"ann": 4.0, "bob": 3.9, "cal": 3.9, "gus": 3.9}, lambda words: -9.0 if "gus" in words else 3.0)
    assert pipe(**asked)["start"] == context.rindex("ann")
    assert pipe(**asked, normalization="window")["start"] == 0  # the only name of its window, as the reference


def test_words_of_two_windows_are_one_answer(pipe):
    context = "then and " * 4 + "then ann then and then ann then bob " + FILLER
    scripted(pipe, {"ann": 3.0, "bob": 2.0}, lambda words: 0.0)
    found = pipe(question="who ?", context=context, top_k=6, max_answer_len=1, passage_weight=0, **SIZES)
    places = [(answer["start"], answer["end"]) for answer in found]
    assert len(set(places)) == len(places) == 6
    assert [answer["answer"] for answer in found[:3]] == ["ann", "ann", "bob"]
    assert sum(answer["score"] for answer in found) < 1


def test_places_are_exact_in_every_window(pipe):
    context = "".join(f"{name} sold bread . {FILLER}" for name in NAMES)
    for name in NAMES:
        scripted(pipe, {name: 5.0}, lambda words: 0.0)
        answer = pipe(question="who ?", context=context, max_answer_len=1, **SIZES)
        assert (answer["answer"], answer["start"]) == (name, context.index(name))


def test_one_window_has_the_scores_of_the_reference(pipe):
    item = {"question": "who sold fish ?", "context": "ann sold bread and bob sold fish in lyon ."}
    for options in ({}, {"top_k": 4}, {"handle_impossible_answer": True, "top_k": 3}):
        assert pipe(item, **options) == pipe(item, **options, normalization="window", passage_weight=0)


def test_the_passage_with_the_words_of_the_question_wins(pipe):
    context = f"ann sold bread . {FILLER * 2}\n\nbob sold fish . {FILLER * 2}\n\ncal sold bread . {FILLER * 2}"
    scripted(pipe, dict.fromkeys(NAMES, 3.0), lambda words: 0.0)
    asked = {"context": context, "max_answer_len": 1, **SIZES}
    assert pipe(question="who sold fish ?", **asked)["answer"] == "bob"
    assert pipe(question="who sold fish ?", **asked, passage_weight=0)["answer"] == "ann"


FISH = "fish fish fish fish fish fish"


def test_a_sentence_encoder_may_judge_the_passages(pipe, folder):
    encoder = multihead.SentenceEncoder.from_pretrained(folder)
    context = f"ann sold bread . {FILLER * 2}\n\nbob sold fish in paris . bob . {'fish fish . ' * 18}"
    scripted(pipe, dict.fromkeys(NAMES, 3.0), lambda words: 0.0)
    asked = {"context": context, "max_answer_len": 1, **SIZES}
    for retriever in (encoder, str(folder)):
        assert pipe(**asked, question=FISH, retriever=retriever, passage_weight=100)["answer"] == "bob"
    both = [pipe(**asked, question=question, retriever=encoder, top_k=3) for question in (FISH, "ann ?") * 2]
    assert both[0] != both[1]  # the passages of a context stay embedded, questions do not
    assert both[:2] == both[2:]


def test_other_models_than_those_over_the_default_encoder_count_words(pipe):
    context = f"ann sold bread . {FILLER * 2}\n\nbob sold fish . {FILLER * 2}"
    scripted(pipe, dict.fromkeys(NAMES, 3.0), lambda words: 0.0)
    asked = {"question": "who sold fish ?", "context": context, "top_k": 2, **SIZES}
    assert pipe(**asked) == pipe(**asked, retriever=None)


def test_no_answer_is_calibrated(pipe):
    scripted(pipe, {"ann": 2.0}, lambda words: 1.0)
    asked = {"question": "who ?", "context": "ann sold bread ."}  # the answer is 2 above no answer
    surely = torch.tensor(2.0).sigmoid().item()
    assert pipe(**asked, no_answer=True)["no_answer"] == pytest.approx(1 - surely)
    unsure = Calibration(temperature=2.0, bias={"no answer": 3.0})
    answer = pipe(**asked, no_answer=True, calibration=unsure)
    likely = torch.tensor(1.0 - 3.0).sigmoid().item()
    assert answer["no_answer"] == pytest.approx(1 - likely)
    assert answer["score"] == pipe(**asked)["score"]
    (notice,) = answer.metadata.notices
    assert "no answer to the question (probability 0.88)" in notice.text
    none, best = pipe(**asked, calibration=unsure, handle_impossible_answer=True, top_k=2)
    assert (none["answer"], best["answer"]) == ("", "ann")
    assert [none["score"], best["score"]] == pytest.approx([1 - likely, likely])
    strict = Calibration(thresholds={"answer": 0.95})
    assert pipe(**asked, calibration=strict, handle_impossible_answer=True)["answer"] == ""
    loose = Calibration(bias={"no answer": 3.0}, thresholds={"answer": 0.1})
    assert pipe(**asked, calibration=loose, handle_impossible_answer=True)["answer"] == "ann"
    assert not pipe(**asked, calibration=loose).metadata.notices


def test_a_calibration_is_read_from_the_models_folder(folder, tmp_path):
    model = multihead.AutoModelForQuestionAnswering.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    multihead.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    Calibration(bias={"no answer": 50.0}).save(tmp_path)
    pipe = multihead.pipeline("question-answering", str(tmp_path))
    asked = {"question": "who ?", "context": "ann sold bread .", "handle_impossible_answer": True}
    assert pipe(**asked)["answer"] == ""
    assert pipe(**asked)["score"] > 0.99
    assert pipe(**asked, calibration=False)["score"] < 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"normalization": "windows"}, 'normalization is "context" or "window"'),
        ({"passage_weight": -1}, "passage_weight is a number from 0"),
        ({"passage_weight": float("nan")}, "passage_weight is a number from 0"),
        ({"retriever": 3}, "retriever is a sentence encoder or its name, not int"),
        ({"calibration": Calibration(bias={"positive": 1.0})}, "has the label 'positive'"),
    ],
)
def test_options_that_mean_nothing_are_refused(pipe, options, said):
    with pytest.raises(InvalidInput, match=said):
        pipe(question="who ?", context="ann sold bread .", **options)


def test_passages_cover_the_text_and_end_with_sentences():
    text = "  One. Two is longer.\n\n" + "A sentence of some length. " * 60 + "\n\n\nThe end"
    spans = split_passages(text, most=300)
    assert [begin for begin, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    assert all(text[a:b].rstrip()[-1] == "." for a, b in spans[:-1])
    assert max(b - a for a, b in spans) <= 302
    assert split_passages("") == []
    assert split_passages(" \n") == []


def test_terms_agree_by_their_beginning_and_in_scripts_without_spaces():
    found = term_coverage("Who discovered oxygen?", ["The discovery of OXYGEN.", "Oxygen burns.", "Nothing."])
    assert found[0] > found[1] > found[2] == 0
    assert term_coverage("誰が酸素を発見した", ["酸素は一七七四年に発見された。", "水は重い。"])[0] > 0
    assert term_coverage("?", ["One.", "Two."]) == [0, 0]


def test_the_best_passages_that_fit_are_chosen_in_their_order():
    text = "Bread is made of flour. Fish is sold in Lyon. Ann sells bread. Bob sells fish in Lyon."
    spans = split_passages(text, most=20)
    assert len(spans) == 4
    assert choose_passages("Who sells fish in Lyon?", text, [5, 5, 5, 5], spans, 11) == [1, 3]
    assert choose_passages("Who sells fish in Lyon?", text, [5, 5, 5, 50], spans, 11) == [3]


def generated(pipe, text):
    """Let the model write this text to every prompt, and keep the prompts."""
    prompts = []

    def forward(inputs, o):
        prompts.extend(pipe.tokenizer.decode(each.ids, skip_special_tokens=True) for each in inputs)
        return [[pipe.tokenizer.encode_ids([text], special=False)[0]] for _ in inputs]

    pipe.forward = forward
    return prompts


@pytest.mark.parametrize("model", ["llama", "marian"])
def test_a_model_that_writes_answers_reads_the_passages_that_fit(request, model):
    pipe = multihead.pipeline("question-answering", request.getfixturevalue(model), prompt="{context} {question}")
    prompts = generated(pipe, "the dog")
    filler = "a cat sat on a mat. " * 40
    context = f"the dog ran. {filler}\n\nred birds eat the dog food. {filler}\n\n{filler}"
    asked = {"question": "what do red birds eat?", "context": context}
    answer = pipe(**asked, context_tokens=300, max_new_tokens=4)
    assert "red birds eat" in prompts[0].casefold()
    assert len(prompts[0]) < len(context)
    assert answer["start"] == context.index("the dog food")
    (notice,) = answer.metadata.notices
    assert "longer than the model reads" in notice.text
    short = pipe(question="who ran?", context="the dog ran.", max_new_tokens=4)
    assert short["start"] == 0
    assert not short.metadata.notices
    with pytest.raises(InvalidInput, match="context_tokens is a whole number from 1"):
        pipe(**asked, context_tokens=0)


def test_true_is_no_number_of_answers(bert, tmp_path):
    pipe = exact("question-answering", written(tmp_path, transformers.BertForQuestionAnswering))
    for name in ("top_k", "max_answer_len"):
        with pytest.raises(InvalidInput, match=f"{name} is a whole number"):
            pipe(question="Who?", context="The fox.", **{name: True})
