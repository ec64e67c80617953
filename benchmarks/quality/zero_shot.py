"""Zero-shot labels in four domains, written for this benchmark: half to choose the template, half to report.

`python -m benchmarks.quality.zero_shot --templates` compares all templates on the first half and on film reviews.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import MINILM, SMOLLM2
from multihead.pipelines.similarity import TEMPLATE
from multihead.pipelines.zero_shot import TEMPLATE as REFERENCE

from .report import Report, mean

TASK = "zero-shot"
DOMAINS = ("topic", "sentiment", "intent", "urgency")
ROWS = Path(__file__).parent / "data" / "zero_shot.jsonl"
TEMPLATES = (
    *("{}", "{}.", "{}!", "about {}", "{} text", "a {} message", "Something {}.", "How {}!", "label: {}"),
    *("Category: {}", "Topic: {}.", "The topic is {}.", "This is {}.", "It is {}.", "It was {}.", "That is {}!"),
    *("This example is {}.", "This text is about {}.", "This is a text about {}.", "This is a {} text."),
    *("This message is {}.", "This is a {} message.", "The message is about {}.", "A message about {}."),
    *("This sounds {}.", "I feel {}.", "The text is {}.", "This is an example of {}.", "What {} news"),
    *("This text expresses {}.", "It's about {}.", "Everything about this is {}.", "The writer thinks it is {}."),
    "This is related to {}.",
)


def read(domain: str, split: str) -> tuple[list[str], list[str]]:
    """Return the texts of one half of a domain, and their labels."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    own = [row for row in rows if row["domain"] == domain and row["split"] == split]
    return [row["text"] for row in own], [row["label"] for row in own]


def hits(pipe: Any, domain: str, split: str, **options: Any) -> list[bool]:
    """Return whether each text of a domain gets its label."""
    texts, wanted = read(domain, split)
    answers = pipe(texts, sorted(set(wanted)), **options)
    return [answer["labels"][0] == label for answer, label in zip(answers, wanted, strict=True)]


def measure(report: Report) -> None:
    encoder: Any = pipeline("zero-shot-classification", MINILM.name, dtype="float32")
    writer: Any = pipeline("zero-shot-classification", SMOLLM2.name, dtype="float32")
    systems = [
        ("MiniLM, its template", encoder, {}),
        ("MiniLM, the reference's template", encoder, {"hypothesis_template": REFERENCE}),
        ("SmolLM2-135M", writer, {}),
    ]
    for split in ("tune", "test"):
        majority: list[bool] = []
        for domain in DOMAINS:
            _, wanted = read(domain, split)
            majority += [label == max(sorted(set(wanted)), key=wanted.count) for label in wanted]
        report.add(TASK, "four domains", "majority", len(majority), {"accuracy": mean(majority)}, tuned=split == "tune")
        for system, pipe, options in systems:
            found = {domain: hits(pipe, domain, split, **options) for domain in DOMAINS}
            scores = {"accuracy": mean([hit for own in found.values() for hit in own])}
            scores |= {domain: mean(own) for domain, own in found.items()}
            report.add(TASK, "four domains", system, len(majority), scores, tuned=split == "tune")


def compare_templates(templates: Sequence[str]) -> None:
    """Print the accuracy of each template on the half to choose from."""
    pipe: Any = pipeline("zero-shot-classification", MINILM.name, dtype="float32")
    for template in templates:
        found = [hit for domain in DOMAINS for hit in hits(pipe, domain, "tune", hypothesis_template=template)]
        print(f"{100 * sum(found) / len(found):5.1f}  {template}{'  (default)' if template == TEMPLATE else ''}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--templates", action="store_true", required=True)
    options.parse_args()
    compare_templates(TEMPLATES)
