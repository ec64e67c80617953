"""Sentences and sections: nothing is lost, nothing is longer than it may be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.pipelines.splitting import split_sections, split_sentences, split_to_fit
from multihead.pipelines.translation.pipeline import split_lines

PROSE = st.lists(
    st.sampled_from(
        ["Dr.", "Smith", "came.", "He", "left!", "3.14", "\n", "  ", "Why?", "U.S.", "東京。", "x" * 30, "", "…"]
    ),
    max_size=40,
).map(" ".join)


def count(texts):
    return [len(text.split()) + len(text) // 8 for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith paid $3.14. He left.", ["Dr. Smith paid $3.14.", "He left."]),
        ("He said “No.” Then he left.", ["He said “No.”", "Then he left."]),
        ("See e.g. Fig. 3 for it. J. R. Tolkien wrote.", ["See e.g. Fig. 3 for it.", "J. R. Tolkien wrote."]),
        ("A line\nanother line\n\n  - a point. And more", ["A line", "another line", "- a point.", "And more"]),
        ("1. First. 2. Second.", ["1. First.", "2. Second."]),
        ("東京に行く。楽しい！はい", ["東京に行く。", "楽しい！", "はい"]),
        ("approx. five, i.e. few. etc. and so on", ["approx. five, i.e. few. etc. and so on"]),
        (
            "He met J. R. Smith of the U.S. Senate at 5 p.m. We left.",
            ["He met J. R. Smith of the U.S. Senate at 5 p.m.", "We left."],
        ),
        (
            "Am 3. Oktober, z. B. im 19. Jahrhundert. Dr. Weber kam.",
            ["Am 3. Oktober, z. B. im 19. Jahrhundert.", "Dr. Weber kam."],
        ),
        ("« Où vas-tu ? » demanda Mme. Curie. Elle partit.", ["« Où vas-tu ? » demanda Mme. Curie.", "Elle partit."]),
        (
            "Ele vive na Av. Brasil, n.º 10. A Dra. Costa chegou.",
            ["Ele vive na Av. Brasil, n.º 10.", "A Dra. Costa chegou."],
        ),
        ("यह किताब है। वह गया। क्या?", ["यह किताब है।", "वह गया।", "क्या?"]),
        ("هل أنت بخير؟ نعم! یہ ہے۔ وہ گیا۔", ["هل أنت بخير؟", "نعم!", "یہ ہے۔", "وہ گیا۔"]),
        ("ሰላም ነው። እንዴት ነህ?", ["ሰላም ነው።", "እንዴት ነህ?"]),
        ("နေကောင်းလား။သွားတယ်။", ["နေကောင်းလား။", "သွားတယ်။"]),
        ("Ποιος είναι; Δεν ξέρω.", ["Ποιος είναι;", "Δεν ξέρω."]),
        (
            "It was 30 °C. We slept. He said no. Then he left.",
            ["It was 30 °C.", "We slept.", "He said no.", "Then he left."],
        ),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text, expected):
    assert [text[a:b] for a, b in split_sentences(text)] == expected


@given(PROSE | st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_spans_are_in_order_and_leave_out_white_space_only(text):
    for spans in (split_sentences(text), split_lines(text), split_to_fit(text, split_sentences(text), 5, count)):
        place, left = 0, []
        for start, end in spans:
            assert place <= start < end <= len(text)
            left.append(text[place:start])
            place = end
        assert not "".join([*left, text[place:]]).strip()


@given(PROSE, st.integers(4, 40), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_sections_fit_and_hold_every_word(text, room, overlap):
    found = split_sections(text, room, count, overlap)
    words = re.sub(r"\s+", "", text)
    if overlap == 0:
        assert re.sub(r"\s+", "", "".join(found)) == words
    assert all(re.sub(r"\s+", "", section) in words for section in found)
    assert bool(found) == bool(words)


def test_a_long_sentence_is_cut_between_clauses():
    text = "The old man who lived by the sea was tired, but he went out again that night to fish"
    spans = split_to_fit(text, [(0, len(text))], 12, lambda texts: [len(text.split()) for text in texts])
    assert [text[a:b] for a, b in spans] == [
        "The old man who lived by the sea was tired,", "but he went out again that night to fish"
    ]  # fmt: skip
