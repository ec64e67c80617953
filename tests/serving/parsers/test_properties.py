"""Any text in any pieces: the same parts, nothing lost, arguments that are the beginning of JSON, linear time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.serving.parsers import REASONING_PARSERS, TOOL_PARSERS
from multihead.serving.parsers.json_text import JsonText

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


@settings(max_examples=120, deadline=None)
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


LONG = "x\\n<b é\n" * 6_000


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("hermes", f'<tool_call>{{"name": "f", "arguments": {{"a": "{LONG}"}}}}</tool_call>'),
        ("hermes", f'<tool_call>{{"arguments": {{"a": "{LONG}"}}, "name": "f"}}</tool_call>'),
        ("hermes", f"<tool_call>{{{LONG}"), ("hermes", "<tool_call>" * 10_000), ("hermes", '<tool_call>{"a":[' * 6_000),
        ("qwen3_coder", f"<tool_call><function=f><parameter=a>{LONG}</parameter></function></tool_call>"),
        ("pythonic", f'[f(a="""{LONG}""")]'), ("gemma4", f'<|tool_call>call:f{{a:<|"|>{LONG}<|"|>}}<tool_call|>'),
        ("openai", f"<|channel|>final<|message|>{LONG}"), ("mistral", " " * 100_000), ("pythonic", "[" * 100_000),
        ("qwen3_coder", f"<tool_call><function=f><parameter=a>{'</parameter>' * 8_000}"),
    ],
    ids=lambda given: given[:24],
)  # fmt: skip
def test_the_time_is_linear_in_the_length(tool, text):
    begin = time.process_time()
    one = read_quickly(parser_of(tool), text)
    assert read_quickly(parser_of(tool), text, len(text)) == one
    assert time.process_time() - begin < 20  # a quadratic reader takes minutes


def read_quickly(parser, text, size=1):
    deltas = [*(parser.feed(text[begin : begin + size]) for begin in range(0, len(text), size)), parser.finish()]
    calls = [piece for delta in deltas for piece in delta.calls]
    return "".join(d.reasoning + d.content for d in deltas), "".join(piece.name + piece.arguments for piece in calls)
