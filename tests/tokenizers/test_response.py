"""Answers are divided by response templates as the reference divides them, whole and in pieces."""

from __future__ import annotations

import json

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_parsing import ResponseParser as ReferenceParser

from multihead import AutoTokenizer
from multihead.errors import ChatTemplateError, InvalidInput
from multihead.tokenizers.response_parser import ResponseParser

from . import folders

THINK = {"open": "<think>", "close": "</think>"}
CALL = {"type": "function", "function": "{content}"}
NAMED = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
QWEN = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": THINK,
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json",
            "content_args": {"allow_non_json": True}, "transform": "{content}",
        },
        "content": {"close_pattern": r"\s*(?:<\|im_end\|>|<\|endoftext\|>)"},
    },
}  # fmt: skip
TAGS = {
    "start_anchor_pattern": r"<\|im_start\|>\w+\n",
    "fields": {
        "thinking": {**THINK, "repeats": True, "join": " / "},
        "tool_calls": {
            "open_pattern": r"<function=(?P<name>[^>\n]+)>", "close_pattern": r"</function>|$", "repeats": True,
            "content": "xml-inline", "transform": NAMED,
            "content_args": {
                "tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>",
                "merge_duplicates": True,
            },
        },
        "content": {"content_args": {"strip": False}},
    },
}  # fmt: skip
DIALECT = {
    "start_anchor": ["<|turn>model\n", "<|turn>"],
    "fields": {
        "tool_calls": {
            "open_pattern": r"<tool_call>call:(?P<name>\w+)", "close": ["</tool_call>", "</tool"], "repeats": True,
            "content": "json", "transform": NAMED,
            "content_args": {"unquoted_keys": True, "string_delims": [["<q>", "<q>"]], "allow_non_json": True},
        },
        "settings": {"open": "<set>", "close": "</set>", "content": "kv-lines", "content_args": {"kv_sep": "="}},
        "score": {"open": "<score>", "close": "</score>", "content": "int", "optional": True},
        "content": {"close": ["<turn|>", "<eos>"]},
    },
}  # fmt: skip
LISTS = {
    "start_anchor": ">>>",
    "fields": {
        "tool_calls": {
            "open": "[CALLS]", "content": "json", "transform_each": True,
            "transform": {"function": {"name": "{name}", "arguments": "{arguments}"}},
        },
        "content": {},
    },
}  # fmt: skip
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "integer"}, "b": {"type": ["boolean", "null"]}, "c": {"type": "number"},
                    "d": {"anyOf": [{"type": "array"}, {"type": "object"}]}, "e": {"type": "string", "nullable": True},
                },
            },
        },
    }
]  # fmt: skip
CASES = [
    (QWEN, '<think>\nhm\n</think>\n\nLook.\n<tool_call>\n{"name": "f", "arguments": {"a": "7"}}\n</tool_call>\n'
     '<tool_call>{"name": "g"}</tool_call><|im_end|>\n<|endoftext|>'),
    (QWEN, "Hello <b>there</b> <|im_end|>"),
    (QWEN, "a</think>b<tool_call>no json</tool_call> c"),
    (TAGS, "<think>a</think> b <think>c</think><function=f><parameter=a>3.0</parameter><parameter=a>x</parameter>"
     "<parameter=b>\nTRUE\n</parameter><parameter=c>1e3</parameter><parameter=d>[1]</parameter>"
     "<parameter=e>null</parameter></function>  rest "),
    (TAGS, "<function=f><parameter=b>None</parameter><parameter=a>nan</parameter>"),
    (DIALECT, "Hi<tool_call>call:f{a:1,b:{c:<q>x:\"y\",<q>}}</tool_call> <set>x = 1\ny\n=z</set>"
     "<score> 12 </score><eos>"),
    (DIALECT, "<tool_call>call:f{a:}</tool_call></tool"),
    (LISTS, 'Hi [CALLS][{"name": "f", "arguments": {"a": "1", "c": "2.50"}}, {"name": "g", "arguments": {}}]'),
]  # fmt: skip
PREFIXES = ["", "<|im_start|>assistant\n<think>\n", "<|turn>model\nSo ", "x>>>", "no anchor"]


def parsed(kind, template, text, cuts, prefix, tools=None):
    """Events and message, or the name of the error."""
    try:
        parser = kind(template, prefix, tools=tools)
        events = list(parser.initial_events)
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            events += parser.feed(text[begin:end])
        message, last = parser.finalize()
        return message, events + last
    except ValueError:
        return "refused"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("template", "text"), CASES, ids=[text[:20] for _, text in CASES])
def test_messages_and_events_are_those_of_the_reference(template, text, prefix):
    for cuts in ([], range(1, len(text)), range(3, len(text), 7)):
        for tools in (None, TOOLS):
            ours = parsed(ResponseParser, template, text, list(cuts), prefix, tools)
            assert ours == parsed(ReferenceParser, template, text, list(cuts), prefix, tools)


SNIPPETS = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", "\n", " ", "{", "}", '"name"', ":", "f",
    "<function=f>", "</function>", "<parameter=a>", "</parameter>", "7", "call:f", "{a:1}", "<q>", "<eos>", "<set>",
    "</set>", "=",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_text_in_any_pieces_is_divided_as_by_the_reference(data):
    template = data.draw(st.sampled_from([QWEN, TAGS, DIALECT, LISTS]))
    text = "".join(data.draw(st.lists(st.sampled_from(SNIPPETS) | st.text(max_size=3), max_size=20)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    ours = parsed(ResponseParser, template, text, cuts, "")
    assert ours == parsed(ReferenceParser, template, text, cuts, "")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("response"), "GPT2", response_template=QWEN)
    return AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


def test_tokenizers_read_their_own_template(both, tmp_path):
    text = CASES[0][1]
    ids = [both[0].encode(text), both[0].encode("plain")]
    for response, prefix in (
        (text, ""),
        ([text, "b"], ["<|im_start|>assistant\n<think>", ""]),
        (ids, []),
        (ids[0], ids[1]),
    ):
        assert both[0].parse_response(response, prefix=prefix) == both[1].parse_response(response, prefix=prefix)
    both[0].save_pretrained(tmp_path)
    for again in (AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)):
        assert again.response_template == QWEN
    parser = both[0].get_response_parser(prefix="")
    parser.feed(text)
    assert parser.finalize()[0] == both[0].parse_response(text, prefix="")


def test_what_cannot_be_read_is_refused(both):
    tokenizer = both[0]
    with pytest.raises(InvalidInput, match="prefix"):
        tokenizer.parse_response("a")
    with pytest.raises(InvalidInput, match="2 answers and 3"):
        tokenizer.parse_response(["a", "b"], prefix=["", "", ""])
    strict = json.loads(json.dumps(QWEN))
    strict["fields"]["tool_calls"]["content_args"] = {}
    with pytest.raises(InvalidInput, match="tool_calls"):
        tokenizer.parse_response("<tool_call>{</tool_call>", strict, prefix="")
    strict["fields"]["content"]["optional"] = False
    with pytest.raises(InvalidInput, match="content"):
        tokenizer.parse_response("", strict, prefix="")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"other": 1}, {"fields": {}}, {"fields": {"a": 1}}, {"start_anchor": ""}, {"start_anchor": []},
        {"start_anchor_pattern": "x"}, {"fields": {"a": {}, "b": {}}}, {"fields": {"a": {"content": "yaml"}}},
        {"fields": {"a": {"open_pattern": "("}}}, {"fields": {"a": {"open_pattern": "(?P<x>y)"}}},
        {"fields": {"a": {"join": ","}}}, {"fields": {"a": {"transform": "x {content}"}}}, {"defaults": 1},
        {"fields": {"a": {"transform_each": True}}}, {"fields": {"a": {"closes": "x"}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_broken_template_is_refused_as_by_the_reference(change):
    template = {**QWEN, **change}
    with pytest.raises(ValueError, match=r"."):
        ReferenceParser(template, "")
    with pytest.raises(ChatTemplateError, match="response_template"):
        ResponseParser(template, "")


def test_a_marker_without_text_ends_with_an_error():
    template = {"start_anchor": "x", "fields": {"a": {"open_pattern": "(?=y)", "close_pattern": "(?=y)"}, "b": {}}}
    with pytest.raises(ChatTemplateError, match="no text"):
        ResponseParser(template, "").feed("xyz")
