"""Answers in each family's format give the same parts, whole and character by character."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from multihead.errors import InvalidInput
from multihead.serving.parsers import REASONING_PARSERS, TOOL_PARSERS

from .reading import TOOLS, Words, parser_of, read

ARGUMENTS = {"city": 'Os"lo\\ é 😀', "days": 3, "options": {"a": [1, None, True, {"b": "}</tool_call>]"}], "s": ""}}
JSON = json.dumps(ARGUMENTS, ensure_ascii=False)
ESCAPED = json.dumps(ARGUMENTS)
BOTH = [("weather", ARGUMENTS), ("now", {})]
CALL, NOW = f'{{"name": "weather", "arguments": {JSON}}}', '{"name": "now", "arguments": {}}'
PYTHON = 'weather(city="Os\\"lo\\\\ é \\U0001f600", days=3, '
PYTHON += 'options={\'a\': [1, None, True, {"b": "}</tool_call>]"}], "s": \'\'})'
GEMMA = (
    'call:weather{city:<q>Os"lo\\ é 😀<q>,days:3,options:{a:[1,None,true,{b:<q>}</tool_call>]<q>}],s:<q><q>}}',
    "call:now{}",
)
TAGGED = (
    "<function=weather>\n<parameter=city>\nOs\"lo\\ é 😀\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
    f"<parameter=options>\n{json.dumps(ARGUMENTS['options'])}\n</parameter>\n</function>", "<function=now>\n</function>"
)  # fmt: skip
PAIRS = [("city", ARGUMENTS["city"]), ("days", "3"), ("options", json.dumps(ARGUMENTS["options"]))]
GLM = "weather\n" + "".join(f"<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n" for k, v in PAIRS)
INVOKE = (
    '<D|invoke name="weather">\n'
    + "".join(f'<D|parameter name="{k}"{{{k}}}>{v}</D|parameter>\n' for k, v in PAIRS)
    + '</D|invoke>\n<D|invoke name="now">\n</D|invoke>\n'
)
TYPED = {"{city}": ' string="true"', "{days}": ' string="false"', "{options}": ' string="false"'}


def filled(text: str, mark: str, types: dict[str, str]) -> str:
    for name in ("{city}", "{days}", "{options}"):
        text = text.replace(name, types.get(name, ""))
    return text.replace("D|", mark)


CALLS = [  # parser, text of the two calls
    ("hermes", f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{NOW}\n</tool_call>"),
    ("hermes", f'<tool_call>{{"arguments": {ESCAPED}, "id": 7, "name": "weather"}}</tool_call><tool_call>'
     '{"name":"now"}'),
    ("hermes", f'<tool_call>{{"name": "weather", "arguments": {json.dumps(JSON)}}}</tool_call><tool_call>{NOW}'),
    ("granite4", f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{NOW}\n</tool_call>"),
    ("granite", f"<|tool_call|>[{CALL}, {NOW}]"),
    ("granite", f"<tool_call>[{CALL}, {NOW}]"),
    ("llama3_json", f"{CALL}; {NOW}".replace("arguments", "parameters")),
    ("llama3_json", f"\n<|python_tag|>{CALL}\n{NOW}".replace("arguments", "parameters")),
    ("llama4_json", f"[{CALL}, {NOW}]".replace("[{", "<|python_tag|>[{", 1)),
    ("mistral", f"[TOOL_CALLS][{CALL[:-1]}, \"id\": \"abcdefghi\"}}, {NOW}]"),
    ("mistral", f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{JSON}[TOOL_CALLS]now[ARGS]{{}}"),
    ("mistral", f"[TOOL_CALLS]weather{JSON}[TOOL_CALLS]now{{}}"),
    ("jamba", f"<tool_calls>[\n{CALL},\n{NOW}\n]</tool_calls>"),
    ("nemotron_json", f"<TOOLCALL>[{CALL}, {NOW}]</TOOLCALL>"),
    ("phi4_mini_json", f"functools[{CALL}, {NOW}]"),
    ("phi4_mini_json", f"<|tool_call|>[{CALL}, {NOW}]<|/tool_call|>"),
    ("cohere_command3", '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "weather", "parameters": '
     + JSON + '},\n    {"tool_call_id": "1", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>'),
    ("deepseek_v31", f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{JSON}<｜tool▁call▁end｜>"
     "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
    ("deepseek_v3", f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{JSON}\n```"
     "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
     "<｜tool▁calls▁end｜>"),
    ("kimi_k2", f"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{JSON}"
     "<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
     "<|tool_calls_section_end|>"),
    ("qwen3_coder", "".join(f"\n<tool_call>\n{call}\n</tool_call>" for call in TAGGED)),
    ("qwen3_xml", "\n".join(TAGGED)),
    ("seed_oss", "".join(f"\n<seed:tool_call>\n{call}\n</seed:tool_call>" for call in TAGGED).replace(">\n", ">")
     .replace("\n<", "<")),
    ("glm45", f"<tool_call>{GLM}</tool_call>\n<tool_call>now\n</tool_call>"),
    ("glm47", f"<tool_call>{GLM}</tool_call><tool_call>now</tool_call>".replace(">\n", ">").replace("r\n", "r")),
    ("minimax_m2", f"<minimax:tool_call>\n{filled(INVOKE, '', {})}</minimax:tool_call>"),
    ("deepseek_v32", f"<｜DSML｜function_calls>\n{filled(INVOKE, '｜DSML｜', TYPED)}</｜DSML｜function_calls>"),
    ("deepseek_v4", f"<｜DSML｜tool_calls>\n{filled(INVOKE, '｜DSML｜', TYPED)}</｜DSML｜tool_calls>"),
    ("pythonic", f"[{PYTHON}, now()]"),
    ("llama4_pythonic", f"<|python_start|>[{PYTHON}, now()]<|python_end|>"),
    ("lfm2", f"<|tool_call_start|>[{PYTHON}, now()]<|tool_call_end|>"),
    ("olmo3", f"<function_calls>{PYTHON}\nnow()</function_calls>"),
    ("gemma4", "".join(f"<|tool_call>{call}<tool_call|>" for call in GEMMA).replace("<q>", '<|"|>')),
    ("functiongemma", "".join(f"<start_function_call>{call}<end_function_call>" for call in GEMMA)
     .replace("<q>", "<escape>")),
    ("openai", f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{JSON}<|call|>"
     "<|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}<|call|>"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), CALLS, ids=[f"{name}-{text[:12]}" for name, text in CALLS])
def test_calls_of_a_format_are_found(name, text):
    for before, after in (("", ""), ("Let me look: é\n\n", "\n")):
        if before and (TOOL_PARSERS[name].bare and text[0] in TOOL_PARSERS[name].bare):
            continue  # calls without a marker come first
        if name == "openai" and before:
            before = f"<|channel|>final<|message|>{before.strip()}<|end|><|start|>assistant"
        whole = read(parser_of(name), before + text + after)
        assert [(call, json.loads(arguments)) for call, arguments in whole[2]] == BOTH
        assert whole[:2] == ("", "Let me look: é" if before else "")
        assert read(parser_of(name), before + text + after, range(1, len(before + text + after))) == whole
        half = (before + text)[: len(before) + len(text) // 2]
        _, content, calls = read(parser_of(name), half)
        if calls:
            assert whole[2][0][1].startswith(calls[0][1])
        else:  # its name, or the end of arguments that are written as a string, has not come yet
            assert content == half


def test_every_name_has_an_example():
    assert {name for name, _ in CALLS} | {"hf"} == set(TOOL_PARSERS)


THOUGHTS = [  # parser, prompt, text, reasoning, content
    ("qwen3", "", "<think>\nhm\n</think>\n\nHi. ", "hm", "Hi. "),
    ("qwen3", "", "Hi <think>a</think>", "", "Hi <think>a</think>"),
    ("qwen3", "", "  Hi", "", "  Hi"),
    ("qwen3", "user: x<|im_end|>\nassistant:<think>\n", "hm\n</think>\n\nHi", "hm", "Hi"),
    ("qwen3", "user: x<|im_end|>\nassistant:<think>\nSo I", " think</think>", "think", ""),
    ("qwen3", "say <think><|im_end|>\nassistant:", "hm</think>", "", "hm</think>"),
    ("qwen3", "assistant:<think>\n\n</think>\n\n", "Hi", "", "Hi"),
    ("deepseek_r1", "", "hm</think>Hi", "hm", "Hi"),
    ("deepseek_r1", "", "hm</thi", "hm</thi", ""),
    ("deepseek_r1", "Assistant:", "<think>hm</think>Hi", "hm", "Hi"),
    ("deepseek_v3", "A:</think>", "Hi", "", "Hi"),
    ("olmo3", "", "hm</think>Hi", "hm", "Hi"),
    ("glm45", "", "\n<think>hm</think>\nHi", "hm", "Hi"),
    ("seed_oss", "", "<seed:think>hm</seed:think>Hi", "hm", "Hi"),
    ("granite", "", "Here is my thought process:\nhm\nHere is my response:\nHi", "hm", "Hi"),
    ("granite", "", "Here's my thought process: hm Here's my response: Hi", "hm", "Hi"),
    ("granite", "", "<think>hm</think>\n<response>Hi</response>", "hm", "Hi"),
    ("granite", "", "Use <response>", "", "Use <response>"),
    ("mistral", "", "a [THINK]hm[/THINK]Hi", "hm", "a Hi"),
    ("gemma4", "", "<|channel>thought\nhm\n<channel|>Hi<|channel>thought\nso<channel|>", "hm\nso", "Hi"),
    ("cohere_command3", "", "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Hi<|END_RESPONSE|>", "hm", "Hi"),
    ("openai_gptoss", "", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi",
     "hm", "Hi"),
    ("openai_gptoss", "x<|start|>assistant<|channel|>analysis<|message|>", "hm<|end|>", "hm", ""),
    ("openai_gptoss", "", "<|channel|>commentary<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>Hi",
     "", "So.\nHi"),
    ("openai_gptoss", "", "Hi <b>", "", "Hi <b>"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "prompt", "text", "reasoning", "content"), THOUGHTS)
def test_reasoning_is_split_from_content(name, prompt, text, reasoning, content):
    for cuts in ((), range(1, len(text))):
        words = Words(special=("<|im_end|>",))
        parts = read(parser_of(None, name, tools=None, prompt=prompt, tokenizer=words), text, cuts)
        assert parts == (reasoning, content, [])


def test_every_reasoning_parser_has_an_example():
    assert {name for name, *_ in THOUGHTS} | {"hf"} == set(REASONING_PARSERS)


def test_reasoning_content_and_calls_come_in_any_order():
    text = f"<think>a</think>\nLook.\n<tool_call>{NOW}</tool_call>\n<think>b</think>\nDone.<tool_call>{NOW}</tool_call>"
    assert read(parser_of("hermes", "qwen3"), text) == ("a\nb", "Look.\n\n\nDone.", [("now", "{}")] * 2)


NO_CALLS = [
    ("hermes", "use <tool_call> and </tool_call> tags"), ("hermes", ' <tool_call>{"name": 7}</tool_call> '),
    ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'), ("hermes", "<tool_call>[]</tool_call>"),
    ("hermes", '<tool_call>{"name": "f", "argum'), ("hermes", '<tool_call>{"arguments": {"a": 1}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "args": {"a": 1}}</tool_call>'), ("llama3_json", '{"name": "Anna"}'),
    ("llama3_json", 'so {"name": "f", "parameters": {}}'),
    ("mistral", "[TOOL_CALLS]"), ("mistral", "[TOOL_CALLS] is a marker"), ("pythonic", "[see](x), [a]"),
    ("pythonic", "[f(a)]"), ("pythonic", "[f(a==1)]"),
    ("phi4_mini_json", "from functools import wraps"), ("qwen3_coder", "<tool_call>\n<function=f>x"),
    ("qwen3_coder", "write <function=f> please"), ("glm45", "<tool_call>two words</tool_call>"),
    ("deepseek_v3", "<｜tool▁calls▁begin｜>x"), ("kimi_k2", "<|tool_calls_section_begin|>\n<|tool_call_begin|>f{}"),
    ("gemma4", "<|tool_call>call f"), ("lfm2", "<|tool_call_start|>[f(1)]"),
    ("olmo3", "<function_calls></function_calls>"),
    ("minimax_m2", '<minimax:tool_call><invoke name="f">x'), ("jamba", "<tool_calls>[1]</tool_calls>"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), NO_CALLS)
def test_text_that_is_no_call_stays_content(name, text):
    for cuts in ((), range(1, len(text))):
        assert read(parser_of(name), text, cuts) == ("", text, [])


def test_an_answer_in_json_does_not_wait_for_its_end():
    parser = parser_of("llama3_json")
    assert parser.feed('{"name": "Anna", "age": 3').content == '{"name": "Anna", "age": 3'


def test_without_tools_a_call_is_content():
    for name, text in CALLS[:3]:
        assert read(parser_of(name, tools=None), text) == ("", text, [])


def test_arguments_that_break_off_keep_what_was_valid():
    text = '<tool_call>{"name": "f", "arguments": {"a": 1, b: 2}}</tool_call> so'
    assert read(parser_of("hermes"), text) == ("", "b: 2}}</tool_call> so", [("f", '{"a": 1, ')])
    text = '<tool_call>{"name": "f", "arguments": {"a": 1}, oops</tool_call>'
    assert read(parser_of("hermes"), text) == ("", ", oops</tool_call>", [("f", '{"a": 1}')])
    text = '<tool_call>{"name": "f", "arguments": {"a": 1}\n</tool_call>\nHi'  # the last bracket is missing
    assert read(parser_of("hermes"), text) == ("", "Hi", [("f", '{"a": 1}')])
    text = '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"nam'
    assert read(parser_of("mistral"), text) == ("", ', {"nam', [("f", "{}")])
    call = "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
    text = f"<｜tool▁calls▁begin｜>{call}<｜tool▁call▁begin｜>oops"
    assert read(parser_of("deepseek_v31"), text) == ("", "<｜tool▁call▁begin｜>oops", [("now", "{}")])
    text = "<tool_call><function=now></function> <function=oops </tool_call>"
    assert read(parser_of("qwen3_coder"), text) == ("", "<function=oops </tool_call>", [("now", "{}")])


@pytest.mark.parametrize("cut", ["<", "</tool", "\n</tool_call", "</tool_call>\n<tool_c"])
def test_a_marker_that_a_limit_cuts_behind_a_call_is_no_content(cut):
    text = '<tool_call>{"name": "now", "arguments": {}}' + cut
    for cuts in ([], range(1, len(text))):
        assert read(parser_of("hermes"), text, cuts) == ("", "", [("now", "{}")])
    assert read(parser_of("hermes"), "a <tool_c") == ("", "a <tool_c", [])


def test_line_breaks_inside_json_strings_become_escapes():
    text = '<tool_call>{"name": "f", "arguments": {"code": "a\n\tb\x01"}}</tool_call>'
    assert json.loads(read(parser_of("hermes"), text, range(1, len(text)))[2][0][1]) == {"code": "a\n\tb\x01"}


def test_values_without_quotation_marks_get_the_types_of_the_schema():
    values = {
        "city": ("12", "12"), "days": ("3.0", 3), "options": ("{'a': None}", {"a": None}), "any": ("[1]", [1]),
        "wind": ("None", None), "scale": ("2", 2), "unknown": ("5", "5"),
    }  # fmt: skip
    text = "".join(f"<arg_key>{key}</arg_key><arg_value>{value[0]}</arg_value>" for key, value in values.items())
    found = json.loads(read(parser_of("glm45"), f"<tool_call>weather{text}</tool_call>")[2][0][1])
    assert found == {key: value[1] for key, value in values.items()}
    text = "<arg_key>days</arg_key><arg_value>soon</arg_value><arg_key>any</arg_key><arg_value>NaN</arg_value>"
    found = json.loads(read(parser_of("glm45"), f"<tool_call>weather{text}</tool_call>")[2][0][1])
    assert found == {"days": "soon", "any": "NaN"}


def test_a_value_may_hold_its_own_closing_tag():
    text = "<tool_call><function=f><parameter=x>\n<a></parameter> b </function>\n</parameter>\n</function></tool_call>"
    assert json.loads(read(parser_of("qwen3_coder"), text, range(1, len(text)))[2][0][1]) == {
        "x": "<a></parameter> b </function>"
    }


def test_special_tokens_outside_of_calls_are_left_out():
    words = Words(special=("<|im_end|>", "<tool_call>", "</tool_call>"))
    parser = parser_of("hermes", tokenizer=words)
    assert parser.kept_tokens == ("<tool_call>", "</tool_call>")
    assert read(parser, f"a</tool_call>b<tool_call>c<tool_call>{NOW}</tool_call>") == (
        "",
        "ab<tool_call>c",
        [("now", "{}")],
    )


def test_a_name_that_is_given_counts_before_the_template():
    words = Words(chat_template="tools <|channel|> <|message|>")
    assert parser_of(tokenizer=words).tool_parser == "openai"
    named = parser_of("hermes", tokenizer=words)
    assert (named.tool_parser, named.reasoning_parser) == ("hermes", "")
    for tool, reasoning in (("hermes", "openai_gptoss"), ("openai", "qwen3"), ("hf", "qwen3"), ("openai", "hf")):
        with pytest.raises(InvalidInput, match="exclude"):
            parser_of(tool, reasoning, tokenizer=words)


@pytest.mark.parametrize(
    "value",
    [
        "[" * 100_000, "(" * 100_000, "-" * 100_000 + "1", "{'a':" * 50_000, "1 if 1else " * 1_000, "{1: 2}", "{1, 2}",
        "9" * 5_000, "'\\d'", "(1,)", "[nan]", "f'{a}'", "x" * 100_000, "007", "\x00",
    ],
    ids=lambda value: value[:8],
)  # fmt: skip
def test_no_value_is_evaluated(value, recwarn):
    """Neither a crash nor a warning of Python's compiler: what is no value of the type is a string."""
    text = "".join(f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key in ("days", "options", "any"))
    found = json.loads(read(parser_of("glm45"), f"<tool_call>weather{text}</tool_call>")[2][0][1])
    assert found == dict.fromkeys(("days", "options", "any"), value)
    assert not recwarn


def test_unknown_names_are_refused():
    for options in ({"tool": "hermse"}, {"reasoning": "deepseek"}, {"tool": "hf"}):
        with pytest.raises(InvalidInput, match=r"hermes|deepseek_r1|response_template"):
            parser_of(**options)


def test_tools_that_are_not_offered_are_reported_as_they_are():
    text = '<tool_call>{"name": "other", "arguments": {}}</tool_call>'
    assert read(parser_of("hermes", tools=TOOLS[:1]), text)[2] == [("other", "{}")]


def test_parsers_import_no_torch():
    code = "import sys, multihead.serving.parsers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
