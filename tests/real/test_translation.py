"""Real translators keep what their vocabulary cannot spell."""

from __future__ import annotations

import pytest

from multihead import pipeline
from multihead.errors import InvalidInput
from multihead.pipelines.defaults import ENGLISH_PORTUGUESE

from .test_real_weights import fetched

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def translate():
    fetched(ENGLISH_PORTUGUESE.name)
    return pipeline("translation_en_to_pt", ENGLISH_PORTUGUESE.name, dtype="float32")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Price: 5 €, 10 £ or 3 ¥.", ["5 €", "10 £", "3 ¥"]),
        ("Hello {name}, write to jane.doe@example.com or see https://example.com/a#top 🎉",
         ["{name}", "jane.doe@example.com", "https://example.com/a#top", "🎉"]),
        ("Profit fell by −3 % to £2.5m in Łódź.", ["−3 %", "£2.5m", "Łódź"]),
        ("Click <b>here</b> & call `f(x)`.", ["<b>", "</b>", "`f(x)`"]),
        ("He said “No” — and left.", ["“Não”", "—"]),
    ],
)  # fmt: skip
def test_words_with_unknown_characters_are_kept(translate, text, kept):
    for options in ({}, {"num_beams": 2, "num_return_sequences": 2}):
        for answer in translate(text, **options):
            for word in kept:
                assert answer["translation_text"].count(word) == 1, answer


def test_a_glossary_and_kept_terms_are_followed(translate):
    options = {"glossary": {"invoice": "nota fiscal"}, "keep": ["Blue Train"]}
    (answer,) = translate("The invoice of Blue Train is late.", **options)
    assert "nota fiscal" in answer["translation_text"]
    assert "Blue Train" in answer["translation_text"]


def test_languages_that_a_model_of_one_pair_does_not_have_are_refused(translate):
    assert translate("Hello.", src_lang="en", tgt_lang="pt_BR") == translate("Hello.")
    for options in ({"tgt_lang": "de"}, {"src_lang": "fr"}):
        with pytest.raises(InvalidInput, match=next(iter(options))):
            translate("Hello.", **options)
