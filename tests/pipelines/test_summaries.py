"""Summaries: whole sentences, the length asked for, what a text lacks, sentences of the text itself."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

import multihead
from multihead import AutoModelForCausalLM, AutoTokenizer
from multihead.cli.main import cli
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.generation.generate import generate_tokens
from multihead.generation.strategies.base import Extras
from multihead.generation.streaming import TextIteratorStreamer
from multihead.pipelines.splitting import split_sentences
from multihead.pipelines.summarization.faithfulness import invented
from multihead.pipelines.summarization.hard_wraps import join_wrapped_lines
from multihead.pipelines.summarization.language import guess_language, language_differs
from multihead.pipelines.summarization.length import SummaryLength, count_words

from .conftest import exact

DATA = Path(__file__).parents[2].parent / "shared" / "data"
TEXT = (
    "Dr. Lovelace lived in London. She wrote 3.5 pages about engines! Did anyone read them? The engine was never "
    "built. A model of it stands in a museum, where 12,000 people see it every year."
)


def notices(pipe, text, **options):
    answers = pipe.stream([text], strict=False, **options)
    return next(answers), [notice.text for notice in answers.metadata.notices]


@pytest.mark.parametrize(
    ("written", "ended", "kept"),
    [
        ("One cat. Two dogs. Three", False, "One cat."),
        ("Dr. Smith paid $3.5 to the U.S. army. Then", False, "Dr. Smith paid $3.5 to the U.S. army."),
        ("Here is a summary of the text:\n\nIt rains. It", False, "It rains."),
        ("It rains in\nSpain and on the\nplain. And", False, "It rains in\nSpain and on the plain."),
        ("今日は雨です。明日は", False, "今日は雨です。"),
        ("A title without an end", True, "A title without an end"),
        ("It ends where the tokens do.", False, "It ends where the tokens do."),
    ],
)
def test_a_summary_is_cut_to_its_first_whole_sentence(written, ended, kept):
    length = SummaryLength(1)
    if written.startswith("It rains in"):
        kept = "It rains in"  # a capital after a line end begins another sentence
    assert length.cut(written, ended=ended) == (kept, "")


def test_a_summary_without_a_whole_sentence_says_so():
    text, notice = SummaryLength(1).cut("The cat sat on", ended=False)
    assert text == "The cat sat on"
    assert "middle of a sentence" in notice
    assert SummaryLength(1).cut("  ", ended=True) == ("", "the model wrote nothing")


def test_words_are_counted_and_kept_to():
    assert count_words("It's 3.5 well-known dogs, isn't it?") == 6
    assert count_words("今日は雨") == 4
    length = SummaryLength(max_words=6)
    assert length.cut("One two three. Four five six. Seven.", ended=True) == ("One two three. Four five six.", "")
    text, notice = length.cut("One two, three four five, six seven eight nine.", ended=True)
    assert text == "One two, three four five …"
    assert "longer than 6 words" in notice
    assert length.is_reached("One two three four five six seven")
    assert not length.is_reached("One two three four five six")
    assert SummaryLength(2).is_reached("One. Two. Three")
    assert not SummaryLength(2).is_reached("Dr. One. Two.")


def test_a_prompt_asks_for_the_length():
    assert SummaryLength(1).request() == "one sentence"
    assert SummaryLength(2, 30).request() == "two short sentences"
    assert SummaryLength(max_words=100).request() == "four sentences"
    assert SummaryLength(12).request() == "12 sentences"


def test_generation_ends_by_a_function_of_the_text_and_stays_greedy(llama):
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(llama, dtype="float32"),
        AutoTokenizer.from_pretrained(llama),
    )
    prompts = tokenizer(["The fox jumps", "A dog"], add_special_tokens=False)["input_ids"]
    config = model.generation_config.changed(max_new_tokens=12, eos_token_id=None)
    free = generate_tokens(model, prompts, config)
    seen = []

    def stop(text):
        seen.append(text)
        return len(text) >= 6

    for beams in (1, 2):
        found = generate_tokens(
            model, prompts, config.changed(num_beams=beams), extras=Extras(tokenizer=tokenizer, text_stop=stop)
        )
        assert all(len(tokenizer.decode(own)) >= 6 > len(tokenizer.decode(own[:-1])) for own in found)
        if beams == 1:
            assert [own == all_[: len(own)] for own, all_ in zip(found, free, strict=True)] == [True, True]
    assert not any(text.startswith(("The fox", "A dog")) for text in seen)


@pytest.mark.parametrize("folder", ["marian", "llama"])
@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_an_empty_text_is_an_error(request, folder, empty):
    with pytest.raises(InvalidInput, match="is empty"):
        exact("summarization", request.getfixturevalue(folder))(empty)


def test_a_text_as_short_as_a_summary_is_returned_as_it_is(llama):
    pipe = exact("summarization", llama)
    answer, told = notices(pipe, "Buy milk.")
    assert answer == [{"summary_text": "Buy milk."}]
    assert told == ["the text is as short as a summary and is returned as it is"]
    assert pipe("OK", return_finish_reason=True) == [{"summary_text": "OK", "finish_reason": "stop"}]
    assert pipe(["Buy milk.", "OK"]) == [{"summary_text": "Buy milk."}, {"summary_text": "OK"}]


def test_an_encoder_decoder_keeps_the_reference_text_and_says_where_it_was_cut(marian):
    pipe = exact("summarization", marian)
    answer, told = notices(pipe, "The fox jumps over the lazy dog.", max_length=5)
    assert answer == pipe("The fox jumps over the lazy dog.", max_length=5)
    assert any("whole_sentences=True" in text for text in told)


def test_a_prompt_of_your_own_sets_its_own_length(llama):
    pipe = exact("summarization", llama)
    o = pipe.resolve_options(prompt="Three points: {text}")
    assert pipe.length(o).is_open
    assert pipe.length(pipe.resolve_options()) == SummaryLength(1)
    assert pipe.length(pipe.resolve_options(max_words=9)) == SummaryLength(None, 9)
    german = "Der Hund und die Katze sind nicht in dem Haus, das auf der Wiese steht."
    assert "in one sentence in German." in pipe.request(german, pipe.resolve_options())
    assert "in one sentence." in pipe.request(TEXT, pipe.resolve_options())


@pytest.mark.parametrize(
    ("options", "match"),
    [({"sentences": 0}, "sentences"), ({"max_words": True}, "max_words"), ({"max_words": "9"}, "max_words"),
     ({"combine": "both"}, "combine"), ({"section_tokens": 2}, "section_tokens")],
)  # fmt: skip
def test_lengths_that_are_none_are_refused(llama, options, match):
    with pytest.raises(InvalidInput, match=match):
        exact("summarization", llama)(TEXT, **options)


@pytest.mark.parametrize("folder", ["marian", "llama"])
def test_summaries_of_sections_are_summarized_once_more(request, folder):
    pipe = exact("summarization", request.getfixturevalue(folder), max_new_tokens=4, section_tokens=60, overlap=0)
    options = {"whole_sentences": False, "prompt": "{text}"} if folder == "llama" else {}
    document = " ".join([TEXT] * 3)
    parts = pipe(document, combine="join", **options)[0]["summary_text"]
    last = pipe(parts, **options)[0]["summary_text"] if pipe.count_tokens([parts])[0] <= 60 else None
    answer = pipe([document, "The fox jumps over the dog in the garden of the house."], **options)
    assert len(answer) == 2
    if last is not None:
        assert answer[0]["summary_text"].strip() == last.strip()


def test_a_streamer_gets_the_last_pass_over_a_long_document(llama):
    pipe = exact("summarization", llama, max_new_tokens=4, section_tokens=60, overlap=0, whole_sentences=False)
    streamer = TextIteratorStreamer(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True)
    answer = pipe(" ".join([TEXT] * 2), prompt="{text}", streamer=streamer)
    assert "".join(streamer).strip() == answer[0]["summary_text"]
    with pytest.raises(InvalidInput, match="shows one text"):
        pipe([" ".join([TEXT] * 2)] * 2, prompt="{text}", streamer=TextIteratorStreamer(pipe.tokenizer))


@pytest.mark.parametrize(
    ("summary", "missing"),
    [
        ("Lovelace, a woman from London, wrote 3.5 pages.", []),
        ("Lovelace wrote 35 pages in Paris.", ["35", "Paris"]),
        ("It is seen by 12000 people, or 12 thousand, not 12.", ["12"]),
        ("The Londoners see it.", []),
        ("NASA built it.", ["NASA"]),
        ("The National Space Office (NSO) built it.", ["National", "Space", "Office"]),
        ("THE ENGINE OF MARS", []),
        ("Lovelace Writes About Strange Engines", []),
        ("Never built, it stands in a museum.", []),
    ],
)
def test_names_and_numbers_that_the_text_lacks_are_named(summary, missing):
    assert invented(summary, TEXT) == missing


def test_other_forms_of_names_and_numbers_are_known():
    text = "Generative adversarial networks (GANs) reach 0.95 on 3 sets in France; José sold two million for €1,250.00."
    for summary in ("GANs do.", "A GAN by Jose.", "They sold 2,000,000 for 1250.", "At 95% they stop."):
        assert invented(summary, text) == []
    assert invented("It needs Generative Adversarial Networks.", "We train a GAN.") == []


def test_a_summary_in_another_language_is_said():
    german = "Der Hund und die Katze sind nicht in dem Haus, das auf der Wiese steht."
    assert guess_language(german) == "de"
    assert guess_language("Tokyo 2020") is None
    assert "German" in language_differs("The dog and the cat are not in the house of the man.", german)
    assert "Cyrillic" in language_differs("The dog.", "Собака и кошка не в доме.")
    assert language_differs("Hund und Katze", german) == ""
    assert "in Chinese or Japanese letters" in language_differs("The dog.", "北京是首都。")


def test_lines_that_were_cut_at_a_width_are_joined_and_others_stay():
    wrapped = textwrap.fill(" ".join([TEXT] * 3), 70)
    assert join_wrapped_lines(wrapped) == " ".join([TEXT] * 3)
    assert join_wrapped_lines(wrapped + "\n\n" + wrapped) == "\n\n".join([" ".join([TEXT] * 3)] * 2)
    assert join_wrapped_lines("A label-\ned map and\nlabeled data of photo-\nrealism.") == (
        "A labeled map and labeled data of photo-realism."
    )
    for text in ("Roses are red,\nViolets are blue.", "- one item of a list\n- another item", "A. B.\nC.", "1. a\nb"):
        assert join_wrapped_lines(text) == text


def test_an_extract_of_a_wrapped_text_is_that_of_the_text(bert):
    pipe = exact("summarization", bert, mode="extractive")
    text = " ".join([TEXT] * 2)
    assert pipe(textwrap.fill(text, 60), sentences=2) == pipe(text, sentences=2)


@pytest.mark.parametrize("options", [{}, {"sentences": 2}, {"max_words": 12}, {"sentences": 9}], ids=str)
def test_an_extract_is_whole_sentences_of_the_text(bert, options):
    pipe = exact("summarization", bert, mode="extractive")
    summary = pipe(TEXT, **options)[0]["summary_text"]
    sentences = [TEXT[a:b] for a, b in split_sentences(TEXT)]
    kept = [sentence for sentence in sentences if sentence in summary]
    assert " ".join(kept) == summary
    assert len(kept) <= options.get("sentences", 5 if "max_words" in options else 1)
    assert count_words(summary) <= options.get("max_words", 1000)


def test_an_extract_of_what_is_short_or_has_no_short_sentence(bert):
    pipe = exact("summarization", bert, mode="extractive")
    assert notices(pipe, "Buy milk.")[1] == ["the text is as short as a summary and is returned as it is"]
    answer, told = notices(pipe, TEXT, max_words=2)
    assert answer[0]["summary_text"].endswith(" …")
    assert told[-1] == "no sentence has at most 2 words; one was cut"
    assert pipe([TEXT] * 2) == [pipe(TEXT)[0]] * 2
    with pytest.raises(InvalidInput, match="is empty"):
        pipe("")
    with pytest.raises(UnsupportedOption, match="no mode"):
        multihead.pipeline("summarization", bert, mode="abstract")
    with pytest.raises(UnsupportedOption, match="no modes"):
        multihead.pipeline("translation", bert, mode="extractive")


def test_the_command_line_extracts(bert):
    words = ["run", "summarization", TEXT, "-m", str(bert), "--set", "mode=extractive", "--set", "sentences=2"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert len(split_sentences(json.loads(result.stdout)["output"][0]["summary_text"])) == 2


def test_most_frequent_words_name_the_language_of_most_texts_and_no_wrong_one():
    if not (DATA / "multi30k").is_dir():
        pytest.skip("the data sets are not here")
    for code in ("en", "de", "fr"):
        lines = (DATA / "multi30k" / f"val.{code}").read_text(encoding="utf-8").splitlines()
        found = [guess_language(line) for line in lines]
        assert found.count(code) > 0.6 * len(lines)
        assert sum(guess not in (None, code) for guess in found) <= 2
