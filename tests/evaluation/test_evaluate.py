"""`multihead evaluate` and `multihead.evaluate` on every task, and what they say about bad input."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics
import transformers
from PIL import Image

import multihead
from multihead import pipeline
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedOption
from multihead.evaluation.scorers.registry import SCORERS
from multihead.pipelines.catalog import TASKS
from multihead.training.evaluation import metrics, text_metrics
from tests.cli.test_tools import run
from tests.conftest import written
from tests.evaluation.conftest import TEXTS, lines
from tests.pipelines.conftest import judge, tagger  # noqa: F401  fixtures

SQUAD = {"data": [{"title": "Foxes", "paragraphs": [{"context": "the quick brown fox jumps over the lazy dog", "qas": [
    {"id": "1", "question": "the fox ?", "answers": [{"text": "quick brown fox", "answer_start": 4}]},
    {"id": "2", "question": "a dog ?", "answers": [], "is_impossible": True},
    {"id": "3", "question": "the dog ?", "answers": [{"text": "lazy dog", "answer_start": 35}]},
]}]}]}  # fmt: skip


def test_a_classifier_is_scored_as_scikit_learn_scores_it(pipe, reviews):
    result = multihead.evaluate(pipe, reviews, slices=["source"])
    assert result.metrics["accuracy"] == pytest.approx(9 / 12)
    assert (result.rows, result.scored, result.unanswered, result.wrong) == (12, 12, 0, 3)
    low, high = result.intervals["accuracy"]
    assert low < 0.75 < high
    assert [error.location for error in result.errors] != []
    assert {error.location for error in result.errors} == {f"line {n + 2} of reviews.csv" for n in (1, 5, 8)}
    sure = [error.confidence for error in result.errors]
    assert sure == sorted(sure, reverse=True)
    shop = next(each for each in result.slices if each.value == "shop")
    assert (shop.count, shop.metrics["accuracy"]) == (6, pytest.approx(5 / 6))
    assert sum(each.count for each in result.slices if each.column == "length") == 12
    assert sum(map(sum, result.confusion.counts)) == 12
    assert sum(each.count for each in result.reliability) == 12


def test_rows_that_cannot_be_scored_or_answered_are_counted_and_named(pipe, tmp_path):
    file = lines(tmp_path / "mixed.jsonl", [
        {"text": "the fox", "label": pipe(["the fox"])[0]["label"]}, {"text": "a dog", "label": None},
        {"text": "a dog", "label": float("nan")}, {"text": "", "label": "bad"}, {"text": "fox " * 60, "label": "bad"},
        {"text": 7, "label": "bad"},
    ])  # fmt: skip
    file.write_text(file.read_text() + "{broken\n[1]\n")
    result = multihead.evaluate(pipe, file)
    assert (result.rows, result.scored, result.unanswered) == (8, 2, 1)
    assert result.metrics["accuracy"] == 0.5  # the text that is too long counts as wrong
    assert {each.location.partition(" of ")[0]: each.stage for each in result.failures} == {
        "line 2": "reference", "line 3": "reference", "line 4": "reference", "line 5": "answer", "line 6": "reference",
        "line 7": "file", "line 8": "file",
    }  # fmt: skip
    assert result.confusion.columns[-1] == "(no answer)"
    assert "6 not scored" in result.summary
    assert "1 without an answer" in result.summary


def test_labels_that_are_not_the_models_are_an_error_that_names_both_sets(pipe):
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, ["neg", "pos", "pos"], strict=False)]
    with pytest.raises(InvalidInput, match=r"'neg', 'pos'.*'bad', 'fair', 'good'.*--map neg=bad"):
        multihead.evaluate(pipe, rows)
    mapped = multihead.evaluate(pipe, rows, label_map={"neg": "bad", "pos": "good"})
    assert [label.label for label in mapped.labels if label.support] == ["bad", "good"]
    with pytest.raises(InvalidInput, match="leads to 'best'"):
        multihead.evaluate(pipe, rows, label_map={"neg": "best"})


def test_labels_without_names_of_their_own_and_logits_are_refused(pipe, tmp_path):
    names = {0: "x", 1: "x", 2: "y"}
    twice = pipeline(
        "text-classification", written(tmp_path, transformers.BertForSequenceClassification, id2label=names)
    )
    rows = [{"text": text, "label": "x"} for text in TEXTS]
    with pytest.raises(InvalidInput, match="Two of the labels have the name 'x'"):
        multihead.evaluate(twice, rows)
    with pytest.raises(UnsupportedOption, match="gives logits"):
        multihead.evaluate(pipe, [{"text": text, "label": "bad"} for text in TEXTS], function_to_apply="none")


def test_all_numbers_of_a_regression_are_scored(tmp_path):
    options = {"num_labels": 3, "problem_type": "regression"}
    folder = written(tmp_path, transformers.BertForSequenceClassification, **options)
    pipe = pipeline("text-classification", folder, dtype="float32")
    right = np.random.default_rng(0).normal(size=(6, 3))
    answers = pipe(TEXTS, top_k=None)
    given = np.array([[{r["label"]: r["score"] for r in row}[f"LABEL_{n}"] for n in range(3)] for row in answers])
    rows = [{"text": text, "label": line} for text, line in zip(TEXTS, right.tolist(), strict=True)]
    found = multihead.evaluate(pipe, rows)
    assert found.metrics["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(right, given), abs=1e-6)
    each = [np.corrcoef(right[:, n], given[:, n])[0, 1] for n in range(3)]
    assert found.metrics["pearson"] == pytest.approx(np.mean(each), abs=1e-6)


def test_numbers_are_the_models_order_and_the_note_says_so(pipe):
    result = multihead.evaluate(pipe, [{"text": text, "label": n % 3} for n, text in enumerate(TEXTS)])
    assert any("0 is bad, 1 is fair" in note for note in result.notes)


def test_one_class_only_leaves_auroc_undefined_and_says_so(pipe):
    result = multihead.evaluate(pipe, [{"text": text, "label": "good"} for text in TEXTS])
    assert np.isnan(result.metrics["auroc"])
    assert any("All rows have the label good" in note for note in result.notes)
    assert json.loads(result.to_json())["metrics"]["auroc"] is None


def test_files_without_rows_or_columns_are_refused(pipe, tmp_path):
    (tmp_path / "empty.csv").write_text("text,label\n")
    with pytest.raises(InvalidInput, match=r"no rows to evaluate in empty\.csv"):
        multihead.evaluate(pipe, tmp_path / "empty.csv")
    with pytest.raises(InvalidInput, match="There are no rows"):
        multihead.evaluate(pipe, [])
    with pytest.raises(InvalidInput, match="label_column"):
        multihead.evaluate(pipe, [{"text": "a"}])
    with pytest.raises(InvalidInput, match="There is no column 'txt'"):
        multihead.evaluate(pipe, [{"text": "a", "label": "bad"}], columns={"text": "txt"})
    with pytest.raises(UnsupportedOption, match="no column for 'question'"):
        multihead.evaluate(pipe, [{"text": "a", "label": "bad"}], columns={"question": "text"})
    with pytest.raises(InvalidInput, match="slice by"):
        multihead.evaluate(pipe, [{"text": "a", "label": "bad"}] * 3, slices=["sauce"])
    with pytest.raises(InvalidInput, match="No row of the data can be scored"):
        multihead.evaluate(pipe, [{"text": "", "label": "bad"}])
    with pytest.raises(InvalidInput, match="could answer no row"):
        multihead.evaluate(pipe, [{"text": "fox " * 60, "label": "bad"}])
    with pytest.raises(UnsupportedOption, match="top_n"):
        multihead.evaluate(pipe, [{"text": "a", "label": "bad"}], top_n=2)


def test_two_models_are_compared_on_the_same_rows(pipe, classifier, reviews):
    other = pipeline("text-classification", classifier, dtype="float32")
    with_noise = multihead.AutoModelForSequenceClassification.from_pretrained(classifier)
    for parameter in with_noise.head.parameters():
        parameter.data.neg_()
    worse = pipeline("text-classification", with_noise, other.tokenizer)
    result = multihead.evaluate(pipe, reviews, compare=worse)
    found = {each.name: each for each in result.comparison.differences}
    alone = multihead.evaluate(worse, reviews)
    assert found["accuracy"].second == alone.metrics["accuracy"]
    assert found["accuracy"].value == pytest.approx(0.75 - alone.metrics["accuracy"])
    test = result.comparison.mcnemar
    assert (test.only_first - test.only_second) / 12 == pytest.approx(found["accuracy"].value)
    same = multihead.evaluate(pipe, reviews, compare=other).comparison
    assert all(each.value == 0 and each.p == 1 for each in same.differences)
    assert same.changed == []


def test_the_report_is_a_page_of_its_own_without_scripts(pipe, tmp_path):
    name = "<script>"
    rows = [{"text": f"the fox {name}", "label": label, "part": name} for label in ("bad", "fair", "good")]
    page = tmp_path / "r.html"
    multihead.evaluate(pipe, rows, slices=["part"]).to_html(page)
    html = page.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=", html)
    assert html.count("<section>") == html.count("</section>") >= 5


def test_the_command_prints_and_writes_reports(classifier, reviews, tmp_path):
    html, data, picture = (tmp_path / f"r.{ending}" for ending in ("html", "json", "png"))
    out = run("evaluate", "sentiment-analysis", reviews, "-m", classifier, "--output", html, "--output", data,
              "--output", picture, "--slice", "source", "--worst", 2, "--precision", "fp32").output  # fmt: skip
    for said in ("accuracy", "0.750", "12 rows", "Slices by source", "Worst errors (2 of 3"):
        assert said in out
    assert json.loads(data.read_text())["metrics"]["accuracy"] == 0.75
    assert html.read_text().startswith("<!doctype html>")
    with Image.open(picture) as image:
        assert image.size[0] > 1000


def test_the_command_refuses_what_it_cannot_do(classifier, reviews, tmp_path):
    words = ("evaluate", "sentiment-analysis")
    with pytest.raises(ModelNotFound, match="no file"):
        run(*words, tmp_path / "none.csv", "-m", classifier)
    with pytest.raises(InvalidInput, match=r"must end in \.html"):
        run(*words, reviews, "-m", classifier, "--output", tmp_path / "r.doc")
    with pytest.raises(InvalidInput, match="--map takes two names"):
        run(*words, reviews, "-m", classifier, "--map", "neg")
    with pytest.raises(UnsupportedOption, match="no right answers"):
        run("evaluate", "feature-extraction", reviews)
    with pytest.raises(UnsupportedOption, match="not known"):
        run("evaluate", "sentimental-analysis", reviews)


def test_every_task_with_right_answers_has_a_scorer():
    assert set(TASKS) - set(SCORERS) == {"feature-extraction"}


def test_questions_are_scored_as_squad_scores_them(reader, tmp_path):
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(SQUAD))
    pipe = pipeline("question-answering", reader, dtype="float32")
    result = multihead.evaluate(pipe, file, group=None)
    questions = SQUAD["data"][0]["paragraphs"][0]["qas"]
    context = SQUAD["data"][0]["paragraphs"][0]["context"]
    given = [
        pipe({"question": q["question"], "context": context}, handle_impossible_answer=True)["answer"]
        for q in questions
    ]
    expected = text_metrics.question_answering(given, [[a["text"] for a in q["answers"]] for q in questions])
    assert {name: result.metrics[name] for name in expected} == pytest.approx(expected)
    assert {"ece", "no_answer_auroc"} <= set(result.metrics)


def test_groups_must_differ(reader, tmp_path):
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(SQUAD))
    pipe = pipeline("question-answering", reader, dtype="float32")
    with pytest.raises(InvalidInput, match="one title"):
        multihead.evaluate(pipe, file, group="title")


def test_tags_are_scored_as_training_scores_them(tagger):  # noqa: F811
    pipe = pipeline("token-classification", tagger, dtype="float32")
    rows = [{"tokens": text.split(), "ner_tags": ["B-PER", *["O"] * (len(text.split()) - 1)]} for text in TEXTS]
    result = multihead.evaluate(pipe, rows)
    given = []
    for row in rows:
        tokens = pipe(row["tokens"], is_split_into_words=True, ignore_labels=[])
        begins = [sum(len(w) + 1 for w in row["tokens"][:n]) for n in range(len(row["tokens"]))]
        given.append([next(t["entity"] for t in tokens if t["start"] == begin) for begin in begins])
    expected = metrics.token_classification(given, [row["ner_tags"] for row in rows])
    assert {name: result.metrics[name] for name in expected} == pytest.approx(expected)
    with pytest.raises(InvalidInput, match=r"'B-DOG'.*'B-PER'"):
        multihead.evaluate(pipe, [{"tokens": ["fox"], "ner_tags": ["B-DOG"]}])


def test_zero_shot_takes_the_labels_of_the_rows(judge):  # noqa: F811
    pipe = pipeline("zero-shot-classification", judge, dtype="float32", hypothesis_template="the {}")
    rows = [{"text": text, "label": "fox" if "fox" in text else "dog"} for text in TEXTS]
    result = multihead.evaluate(pipe, rows)
    assert result.confusion.labels == ("dog", "fox")
    right = [pipe(row["text"], ["dog", "fox"])["labels"][0] == row["label"] for row in rows]
    assert result.metrics["accuracy"] == pytest.approx(np.mean(right))
    with pytest.raises(InvalidInput, match="chooses among labels"):
        multihead.evaluate(pipe, rows[:1])


def test_decisions_are_scored_by_question(judge):  # noqa: F811
    pipe = pipeline("decision", judge, dtype="float32", truncation=True)
    choice = {"type": "choice", "instructions": "is", "choices": [{"value": "fox"}, {"value": "dog"}]}
    score = {"type": "score", "instructions": "is", "levels": [{"label": "slow"}, {"label": "quick"}]}
    rows = [{"input": text, "questions": json.dumps([choice]), "answers": "fox"} for text in TEXTS]
    result = multihead.evaluate(pipe, rows)
    given = [pipe({"input": text, "questions": [choice]})["answers"][0]["choice"] for text in TEXTS]
    assert result.metrics["accuracy"] == pytest.approx(np.mean([answer == "fox" for answer in given]))
    assert "ece" in result.metrics
    questions = [choice, score, {"type": "predicate", "instructions": "fox"}]
    given = pipe({"input": TEXTS[0], "questions": questions})["answers"]
    right = [given[0]["choice"], "quick" if given[1]["score"] > 0.5 else "slow", given[2]["probability"] <= 0.5]
    result = multihead.evaluate(pipe, [{"input": TEXTS[0], "questions": questions, "answers": right}])
    assert result.metrics == {"accuracy": pytest.approx(2 / 3)}
    for wrong, message in ((["fox"], "3 questions and 1 answers"), (["cat", 0, True], "'cat', which is no option")):
        with pytest.raises(InvalidInput, match=message):
            multihead.evaluate(pipe, [{"input": TEXTS[0], "questions": questions, "answers": wrong}])


def test_generated_texts_are_scored_against_their_references(marian):
    pipe = pipeline("translation", marian, dtype="float32", max_new_tokens=4)
    result = multihead.evaluate(pipe, [{"source": text, "target": [f"{text} pt", text]} for text in TEXTS])
    given = [answer["translation_text"] for answer in pipe(TEXTS)]
    expected = text_metrics.translation(given, [[f"{text} pt", text] for text in TEXTS])
    assert [result.full_scale(name) for name in expected] == [100.0, 100.0]
    assert {name: result.metrics[name] for name in expected} == pytest.approx(expected)


def test_perplexity_is_that_of_the_reference(llama):
    import torch
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    nats, tokens = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            nats += float(theirs(ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    pipe = pipeline("text-generation", llama, dtype="float32", max_new_tokens=3)
    result = multihead.evaluate(pipe, [{"text": text} for text in TEXTS])
    assert result.metrics["perplexity"] == pytest.approx(np.exp(nats / tokens), rel=1e-4)
    size = sum(len(text.encode()) for text in TEXTS)
    assert result.metrics["bits_per_byte"] == pytest.approx(nats / np.log(2) / size, rel=1e-4)


def test_long_texts_and_completions_are_scored_once_each_token(llama):
    pipe = pipeline("text-generation", llama, dtype="float32", max_new_tokens=3)
    from multihead.evaluation.scorers.language import likelihood

    long = " ".join(TEXTS * 4)
    found = likelihood(pipe, long)
    assert found.tokens == len(pipe.tokenizer.encode_ids([long])[0]) - 1 > 64  # several windows of 64 positions
    whole, prompt = likelihood(pipe, "the fox jumps over"), likelihood(pipe, "the fox")
    rest = likelihood(pipe, "the fox", " jumps over")
    assert rest.tokens == whole.tokens - prompt.tokens
    assert rest.nats == pytest.approx(whole.nats - prompt.nats, rel=1e-4)
    result = multihead.evaluate(pipe, [{"prompt": "the fox", "completion": " jumps over"}])
    assert result.metrics["perplexity"] == pytest.approx(np.exp(rest.nats / rest.tokens), rel=1e-4)
    written = multihead.evaluate(pipe, [{"prompt": "the fox"}], max_new_tokens=12)
    assert set(written.metrics) == {"repetition_4", "words"}


def test_empty_lines_of_a_text_file_are_no_rows(llama, tmp_path):
    (tmp_path / "prose.txt").write_text("\n\n".join(TEXTS) + "\n")
    out = run("evaluate", "text-generation", tmp_path / "prose.txt", "-m", llama, "--precision", "fp32", "--set",
              "max_new_tokens=3").output  # fmt: skip
    assert f"{len(TEXTS)} rows" in out
    assert "not scored" not in out


def test_masks_are_scored_by_the_rank_of_the_right_word(bert):
    pipe = pipeline("fill-mask", bert, dtype="float32")
    text = f"the {pipe.mask[0]} jumps"
    words = [row["token_str"] for row in pipe(text, top_k=3)]
    rows = [{"text": text, "target": words[0]}, {"text": text, "target": words[2]}, {"text": text, "target": "zebra"}]
    result = multihead.evaluate(pipe, rows)
    assert result.metrics["accuracy"] == pytest.approx(1 / 3)
    assert result.metrics["accuracy@5"] == pytest.approx(2 / 3)
    assert result.metrics["mrr@10"] == pytest.approx((1 + 1 / 3) / 3)
    assert multihead.evaluate(pipe, [{"text": text} for text in TEXTS]).metrics["pseudo_perplexity"] > 1


def test_similarities_and_rankings_are_scored(bert):
    pipe = pipeline("sentence-similarity", bert, dtype="float32")
    rows = [{"sentence1": a, "sentence2": b, "score": n / 5} for n, (a, b) in enumerate(pairwise(TEXTS))]
    result = multihead.evaluate(pipe, rows)
    cosines = [answer[0] for answer in pipe([{"source_sentence": r["sentence1"], "sentences": [r["sentence2"]]}
                                             for r in rows])]  # fmt: skip
    assert result.metrics["pearson"] == pytest.approx(np.corrcoef(cosines, [r["score"] for r in rows])[0, 1], abs=1e-5)
    ranker = pipeline("text-ranking", bert, dtype="float32")
    queries = [{"query": text, "documents": TEXTS, "relevant": [n]} for n, text in enumerate(TEXTS)]
    ranked = multihead.evaluate(ranker, queries)
    ranks = []
    for number, answer in enumerate(ranker([{"query": text, "documents": TEXTS} for text in TEXTS])):
        scores = {row["corpus_id"]: row["score"] for row in answer}
        ranks.append(1 + sum(score >= scores[number] for other, score in scores.items() if other != number))
    assert ranked.metrics["accuracy@1"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert ranked.metrics["mrr@10"] == pytest.approx(np.mean(1 / np.array(ranks)))
    assert ranked.metrics["ndcg@10"] == pytest.approx(np.mean(1 / np.log2(np.array(ranks) + 1)))
    assert ranked.metrics["recall@10"] == 1
    with pytest.raises(InvalidInput, match="numbers of documents from 0 to 5"):
        multihead.evaluate(ranker, [{"query": "a", "documents": TEXTS, "relevant": [9]}])
