"""Under the grammar of a format, whatever is written parses to calls that fit the tools' schemas."""

from __future__ import annotations

import json
import random
import re

import llguidance
import numpy
import pytest

from multihead import AutoTokenizer
from multihead.errors import InvalidInput
from multihead.generation.logits.grammar import llguidance_tokenizer
from multihead.serving.parsers import REASONING_PARSERS, TOOL_PARSERS, tool_grammar
from multihead.serving.parsers.closed_objects import close_objects
from tests.tokenizers import folders

from .reading import parser_of, read

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 6},
        "unit": {"enum": ["C", "F"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 20},
        "options": {
            "type": "object",
            "properties": {"wind": {"type": "boolean"}, "list": {"type": "array", "items": {"enum": ["a", 1, None]}}},
            "required": ["wind"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "options"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA}},
    {"type": "function", "name": "now"},
]
FORMATS = sorted(set(TOOL_PARSERS) - {"hf", "llama4_json", "granite4", "qwen3_xml", "glm47", "llama4_pythonic"})
LONG = 400  # tokens


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A tokenizer of single bytes, mostly; what it has no word for is spelled."""
    return AutoTokenizer.from_pretrained(folders.bytes_bpe(tmp_path_factory.mktemp("words"), "GPT2"))


def with_special(folder, tokens):
    tokenizer = AutoTokenizer.from_pretrained(folders.bytes_bpe(folder, "GPT2"))
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer


class Writer:
    """Writes random text that a grammar allows."""

    def __init__(self, tokenizer, grammar, seed):
        self.tokenizer, self.random = tokenizer, random.Random(seed)
        vocabulary = len(tokenizer)
        library = llguidance_tokenizer(tokenizer, vocabulary, [tokenizer.eos_token_id])
        self.state = llguidance.LLMatcher(library, llguidance.LLMatcher.grammar_from_lark(grammar), log_level=0)
        assert not self.state.is_error(), self.state.get_error()
        self.ids = []

    def put(self, text):
        """Write a text; return False where the grammar forbids it."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        self.ids += ids
        return self.state.try_consume_tokens(ids) == len(ids)

    def finish(self):
        """Write until the grammar ends the text, and return it."""
        end = self.tokenizer.eos_token_id
        while not self.state.is_stopped():
            allowed = numpy.flatnonzero(numpy.frombuffer(self.state.compute_logit_bias(), dtype=numpy.uint8)).tolist()
            assert allowed
            token = end if end in allowed else self.random.choice(allowed)
            assert len(self.ids) < LONG
            self.state.consume_token(token)
            if token != end:
                self.ids.append(token)
        return self.tokenizer.decode(self.ids)


def written(name, tokenizer, grammar, seed):
    """A random text; gpt-oss may think as long as it likes before a call, so that it is told to begin one."""
    writer = Writer(tokenizer, grammar, seed)
    assert name != "openai" or writer.put("<|channel|>commentary to=")
    return writer.finish()


def check(name, tokenizer, text, names=("weather", "now")):
    _, content, calls = read(parser_of(name, tools=TOOLS, tokenizer=tokenizer), text)
    for call, arguments in calls:
        assert call in names, text
        check_arguments(call, json.loads(arguments))
    return content, calls


def check_arguments(call, found):
    """Compare arguments with the schema."""
    if call == "now":
        assert found == {}
        return
    assert {"city", "options"} <= set(found) <= {"city", "unit", "days", "options"}
    assert isinstance(found["city"], str)
    assert len(found["city"]) <= 6
    assert found.get("unit", "C") in ("C", "F")
    assert found.get("days", 1) in range(1, 21)
    options = found["options"]
    assert {"wind"} <= set(options) <= {"wind", "list"}
    assert options["wind"] in (True, False)
    assert all(item in ("a", 1, None) for item in options.get("list", []))


@pytest.mark.parametrize("special", [False, True], ids=["text", "special"])
@pytest.mark.parametrize("name", FORMATS)
def test_random_text_under_a_grammar_is_valid_calls(name, special, words, tmp_path):
    markers = [one for one in TOOL_PARSERS[name].markers if re.fullmatch(r"<[^ ]+>|\[[A-Z_]+\]", one)]
    tokenizer = with_special(tmp_path, sorted(markers)) if special else words
    for seed, (choice, parallel) in enumerate(
        [("required", False), ("required", True), ({"name": "weather"}, False), ({"function": {"name": "now"}}, True)]
    ):
        grammar = tool_grammar(name, TOOLS, choice, parallel, tokenizer=tokenizer)
        names = ("weather", "now") if isinstance(choice, str) else (json.dumps(choice).split('"')[-2],)
        text = written(name, tokenizer, grammar, seed)
        content, calls = check(name, tokenizer, text, names)
        assert content == ""
        assert len(calls) == 1 or (parallel and calls)


BARE = ("llama3_json", "pythonic", "openai")  # calls without a marker begin the answer


@pytest.mark.parametrize("name", FORMATS)
def test_auto_leaves_text_free_and_constrains_calls(name, words):
    free_text = "<|channel|>final<|message|>" if name == "openai" else ""
    free_text += 'No { "call" } <b>here</b>\n'
    for parallel in (False, True):
        grammar = tool_grammar(name, TOOLS, "auto", parallel, tokenizer=words)
        free = Writer(words, grammar, 0)
        assert free.put(free_text)
        assert free.state.is_accepting()
        writer = Writer(words, grammar, 1)
        calling = written(name, words, tool_grammar(name, TOOLS, "required", False, tokenizer=words), 2)
        if name not in BARE:
            assert writer.put("Hi! ")
        assert writer.put(calling), calling
        content, calls = check(name, words, writer.finish())
        assert (content, len(calls)) == ("" if name in BARE else "Hi!", 1)
        assert not Writer(words, grammar, 1).put(calling.replace("weather", "wether").replace("now", "nov"))


@pytest.mark.parametrize(
    ("name", "reasoning", "text", "ends"),
    [
        ("gemma4", "gemma4", "<|channel>thought\nhm<channel|>Hi <|tool_call>call:now{}<tool_call|>", "<turn|>"),
        ("mistral", "mistral", "[THINK]hm[/THINK]Hi [TOOL_CALLS]now[ARGS]{}", "[INST]"),
        ("hermes", "qwen3", '<think>hm</think>Hi <tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', "<s>"),
        ("openai", "openai_gptoss", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary"
         "<|message|>Hi<|end|><|start|>assistant<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}",
         "<|return|>"),
    ],
)  # fmt: skip
def test_special_tokens_of_reasoning_may_come_before_a_call(name, reasoning, text, ends, tmp_path):
    markers = {*TOOL_PARSERS[name].markers, *REASONING_PARSERS[reasoning].markers, "<|channel>", ends}
    tokenizer = with_special(tmp_path, sorted(one for one in markers if re.fullmatch(r"<[^ \n]+>|\[/?[A-Z_]+\]", one)))
    writer = Writer(tokenizer, tool_grammar(name, TOOLS, "auto", False, tokenizer=tokenizer), 0)
    assert writer.put(text)
    parser = parser_of(name, reasoning, tools=TOOLS, tokenizer=tokenizer)
    assert read(parser, writer.finish()) == ("hm", "Hi", [("now", "{}")])
    broken = text.replace("now", "nov")
    assert not Writer(tokenizer, tool_grammar(name, TOOLS, "auto", False, tokenizer=tokenizer), 0).put(broken)


def test_several_calls_are_written_where_they_may_be(words):
    two = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n' * 2
    assert Writer(words, tool_grammar("hermes", TOOLS, "auto", True), 0).put(two)
    assert Writer(words, tool_grammar("hermes", TOOLS, "required", True), 0).put(two.strip())
    for choice in ("auto", "required"):
        assert not Writer(words, tool_grammar("hermes", TOOLS, choice, False), 0).put(two.strip())


@pytest.mark.parametrize("name", ["hermes", "qwen3_coder", "pythonic"])
def test_definitions_of_a_schema_are_followed(name, words):
    schema = {
        "properties": {"a": {"$ref": "#/$defs/one"}}, "required": ["a"],
        "$defs": {"one": {"type": "object", "properties": {"b": {"const": 7}}, "required": ["b"],
                          "additionalProperties": False}},
    }  # fmt: skip
    tools = [{"name": "weather.get:now-1", "parameters": schema}]
    text = Writer(words, tool_grammar(name, tools, "required", False), 1).finish()
    ((found, arguments),) = read(parser_of(name, tools=tools), text)[2]
    assert (found, json.loads(arguments)) == ("weather.get:now-1", {"a": {"b": 7}})


def test_arguments_without_a_schema_are_not_invented(words):
    for parameters, fits in (
        ({"properties": {}}, False),
        ({"type": "object"}, True),
        ({"properties": {"a": {}}}, False),
    ):
        tools = [{"name": "f", "parameters": parameters}]
        text = '<tool_call>\n{"name": "f", "arguments": {"b": 1}}\n</tool_call>'
        assert Writer(words, tool_grammar("hermes", tools, "required", False), 0).put(text) is fits


def test_a_forced_call_follows_open_reasoning(words):
    parser = parser_of("hermes", "qwen3", tools=TOOLS, prompt="assistant:<think>\n")
    grammar = tool_grammar("hermes", TOOLS, "required", False, reasoning_ends=parser.reasoning_ends)
    writer = Writer(words, grammar, 3)
    assert writer.put("Hm, <tool_call> or not?</think>\n\n")
    text = writer.finish()
    thoughts, content, calls = read(parser, text)
    assert (thoughts, content, len(calls)) == ("Hm, <tool_call> or not?", "", 1)
    assert parser_of("hermes", "qwen3", tools=TOOLS, prompt="x").reasoning_ends == ()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("hermes", {"type": "object", "properties": {"a": {"not": {}}}}, "'f'.*not"),
        ("hermes", {"type": "array"}, "'f'.*object"), ("hermes", {"type": "object", "properties": 3}, "'f'"),
        ("qwen3_coder", {"properties": {"a": {"type": "string", "pattern": "^a$"}}}, "'f'.*pattern"),
        ("pythonic", {"properties": {}, "patternProperties": {}}, "'f'.*patternProperties"),
        ("gemma4", {"properties": {"a": {"type": "array", "minItems": 1}}}, "'f'.*minItems"),
        ("pythonic", {"properties": {"file-path": {}}}, "'f'.*'file-path'"),
        ("qwen3_coder", {"properties": {"a>b": {}}}, "'f'.*'a>b'"),
        ("gemma4", {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, "'f'.*one type"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_kept_to_is_refused_by_the_tools_name(name, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        tool_grammar(name, [{"name": "f", "parameters": parameters}], "required", False)


def test_a_response_template_is_constrained_by_the_format_of_the_chat_template(tmp_path):
    tokenizer = with_special(tmp_path, ["<|im_end|>"])
    tokenizer.chat_template = "{{ tools }}<tool_call>"
    named = tool_grammar("hermes", TOOLS, "required", True, tokenizer=tokenizer)
    assert tool_grammar("hf", TOOLS, "required", True, tokenizer=tokenizer) == named


def test_what_no_grammar_is_for_is_refused():
    for name, tools, choice in (
        ("hf", TOOLS, "auto"), ("hermes", TOOLS, "none"), ("hermes", TOOLS, {"name": "f"}), ("hermes", [], "auto"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            tool_grammar(name, tools, choice, True)


OF_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**OF_CITY, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (OF_CITY, CLOSED),
        ({"type": "array", "items": OF_CITY}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [OF_CITY, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        (
            {"properties": {"allOf": {"$ref": "#/$defs/a"}}, "$defs": {"a": OF_CITY}},
            {"properties": {"allOf": {"$ref": "#/$defs/a"}}, "$defs": {"a": CLOSED}, "additionalProperties": False},
        ),
    ],
)
def test_an_object_has_the_properties_that_its_schema_names(schema, expected):
    assert close_objects(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        True, {"type": "object"}, {**OF_CITY, "additionalProperties": True},
        {**OF_CITY, "minProperties": 2}, {**OF_CITY, "required": ["city", "other"]}, {**OF_CITY, "const": {"a": 1}},
        {"allOf": [OF_CITY, {"properties": {"days": {}}}]}, {**OF_CITY, "anyOf": [{"properties": {"days": {}}}]},
        {"properties": {"a": OF_CITY}, "$ref": "#/$defs/b", "$defs": {"b": OF_CITY}},
        {"type": "array", "items": {**OF_CITY, "if": {"properties": {"a": {"const": 1}}}}},
    ],
)  # fmt: skip
def test_a_schema_stays_open_where_it_decides_or_has_parts(schema):
    assert close_objects(schema) == schema
