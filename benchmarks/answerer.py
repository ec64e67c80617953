"""The shipped answerer, multihead:answers-minilm: LoRA over MiniLM, and a calibration of "no answer".

XQuAD's 48 articles are those of SQuAD's development set, with five paragraphs of each. The answerer learns from all
paragraphs of 35 articles: the questions of SQuAD 1.1 (Rajpurkar et al., 2016, arXiv:1606.05250), and those of SQuAD 2.0
that have no answer (2018, arXiv:1806.03822). Articles 8 to 12 of XQuAD are for choices; nothing sees the first eight.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELD_OUT, DEV = 8, 5  # articles of XQuAD: the first 8 are for reports alone, the next 5 for choices
ROOM = 1200  # characters of a context: one window
LONG = 0.15  # part of the questions that are asked among more paragraphs
NONE, OTHER = 0.12, 0.3  # part that is also asked of a paragraph without the answer; of those, of another article's
HARD = 0.12  # part of the questions without an answer, written for their paragraph, that a pass asks


def read_articles(data: Path, name: str) -> list[Any]:
    """Return the articles of a file in SQuAD's format."""
    articles: list[Any] = json.loads((data / name).read_text(encoding="utf-8"))["data"]
    return articles


def question_ids(articles: Sequence[Any]) -> set[str]:
    """Return the ids of all questions about some articles."""
    return {asked["id"] for article in articles for paragraph in article["paragraphs"] for asked in paragraph["qas"]}


def training_articles(data: Path) -> list[Any]:
    """Return SQuAD's articles that are not among the first of XQuAD, with the questions that have no answer."""
    away = question_ids(read_articles(data, "xquad/xquad.en.json")[: HELD_OUT + DEV])
    articles = [each for each in read_articles(data, "squad/dev-v1.1.json") if not away & question_ids([each])]
    known = {paragraph["context"]: paragraph for article in articles for paragraph in article["paragraphs"]}
    for article in read_articles(data, "squad/dev-v2.0.json"):
        for paragraph in article["paragraphs"]:
            if paragraph["context"] in known:
                none = [asked for asked in paragraph["qas"] if asked["is_impossible"]]
                known[paragraph["context"]]["qas"] += [{**asked, "answers": []} for asked in none]
    return articles


def contexts(articles: Sequence[Any], draw: random.Random) -> list[dict[str, Any]]:
    """Return the rows of one pass: each question that has an answer with a context that holds it, and others without.

    A context is the paragraph, for LONG of the questions among other paragraphs of its article up to ROOM characters.
    """
    rows = []
    for article in articles:
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        for number, paragraph in enumerate(article["paragraphs"]):
            others = texts[:number] + texts[number + 1 :]
            for asked in paragraph["qas"]:
                if not asked["answers"]:
                    if draw.random() < HARD:
                        rows.append(row(asked, texts[number]))
                    continue
                before, after = surroundings(texts[number], others, draw) if draw.random() < LONG else ("", "")
                rows.append(row(asked, texts[number], before, after))
                if draw.random() < NONE:
                    other = draw.choice([a for a in articles if a is not article])["paragraphs"]
                    context = draw.choice(other)["context"] if draw.random() < OTHER else draw.choice(others)
                    rows.append(row({**asked, "answers": []}, context))
    return rows


def row(asked: Any, text: str, before: str = "", after: str = "") -> dict[str, Any]:
    """Return a row of training: a question, its context, and the answer that most annotators gave."""
    answers: dict[str, Any] = {"text": [], "answer_start": []}
    if asked["answers"]:
        usual = Counter(answer["text"] for answer in asked["answers"]).most_common(1)[0][0]
        start = next(answer["answer_start"] for answer in asked["answers"] if answer["text"] == usual)
        answers = {"text": [usual], "answer_start": [len(before) + start]}
    return {"question": asked["question"], "context": before + text + after, "answers": answers}


def surroundings(text: str, others: Sequence[str], draw: random.Random) -> tuple[str, str]:
    """Draw the text before and after a paragraph: other paragraphs that fit, in any order."""
    before = after = ""
    room, others = ROOM - len(text), list(others)
    draw.shuffle(others)
    for other in others:
        if len(other) > room:
            continue
        room -= len(other)
        if draw.random() < 0.5:
            before += other + "\n\n"
        else:
            after += "\n\n" + other
    return before, after


def answers(
    data: Path, output: str = "", passes: int = 2, steps: int = 520, rank: int = 24, rate: float = 8e-4
) -> dict[str, Any]:
    """Train and calibrate the answerer. The calibration of "no answer" is fitted on the five articles of DEV.

    Args:
        passes: rows of so many passes are mixed. steps: batches of 16 of them that are read; -1 for all.
    """
    from multihead import LoraConfig, Trainer, TrainingArguments
    from multihead.pipelines.defaults import MINILM

    draw, articles = random.Random(0), training_articles(data)
    rows = [each for _ in range(passes) for each in contexts(articles, draw)]
    place = output or tempfile.mkdtemp()
    trainer = Trainer(
        MINILM.name, TrainingArguments(
            place, num_train_epochs=1, max_steps=steps, per_device_train_batch_size=16, learning_rate=rate,
            warmup_ratio=0.08, weight_decay=0.01, bf16=True, save_strategy="no", logging_steps=50,
        ), train_dataset=rows, task="question-answering",
        peft_config=LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear"),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(place)
    dev = read_articles(data, "xquad/xquad.en.json")[HELD_OUT : HELD_OUT + DEV]
    return {"rows": len(rows), "log": trainer.state.log_history, **calibrated(place, dev)}


def calibrated(place: str, articles: Sequence[Any]) -> dict[str, Any]:
    """Fit the calibration of "no answer" on paragraphs and articles with and without the answer, and store it."""
    import torch

    from multihead import pipeline
    from multihead.pipelines.calibration_fit import fit_temperature
    from multihead.pipelines.question_answering.pipeline import LABELS

    items, none = [], []
    for article in articles:
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        for number, paragraph in enumerate(article["paragraphs"]):
            other = (number + 1) % len(texts)
            without = [[texts[m] for m in range(len(texts)) if m != n] for n in (other, number)]
            for asked in paragraph["qas"]:
                for context, is_none in (
                    (texts[number], 0), ("\n\n".join(without[0]), 0), (texts[other], 1), ("\n\n".join(without[1]), 1)
                ):  # fmt: skip
                    items.append({"question": asked["question"], "context": context})
                    none.append(is_none)
    reader: Any = pipeline("question-answering", place, calibration=False, no_answer=True)
    found = torch.tensor([answer["no_answer"] for answer in reader(items)], dtype=torch.float64)
    logits = torch.stack([-torch.logit(found, 1e-12), torch.zeros_like(found)], -1)
    facts = {"data": "XQuAD en, articles 8 to 12", "split": "dev"}
    fitted = fit_temperature(logits, torch.tensor(none), LABELS, bias=True, facts=facts)
    fitted.save(place)
    return {"calibration": fitted.to_dict()}


def rag(data: Path, model: str = "") -> dict[str, Any]:
    """Fit the constants of pipelines/question_answering/rag.py to an answerer, by default the shipped one.

    The questions of DEV are asked of all paragraphs of XQuAD, and of all but those of their own article.
    """
    import torch

    from multihead import pipeline
    from multihead.pipelines.defaults import ANSWERS, MINILM
    from multihead.pipelines.encoders import EncoderSlot
    from multihead.pipelines.question_answering.documents import DocumentStore

    articles = read_articles(data, "xquad/xquad.en.json")
    texts = [(number, p["context"]) for number, article in enumerate(articles) for p in article["paragraphs"]]
    encoder: Any = EncoderSlot().get(MINILM.name)
    pipe: Any = pipeline("rag", model or ANSWERS.name, retriever=encoder)
    everything, known, missing = DocumentStore([text for _, text in texts], encoder), [], []
    for number in range(HELD_OUT, HELD_OUT + DEV):
        elsewhere = DocumentStore([text for own, text in texts if own != number], encoder)
        questions = [asked for paragraph in articles[number]["paragraphs"] for asked in paragraph["qas"]]
        known += candidates(pipe, questions, everything)
        missing += candidates(pipe, questions, elsewhere)
    weight = max(range(0, 101, 5), key=lambda w: sum(best(own, w)[2] for own in known))
    rows = torch.tensor([best(own, weight) for own in known + missing], dtype=torch.float64)
    right = (rows[:, 2] >= 0.5).double()
    right[len(known) :] = 0
    inputs = torch.cat([rows[:, :2], torch.ones(len(rows), 1)], 1).double()
    found = logistic(inputs, right)
    scores = (inputs @ found).sigmoid()
    odds, slope, offset = found.tolist()
    return {
        "SIMILARITY_WEIGHT": weight, "ODDS_WEIGHT": odds, "SIMILARITY_SLOPE": slope, "OFFSET": offset,
        "LEAST": float(scores[len(known) :].quantile(0.9)), "f1": float(rows[: len(known), 2].mean()),
    }  # fmt: skip


def candidates(pipe: Any, questions: Sequence[Any], store: Any) -> list[list[tuple[float, float, float]]]:
    """Return the log-odds, the similarity of the passage and the F1 of each candidate of each question."""
    from multihead.training.evaluation import text_metrics

    found, o = [], pipe.resolve_options()
    for asked in questions:
        item = pipe.validate({"question": asked["question"], "documents": store}, o)
        inputs = pipe.preprocess([item], o)[0]
        golds = [answer["text"] for answer in asked["answers"]]
        found.append([
            (each.odds, each.passage.score, text_metrics.question_answering([each.answer], [golds])["f1"] / 100)
            for each in pipe.candidates(item, inputs, pipe.forward(inputs, o))
        ])  # fmt: skip
    return found


def best(found: Sequence[tuple[float, float, float]], weight: float) -> tuple[float, float, float]:
    """Return the candidate that ranks first with a weight of similarity."""
    return max(found, key=lambda each: each[0] + weight * each[1])


def logistic(inputs: Any, targets: Any, steps: int = 50) -> Any:
    """Return the weights of a logistic regression, by Newton's method with a small ridge."""
    import torch

    weights = torch.zeros(inputs.shape[1], dtype=inputs.dtype)
    ridge = 1e-3 * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    for _ in range(steps):
        p = (inputs @ weights).sigmoid()
        slope = inputs.T @ (p - targets) + ridge @ weights
        weights = weights - torch.linalg.solve((inputs.T * (p * (1 - p))) @ inputs + ridge, slope)
    return weights
