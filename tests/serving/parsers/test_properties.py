"""Any text in any pieces: the same parts, nothing lost, arguments that are the beginning of JSON, linear work."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.serving.parsers import REASONING_PARSERS, TOOL_PARSERS
from multihead.serving.parsers.json_text import JsonText
from multihead.tokenizers.response_regions import Regions

from .reading import Words, begins_json, parser_of, read
from .test_formats import CALLS, THOUGHTS

PIECES = [
    " ", "\n", "a", "é", "§", "{", "}", "[", "]", "(", ")", ",", ":", ";", "=", '"', "'", "\\", "\\u00e9", "1",
    "-2.5e3", "null", "True", '"name": "f"', '"arguments": {"a": 1}', '"parameters": {', "f(a=", "call:f{a:", "f",
    "functions.f:0",
]  # fmt: skip
TOOL_NAMES = {id(one): name for name, one in TOOL_PARSERS.items() if one and name != "openai"}.values()
THOUGHT_NAMES = {id(one.blocks): name for name, one in REASONING_PARSERS.items() if one and one.blocks}.values()
PAIRS = [*((tool, "qwen3") for tool in TOOL_NAMES), *(("hermes", reasoning) for reasoning in THOUGHT_NAMES)]
MARK = "§"


def texts(tool, reasoning):
    """Texts of markers, pieces of calls, and anything; or a real answer with something else inside."""
    formats = (TOOL_PARSERS[tool], REASONING_PARSERS[reasoning])
    parts = [*sorted({marker for one in formats for marker in one.markers if marker}), *PIECES]
    examples = [text for name, text in CALLS if TOOL_PARSERS[name] is formats[0]]
    examples += [text for name, _, text, *_ in THOUGHTS if name == reasoning]
    loose = st.lists(st.sampled_from([*parts, *examples]) | st.text(max_size=4), max_size=12).map("".join)
    torn = st.tuples(st.sampled_from(examples), st.integers(0, 400), st.sampled_from([*parts, ""]), st.booleans())
    return loose | torn.map(lambda t: t[0][: t[1]] + t[2] + (t[0][t[1] :] if t[3] else ""))


def cuts(text):
    return st.one_of(st.just(list(range(1, len(text)))), st.sets(st.integers(0, len(text)), max_size=8).map(sorted))


@pytest.mark.parametrize(("tool", "reasoning"), PAIRS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_pieces_change_nothing_and_nothing_is_lost(tool, reasoning, data):
    text = data.draw(texts(tool, reasoning))
    prompt = data.draw(st.sampled_from(["", "x"]))
    whole = read(parser_of(tool, reasoning, prompt=prompt), text)
    assert read(parser_of(tool, reasoning, prompt=prompt), text, data.draw(cuts(text))) == whole
    thoughts, content, calls = whole
    if not calls and not thoughts and not any(one in text for one in REASONING_PARSERS[reasoning].markers):
        assert content == text
    found = thoughts + content + "".join(name + arguments for name, arguments in calls)
    assert found.count(MARK) == text.count(MARK)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_harmony_and_response_templates_do_not_depend_on_the_pieces(data):
    text = data.draw(texts("openai", "openai_gptoss"))
    whole = read(parser_of("openai"), text)
    assert read(parser_of("openai"), text, data.draw(cuts(text))) == whole
    words = Words(response_template=TEMPLATE, special=("<|end|>", "<tool_call>", "<|return|>"))
    text = data.draw(texts("hermes", "qwen3") | texts("openai", "openai_gptoss"))
    whole = read(parser_of(tokenizer=words), text)
    assert read(parser_of(tokenizer=words), text, data.draw(cuts(text))) == whole


TEMPLATE = {
    "start_anchor": "assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*<\|end\|>"},
    },
}  # fmt: skip


def test_the_response_template_of_a_tokenizer_comes_first():
    words = Words(response_template=TEMPLATE, special=("<|end|>", "<|return|>"), chat_template="tools [TOOL_CALLS]")
    text = (
        'so</think>\n\nLook<|return|>.\n<tool_call>{"name": "now", "arguments": {"a": "é"}}</tool_call>\n'
        '<tool_call>{"name": "now"}</tool_call> <tool_call>{"name": </tool_call>!<|end|>\n'
    )
    parser = parser_of(tokenizer=words, prompt="x<|end|>assistant\n<think>\n")
    assert parser.kept_tokens == ("<|end|>", "<|return|>")
    calls = [("now", '{"a": "é"}'), ("now", "{}")]
    assert read(parser, text, range(1, len(text))) == ("so", 'Look. <tool_call>{"name": </tool_call>!', calls)
    parser = parser_of(tokenizer=words, tools=None)
    assert read(parser, '<tool_call>{"name": "now"}</tool_call>') == ("", '<tool_call>{"name": "now"}</tool_call>', [])
    assert parser_of("mistral", tokenizer=words).tool_parser == "mistral"


def is_json(text):
    try:
        json.loads(text, strict=False, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return False
    return True


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_json_is_read_as_the_standard_library_reads_it(data):
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    value = st.recursive(
        st.none() | st.booleans() | numbers | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
    text = json.dumps(data.draw(value), ensure_ascii=data.draw(st.booleans()))
    place, piece = data.draw(st.integers(0, len(text))), data.draw(st.sampled_from(["", *PIECES, "\x01", "0", "e"]))
    text = (text[:place] + piece + text[place + data.draw(st.integers(0, 2)) :]).strip(" \n\t\r")
    reader, found, at = JsonText(), "", 0
    while at < len(text) and not reader.done and not reader.broken:
        end = data.draw(st.integers(at + 1, len(text)))
        given_out, at = reader.read(text[:end], at)
        found += given_out
        assert begins_json(found)
    reader.finish()
    assert (reader.done and at == len(text)) == is_json(text)
    if is_json(text):
        assert json.loads(found) == json.loads(text, strict=False)


LONG = "x\\n<b é\n"


@pytest.mark.parametrize(
    ("tool", "before", "inside", "after"),
    [
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "', LONG, '"}}</tool_call>'),
        ("hermes", '<tool_call>{"arguments": {"a": "', LONG, '"}, "name": "f"}</tool_call>'),
        ("hermes", "<tool_call>{", LONG, ""), ("hermes", "", "<tool_call>", ""),
        ("hermes", "", '<tool_call>{"a":[', ""),
        ("qwen3_coder", "<tool_call><function=f><parameter=a>", LONG, "</parameter></function></tool_call>"),
        ("qwen3_coder", "<tool_call><function=f><parameter=a>", "</parameter>", ""),
        ("pythonic", '[f(a="""', LONG, '""")]'), ("pythonic", "", "[", ""), ("mistral", "", " ", ""),
        ("gemma4", '<|tool_call>call:f{a:<|"|>', LONG, '<|"|>}<tool_call|>'),
        ("openai", "<|channel|>final<|message|>", LONG, ""),
    ],
)  # fmt: skip
def test_the_work_is_linear_in_the_length(tool, before, inside, after):
    """Twice the text takes twice the calls of functions, and no text is read again."""
    short, long = (before + inside * (size // len(inside)) + after for size in (4_000, 8_000))
    assert calls_of_functions(tool, long) < 2.3 * calls_of_functions(tool, short)


def calls_of_functions(tool, text):
    count = 0

    def note(*_):
        nonlocal count
        count += 1

    parser = parser_of(tool)
    sys.setprofile(note)
    try:
        for char in text:
            parser.feed(char)
        parser.finish()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("text", [" " * 20_000, f"<think>{LONG * 2_000}", "\n" * 9_000 + "x"], ids=len)
def test_response_templates_search_no_text_often(text, monkeypatch):
    searched, search = 0, Regions.search

    def note(self, last):
        nonlocal searched
        searched += len(self.buffer) - self.at
        return search(self, last)

    monkeypatch.setattr(Regions, "search", note)
    parser = parser_of(tokenizer=Words(response_template=TEMPLATE))
    for char in text:
        parser.feed(char)
    parser.finish()
    assert searched < 20 * len(text)
