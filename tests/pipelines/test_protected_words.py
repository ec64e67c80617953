"""Words that a translation keeps: which are found, how they are masked, and what happens if the model drops them."""

from __future__ import annotations

import re

import pytest

from multihead.errors import InvalidInput
from multihead.pipelines.translation.attempts import keep_words
from multihead.pipelines.translation.numbers import lost_numbers
from multihead.pipelines.translation.protected_words import find_protected
from multihead.pipelines.translation.units import join_cut_words, make_units

from .conftest import exact


class Letters:
    """Characters of a vocabulary that has ASCII without some signs, and Portuguese letters."""

    def unknown(self, text):
        return {
            sign
            for sign in text
            if not sign.isspace() and (sign in "#@~^\\<>{}`&" or (sign > "\x7f" and sign not in "ãçéª"))
        }

    def folded(self, text):
        return frozenset(self.unknown(text) & set("“”‘’–—−"))

    def without_tokens(self, text):
        return text


LETTERS = Letters()


class KnownTags(Letters):
    """Characters of a vocabulary that can spell tags."""

    def unknown(self, text):
        return super().unknown(text) - {"<", ">"}


def protected(text, **options):
    return [word.source for word in find_protected(text, Letters(), **options)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It costs 5 €, or £2.5m.", ["5 €", "£2.5m"]),
        ("It was −5 °C in Łódź.", ["−5 °C", "Łódź"]),
        ("Καλημέρα κόσμε means good morning.", ["Καλημέρα κόσμε"]),
        ("Write to a_b@c.org (or @team), or see https://x.org/a#b.", ["a_b@c.org", "@team", "https://x.org/a#b"]),
        ("Hi {name}, %s has %(n)d of 100% safe.", ["{name}", "%s", "%(n)d"]),
        ("Run `a b` in C:\\temp\\x.txt now", ["`a b`", "C:\\temp\\x.txt"]),
        ("See doi:10.1/xyz_12~4.", ["doi:10.1/xyz_12~4"]),
        ("The β-carotene of “Gödel’s” friend — 1914–1918", ["β", "Gödel", "1914–1918"]),
        ("我喜欢🎉的", ["我喜欢🎉的"]),
        ("The set {a, b} holds.", ["{a", "b}"]),
        ("If a ≠ b and x → y, go.", ["a ≠ b", "→"]),
        ("Read docs/fast.md and a-b/c.tar.gz, and/or others.", ["docs/fast.md", "a-b/c.tar.gz"]),
        ("Nothing to protect, são 5.", []),
    ],
)
def test_words_are_found_without_the_punctuation_around_them(text, words):
    assert protected(text) == words


def test_terms_match_whole_words_and_keep_their_capital():
    text = "The Invoice and invoices of Acme Cloud: one invoice."
    found = find_protected(text, Letters(), keep=["Acme Cloud"], glossary={"invoice": "fatura"})
    assert [(word.source, word.target) for word in found] == [
        ("Invoice", "Fatura"), ("Acme Cloud", "Acme Cloud"), ("invoice", "fatura")
    ]  # fmt: skip


def units_of(text, known=LETTERS, **options):
    words = find_protected(text, known, **options)
    return make_units(text, join_cut_words([(0, len(text))], words), words, known.folded(text))


def translations(text, translate, parts=True, **options):
    (unit,) = units_of(text, **options)
    first = [[translate(unit.masked(0).text)]]
    (found,) = keep_words([unit], first, lambda texts: [[translate(text)] for text in texts], parts=parts)
    return unit.frame(found.texts[0]), found.notices


def test_a_model_that_copies_placeholders_keeps_every_word():
    seen = []
    text = "Send 5 € to “Łukasz”, X1 and {name} — now 🎉"
    answer, notices = translations(text, lambda text: (seen.append(text), text.upper())[1])
    assert answer == "SEND 5 € TO “Łukasz”, X1 AND {name} — NOW 🎉"
    assert not notices
    assert seen == ['Send X2 to "X3", X1 and X4 - now']


def test_a_word_that_the_model_knows_is_masked_only_after_it_was_changed():
    seen = []

    def translate(text):
        seen.append(text)
        return text.replace("max_size", "tamanho_max")

    assert translations("Set max_size now.", translate) == ("Set max_size now.", [])
    assert seen == ["Set max_size now.", "Set xq1 now."]


@pytest.mark.parametrize("style", ["X1", "xq1", "XQA", "X-1", "7141"])
def test_another_placeholder_is_tried_if_the_model_drops_one(style):
    def translate(text):
        return text if style in text else re.sub(r"X1|xq1|XQA|X-1|7141", "", text)

    assert translations("Send 5 € now.", translate) == ("Send 5 € now.", [])


@pytest.mark.parametrize("wrong", ["", "X1 X1 xq1 xq1 XQA XQA X-1 X-1 7141 7141"])
def test_a_sentence_is_translated_around_a_word_that_no_placeholder_keeps(wrong):
    answer, (notice,) = translations(
        "send 5 € now.", lambda text: re.sub(r"X1|xq1|XQA|X-1|7141", wrong, text).capitalize()
    )
    assert answer == "send 5 € now."
    assert "in parts" in notice
    assert "'5 €'" in notice


def test_a_model_of_whole_texts_says_what_it_lost():
    answer, (notice,) = translations(
        "Send 5 € now.", lambda text: re.sub(r"X1|xq1|XQA|X-1|7141", "", text), parts=False
    )
    assert answer == "Send  now."
    assert "'5 €'" in notice


def test_tags_stay_in_their_order():
    text = "Click <b>here</b>."
    answer, _ = translations(text, lambda text: text.replace("X1here X2", "X2here X1") if "X1" in text else text)
    assert answer == text


@pytest.mark.parametrize(
    ("text", "markup", "emptied", "kept"),
    [
        ("Our <em>little</em> shop", (), "Shop <em></em>", "<em>Petit</em> shop"),
        ("Go <a><b>home</b></a> now", (), "Now home <a><b></b></a>", "Now <a><b>home</b></a>"),
        ("Our [new page](x) here", ((4, 5), (13, 17)), "Page X1X2", "X1 page X2"),
        ("A *b* and *c*", ((2, 3), (4, 5), (10, 11), (12, 13)), "A X1 X2 b X3 c X4", "A X1 b X2 X3 c X4"),
    ],
)
def test_tags_do_not_lose_the_text_between_them(text, markup, emptied, kept):
    (unit,) = units_of(text, known=KnownTags(), markup=markup)
    masked = unit.masked(0)
    assert masked.lost(emptied)
    assert masked.lost(kept) == []


def test_tags_without_text_stay_empty():
    (unit,) = units_of("An <i></i> icon<br> and <b>text</b>", known=KnownTags())
    assert unit.masked(0).lost("Un <i></i> icon<br> et <b>texte</b>") == []


@pytest.mark.parametrize("text", ["1,234.56", "192.168.0.1", "00:00:01,000 --> 00:00:04,000", "42 🎉"])
def test_numbers_alone_need_no_model(marian, text):
    pipe = exact("translation", marian)
    assert pipe(text) == [{"translation_text": text}]
    assert pipe(text, num_beams=2, num_return_sequences=2) == [{"translation_text": text}] * 2


def test_a_translation_that_ends_at_the_default_limit_is_told(marian):
    pipe = exact("translation", marian, suppress_tokens=[0])
    pipe.model.generation_config.eos_token_id = None
    (notice,) = pipe(["The fox"], return_finish_reason=True).metadata.notices
    assert "limit of new tokens" in notice.text
    assert pipe(["The fox"], max_new_tokens=3).metadata.notices == []


def test_only_signs_need_no_model(marian):
    pipe = exact("translation", marian)
    assert pipe(" 🎉🎉 ", max_new_tokens=4) == [{"translation_text": " 🎉🎉 "}]


def test_unknown_words_survive_a_model_that_copies_nothing_with_every_sequence(marian):
    pipe = exact("translation", marian, max_new_tokens=6, num_beams=3, num_return_sequences=2)
    (answers,) = pipe(["The fox 5 € jumps {name}"])
    assert len(answers) == 2
    for answer in answers:
        assert "€" in answer["translation_text"]
        assert "{name}" in answer["translation_text"]


def test_a_text_that_is_not_protected_reaches_the_model_whole(marian):
    pipe = exact("translation", marian, max_new_tokens=4, split_sentences=False)
    text = "The fox 🎉"
    ids = pipe.model.generate(**pipe.tokenizer(text, return_tensors="pt"), max_new_tokens=4)[0].tolist()
    (answer,) = pipe(text, return_tensors=True)
    assert answer["translation_token_ids"].tolist() == ids[1:]


def test_words_that_are_not_protected_are_named_in_a_notice(marian):
    pipe = exact("translation", marian, max_new_tokens=6, protect_words=False)
    answers = pipe(["The fox", "The fox €"])
    assert [(notice.number, "'€'" in notice.text) for notice in answers.metadata.notices] == [(1, True)]


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("674,000 of 1,160,000 miles in 1990", "674 mil de 1.160.000 milhas em 1990", []),
        ("734,000 square miles, 25 miles (40 km)", "794 mil milhas, 40 km", ["734,000", "25"]),
        ("It is 3.5 m, 10 of them", "3,5 m, dez deles", []),
        ("In the 20th century, A4 and 1990s", "século XX", []),
        ("1 000 people and 15", "1 000 pessoas e 15", []),
    ],
)
def test_numbers_that_a_translation_lacks(source, translation, lost):
    assert lost_numbers(source, translation) == lost


def test_lost_numbers_are_told(marian):
    answers = exact("translation", marian, max_new_tokens=4)(["The fox 1969", "The fox"])
    (notice,) = answers.metadata.notices
    assert notice.number == 0
    assert "1969" in notice.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": "Acme"}, "keep is a list"),
        ({"keep": [""]}, "keep is a list"),
        ({"glossary": ["a"]}, "glossary maps"),
        ({"glossary": {"a": 1}}, "glossary maps"),
        ({"keep": ["Acme"], "protect_words": False}, "need protect_words"),
        ({"glossary": {"a": "b"}, "return_tensors": True}, "return_tensors"),
    ],
)
def test_wrong_options_are_refused(marian, options, says):
    with pytest.raises(InvalidInput, match=says):
        exact("translation", marian)("The fox", **options)
