"""English words that questions about tables are made of, and the comparison of words by their stems."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

WORD = re.compile(
    r"[€$£¥]?\d[\d,.:/-]*\d%?|[€$£¥]?\d%?|[^\W\d_](?:[\w&.]*\w)?(?:['’]s\b)?|[^\W_]+|[€$£¥%#&+]", re.UNICODE
)  # numbers with their currency and percent signs, words, single signs

# adjective -> (words of the columns that it is about, whether its superlative is the largest value)
ADJECTIVES: Mapping[str, tuple[str, bool]] = {
    "old": ("age", True), "young": ("age", False), "new": ("date year", True), "recent": ("date year", True),
    "late": ("date year time", True), "last": ("date year time rank", True), "early": ("date year time", False),
    "first": ("date year time rank", False), "tall": ("height", True),
    "high": ("height", True), "low": ("height", False),
    "long": ("length duration runtime time", True), "short": ("length duration runtime height", False),
    "large": ("size area population", True), "big": ("size area population", True),
    "great": ("size", True), "small": ("size area population", False), "tiny": ("size", False),
    "heavy": ("weight", True), "light": ("weight", False), "expensive": ("price cost", True),
    "cheap": ("price cost", False), "costly": ("price cost", True), "fast": ("speed time", True),
    "slow": ("speed time", False), "quick": ("time", False), "rich": ("income wealth", True),
    "poor": ("income", False), "hot": ("temperature", True), "warm": ("temperature", True),
    "cold": ("temperature", False), "cool": ("temperature", False), "far": ("distance", True),
    "distant": ("distance", True), "close": ("distance", False), "near": ("distance", False),
    "good": ("score rating rank", True), "bad": ("score rating rank", False), "popular": ("popularity votes", True),
    "populous": ("population", True), "populated": ("population", True), "deep": ("depth", True),
    "shallow": ("depth", False), "wide": ("width", True), "narrow": ("width", False), "thick": ("thickness", True),
    "thin": ("thickness", False), "strong": ("strength", True), "weak": ("strength", False),
    "many": ("", True), "much": ("", True), "few": ("", False), "little": ("", False), "successful": ("wins", True),
    "loud": ("volume", True), "dense": ("density", True), "wealthy": ("wealth", True), "steep": ("slope", True),
}  # fmt: skip
DIMENSIONS: Mapping[str, frozenset[str]] = {  # of adjectives, as `cells.UNITS` names them
    **dict.fromkeys(("long", "short"), frozenset(("time", "length"))),
    **dict.fromkeys(("tall", "high", "low", "deep", "shallow", "wide", "narrow", "thick", "thin", "far", "close",
                     "near", "distant"), frozenset(("length",))),
    **dict.fromkeys(("heavy", "light"), frozenset(("mass",))),
    **dict.fromkeys(("hot", "warm", "cold", "cool"), frozenset(("temperature",))),
    **dict.fromkeys(("expensive", "cheap", "costly", "much"), frozenset(("money",))),
}  # fmt: skip
GENERIC = frozenset("score result value amount number figure level rate count quantity measure".split())
IRREGULAR = {
    "better": "good", "best": "good", "worse": "bad", "worst": "bad", "more": "many", "most": "many", "less": "little",
    "least": "little", "fewer": "few", "fewest": "few", "further": "far", "farther": "far", "furthest": "far",
    "farthest": "far", "latest": "late", "earliest": "early", "later": "late", "earlier": "early", "last": "last",
    "first": "first", "highest": "high", "elder": "old", "eldest": "old", "maximum": "many", "minimum": "little",
    "max": "many", "min": "little", "top": "many", "nearest": "near",
}  # fmt: skip
BASE_FORMS = {
    "won": "win", "lost": "lose", "drew": "draw", "drawn": "draw", "sold": "sell", "bought": "buy", "born": "birth",
    "died": "death", "left": "leave", "went": "go", "gone": "go", "came": "come", "got": "get", "built": "build",
    "made": "make", "wrote": "write", "written": "write", "sang": "sing", "sung": "sing", "ran": "run",
    "held": "hold", "grew": "grow", "children": "child", "people": "person", "men": "man", "women": "woman",
    "met": "meet", "led": "lead", "paid": "pay", "spent": "spend", "flew": "fly", "took": "take", "began": "begin",
}  # fmt: skip
NUMBER_WORDS = {
    "zero": 0, "no": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "hundred": 100,
}  # fmt: skip
MAGNITUDES = {
    "thousand": 1e3, "thousands": 1e3, "million": 1e6, "millions": 1e6, "billion": 1e9, "billions": 1e9, "k": 1e3,
    "m": 1e6, "bn": 1e9, "mn": 1e6, "mio": 1e6, "mrd": 1e9,
}  # fmt: skip
FUNCTION_WORDS = frozenset(
    """a an the of in on at to for from by with and or is are was were be been being do does did has have had which what
    who whom whose when where why how many much that this these those there it its their his her he she they them i you
    we than as not no any all each every also can could will would shall should may might must if so up out into about
    between during per most least more less fewer only same other another one ones please tell me show list name give
    find total sum average mean number count altogether combined overall together different distinct unique get got
    go goes went come comes came take takes took make makes made use uses used there's s""".split()
)


@lru_cache(maxsize=20_000)
def plain(word: str) -> str:
    """Return a word in lower case without accents, possessive "'s" and marks at its end."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))
    return re.sub(r"['’]s?$", "", bare).strip(".,")


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return the stem of a word, so that forms such as "orders", "ordered" and "order" are the same."""
    word = plain(word)
    word = BASE_FORMS.get(word, word)
    if len(word) < 4 or not word.isalpha():
        return word
    for ending, rest in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", "")):
        if word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            word = word[: -len(ending)] + rest
            break
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) > 2:
            word = base[:-1] if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "ls" else base
            break
    return word.removesuffix("e") if len(word) > 4 else word


def related(one: str, other: str) -> float:
    """Return 1 for two words of one stem, less for words that share a long beginning ("director", "directed")."""
    a, b = stem(one), stem(other)
    if a == b:
        return 1.0
    if not (a.isalpha() and b.isalpha()):
        return 0.0
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return 0.7 if same >= 5 and same >= 0.6 * max(len(a), len(b)) and same >= min(len(a), len(b)) - 2 else 0.0


def split_words(text: str) -> list[str]:
    """Return the words and numbers of a text, as they are written."""
    return WORD.findall(text)


def degree(word: str) -> tuple[str, int] | None:
    """Return the adjective of a word and its degree: 0 positive, 1 comparative, 2 superlative; None for other words."""
    word = plain(word)
    if word in ("last", "first", "latest", "earliest", "top", "maximum", "minimum", "max", "min", "eldest"):
        return IRREGULAR[word], 2
    if word in IRREGULAR:
        return IRREGULAR[word], 2 if word.endswith("st") else 1
    for ending, step in (("", 0), ("est", 2), ("er", 1)):
        if not word.endswith(ending):
            continue
        base = word.removesuffix(ending)
        for form in (base, f"{base}e", base[:-1], f"{base[:-1]}y" if base.endswith("i") else base):
            if form in ADJECTIVES and (step or form == base):
                return form, step
    return None
