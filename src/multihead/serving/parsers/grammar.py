"""Grammars that make a model write valid calls, for `GenerationConfig.grammar`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InvalidInput, UnsupportedOption, nearest
from .choice import HF, chat_template, special_tokens, tool_parser_of
from .closed_objects import close_objects
from .grammar_formats import GRAMMARS, CallRules
from .grammar_rules import Rules
from .schemas import function_of

EMPTY = {"type": "object", "properties": {}, "additionalProperties": False}


def tool_grammar(
    name: str,
    tools: Sequence[Mapping[str, Any]],
    choice: str | Mapping[str, Any],
    parallel: bool,
    *,
    tokenizer: Any = None,
    reasoning_ends: Sequence[str] = (),
) -> str:
    """Return a Lark grammar of llguidance's dialect, under which an answer has only calls that fit the schemas.

    Args:
        name: a tool parser; for "hf", the format whose markers the tokenizer's chat template holds.
        choice: "auto" allows other text, and constrains what follows the marker of a call; "required" begins with a
            call; `{"name": ...}` begins with a call of that tool. parallel: several calls.
        tokenizer: the model's own, whose special tokens are no text. reasoning_ends: markers that end the reasoning in
            which the answer begins (`OutputParser.reasoning_ends`); what comes before is free.

    Raises:
        InvalidInput: a tool whose schema cannot be kept to, a tool that does not exist, a format without a grammar.
        UnsupportedOption: the llguidance library is not installed.
    """
    if name == HF:
        name = tool_parser_of(chat_template(tokenizer), None)
    if name not in GRAMMARS:
        raise InvalidInput(
            f"Calls in the format {name or HF!r} cannot be constrained. Formats that can be: {', '.join(GRAMMARS)}."
        )
    rules = Rules(token_ids(tokenizer))
    calls = GRAMMARS[name](rules, chosen_schemas(tools, choice))
    start = free_or_call(rules, calls, parallel) if choice == "auto" else forced_call(rules, calls, parallel)
    return behind_reasoning(start, rules.lines, tokenizer, reasoning_ends)


def behind_reasoning(start: str, lines: Sequence[str], tokenizer: Any, reasoning_ends: Sequence[str]) -> str:
    """Return the grammar of an answer that may begin inside reasoning.

    Args:
        start: expression of what follows the reasoning. lines: its rules. reasoning_ends: markers that end it; none
            for an answer that does not begin inside.
    """
    rules = Rules(token_ids(tokenizer))
    rules.lines = list(lines)  # names of rules have their number
    if reasoning_ends:
        thoughts = rules.choice([rules.free_until(end) for end in reasoning_ends])
        start = f"{thoughts} /\\s*/ ({start})"
    return "\n".join([f"start: {start}", *rules.lines, ""])


def token_ids(tokenizer: Any) -> dict[str, int]:
    """Return the ids of the tokens inside an answer that are no text for llguidance.

    These are special tokens, and all added ones that look like `<think>`, whatever the tokenizer's file says.
    """
    ends = {getattr(tokenizer, "eos_token", None)}
    added = [token.content for token in (getattr(tokenizer, "added_tokens_decoder", None) or {}).values()]
    marks = [text for text in added if text.startswith("<") and text.endswith(">")]
    names = dict.fromkeys([*special_tokens(tokenizer), *marks])
    return {one: tokenizer.convert_tokens_to_ids(one) for one in names if one not in ends}


def forced_call(rules: Rules, calls: CallRules, parallel: bool) -> str:
    """Return the expression of an answer that is a call, or several."""
    trigger = rules.literal(calls.trigger) if calls.trigger else ""
    if not parallel:
        return f"{trigger} {calls.one}"
    if calls.several:
        return f"{trigger} {calls.several}"
    again = rules.literal(calls.separator + calls.trigger)
    return f"{trigger} {calls.one} ({again} {calls.one})*"


def free_or_call(rules: Rules, calls: CallRules, parallel: bool) -> str:
    """Return the expression of an answer of text and calls."""
    if calls.free:
        return calls.free
    body = calls.several if parallel and calls.several else calls.one
    if not calls.trigger:
        free = rules.rule(rf"/(.|\n)*/ & ~/{calls.bare}(.|\n)*/", "TEXT")
        return f"({body}) | {free}"
    lead, tail = rules.free_until(calls.trigger), rules.free_without(calls.trigger)
    if parallel:
        return f"({lead} {body})* {tail}"
    return f"{lead} {body} | {tail}"


def chosen_schemas(tools: Sequence[Mapping[str, Any]], choice: str | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return name -> schema of the tools that may be called. Raises InvalidInput."""
    found = {str(function_of(tool).get("name")): function_of(tool).get("parameters") for tool in tools}
    if isinstance(choice, Mapping):
        wanted = str(function_of(choice).get("name"))
        if wanted not in found:
            raise InvalidInput(f"tool_choice asks for {wanted!r}, which is none of the tools. {nearest(wanted, found)}")
        found = {wanted: found[wanted]}
    elif choice not in ("auto", "required"):
        raise InvalidInput(f"tool_choice is {choice!r}; a grammar is for auto, required or one tool.")
    if not found:
        raise InvalidInput("There are no tools to choose from.")
    return {name: checked_schema(name, schema) for name, schema in found.items()}


def checked_schema(name: str, given: Any) -> dict[str, Any]:
    """Return the schema of a tool's arguments. Raises InvalidInput for one that cannot be kept to."""
    if given is None:
        return dict(EMPTY)
    if not isinstance(given, Mapping) or given.get("type", "object") != "object":
        raise InvalidInput(f"The parameters of the tool {name!r} must be the JSON schema of an object.")
    schema = {"type": "object", **given}
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise UnsupportedOption(
            'Calls of a given form need the llguidance library: pip install "multihead[structured]".'
        ) from error
    try:
        problem = LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema))
    except ValueError as error:
        problem = str(error)
    if problem:
        raise InvalidInput(f"The parameters of the tool {name!r} cannot be kept to: {problem.strip()}.")
    return dict(close_objects(schema))
