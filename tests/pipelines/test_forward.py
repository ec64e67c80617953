"""Pipelines of one forward pass: the reference's labels, scores, offsets and shapes, for every option."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from multihead.errors import InvalidInput, TextTooLong, UnsupportedConfig, UnsupportedOption

from .conftest import both, exact, same

TEXTS = ["The fox jumps.", "A dog", "The quick brown fox jumps over the lazy dog.", "dog"]
PAIR = {"text": "The fox jumps.", "text_pair": "A dog"}
LONG = "the dog and the fox " * 20


@pytest.mark.parametrize("kind", [None, "multi_label_classification", "regression", "single_label_classification"])
@pytest.mark.parametrize(
    "options", [{}, {"top_k": None}, {"top_k": 2}, {"top_k": 1}, {"function_to_apply": "none"},
                {"function_to_apply": "sigmoid", "top_k": None}, {"function_to_apply": "softmax"}], ids=str,
)  # fmt: skip
def test_classification(classifier, kind, options):
    more = {} if kind is None else {"problem_type": kind}
    ours, theirs = exact("text-classification", classifier, **more), both("text-classification", classifier)[1]
    theirs.model.config.problem_type = kind
    for inputs in (TEXTS, TEXTS[0], TEXTS[:1], PAIR, [PAIR, PAIR]):
        same(ours(inputs, **options), theirs(inputs, **options))


def test_a_pipeline_may_be_made_with_options_of_its_calls(classifier):
    ours, theirs = both("text-classification", classifier, top_k=2)
    same(ours(TEXTS), theirs(TEXTS))
    same(ours(TEXTS, top_k=3), theirs(TEXTS, top_k=3))
    with pytest.raises(UnsupportedOption, match="top_k"):
        ours(TEXTS, topk=2)
    for wrong in ({"top_k": 0}, {"function_to_apply": "tanh"}, {"batch_size": 0}, {"token_budget": -1}):
        with pytest.raises((InvalidInput, UnsupportedOption)):
            ours(TEXTS, **wrong)
    with pytest.raises(InvalidInput, match="text_pair"):
        ours([["a", "b"]])


@pytest.mark.parametrize(
    "options",
    [{}, {"multi_label": True}, {"hypothesis_template": "It says {}!"}, {"multi_label": True, "candidate_labels": "a"}],
    ids=str,
)
def test_zero_shot(judge, options):
    ours, theirs = both("zero-shot-classification", judge)
    theirs.tokenizer.model_max_length = 24  # the reference cuts there, we at what the model has learned
    for inputs in (TEXTS[0], TEXTS[:3], TEXTS[:1], LONG):
        asked = {"candidate_labels": ["dog", "fox", "the lazy dog"], **options}
        same(ours(inputs, **asked), theirs(inputs, **asked))
    same(ours(TEXTS[0], "dog, fox"), theirs(TEXTS[0], "dog, fox"))


@pytest.mark.parametrize("template", ["{} {}", "{x} {}", "{", "{.name}", "{{}}", "no place", 7], ids=str)
def test_a_template_without_one_place_for_the_label_is_refused(judge, template):
    with pytest.raises(InvalidInput, match="hypothesis_template"):
        exact("zero-shot-classification", judge)("A dog", ["fox"], hypothesis_template=template)


def test_zero_shot_says_what_it_lacks(judge, classifier):
    pipe = exact("zero-shot-classification", judge)
    with pytest.raises(InvalidInput, match="candidate_labels"):
        pipe(TEXTS[0])
    with pytest.raises(InvalidInput, match="hypothesis_template"):
        pipe(TEXTS[0], ["a"], hypothesis_template="no place")
    with pytest.raises(UnsupportedConfig, match="entail"):
        exact("zero-shot-classification", classifier)(TEXTS[0], ["a", "b"])


STRATEGIES = ["none", "simple", "first", "average", "max"]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind at all.",
    "Schöne Grüße aus München: die Straße!",
    "",
]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", ["tagger", "byte_tagger"])
def test_entities(request, kind, strategy):
    ours, theirs = both("token-classification", request.getfixturevalue(kind), aggregation_strategy=strategy)
    texts = [text[:40] for text in SENTENCES]
    for inputs in (texts[0], texts, texts[:1]):
        same(ours(inputs), theirs(inputs))
    same(ours(texts, ignore_labels=[]), theirs(texts, ignore_labels=[]))
    same(ours(texts, ignore_labels=["O", "PER", "B-PER"]), theirs(texts, ignore_labels=["O", "PER", "B-PER"]))
    for entity in ours(texts[1]):
        assert 0 <= entity["start"] <= entity["end"] <= len(texts[1])


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("kind", ["tagger", "byte_tagger"])
def test_entities_of_texts_longer_than_the_model(request, kind, strategy):
    ours, theirs = both("ner", request.getfixturevalue(kind), aggregation_strategy=strategy)
    for pipe in (ours, theirs):
        pipe.tokenizer.model_max_length = 20
    text = " ".join(SENTENCES[:2]) * 3
    for stride in (0, 4, 9):
        same(ours(text, stride=stride), theirs(text, stride=stride))
    with pytest.raises(InvalidInput, match="stride"):
        ours(text, stride=18)


@pytest.mark.parametrize("strategy", ["none", "simple", "max"])
def test_entities_of_words(tagger, strategy):
    ours, theirs = both("ner", tagger, aggregation_strategy=strategy)
    words = SENTENCES[1].split()
    for more in ({}, {"delimiter": ""}):
        options = {"is_split_into_words": True, **more}
        same([ours(words, **options)], theirs(words, **options))
        same(ours([words, words[:2]], **options), theirs([words, words[:2]], **options))
    with pytest.raises(InvalidInput, match="list of words"):
        ours([words, 7], is_split_into_words=True)


def test_texts_are_cut_on_the_tokenizers_side(classifier, judge, tagger):
    text = "The fox jumps. " + "a dog and the quick brown fox " * 20
    for task, folder, options in (
        ("text-classification", classifier, {"truncation": True}),
        ("zero-shot-classification", judge, {"candidate_labels": ["fox", "dog"]}),
        ("ner", tagger, {"stride": 4, "aggregation_strategy": "simple"}),
    ):
        ours, theirs = exact(task, folder), both(task, folder, **(options if task == "ner" else {}))[1]
        answers = {}
        for side in ("right", "left"):
            for pipe in (ours, theirs):
                pipe.tokenizer.truncation_side, pipe.tokenizer.model_max_length = side, 24
            answers[side] = ours(text, **options)
            same(answers[side], theirs(text) if task == "ner" else theirs(text, **options))
        assert answers["left"] != answers["right"]
    assert exact("ner", tagger)(text, truncation=True)[-1]["end"] < len(text) // 2
    cut = exact("ner", tagger)
    cut.tokenizer.truncation_side = "left"
    assert cut(text, truncation=True)[-1]["end"] > len(text) // 2


def test_pipelines_are_pickled_and_copied(classifier, tagger):
    for task, folder in (("text-classification", classifier), ("ner", tagger)):
        for pipe in (exact(task, folder), exact(task, folder, precision="int8", dtype=None)):
            for again in (pickle.loads(pickle.dumps(pipe)), copy.deepcopy(pipe)):
                assert again(TEXTS) == pipe(TEXTS)


def test_tagging_refuses_what_it_cannot_do(tagger):
    pipe = exact("ner", tagger)
    with pytest.raises(UnsupportedOption, match="aggregation_strategy"):
        pipe(TEXTS, aggregation_strategy="median")
    with pytest.raises(InvalidInput, match="aggregation_strategy"):
        pipe(LONG, stride=2)
    with pytest.raises(TextTooLong, match="Input 0 has 122 tokens"):
        pipe(LONG)
    cut = pipe(LONG, truncation=True, ignore_labels=[])
    assert [token["index"] for token in cut] == list(range(1, 23))


@pytest.mark.parametrize("kind", ["bert", "masked_roberta"])
def test_masks_are_filled(request, kind):
    ours, theirs = both("fill-mask", request.getfixturevalue(kind))
    mask = theirs.tokenizer.mask_token
    texts = [f"The {mask} jumps.", f"The quick brown fox jumps over the lazy {mask}.", f"{mask} dog"]
    for inputs in (texts[0], texts, texts[:1]):
        for options in ({}, {"top_k": 2}, {"targets": ["dog", "fox", "the"]}, {"targets": "dog"},
                        {"targets": ["dog", "fox"], "top_k": 1}):  # fmt: skip
            same(ours(inputs, **options), theirs(inputs, **options))
    same(ours(f"The {mask} and the {mask} jump"), theirs(f"The {mask} and the {mask} jump"))
    with pytest.raises(InvalidInput, match="Input 1 has no mask"):
        ours([texts[0], "no mask here"])
    with pytest.raises(InvalidInput, match="targets"):
        ours(texts[0], targets=[""])


def test_features(bert):
    ours, theirs = both("feature-extraction", bert)
    same(ours(TEXTS), theirs(TEXTS))
    same(ours(TEXTS[0]), theirs(TEXTS[0]))
    single = ours(TEXTS[0], return_tensors=True)
    torch.testing.assert_close(single, theirs(TEXTS[0], return_tensors=True), rtol=1e-4, atol=1e-5)
    assert len(ours(LONG, tokenize_kwargs={"truncation": True})[0]) == 24


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
def test_a_text_too_long_is_said_and_cut_only_when_asked(classifier, task):
    pipe = exact(task, classifier)
    with pytest.raises(TextTooLong, match="Input 1 has 122 tokens"):
        pipe(["fine", LONG])
    answers = pipe(["fine", LONG], truncation=True)
    assert len(answers) == 2
    if task == "feature-extraction":
        assert len(answers[1][0]) == 24
