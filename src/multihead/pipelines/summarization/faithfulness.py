"""Names and numbers of a summary that its text lacks, found by comparing normalized strings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ..splitting import split_sentences

NUMBER = re.compile(r"\d+(?:[.,\u00a0\u202f'’]\d+)*")
NAME = re.compile(r"[^\W\d_]+(?:['’.&][^\W\d_]+)*")  # a word; names begin with a capital
TOKEN = re.compile(r"[^\W_]+")
CAPITALIZED_NOUNS = ("der", "die", "und", "das")  # words of German, which writes all nouns with a capital
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
MULTIPLES = {"hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "m": 10**6, "billion": 10**9, "bn": 10**9}
MULTIPLE = re.compile(rf"[ -]?({'|'.join(MULTIPLES)})\b", re.IGNORECASE)
OTHER_WORDS = {"dozen": "12", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70",
               "eighty": "80", "ninety": "90", "hundred": "100", "thousand": "1000", "million": "1000000", "half": "50",
               "third": "3", "quarter": "25", "twice": "2", "double": "2"}  # fmt: skip
# Titles and small words that a summary may add or write with a capital.
COMMON = frozenset(
    """i mr mrs ms dr prof sir a an the it he she they we you this that these in on at of and or but for with by to from
    as is are was were not no""".split()
)
SUFFIXES = ("'s", "’s", "s", "es", "n", "ian", "an", "ese", "ish", "i", "ic")  # of a name in another form
TITLE = 0.6  # share of words with a capital in a title of five words or more
STEM = 4  # letters that a name and its other form share at least


def invented(summary: str, text: str) -> list[str]:
    """Return the numbers and names in a summary that are not in its text, each once.

    A number is compared by its digits, a number word by its value. A name is a word with a capital that does not begin
    a sentence, or with a capital inside. It is in the text if the word, another form of it, or its acronym or
    long form is. In German only numbers and acronyms are compared.
    """
    source = Source(text)
    numbers = [
        match[0]
        for match in NUMBER.finditer(summary)
        if not source.has_number(match[0], multiple_after(summary, match.end()))
    ]
    names = [word for word in names_of(summary, source.capitalizes_nouns) if not source.has_name(word, summary)]
    return list(dict.fromkeys([*numbers, *names]))


class Source:
    """Words and numbers of a text, normalized for look-ups."""

    def __init__(self, text: str) -> None:
        plain = fold(text)
        self.words = set(TOKEN.findall(plain))
        self.joined = re.sub(r"[\W_]+", "", plain)
        self.numbers = set(numbers_of(text))
        self.initials = "".join(word[0] for word in TOKEN.findall(plain))
        self.acronyms = {word for word in re.findall(r"[^\W_]+", text) if sum(map(str.isupper, word)) > 1}
        lower = set(TOKEN.findall(text))
        self.capitalizes_nouns = len(lower & set(CAPITALIZED_NOUNS)) >= 2

    def has_number(self, number: str, multiple: int) -> bool:
        """Return whether the text has a number, or the number times a multiple such as 1000 that follows it."""
        value = digits_of(number)
        return value in self.numbers or (multiple > 1 and times(value, multiple) in self.numbers)

    def has_name(self, name: str, summary: str) -> bool:
        word = re.sub(r"[\W_]+", "", fold(name))
        if not word or word in self.words or word in COMMON or (word in self.joined and len(word) >= STEM):
            return True
        stems = {word.removesuffix(fold(end)) for end in SUFFIXES}
        if any(stem in self.words for stem in stems if len(stem) >= 3):
            return True
        if any(shares_stem(word, known) for known in self.words):
            return True
        acronym = name.isupper() or sum(map(str.isupper, name)) > 1
        if acronym and len(word) > 1 and word.removesuffix("s") in self.initials:
            return True
        return any(is_long_form(name, summary, short) for short in self.acronyms)


def names_of(summary: str, capitalizes_nouns: bool) -> Iterator[str]:
    """Yield the words of a summary that are written as names.

    In a title, and in German, a capital alone says nothing. Among capitals only, nothing is known to be a name. An
    acronym in parentheses after its own words is no name of its own.
    """
    words = [word for word in NAME.findall(summary) if len(word) >= STEM]
    if sum(map(str.isupper, words)) > len(words) / 2:
        return
    is_title = sum(word[0].isupper() for word in words) > TITLE * len(words) and len(words) >= 5
    starts = {start for start, _ in split_sentences(summary)}
    for match in NAME.finditer(summary):
        word = match[0]
        before = summary[: match.start()].rstrip(" \t\n\"'“‘«(*")
        first = match.start() in starts or not before or before[-1] in ".!?:…\n" or before.endswith(("-", "/"))
        if any(letter.isupper() for letter in word[1:]):
            if not (summary[: match.start()].endswith("(") and is_spelled_out(word, before)):
                yield word
        elif word[0].isupper() and len(word) > 1 and not (first or is_title or capitalizes_nouns):
            yield word


def is_spelled_out(acronym: str, before: str) -> bool:
    """Return whether the letters of an acronym begin the words before it."""
    letters = acronym.removesuffix("s").casefold()
    return "".join(word[0] for word in TOKEN.findall(fold(before))).endswith(letters)


def fold(text: str) -> str:
    """Return a text without accents and letter cases."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()


def digits_of(number: str) -> str:
    """Return a number without marks between its digits and without zeros that change nothing: 1,000.50 as 1000.5."""
    plain = "".join(str(unicodedata.digit(sign, sign)) for sign in number)  # digits of every script
    parts = re.split(r"[.,]", re.sub(r"[\u00a0\u202f'’]", "", plain))
    decimal = len(parts) > 1 and len(parts[-1]) != 3
    whole = "".join(parts[:-1] if decimal else parts).lstrip("0") or "0"
    fraction = parts[-1].rstrip("0") if decimal else ""
    return f"{whole}.{fraction}" if fraction else whole


def readings(number: str) -> Iterator[str]:
    """Yield the forms of a number: with a decimal part of three digits, as a share and as a percentage."""
    yield digits_of(number)
    parts = re.split(r"[.,]", number)
    if len(parts) == 2 and len(parts[1]) == 3 and parts[1].strip("0"):
        yield f"{parts[0].lstrip('0') or '0'}.{parts[1].rstrip('0')}"
    for factor in (0.01, 100):
        yield times(digits_of(number), factor)


def times(number: str, factor: float) -> str:
    """Return a normalized number multiplied by a factor."""
    return f"{float(number) * factor:.6f}".rstrip("0").rstrip(".")


def numbers_of(text: str) -> Iterator[str]:
    """Yield the numbers of a text, normalized, in digits and words: 2, 0.02, 200, 2000000 of "two million"."""
    for match in NUMBER.finditer(text):
        yield from readings(match[0])
        if (multiple := multiple_after(text, match.end())) > 1:
            yield times(digits_of(match[0]), multiple)
    for match in TOKEN.finditer(folded := fold(text)):
        if (word := match[0]) in NUMBER_WORDS:
            yield (value := str(NUMBER_WORDS.index(word)))
            yield times(value, multiple_after(folded, match.end()))
        elif word in OTHER_WORDS:
            yield OTHER_WORDS[word]


def multiple_after(text: str, position: int) -> int:
    """Return the value of a word such as "million" that follows a number; 1 if none does."""
    match = MULTIPLE.match(text, position)
    return 1 if match is None else MULTIPLES[match[1].casefold()]


def shares_stem(word: str, known: str) -> bool:
    """Return whether two words are forms of one name: France and French, Mexico and Mexican."""
    same = max(STEM, min(len(word), len(known)) - 2)
    return len(known) >= same and word[:same] == known[:same] and abs(len(word) - len(known)) <= 3


def is_long_form(name: str, summary: str, acronym: str) -> bool:
    """Return whether a name is part of words in the summary whose initials are an acronym of the text."""
    letters = acronym.removesuffix("s").casefold()
    words = TOKEN.findall(fold(summary))
    spelled = "".join(word[0] for word in words)
    own = fold(name)
    start = spelled.find(letters)
    while start != -1:
        if own in words[start : start + len(letters)]:
            return True
        start = spelled.find(letters, start + 1)
    return False
