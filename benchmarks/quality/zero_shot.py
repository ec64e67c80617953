"""Zero-shot labels in four domains, written for this benchmark: half to choose from, half to report.

`python -m benchmarks.quality.zero_shot --templates` compares all templates of the sentence encoder on the first half.
`--development FOLDER` compares the systems on texts of 18 kinds, on which the prompts of the language model, the weight
of the encoder and the temperatures were chosen; FOLDER holds sst2, subjqa and xquad.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from multihead import pipeline
from multihead.pipelines.calibration_fit import expected_calibration_error
from multihead.pipelines.defaults import MINILM, SMOLLM2
from multihead.pipelines.similarity import TEMPLATE
from multihead.pipelines.zero_shot import TEMPLATE as REFERENCE

from .report import Report, bootstrap, mean

TASK = "zero-shot"
DOMAINS = ("topic", "sentiment", "intent", "urgency")
ROWS = Path(__file__).parent / "data" / "zero_shot.jsonl"
DEVELOPMENT = Path(__file__).parent / "data" / "zero_shot_development.jsonl"
LONGEST = 140  # characters of a text to choose settings on
SUBJQA = {"electronics": "electronics", "grocery": "food", "restaurants": "restaurant", "tripadvisor": "hotel"}
SUBJECTS = {
    "sports": ("Super_Bowl_50",), "technology": ("Nikola_Tesla", "Steam_engine", "Packet_switching"),
    "science": ("Oxygen",), "mathematics": ("Prime_number", "Computational_complexity_theory"),
    "religion": ("Martin_Luther", "Islamism", "United_Methodist_Church"),
    "law": ("European_Union_law", "Civil_disobedience"),
    "medicine": ("Pharmacy", "Immune_system", "Black_Death"),
    "geography": ("Amazon_rainforest", "Rhine", "Southern_California"),
    "education": ("Harvard_University", "Teacher", "Private_school"),
    "television": ("American_Broadcasting_Company", "Doctor_Who", "Sky_(United_Kingdom)"),
}  # fmt: skip
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


def development(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return texts with their labels by domain: written ones, the half to choose from, and samples of data sets."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in DEVELOPMENT.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["domain"], []).append((row["text"], row["label"]))
    for domain in DOMAINS:
        found[f"{domain}, to choose from"] = list(zip(*read(domain, "tune"), strict=True))
    draw = random.Random(7)
    lines = (folder / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    reviews = [(text, label) for label, text in (line.split("\t") for line in lines) if 40 < len(text) < 160]
    found["SST-2 train"] = draw.sample(reviews, 40)
    products = [
        (row["review"].replace(" ANSWERNOTFOUND", ""), label)
        for name, label in SUBJQA.items()
        for row in csv.DictReader((folder / "subjqa" / f"{name}.train.csv").open(encoding="utf-8"))
    ]
    found["SubjQA"] = draw.sample(sorted(set(products)), 32)
    articles = json.loads((folder / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    subjects = {title: label for label, titles in SUBJECTS.items() for title in titles}
    texts = [(p["context"], subjects[a["title"]]) for a in articles if a["title"] in subjects for p in a["paragraphs"]]
    found["XQuAD"] = draw.sample(texts, 36)
    return {name: [(shorten(text), label) for text, label in rows] for name, rows in found.items()}


def shorten(text: str) -> str:
    """Return the beginning of a text, in whole words."""
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0]


def systems() -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the name, the pipeline and the options of each system."""
    encoder: Any = pipeline("zero-shot-classification", MINILM.name, dtype="float32")
    writer: Any = pipeline("zero-shot-classification", SMOLLM2.name, dtype="float32")
    return [
        ("MiniLM, its template", encoder, {}),
        ("MiniLM, the reference's template", encoder, {"hypothesis_template": REFERENCE}),
        ("SmolLM2-135M, one prompt", writer, {"hypothesis_template": "Category: {}"}),
        ("SmolLM2-135M", writer, {}),
        ("SmolLM2-135M and MiniLM", writer, {"encoder": encoder.encoder}),
    ]


def hits(pipe: Any, texts: Sequence[str], wanted: Sequence[str], **options: Any) -> tuple[list[bool], list[float]]:
    """Return whether each text gets its label, and the score of its best label."""
    answers = pipe(list(texts), sorted(set(wanted)), **options)
    right = [answer["labels"][0] == label for answer, label in zip(answers, wanted, strict=True)]
    return right, [answer["scores"][0] for answer in answers]


def measure(report: Report) -> None:
    compared = systems()
    for split in ("tune", "test"):
        rows = {domain: read(domain, split) for domain in DOMAINS}
        majority = [
            label == max(sorted(set(wanted)), key=wanted.count) for _, wanted in rows.values() for label in wanted
        ]
        report.add(TASK, "four domains", "majority", len(majority), {"accuracy": mean(majority)}, tuned=split == "tune")
        for system, pipe, options in compared:
            found = {domain: hits(pipe, *rows[domain], **options) for domain in DOMAINS}
            right = [hit for own, _ in found.values() for hit in own]
            scores = {"accuracy": mean(right)} | {domain: mean(own) for domain, (own, _) in found.items()}
            sure = torch.tensor([score for _, own in found.values() for score in own])
            scores["ECE"] = bootstrap(
                len(right), lambda n, r=right, s=sure: 100 * expected_calibration_error(s[n], torch.tensor(r)[n])
            )
            report.add(TASK, "four domains", system, len(right), scores, tuned=split == "tune")


def compare_templates(templates: Sequence[str]) -> None:
    """Print the accuracy of each template on the half to choose from."""
    pipe: Any = pipeline("zero-shot-classification", MINILM.name, dtype="float32")
    for template in templates:
        options = {"hypothesis_template": template}
        found = [hit for domain in DOMAINS for hit in hits(pipe, *read(domain, "tune"), **options)[0]]
        print(f"{100 * sum(found) / len(found):5.1f}  {template}{'  (default)' if template == TEMPLATE else ''}")


def compare_systems(folder: Path) -> None:
    """Print the accuracy of each system on each domain of the development texts, and the mean over domains."""
    rows = development(folder)
    for system, pipe, options in systems():
        shares = {}
        for domain, pairs in rows.items():
            right, _ = hits(pipe, *zip(*pairs, strict=True), **options)
            shares[domain] = 100 * sum(right) / len(right)
        told = "  ".join(f"{domain} {share:.0f}" for domain, share in shares.items())
        print(f"{sum(shares.values()) / len(shares):5.1f}  {system}: {told}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = parser.add_mutually_exclusive_group(required=True)
    choices.add_argument("--templates", action="store_true")
    choices.add_argument("--development", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    compare_systems(chosen.development) if chosen.development else compare_templates(TEMPLATES)
