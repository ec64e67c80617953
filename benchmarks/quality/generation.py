"""Answers of a chat model: how much they repeat, whether they end, how long they are, and facts that they know.

The prompts are of seven kinds (questions, stories, lists, code, letters, long texts, small tasks), written for this
file. Settings were chosen on every second one of each kind; the others and their facts are the test. What a setting
costs is measured on texts that repeat by right: how often the next token of code, JSON and a table is the likeliest.
The choice has seen these texts.
"""

from __future__ import annotations

import bisect
import heapq
import inspect
import json
import queue
import re
import sched
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multihead import pipeline
from multihead.generation.config import GenerationConfig
from multihead.generation.logits.processors import logits_processors, tokens_with
from multihead.generation.stopping import Continuation
from multihead.pipelines.defaults import SMOLLM2
from multihead.pipelines.generation_base import REPETITION_GUARD

from .reference import smollm2
from .report import Report, Score, bootstrap, mean

TASK, NGRAM, LOOP = "text-generation", 4, 0.3
NEW_TOKENS = {"prompts": 256, "facts": 80}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "greedy": {},
    "greedy, guard of conversations": REPETITION_GUARD,
    "greedy, repetition_penalty 1.1": {"repetition_penalty": 1.1},
    "sampled, temperature 0.2, top_p 0.9": {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "seed": 0},
}


def rows_of(name: str, split: str) -> list[dict[str, Any]]:
    """Return the rows of one of the two files, of "tune" or "test"."""
    path = Path(__file__).with_name(f"generation_{name}.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]


def repeated(ids: Sequence[int]) -> tuple[int, int]:
    """Return how many n-grams of a text occurred before, and how many it has."""
    grams = [tuple(ids[n : n + NGRAM]) for n in range(len(ids) - NGRAM + 1)]
    return len(grams) - len(set(grams)), len(grams)


def answer_scores(answers: Sequence[Continuation], ends: frozenset[int]) -> dict[str, Score]:
    """Return the scores of answers to prompts; `ends` are the end tokens."""
    texts = [[token for token in answer if token not in ends] for answer in answers]
    counts = np.array([repeated(text) for text in texts])
    again, every = counts[:, 0], counts[:, 1]
    return {
        "repeated 4-grams": bootstrap(len(texts), lambda rows: 100 * again[rows].sum() / max(every[rows].sum(), 1)),
        "loops": mean([a > LOOP * max(n, 1) for a, n in counts]),
        "ended": mean([answer.finish_reason == "stop" for answer in answers]),
        "tokens": mean([len(text) for text in texts], scale=1),
    }


def answered(pipe: Any, questions: Sequence[str], **options: Any) -> list[Continuation]:
    """Return the new tokens of the answers to questions, in batches."""
    o = pipe.resolve_options(**options)
    inputs = [inputs[0] for inputs in pipe.preprocess([[{"role": "user", "content": text}] for text in questions], o)]
    return [sequences[0] for sequences in pipe.forward(inputs, o)]


def reference_answers(pipe: Any, questions: Sequence[str], new: int) -> list[Continuation]:
    """Return what the reference's `generate` writes, greedily, to the same prompts with the same weights."""
    import torch

    from multihead.generation.stopping import LENGTH, STOP

    ends, found = list(pipe.full_config(pipe.resolve_options()).ends), []
    for text in questions:
        ids = torch.tensor([pipe.chat_ids([{"role": "user", "content": text}])])
        with torch.no_grad():
            out = smollm2().generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, eos_token_id=ends,
                max_new_tokens=new,
            )  # fmt: skip
        own = out[0, ids.shape[1] :].tolist()
        found.append(Continuation(own, STOP if own[-1] in ends else LENGTH))
    return found


def structured_texts() -> dict[str, list[str]]:
    """Return texts whose parts repeat by nature, by kind."""
    people = [
        {"name": name, "age": 20 + 7 * n, "city": "Paris"} for n, name in enumerate(("Ada", "Ben", "Cleo", "Dan"))
    ]
    fruits = (
        ("apple", "red", 2),
        ("banana", "yellow", 1),
        ("plum", "blue", 3),
        ("kiwi", "green", 1),
        ("lime", "green", 2),
    )
    table = "".join(f"| {name} | {color} | ${price}.00 |\n" for name, color, price in fruits)
    code = [inspect.getsource(module)[600:3200] for module in (heapq, bisect, queue, sched)]
    head = "| fruit | colour | price |\n| --- | --- | --- |\n"
    return {"code": code, "JSON": [json.dumps(people, indent=2)], "table": [head + table]}


def hits(pipe: Any, text: str, options: Mapping[str, Any]) -> list[bool]:
    """Return for each token of a text whether it is the likeliest after those before, with some options."""
    import torch

    ids = [pipe.tokenizer.bos_token_id, *pipe.tokenizer.encode_ids([text], special=False)[0][:500]]
    breakers = tokens_with(pipe.tokenizer, options.get("dry_sequence_breakers", ()))
    processors = logits_processors(GenerationConfig(**options), 1, len(ids), breakers=breakers)
    with torch.inference_mode():
        logits, found = pipe.model(torch.tensor([ids])).logits[0].float(), []
    for place in range(1, len(ids) - 1):
        scores = logits[place : place + 1]
        for process in processors:
            scores = process([ids[: place + 1]], scores)
        found.append(int(scores.argmax()) == ids[place + 1])
    return found


def measure(report: Report) -> None:
    pipe: Any = pipeline(TASK, SMOLLM2.name, dtype="float32")
    ends = pipe.full_config(pipe.resolve_options()).ends
    for kind, texts in structured_texts().items():
        for name, options in SETTINGS.items():
            if not options.get("do_sample"):
                right = [hit for text in texts for hit in hits(pipe, text, options)]
                system, scores = f"SmolLM2-135M, {name}", {"accuracy": mean(right)}
                report.add(TASK, f"next token of {kind}", system, len(right), scores, tuned=True)
    for split in ("test", "tune"):
        prompts = [row["prompt"] for row in report.sample(rows_of("prompts", split))]
        facts, data = report.sample(rows_of("facts", split)), f"prompts and facts, {split}"

        def add(system: str, answers: Sequence[Continuation], data: str = data, tuned: bool = split == "tune") -> None:
            report.add(TASK, data, system, len(answers), answer_scores(answers, ends), tuned=tuned)

        for name, options in SETTINGS.items():
            greedy = answered(pipe, prompts, max_new_tokens=NEW_TOKENS["prompts"], **options)
            add(f"SmolLM2-135M, {name}", greedy)
            found = answered(pipe, [row["question"] for row in facts], max_new_tokens=NEW_TOKENS["facts"], **options)
            right = [
                any(re.search(answer, pipe.tokenizer.decode(ids), re.IGNORECASE) for answer in row["answers"])
                for row, ids in zip(facts, found, strict=True)
            ]
            report.add(TASK, data, f"SmolLM2-135M, {name}", len(facts), {"right": mean(right)}, tuned=split == "tune")
            if not options and split == "test" and (part := report.reference):
                add("the same, reference", reference_answers(pipe, prompts[:part], NEW_TOKENS["prompts"]))
                add("the same, ours on those rows", greedy[:part])
