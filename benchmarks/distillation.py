"""What a larger encoder is asked about, for a small one to learn: more sentences than there are labels for."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

NEAR = 15  # words that a word may be swapped for
COMMON = 120  # words that are never swapped


def letters(text: str) -> str:
    """What is left of a sentence without spaces, case and marks; bracket names are marks."""
    return re.sub(r"-[lr]rb-|[^a-z0-9]", "", text.lower())


def apart(texts: Sequence[str], held: Sequence[str]) -> list[str]:
    """The texts that share no third of their runs of eight letters with a held one: copies, whole or in part, go."""

    def runs(text: str) -> set[str]:
        found = letters(text)
        return {found[i : i + 8] for i in range(max(len(found) - 7, 1))}

    known = [runs(text) for text in held]
    where: dict[str, set[int]] = {}
    for number, own in enumerate(known):
        for run in own:
            where.setdefault(run, set()).add(number)

    def copied(text: str) -> bool:
        own = runs(text)
        shared = Counter(number for run in own for number in where.get(run, ()))
        return any(count > 0.3 * min(len(own), len(known[number])) for number, count in shared.items())

    return [text for text in texts if not copied(text)]


def varied(text: str, others: Sequence[str], draw: random.Random) -> str:
    """A part of a sentence, the sentence with words missing, or its beginning with another's end."""
    words, way = text.split(), draw.random()
    if way < 0.4 and len(words) > 6:
        begin = draw.randrange(len(words) // 2)
        return " ".join(words[begin : draw.randrange(begin + 4, len(words) + 1)])
    if way < 0.7:
        return " ".join(word for word in words if draw.random() > 0.15) or text
    other = draw.choice(others).split()
    return " ".join(words[: len(words) // 2] + other[len(other) // 2 :])


class Words:
    """Words of the sentences and of the student's vocabulary, and which of them lie near which (by its own vectors).

    Args:
        texts: the sentences. student: a sentence encoder's name.
    """

    def __init__(self, texts: Sequence[str], student: str) -> None:
        import torch

        from multihead import SentenceEncoder

        encoder = SentenceEncoder.from_pretrained(student)
        counts = Counter(word for text in texts for word in set(text.split()) if re.fullmatch("[a-z]{3,}", word))
        own = [word for word in encoder.tokenizer.get_vocab() if re.fullmatch("[a-z]{3,}", word)]
        self.all = sorted({*own, *counts})
        vectors = torch.nn.functional.normalize(torch.as_tensor(encoder.encode(self.all)), dim=-1)
        places = {word: number for number, word in enumerate(self.all)}
        swapped = [word for word, _ in counts.most_common()[COMMON:]]
        self.near: dict[str, list[str]] = {}
        for begin in range(0, len(swapped), 512):
            part = swapped[begin : begin + 512]
            found = (vectors[[places[word] for word in part]] @ vectors.T).topk(NEAR + 1).indices[:, 1:].tolist()
            self.near |= {word: [self.all[n] for n in row] for word, row in zip(part, found, strict=True)}

    def swapped(self, text: str, draw: random.Random, share: float = 0.35) -> str:
        """A sentence with a share of its words in their neighbours' place (Jiao et al., 2019, arXiv:1909.10351)."""
        return " ".join(
            draw.choice(self.near[word]) if word in self.near and draw.random() < share else word
            for word in text.split()
        )


def opinions(folder: Path) -> list[str]:
    """The sentences of SubjQA's reviews of products, restaurants and hotels, in lower case, words and marks apart."""
    csv.field_size_limit(1 << 30)
    reviews: dict[str, None] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            reviews |= dict.fromkeys(row["review"].replace("ANSWERNOTFOUND", " ") for row in csv.DictReader(file))
    found: dict[str, None] = {}
    for review in reviews:
        for sentence in re.split(r"(?<=[.!?])\s+", review):
            words = re.findall(r"\w+|n't|'\w+|[^\w\s]", sentence.lower())
            if 4 <= len(words) <= 45:
                found[" ".join(words)] = None
    return list(found)


def pool(train: Sequence[str], dev: Sequence[str], data: Path, spare: Sequence[str], student: str) -> list[str]:
    """What the teacher is asked about: the sentences to learn, in front, and 87,000 other texts.

    These are two variations of each sentence, four more with words swapped, the `spare` ones, 30,000 sentences of
    reviews and 12,000 single words. None of those from elsewhere is a copy of a dev sentence.
    """
    draw, known, words = random.Random(0), {letters(text) for text in train}, Words(train, student)
    varieties = [varied(text, train, draw) for text in train for _ in range(2)]
    swapped = [words.swapped(text, draw) for text in train for _ in range(4)]
    more = apart([text for text in spare if letters(text) not in known], dev)
    reviews = apart(opinions(data / "subjqa"), dev)
    reviews = draw.sample(reviews, min(30_000, len(reviews)))
    single = draw.sample(words.all, min(12_000, len(words.all)))
    return [*train, *varieties, *more, *swapped, *reviews, *single]
