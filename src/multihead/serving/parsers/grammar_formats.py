"""Grammar of calls in each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import named_calls as named
from . import python_calls
from .grammar_rules import Rules
from .grammar_values import marked_object, properties_of, raw_value
from .source import KEY
from .tagged_calls import DSML, DSML_V4, GLM, MINIMAX, QWEN, SEED, Tags

Schemas = Mapping[str, Mapping[str, Any]]  # name of a function -> schema of its arguments


@dataclass(frozen=True)
class CallRules:
    """Expressions of calls.

    Attributes:
        trigger: text with which calls begin, "" for none. one: a call behind it. several: calls behind it; "" where
            each call has its own trigger. separator: text between two triggers. bare: pattern of the beginning of
            calls without a trigger. free: a whole answer of text and calls, "" where the others tell it.
    """

    trigger: str
    one: str
    several: str = ""
    separator: str = ""
    bare: str = ""
    free: str = ""


Build = Callable[[Rules, Schemas], CallRules]


def json_call(rules: Rules, name: str, schema: Any, keys: tuple[str, str], extra: str = "") -> str:
    """Return the expression of `{"name": ..., "arguments": ...}`. `extra`: further text behind the bracket."""
    head = f'{{{extra}"{keys[0]}": {quoted(name)}, "{keys[1]}": '
    return f'{rules.literal(head)} {rules.json(schema)} "}}"'


def quoted(name: str) -> str:
    return f'"{name}"'


def json_each(begin: str, end: str) -> Build:
    """Return the rules of one JSON call between two markers."""

    def build(rules: Rules, schemas: Schemas) -> CallRules:
        calls = [json_call(rules, name, schema, ("name", "arguments")) for name, schema in schemas.items()]
        return CallRules(begin, f'"\\n" ({rules.choice(calls)}) {rules.literal(chr(10) + end)}', separator="\n")

    return build


def json_list(begin: str, end: str, keys: tuple[str, str] = ("name", "arguments"), extra: str = "") -> Build:
    """Return the rules of a list of JSON calls between two markers."""

    def build(rules: Rules, schemas: Schemas) -> CallRules:
        call = rules.choice([json_call(rules, name, schema, keys, extra) for name, schema in schemas.items()])
        close = rules.literal(f"]{end}")
        return CallRules(begin, f'"[" {call} {close}', f'"[" {call} (", " {call})* {close}')

    return build


def bare_json(rules: Rules, schemas: Schemas) -> CallRules:
    """Return the rules of Llama's calls, which have no marker."""
    keys = ("name", "parameters")
    call = rules.choice([json_call(rules, name, schema, keys) for name, schema in schemas.items()])
    return CallRules("", call, f'{call} ("; " {call})*', bare=r'\{"name"')


def mistral(rules: Rules, schemas: Schemas) -> CallRules:
    """Return the rules of names with arguments where the tokenizer has their marker, else of a list."""
    if "[ARGS]" not in rules.special:
        return json_list(named.MISTRAL, "")(rules, schemas)
    calls = [f"{rules.literal(f'{name}[ARGS]')} {rules.json(schema)}" for name, schema in schemas.items()]
    return CallRules(named.MISTRAL, rules.choice(calls))


def deepseek(fenced: bool) -> Build:
    """Return the rules of DeepSeek's calls. `fenced`: arguments are a block of JSON behind a line (V3, R1)."""

    def build(rules: Rules, schemas: Schemas) -> CallRules:
        calls = []
        for name, schema in schemas.items():
            head = f"{name}{named.DEEPSEEK_SEPARATOR}"
            if fenced:
                head = f"function{named.DEEPSEEK_SEPARATOR}{name}\n```json\n"
            tail = ("\n```" if fenced else "") + named.DEEPSEEK_END
            calls.append(f"{rules.literal(head)} {rules.json(schema)} {rules.literal(tail)}")
        call, begin = rules.choice(calls), rules.literal(named.DEEPSEEK_CALL)
        end, line = rules.literal(named.DEEPSEEK_ALL_END), '"\\n"' if fenced else ""
        return CallRules(named.DEEPSEEK, f"{begin} {call} {end}", f"{begin} {call} ({line} {begin} {call})* {end}")

    return build


def kimi(rules: Rules, schemas: Schemas) -> CallRules:
    calls = [
        f"{rules.literal(f'functions.{name}:')} NUMBER {rules.literal(named.KIMI_ARGUMENTS)} {rules.json(schema)} "
        f"{rules.literal(named.KIMI_END)}"
        for name, schema in schemas.items()
    ]
    rules.lines.append("NUMBER: /[0-9]{1,3}/")
    call, begin, end = rules.choice(calls), rules.literal(named.KIMI_CALL), rules.literal(named.KIMI_ALL_END)
    return CallRules(named.KIMI, f"{begin} {call} {end}", f"{begin} {call} ({begin} {call})* {end}")


def tagged(tags: Tags) -> Build:
    """Return the rules of calls in tags."""
    line = "" if tags is SEED else "\n"

    def parameter(rules: Rules, tool: str, name: str, schema: Any) -> str:
        head = tags.parameter[0] + name
        if tags.typed:
            is_text = isinstance(schema, dict) and schema.get("type") == "string"
            head += f'" string="{"true" if is_text else "false"}"'
        head += tags.parameter[1].replace(" ", line) + ("\n" if tags.lines else "")
        end = ("\n" if tags.lines else "") + tags.parameter[2] + line
        return f"{rules.literal(head)} {raw_value(rules, tool, name, schema, end)}"

    def build(rules: Rules, schemas: Schemas) -> CallRules:
        calls = []
        for name, schema in schemas.items():
            items = [
                (parameter(rules, name, key, one), needed) for key, one, needed in properties_of(name, schema, KEY)
            ]
            head = rules.literal(tags.call[0] + name + tags.call[1] + line)
            body = " ".join(item if needed else f"({item})?" for item, needed in items)
            calls.append(f"{head} {body} {rules.literal(tags.call[2])}" if tags.call[2] else f"{head} {body}")
        call = rules.choice(calls)
        begin, end = (line, line + tags.block[1]) if tags.call[2] else ("", tags.block[1])
        one = f"{rules.literal(begin)} ({call}) {rules.literal(end)}"
        if tags in (DSML, DSML_V4, MINIMAX):
            more = f'{rules.literal(begin)} ({call}) ("\\n" ({call}))* {rules.literal(end)}'
            return CallRules(tags.block[0], one, more)
        return CallRules(tags.block[0], one, separator=line)

    return build


def python_call(rules: Rules, name: str, schema: Mapping[str, Any], before: str = "") -> str:
    """Return the expression of `name(key=value)`, whose values are JSON, behind some text."""
    items = [
        (f"{rules.literal(f'{key}=')} {rules.json(one)}", needed)
        for key, one, needed in properties_of(name, schema, python_calls.KEY)
    ]
    return f'{rules.literal(f"{before}{name}(")} {rules.listed(items, ", ")} ")"'


def python_list(begin: str, end: str) -> Build:
    """Return the rules of a list of Python's calls between two markers."""

    def build(rules: Rules, schemas: Schemas) -> CallRules:
        first = rules.choice([python_call(rules, name, schema, "[") for name, schema in schemas.items()])
        call = rules.choice([python_call(rules, name, schema) for name, schema in schemas.items()])
        close = rules.literal(f"]{end}")
        return CallRules(begin, f"{first} {close}", f'{first} (", " {call})* {close}', bare=r"\[[\w.:-]+\(")

    return build


def python_lines(rules: Rules, schemas: Schemas) -> CallRules:
    call = rules.choice([python_call(rules, name, schema) for name, schema in schemas.items()])
    end = rules.literal("</function_calls>")
    return CallRules("<function_calls>", f"{call} {end}", f'{call} ("\\n" {call})* {end}')


def gemma(begin: str, quotes: str, end: str) -> Build:
    def build(rules: Rules, schemas: Schemas) -> CallRules:
        calls = [
            f"{rules.literal(f'call:{name}')} {marked_object(rules, name, schema, quotes)}"
            for name, schema in schemas.items()
        ]
        return CallRules(begin, f"({rules.choice(calls)}) {rules.literal(end)}")

    return build


def harmony(rules: Rules, schemas: Schemas) -> CallRules:
    """Return the rules of a message to a function, behind reasoning; the answer ends with it."""
    heads = {name: f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>" for name in schemas}
    calls = [f"{rules.literal(heads[name])} {rules.json(schema)}" for name, schema in schemas.items()]
    call, following = rules.choice(calls), rules.literal("<|start|>assistant")
    before = {
        channel: f"{rules.literal(f'<|channel|>{channel}<|message|>')} {rules.until('<|end|>')} {following}"
        for channel in ("analysis", "commentary")
    }
    final = f"{rules.literal('<|channel|>final<|message|>')} {rules.text_without('<|end|>')}"
    return CallRules(
        "",
        f"({before['analysis']})* ({call})",
        free=f"({before['analysis']} | {before['commentary']})* ({call} | {final})",
    )


HERMES = json_each("<tool_call>", "</tool_call>")
GRAMMARS: Mapping[str, Build] = {
    "cohere_command3": json_list(
        "<|START_ACTION|>", "<|END_ACTION|>", ("tool_name", "parameters"), '"tool_call_id": "0", '
    ),
    "deepseek_v3": deepseek(True), "deepseek_v31": deepseek(False), "deepseek_v32": tagged(DSML),
    "deepseek_v4": tagged(DSML_V4), "functiongemma": gemma("<start_function_call>", "<escape>", "<end_function_call>"),
    "gemma4": gemma("<|tool_call>", '<|"|>', "<tool_call|>"), "glm45": tagged(GLM), "glm47": tagged(GLM),
    "granite": json_list("<|tool_call|>", ""), "granite4": HERMES, "hermes": HERMES,
    "jamba": json_list("<tool_calls>", "</tool_calls>"), "kimi_k2": kimi,
    "lfm2": python_list("<|tool_call_start|>", "<|tool_call_end|>"), "llama3_json": bare_json,
    "llama4_json": bare_json, "llama4_pythonic": python_list("<|python_start|>", "<|python_end|>"),
    "minimax_m2": tagged(MINIMAX), "mistral": mistral, "nemotron_json": json_list("<TOOLCALL>", "</TOOLCALL>"),
    "olmo3": python_lines, "openai": harmony, "phi4_mini_json": json_list("functools", ""),
    "pythonic": python_list("", ""), "qwen3_coder": tagged(QWEN), "qwen3_xml": tagged(QWEN), "seed_oss": tagged(SEED),
}  # fmt: skip
