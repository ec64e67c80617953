"""Splits texts into sentences and sections that fit a model, as spans, so that their layout can be restored."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Span = tuple[int, int]
CountTokens = Callable[[Sequence[str]], list[int]]

TITLES = frozenset(  # abbreviations before a name: no sentence ends after them
    """mr mrs ms dr drs prof profs rev sr sra srta dra jr st mt ft vs gen col sgt capt cpt lt maj cmdr gov sen rep hon
    pres messrs mme mmes mlle m mgr dott dssa sig avv ing inž ks ee dhr mevr hr fr frl fa dipl ud uds vd exa eng
    approx est eds v mio mrd tsd vgl cf cfr ca cca av ave avda blvd rd hwy ul os pl pr ул
    д г-н г-жа им акад проф κ δρ डॉ श्री د e.g i.e j.k
    z.b d.h u.a o.ä i.d.r z.t u.u o.a m.a.w d.w.z bijv t.e p.ex p.e""".split()
)
NUMBERED = frozenset(  # abbreviations before a number: "no. 5", but "He said no."
    """no nos nr núm num nº n art arts sec sek fig figs eq eqs p pp pag pág págs s vol vols ch chap kap abb abg tab ed
    str""".split()
)
SHORT = frozenset(  # abbreviations inside and at the end of sentences: before a capital letter the sentence ends
    """inc ltd co corp dept bros llc plc gmbh jan feb mar apr jun jul aug sep sept oct nov dec okt dez mai fev abr ago
    set out usw etc evtl ggf bzw al a.m p.m u.s u.k u.n d.c n.y ph.d b.a m.a yrs г гг т.д т.п т.е руб вв н.э r w h
    s.a""".split()
)
STARTERS = frozenset(  # after "the U.S.": begin a sentence rather than a name
    "The A An He She It They We I You This That These Those But And In On At When While His Her Their Its".split()
)
ORDERED = frozenset(  # German nouns after an ordinal such as "3."
    """januar februar märz april mai juni juli august september oktober november dezember jahrhundert jahrhunderts
    jahrtausend jahrtausends quartal rang platz auflage klasse etage stock chr""".split()
)
TERMINATORS = ".!?…؟۔।॥។៕။།።፧፨։՞՜"
CLOSERS = "\"'”’»)\\]›“"
END = re.compile(
    rf"""((?:[{TERMINATORS}]+|(?<=[\u0370-\u03ff])[;\u037e])(?:\s?[»›](?=\s|$)|[{CLOSERS}])*)(\s+)|([。！？｡]+[」』”’）》]*)|([။។]+|།+)"""
)
WORD_BEFORE = re.compile(r"[^\W_][\w.\u0300-\u036f\u0900-\u0dff-]*$")
ORDINAL = re.compile(r"(?:\b(?:der|die|das|den|dem|des|am|zum|vom|im)\s+|\()\d{1,2}$", re.IGNORECASE)  # German
ROMAN = re.compile(r"[IVXLC]{2,}")
QUOTED_SPEECH = re.compile(r"[\"'”’»“]$")


def split_sentences(text: str) -> list[Span]:
    """Return (start, end) of each sentence, without the white space around it. A line end always ends a sentence."""
    found: list[Span] = []
    start = 0
    for line in text.splitlines(keepends=True):
        found += [(start + a, start + b) for a, b in _split_line(line)]
        start += len(line)
    return found


def _split_line(line: str) -> list[Span]:
    spans, begin = [], 0
    for match in END.finditer(line):
        spaced = match[1] is not None
        if spaced and not _is_end(line, match, begin):
            continue
        spans.append((begin, match.end(1) if spaced else match.end()))
        begin = match.end()
    spans.append((begin, len(line)))
    stripped = []
    for a, b in spans:
        piece = line[a:b]
        left = len(piece) - len(piece.lstrip())
        if piece.strip():
            stripped.append((a + left, a + len(piece.rstrip())))
    return stripped


def _is_end(line: str, match: re.Match[str], begin: int) -> bool:
    """Return whether a sentence ends here, and not only an abbreviation, an initial or a number.

    Args:
        begin: where the sentence begins.
    """
    following = line[match.end() : match.end() + 1]
    if not following:
        return True
    word = re.match(r"[\w’']+", line[match.end() :])
    if following.islower() and not _is_camel(word[0] if word else ""):
        return False
    if following in ",;:)." or (QUOTED_SPEECH.search(match[1]) and following in "–—-"):
        return False
    if match[1] != ".":
        return True
    sentence = line[begin : match.start(1)]
    if ORDINAL.search(sentence):
        return False
    before = WORD_BEFORE.search(sentence)
    if before is not None and sentence[before.start() - 1 : before.start()] == "°":  # of temperature or latitude
        return True
    return before is None or _is_end_after(before[0], word[0] if word else following, begin + before.start() == begin)


def _is_camel(word: str) -> bool:
    """Return whether a word is a name such as "iPhone"."""
    return len(word) > 2 and word[0].islower() and any(sign.isupper() for sign in word[1:3])


def _is_end_after(before: str, following: str, is_first: bool) -> bool:
    """Return whether a sentence ends with a period between two words. is_first: the sentence has one word so far."""
    word = before.casefold().rstrip(".")
    last = word.rsplit(".", 1)[-1]
    starts = following[:1].isupper() and (len(following) > 1 or following in "IAO")
    if len(last) == 1 and before[-1].isupper():  # an initial, or U.S.
        return "." in word and following in STARTERS
    if word in TITLES or (last in TITLES and len(last) > 1):
        return False
    if following == "Chr":  # v. Chr., n. Chr.
        return False
    if word in NUMBERED or word.endswith("str"):
        return (
            starts and following.isalpha() and ROMAN.fullmatch(following) is None and not (len(word) == 1 and is_first)
        )
    if word in SHORT:
        return (following in STARTERS if "." in word else starts) and not is_first
    if word.isdigit():
        return not (is_first and len(word) < 3) and following.casefold() not in ORDERED
    return not (len(last) == 1 and last.isalpha() and not starts)


def split_sections(text: str, most: int, count: CountTokens, overlap: int = 0) -> list[str]:
    """Split a text into sections of whole sentences with at most `most` tokens.

    A section begins with the last `overlap` sentences of the one before. A longer sentence is cut between words.

    Args:
        count: returns the number of tokens of each of some texts.
    """
    spans = split_to_fit(text, split_sentences(text), most, count)
    sizes = count([text[before:b] for before, (_, b) in zip([0, *(b for _, b in spans)], spans, strict=False)])
    found: list[list[int]] = []
    now: list[int] = []
    total = 0
    for number, size in enumerate(sizes):
        if now and total + size > most:
            found.append(now)
            now = now[len(now) - overlap :] if overlap else []
            while now and sum(sizes[i] for i in now) + size > most:
                now = now[1:]
            total = sum(sizes[i] for i in now)
        now.append(number)
        total += size
    if now:
        found.append(now)
    return [text[spans[run[0]][0] : spans[run[-1]][1]] for run in found]


def split_to_fit(text: str, spans: Sequence[Span], most: int, count: CountTokens) -> list[Span]:
    """Return the spans, those of more than `most` tokens cut in halves between words until they fit."""
    found: list[Span] = []
    for span, size in zip(spans, count([text[a:b] for a, b in spans]), strict=True):
        halves = halve(text, span) if size > most else None
        found += [span] if halves is None else split_to_fit(text, halves, most, count)
    return found


CLAUSES: tuple[re.Pattern[str], ...] = (  # where a long sentence is cut, the best first
    re.compile(r"(?<=[;:؛；：])\s*|\s+(?=[–—]\s)"),
    re.compile(r"(?<=[,،])\s+|(?<=[，、])"),
    re.compile(
        r"\s+(?=(?:and|or|but|because|which|who|that|while|when|if|und|oder|aber|weil|dass|et|ou|mais|que|qui|y|o|pero|"
        r"e|mas|porque|quando|ed|che|en|maar|и|но|что|który|oraz|ale)\s)"
    ),
    re.compile(r"\s+"),
)
MIDDLE = 0.7  # part of a span, around its middle, where a clause may be cut


def halve(text: str, span: Span) -> list[Span] | None:
    """Return two parts of a span, cut between clauses near its middle, else between words, else at the middle.

    Returns None for a single character.
    """
    start, end = span
    if end - start < 2:
        return None
    middle = (start + end) // 2
    for pattern in CLAUSES:
        cuts = [
            match.span() for match in pattern.finditer(text, start, end) if start < match.start() and match.end() < end
        ]
        near = [cut for cut in cuts if abs(cut[0] - middle) <= MIDDLE / 2 * (end - start)]
        found = near or (cuts if pattern is CLAUSES[-1] else [])
        if found:
            a, b = min(found, key=lambda cut: abs(cut[0] - middle))
            return [(start, a), (b, end)]
    return [(start, middle), (middle, end)]
