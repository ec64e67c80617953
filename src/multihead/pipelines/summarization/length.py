"""Length of a summary in sentences and words: how it is asked for, when it is reached, and how a text is cut to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..splitting import split_sentences

# A Chinese or Japanese character counts as a word, since these scripts have no spaces.
HAN = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{HAN}]|[^\W{HAN}]+(?:[-'’.,][^\W{HAN}]+)*")
CLAUSE_END = re.compile(r"[,;:–—،、，；：]\s*$")
ANNOUNCEMENT = re.compile(r"\A[^\n]{1,120}:[ \t]*\n+")  # "Here is a summary of the text:"
HARD_WRAP = re.compile(r"[ \t]*\n[ \t]*(?=[a-zß-öø-ÿа-яё])")  # before a word that goes on with the sentence
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SHORT_WORDS = 20  # of a sentence that is a summary of itself
SENTENCE_WORDS = 25  # of a sentence of ordinary length


@dataclass(frozen=True)
class SummaryLength:
    """Length that a call asks for; None for no limit.

    Args:
        sentences, max_words: at most.
    """

    sentences: int | None = None
    max_words: int | None = None

    @property
    def is_open(self) -> bool:
        return self.sentences is None and self.max_words is None

    def request(self) -> str:
        """Return the words of a prompt that ask for this length, such as "two short sentences".

        The number of words is not among them: small models then write about the number. `cut` sees to it.
        """
        each = None if self.max_words is None else self.max_words / (self.sentences or 1)
        number = self.sentences or (None if self.max_words is None else max(self.max_words // SENTENCE_WORDS, 1))
        if number is None:
            return "a few sentences"
        word = NUMBERS[number - 1] if number <= len(NUMBERS) else str(number)
        short = "short " if each is not None and each < SENTENCE_WORDS else ""
        return f"{word} {short}sentence{'s' if number > 1 else ''}"

    def is_reached(self, text: str) -> bool:
        """Return whether no further text belongs to a summary: another sentence has begun, or it is too long."""
        text = unwrap(text)
        if self.max_words is not None and count_words(text) > self.max_words:
            return True
        return self.sentences is not None and len(split_sentences(text)) > self.sentences

    def holds(self, text: str) -> bool:
        """Return whether a text has this length already, in short sentences."""
        if self.is_open:
            return False
        sentences, words = len(split_sentences(text)), count_words(text)
        if self.sentences is not None and sentences > self.sentences:
            return False
        return words <= (self.max_words if self.max_words is not None else SHORT_WORDS * (self.sentences or 1))

    def cut(self, text: str, *, ended: bool) -> tuple[str, str]:
        """Return the whole sentences of a summary that fit, and a notice, empty if they are a summary.

        Args:
            ended: the model ended the text. Otherwise its last sentence may lack an end.
        """
        text = unwrap(text)
        spans = split_sentences(text)
        if not spans:
            return "", "the model wrote nothing"
        whole = spans if ended or ends_sentence(text) else spans[:-1]
        kept = whole[: self.sentences]
        while self.max_words is not None and kept and count_words(text[: kept[-1][1]]) > self.max_words:
            kept = kept[:-1]
        if kept:
            return text[kept[0][0] : kept[-1][1]], ""
        first = text[: spans[0][1]]
        if self.max_words is None or count_words(first) <= self.max_words:
            return first, "the summary ends in the middle of a sentence: raise max_new_tokens"
        return cut_words(first, self.max_words), f"the sentence is longer than {self.max_words} words and was cut"


def count_words(text: str) -> int:
    """Return the number of words; of Chinese and Japanese, of characters."""
    return sum(1 for _ in WORD.finditer(text))


def unwrap(text: str) -> str:
    """Return a generated text without an announcement before it, and without line ends inside of its sentences."""
    return HARD_WRAP.sub(" ", ANNOUNCEMENT.sub("", text.strip())).strip()


def ends_sentence(text: str) -> bool:
    """Return whether a text ends where a sentence does."""
    return len(split_sentences(text + " Next")) > len(split_sentences(text))


def cut_words(text: str, most: int) -> str:
    """Return the first words of a sentence with an ellipsis, up to the last clause that ends in the second half."""
    ends = [match.end() for match in WORD.finditer(text)][:most]
    for end in ends[: len(ends) // 2 : -1]:
        following = re.match(r"\W*", text[end:])
        if following is not None and CLAUSE_END.search(following[0].rstrip() or "x"):
            return text[:end] + " …"
    return text[: ends[-1]] + " …"
