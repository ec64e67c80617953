"""Questions about a paragraph, a whole article, and texts that hold no answer: XQuAD in English, SQuAD, and SubjQA.

XQuAD has five paragraphs of each of the 48 articles of SQuAD's development set. answers-minilm was trained on articles
13 to 47 of XQuAD as SQuAD has them, and settings were chosen on articles 8 to 12. Articles 0 to 7, which are measured
here, and SubjQA had no part in any choice. (SmolLM2 may have read them all: SQuAD is on the web.)

A question without an answer is asked of its article without the paragraph that answers it, and of the next
article; one with an answer, of its article without another paragraph, so that both read texts of one length.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from multihead import AutoModelForQuestionAnswering, AutoTokenizer, pipeline
from multihead.pipelines.answers import WithNotices
from multihead.pipelines.defaults import ANSWERS, SMOLLM2
from multihead.pipelines.splitting import split_sentences
from multihead.training.evaluation import text_metrics

from .reference import generated, smollm2
from .report import Report, Score, auroc, mean

TASK, HELD_OUT, JOINT = "question-answering", 8, "\n\n"
PROMPTED = 100  # rows of a set that the language model answers
SUBJQA_ROWS = 300
NO_ANSWER = "ANSWERNOTFOUND"


class Case(NamedTuple):
    """A question about an article.

    Args:
        paragraph, article: texts with the answer. kept, without: the article without one paragraph: not the answer's,
            and the answer's. other_paragraph, other_article: texts about something else.
    """

    question: str
    answers: list[str]
    paragraph: str
    article: str
    kept: str
    without: str
    same_paragraph: str
    other_paragraph: str
    other_article: str


def cases(articles: Sequence[Any]) -> list[Case]:
    """Return all questions about some articles."""
    found = []
    for number, article in enumerate(articles):
        texts = [p["context"] for p in article["paragraphs"]]
        others = [p["context"] for p in articles[(number + 1) % len(articles)]["paragraphs"]]
        for n, paragraph in enumerate(article["paragraphs"]):
            neighbour = (n + 1) % len(texts)
            for qa in paragraph["qas"]:
                golds = [answer["text"] for answer in qa["answers"]]
                found.append(Case(
                    qa["question"], golds, texts[n], JOINT.join(texts),
                    JOINT.join(text for m, text in enumerate(texts) if m != neighbour),
                    JOINT.join(text for m, text in enumerate(texts) if m != n),
                    texts[neighbour], others[n % len(others)], JOINT.join(others),
                ))  # fmt: skip
    return found


def squad_scores(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, Score]:
    """Return exact match and F1 by SQuAD's rules (Rajpurkar et al., 2016)."""
    rows = [text_metrics.question_answering([a], [list(golds)]) for a, golds in zip(found, wanted, strict=True)]
    return {name: mean([row[name] for row in rows], scale=1) for name in ("exact_match", "f1")}


class Readers:
    """Ways of one model to answer, each a function of questions and contexts."""

    def __init__(self) -> None:
        self.pipe: Any = pipeline("question-answering", ANSWERS.name)
        self.ways: dict[str, dict[str, Any]] = {
            "answers-minilm, each window alone": {"normalization": "window"},
            "answers-minilm, no passages": {"passage_weight": 0},
            "answers-minilm, shared words": {"retriever": None},
            "answers-minilm": {},
        }

        self.outputs: dict[Any, list[Any]] = {}

    def __call__(self, way: str, questions: Sequence[str], contexts: Sequence[str]) -> list[Any]:
        """Return the answers of one way. The model reads a set of questions once for all ways."""
        o, key = self.pipe.resolve_options(no_answer=True, **self.ways[way]), (*questions, *contexts)
        items = list(zip(questions, contexts, strict=True))
        if key not in self.outputs:
            inputs = self.pipe.preprocess(items, o)
            outputs = iter(self.pipe.forward([each for own in inputs for each in own], o))
            self.outputs[key] = [(own, [next(outputs) for _ in own]) for own in inputs]
        rows = zip(items, self.outputs[key], strict=True)
        answers = [self.pipe.postprocess(item, inputs, outputs, o) for item, (inputs, outputs) in rows]
        return [answer.answer if isinstance(answer, WithNotices) else answer for answer in answers]


def measure(report: Report) -> None:
    articles = json.loads((report.data / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    rows, readers = report.sample(cases(articles[:HELD_OUT])), Readers()
    measure_answers(report, "XQuAD en, paragraph", rows, lambda row: row.paragraph, readers)
    measure_answers(report, "XQuAD en, article", rows, lambda row: row.article, readers)
    measure_no_answer(report, "no answer in the article", rows, lambda row: (row.kept, row.without), readers)
    measure_no_answer(report, "no answer, other article", rows, lambda row: (row.article, row.other_article), readers)
    measure_no_answer(report, "no answer in the paragraph", rows, lambda r: (r.paragraph, r.same_paragraph), readers)
    measure_no_answer(report, "no answer, other paragraph", rows, lambda r: (r.paragraph, r.other_paragraph), readers)
    measure_squad(report, {qa["id"] for a in articles[:HELD_OUT] for p in a["paragraphs"] for qa in p["qas"]}, readers)
    measure_subjqa(report, readers)


def measure_answers(
    report: Report, data: str, rows: Sequence[Case], text: Callable[[Case], str], readers: Readers
) -> None:
    """Measure answers to questions about texts that hold them."""
    texts, wanted = [text(row) for row in rows], [row.answers for row in rows]
    items = [{"question": row.question, "context": each} for row, each in zip(rows, texts, strict=True)]

    def add(system: str, found: Sequence[str]) -> None:
        report.add(TASK, data, system, len(found), squad_scores(found, wanted[: len(found)]))

    add("first sentence", [each[slice(*split_sentences(each)[0])] for each in texts])
    pipe: Any = pipeline("question-answering", SMOLLM2.name, dtype="float32")
    found = [answer["answer"] for answer in pipe(items[:PROMPTED])]
    add("SmolLM2-135M, prompt", found)
    if "article" in data:
        few = pipe(items[:PROMPTED], context_tokens=256)
        add("SmolLM2-135M, prompt, context_tokens=256", [answer["answer"] for answer in few])
    if part := min(report.reference, PROMPTED):
        add("SmolLM2-135M, reference", [answer["answer"] for answer in generated(smollm2(), pipe, items[:part])])
        add("the same, ours on those rows", found[:part])
        add("answers-minilm, reference", read_by_reference(items[:part]))
    questions = [row.question for row in rows]
    for way in readers.ways:
        add(way, [answer["answer"] for answer in readers(way, questions, texts)])


def measure_no_answer(
    report: Report, data: str, rows: Sequence[Case], texts: Callable[[Case], tuple[str, str]], readers: Readers
) -> None:
    """Measure how well questions with an answer are told from those without: by the score, and by `no_answer`."""
    sides = list(zip(*(texts(row) for row in rows), strict=True))
    questions = [row.question for row in rows]
    for way in readers.ways:
        answers = [answer for side in sides for answer in readers(way, questions, side)]
        marks = [number >= len(rows) for number in range(2 * len(rows))]
        report.add(TASK, data, way, len(marks), no_answer_scores(answers, marks))


def no_answer_scores(answers: Sequence[Any], marks: Sequence[bool]) -> dict[str, Score]:
    """Return the AUROC of the score and of `no_answer`, and the accuracy of `no_answer` above one half."""
    none = [answer["no_answer"] for answer in answers]
    right = [(value > 0.5) == mark for value, mark in zip(none, marks, strict=True)]
    return {
        "auroc_score": auroc([-answer["score"] for answer in answers], marks), "auroc": auroc(none, marks),
        "accuracy": mean(right),
    }  # fmt: skip


def measure_squad(report: Report, known: set[str], readers: Readers) -> None:
    """Measure all questions of SQuAD about the held-out articles, which questions of XQuAD (`known`) point to."""
    path = report.data / "squad" / "dev-v1.1.json"
    if not path.exists():
        return
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    held = [a for a in articles if any(qa["id"] in known for p in a["paragraphs"] for qa in p["qas"])]
    rows = report.sample((qa, p["context"]) for a in held for p in a["paragraphs"] for qa in p["qas"])
    answers = readers("answers-minilm", [qa["question"] for qa, _ in rows], [context for _, context in rows])
    wanted = [[answer["text"] for answer in qa["answers"]] for qa, _ in rows]
    scores = squad_scores([answer["answer"] for answer in answers], wanted)
    report.add(TASK, "SQuAD 1.1 dev, the same articles", "answers-minilm", len(rows), scores)


def measure_subjqa(report: Report, readers: Readers) -> None:
    """Measure opinions in product reviews (Bjerva et al., 2020), a domain far from Wikipedia."""
    rows = []
    for path in sorted((report.data / "subjqa").glob("*.dev.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    rows = report.sample(rows)[:SUBJQA_ROWS]
    questions = [row["question"] for row in rows]
    texts = [row["review"].removesuffix(NO_ANSWER).rstrip() for row in rows]
    marks = [row["human_ans_spans"] == NO_ANSWER for row in rows]
    wanted = [[row["human_ans_spans"].removesuffix(NO_ANSWER).rstrip()] for row in rows]
    known = [number for number, mark in enumerate(marks) if not mark]
    for way in readers.ways:
        answers = readers(way, questions, texts)
        scores = squad_scores([answers[n]["answer"] for n in known], [wanted[n] for n in known])
        report.add(TASK, "SubjQA dev", way, len(rows), {**scores, **no_answer_scores(answers, marks)})


@cache
def reference_reader() -> tuple[Any, Any]:
    """Return our pipeline and the reference's model of the same weights: the adapter merged into its base."""
    import transformers

    model: Any = AutoModelForQuestionAnswering.from_pretrained(ANSWERS.name, dtype="float32")
    model.merge_adapters()
    folder = tempfile.mkdtemp()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(ANSWERS.name).save_pretrained(folder)
    ours = pipeline("question-answering", folder, dtype="float32")
    return ours, transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()


def read_by_reference(items: Sequence[Any]) -> list[str]:
    """Return the answers by the logits of the reference's model and its rule: each window has scores of its own."""
    import torch

    pipe, model = reference_reader()
    o, found = pipe.resolve_options(normalization="window", calibration=False), []
    for item in items:
        pair = pipe.validate(item, o)
        inputs, outputs = pipe.preprocess([pair], o)[0], []
        for each in inputs:
            types = torch.tensor([list(each.token_types or [0] * len(each.ids))])
            with torch.no_grad():
                logits = model(torch.tensor([list(each.ids)]), token_type_ids=types)
            outputs.append(torch.stack([logits.start_logits[0], logits.end_logits[0]], -1))
        found.append(pipe.postprocess(pair, inputs, outputs, o)["answer"])
    return found
