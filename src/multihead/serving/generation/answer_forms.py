"""The form of an answer: calls where they are demanded, calls that keep to their schemas, a form behind reasoning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InvalidInput
from ...generation.logits.grammar import SPACE, schema_text
from ..errors import ApiError
from ..models.served_model import ServedModel
from ..parsers import OutputParser, tool_grammar
from ..parsers.grammar import behind_reasoning
from .tools import Tool, ToolChoice

FORM = "answer_form"  # the rule of a form inside a grammar


def answer_form(
    model: ServedModel,
    parser: OutputParser,
    form: Mapping[str, Any],
    tools: Sequence[Tool],
    choice: ToolChoice,
    *,
    parallel: bool,
    strict: bool,
) -> dict[str, Any]:
    """Return the form of an answer as fields of GenerationConfig; empty for free text.

    Args:
        form: of text that is no call. strict: calls keep to the schemas of their tools.

    Raises:
        ApiError: tools whose schemas cannot be kept to, or calls in a format without a grammar.
    """
    ends, tokenizer = parser.reasoning_ends, model.tokenizer
    demanded = choice.mode == "required"
    if not tools and demanded:
        raise ApiError("tool_choice demands a call, and there are no tools.", param="tool_choice")
    if not tools:
        behind = bool(form) and bool(ends) and "grammar" not in form
        return {"grammar": behind_reasoning(FORM, [rule_of(form)], tokenizer, ends)} if behind else dict(form)
    if "grammar" in form:  # the request decides all of the text
        return dict(form)
    if not demanded and not form and not strict:
        return {}
    wanted: str | dict[str, Any] = {"name": choice.name} if choice.name else "required"
    wanted = wanted if demanded or form else "auto"
    # with a form, either calls or text of the form
    either = bool(form) and not demanded
    try:
        grammar = tool_grammar(
            parser.tool_parser, tools, wanted, parallel, tokenizer=tokenizer, reasoning_ends=() if either else ends
        )
    except InvalidInput as error:
        raise ApiError(str(error), param="tools", code="invalid_form") from None
    if not either:
        return {"grammar": grammar}
    start, *rules = grammar.splitlines()
    start = f"({start.removeprefix('start: ')}) | {FORM}"
    return {"grammar": behind_reasoning(start, [*rules, rule_of(form)], tokenizer, ends)}


def rule_of(form: Mapping[str, Any]) -> str:
    """Return a schema or a pattern as a rule of a grammar."""
    if "regex" in form:
        return f"{FORM}: /{form['regex'].replace('/', chr(92) + '/')}/"
    schema = json.loads(schema_text(form["json_schema"]))
    given = schema if isinstance(schema, dict) else {}
    return f"{FORM}: %json {json.dumps({'x-guidance': {'whitespace_pattern': SPACE}, **given})}"
