"""Chat templates: Jinja in a sandbox, with the helpers that templates expect and limits on their cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ChatTemplateError, UnsupportedOption, describe_error, nearest
from . import messages, sanitizing
from .encode import encode, options_of, pad_rows
from .encodings import Encodings, to_tensors
from .tools import schemas

if TYPE_CHECKING:
    import jinja2

    from .core import TokenizerCore

LONGEST_TEMPLATE = 250_000  # characters
LONGEST_DATE = 100  # characters of the form of a date
LONGEST_TEXT = 50_000_000  # characters that a template may write; see `budget` for what it may do
CALL_OPTIONS = ("padding", "truncation", "max_length", "return_tensors")
BEGIN, END = "\ue002\ue003\ue002", "\ue003\ue002\ue003"  # around what the assistant says: private, so in no text
MARKS = re.compile(f"({BEGIN}|{END})")
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
Spans = tuple[tuple[int, int], ...]


def apply(
    tokenizer: TokenizerCore,
    conversation: Any,
    tools: Any = None,
    documents: Any = None,
    *,
    chat_template: str | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    tokenize: bool = True,
    return_dict: bool = True,
    return_assistant_tokens_mask: bool = False,
    sanitize_control_tokens: bool = False,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    **variables: Any,
) -> Any:
    """Render a conversation, or a batch of them, in the format that the model was trained on.

    Args:
        conversation: a list of `{"role": ..., "content": ...}`, or a list of such lists; entries that are None count
            as absent.
        tools: functions, or JSON schemas of such (see `tools`), for templates that know them.
        documents: dicts with a title and a text, for templates that know them.
        chat_template: a template, or the name of one of several; the tokenizer's own when left out.
        add_generation_prompt: ends where the model's answer begins.
        continue_final_message: ends inside the last message, for the model to go on with it; or the name of the part
            of the message that it goes on with, such as "reasoning_content".
        tokenize: gives ids (in an Encodings, or with return_dict=False bare) instead of text.
        return_assistant_tokens_mask: adds `assistant_masks`, 1 for each token inside the template's `{% generation %}`.
        sanitize_control_tokens: reads control tokens in messages, tools, documents and variables as plain text.
        variables: padding, truncation, max_length, return_tensors; all else the template reads.

    Raises:
        ChatTemplateError: no template, one that does not parse, breaks the sandbox, or refuses the conversation; no
            text in a last message that is to be continued.
        UnsupportedOption: options that exclude each other.
    """
    if add_generation_prompt and continue_final_message:
        raise UnsupportedOption("add_generation_prompt and continue_final_message exclude each other.")
    if return_assistant_tokens_mask and (continue_final_message or not (tokenize and return_dict)):
        raise UnsupportedOption(
            "return_assistant_tokens_mask=True needs tokenize=True, return_dict=True and continue_final_message=False."
        )
    if sanitize_control_tokens and (not tokenize or return_assistant_tokens_mask):
        raise UnsupportedOption("sanitize_control_tokens=True needs tokenize=True and no return_assistant_tokens_mask.")
    options = {"truncation": False, **{name: variables.pop(name) for name in CALL_OPTIONS if name in variables}}
    chats, batched = messages.normalize_conversations(conversation)
    source = select_template(tokenizer, chat_template, tools)
    shared = template_variables(
        tokenizer, tools, documents, {**variables, "add_generation_prompt": add_generation_prompt}
    )
    if sanitize_control_tokens:
        chats, shared = mark_control_tokens(tokenizer, source, chats, shared)
    texts, spans = [], []
    for chat in chats:
        if continue_final_message:
            texts.append(render_continuation(source, shared, chat, continue_final_message))
        elif return_assistant_tokens_mask:
            text, of_the_assistant = render_spans(source, {**shared, "messages": chat})
            texts.append(text)
            spans.append(of_the_assistant)
        else:
            texts.append(render(source, {**shared, "messages": chat}))
    if not tokenize:
        return texts if batched else texts[0]
    if sanitize_control_tokens:
        found = encode_sanitized(tokenizer, texts, batched, {**options, **dict(tokenizer_kwargs or {})})
        return found if return_dict else found["input_ids"]
    options = {"add_special_tokens": False, **options, **dict(tokenizer_kwargs or {})}
    found = encode(tokenizer, texts if batched else texts[0], None, options)
    if return_assistant_tokens_mask:
        found["assistant_masks"] = assistant_masks(found, spans, options.get("return_tensors"), batched)
    return found if return_dict else found["input_ids"]


def mark_control_tokens(
    tokenizer: TokenizerCore, source: str, chats: list[list[Any]], shared: Mapping[str, Any]
) -> tuple[list[list[Any]], dict[str, Any]]:
    """Mark the control tokens in conversations and variables, to tell them from the template's; see `sanitizing`."""
    compile_template(source)  # refuses what does not parse
    tokens = re.compile(sanitizing.any_pattern(sanitizing.control_tokens(tokenizer, source, make_environment())))
    own = tokenizer.special_tokens_map
    given = {
        name: value if own.get(name) == value else sanitizing.mark_tokens(value, tokens)
        for name, value in shared.items()
    }
    return sanitizing.mark_tokens(chats, tokens), given


def encode_sanitized(
    tokenizer: TokenizerCore, texts: Sequence[str], batched: bool, options: dict[str, Any]
) -> Encodings:
    """Encode rendered texts whose control tokens are marked, with truncation and padding as requested."""
    call_options = options_of(options)
    limit = call_options.max_length if call_options.max_length is not None else tokenizer.limit
    rows = [sanitizing.encode_marked(tokenizer, text) for text in texts]
    if call_options.truncation not in (None, False, "do_not_truncate") and limit is not None:
        right = tokenizer.truncation_side == "right"
        rows = [row[:limit] if right else row[max(len(row) - limit, 0) :] for row in rows]
    padding = {name: options[name] for name in ("max_length", "padding_side", "pad_to_multiple_of") if name in options}
    return pad_rows(
        tokenizer,
        {"input_ids": rows if batched or call_options.return_tensors else rows[0]},
        padding=call_options.padding, return_tensors=call_options.return_tensors, **padding,
    )  # fmt: skip


def template_variables(
    tokenizer: TokenizerCore, tools: Any, documents: Any, variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect the variables of a template other than the messages."""
    shared: dict[str, Any] = messages.plain_data({**tokenizer.special_tokens_map, **variables, "tools": schemas(tools)})
    return {**shared, "documents": messages.normalize_documents(documents)}


def render_with_spans(
    tokenizer: TokenizerCore,
    conversation: Any,
    tools: Any = None,
    documents: Any = None,
    *,
    chat_template: str | None = None,
    **variables: Any,
) -> tuple[str, Spans] | None:
    """Render a conversation and its `{% generation %}` spans; return None for a template without them.

    Raises:
        ChatTemplateError: as `apply`, and for marks that cannot be placed.
    """
    source = select_template(tokenizer, chat_template, tools)
    if not GENERATION.search(source):
        return None
    shared = template_variables(tokenizer, tools, documents, {"add_generation_prompt": False, **variables})
    return render_spans(source, {**shared, "messages": messages.normalize_conversation(conversation)})


def message_ids(
    tokenizer: TokenizerCore, message: Any, before: Sequence[Any] | None, options: Mapping[str, Any]
) -> list[int]:
    """Return the ids that a message adds to a conversation, from the first id that differs.

    Raises:
        UnsupportedOption: add_generation_prompt, which no message ends with.
    """
    if "add_generation_prompt" in options:
        raise UnsupportedOption("add_generation_prompt: encode_message_with_chat_template encodes a message alone.")
    given = {**options, "return_dict": False}
    whole = list(apply(tokenizer, [*(before or ()), message], **given))
    own = list(apply(tokenizer, list(before), **given)) if before else []
    same = next((n for n, (a, b) in enumerate(zip(own, whole, strict=False)) if a != b), min(len(own), len(whole)))
    return whole[same:]


def render_continuation(source: str, variables: Mapping[str, Any], chat: list[Any], part: bool | str) -> str:
    """Render up to the end of the last message. Raises ChatTemplateError where that end is not found."""
    words, open_ended = messages.mark_last_message(chat, source, part)
    return messages.text_before_mark(render(source, {**variables, "messages": open_ended}), words)


def assistant_masks(found: Encodings, spans: Sequence[Spans], kind: str | None, batched: bool) -> Any:
    """Return 1 for each token of the spans, else 0: one list a row, or a tensor where the ids are a tensor."""
    rows = [assistant_mask(encoding.offsets, own) for encoding, own in zip(found.encodings, spans, strict=True)]
    if kind is not None:
        return to_tensors({"assistant_masks": rows}, kind)["assistant_masks"]
    return rows if batched else rows[0]


def assistant_mask(offsets: Sequence[tuple[int, int]], spans: Spans) -> list[int]:
    """Return 1 for the tokens from the first to the last that holds a character of a span, else 0."""
    out = [0] * len(offsets)
    for begin, end in spans:
        places = [place for place, (first, past) in enumerate(offsets) if first < end and past > begin and past > first]
        if places:
            out[places[0] : places[-1] + 1] = [1] * (places[-1] + 1 - places[0])
    return out


def select_template(tokenizer: TokenizerCore, name: str | None, tools: Any = None) -> str:
    """Return the template text for a name, the given template, or the tokenizer's default."""
    own = tokenizer.chat_template
    if isinstance(own, Mapping):
        if name in own:
            return str(own[name])
        if name is None:
            key = "tool_use" if tools is not None and "tool_use" in own else "default"
            if key in own:
                return str(own[key])
            raise ChatTemplateError(f"This tokenizer has the chat templates {', '.join(own)} and no default; name one.")
    if name is not None:
        if "{" not in name and isinstance(own, Mapping):
            raise ChatTemplateError(f"This tokenizer has no chat template {name!r}. {nearest(name, own)}")
        return name
    if own is None:
        raise ChatTemplateError(
            "This tokenizer has no chat template; the model may not be made for conversations. Pass chat_template=..., "
            "or write the prompt as text."
        )
    return str(own)


def render_spans(source: str, variables: Mapping[str, Any]) -> tuple[str, Spans]:
    """Render a template; return the text and its `{% generation %}` spans as (first, one past the last) characters.

    The template is rendered once more with a character before and behind each marked part.

    Raises:
        ChatTemplateError: as `render`; no marks, or a template that changes a marked part afterwards.
    """
    if not GENERATION.search(source):
        raise ChatTemplateError(
            "The chat template has no {% generation %} marks, so the tokens of the assistant are unknown. Put "
            "{% generation %} and {% endgeneration %} around its words, or leave return_assistant_tokens_mask out."
        )
    text = render(source, variables)
    plain, spans, begin = "", [], 0
    for part in MARKS.split(render(source, variables, marks=True)):
        if part == BEGIN:
            begin = len(plain)
        elif part == END:
            spans.append((begin, len(plain)))
        else:
            plain += part
    if plain != text:
        raise ChatTemplateError(
            "The chat template changes what its {% generation %} marks enclose once it is written, so the marks cannot "
            "be placed. Change words inside the marks, not around them."
        )
    return text, tuple(span for span in spans if span[0] < span[1])


def render(source: str, variables: Mapping[str, Any], *, marks: bool = False) -> str:
    """Render a template.

    Args:
        marks: with BEGIN and END around each part inside `{% generation %}`.

    Raises:
        ChatTemplateError: with the template's line where that is known.
    """
    import jinja2

    from .budget import limit_budget

    template = compile_template(source, marks)
    parts, size = [], 0
    try:
        with limit_budget():
            for part in template.generate(**variables):
                size += len(part)
                if size > LONGEST_TEXT:
                    raise ChatTemplateError(f"The chat template writes more than {LONGEST_TEXT:,} characters.")
                parts.append(part)
    except ChatTemplateError as error:
        raise ChatTemplateError(f"{str(error)[:-1]}{error_line(error)}.") from error
    except jinja2.TemplateError as error:
        raise ChatTemplateError(f"The chat template refuses this conversation{error_line(error)}: {error}.") from error
    except Exception as error:  # whatever a template's own expressions stumble over
        raise ChatTemplateError(
            f"The chat template fails on this conversation{error_line(error)}: {type(error).__name__}: "
            f"{describe_error(error)}. "
            'Are all messages {"role": ..., "content": ...}?'
        ) from error
    return "".join(parts)


def error_line(error: BaseException) -> str:
    """Return the template line of an error, from its traceback."""
    place, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            place = trace.tb_lineno
        trace = trace.tb_next
    return f" at its line {place}" if place else ""


@lru_cache(maxsize=16)
def compile_template(source: str, marks: bool = False) -> jinja2.Template:
    """Parse a template. Raises ChatTemplateError where it does not parse."""
    import jinja2

    if len(source) > LONGEST_TEMPLATE:
        raise ChatTemplateError(f"The chat template is longer than {LONGEST_TEMPLATE:,} characters.")
    try:
        return make_environment(marks).from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ChatTemplateError(
            f"The chat template does not parse at its line {error.lineno}: {error.message}."
        ) from error
    except Exception as error:  # Python's own compiler: a break outside of a loop, too deep, two names alike
        raise ChatTemplateError(
            f"The chat template does not parse{error_line(error)}: {describe_error(error)}."
        ) from error


@lru_cache(maxsize=2)
def make_environment(marks: bool = False) -> jinja2.Environment:
    """Build Jinja's immutable sandbox with a budget and the helpers that chat templates expect."""
    from jinja2.ext import loopcontrols

    from .budget import BudgetedEnvironment

    made = BudgetedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, generation_tag(marks)])
    made.add_filter("tojson", tojson)
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


def generation_tag(marks: bool) -> type[Any]:
    """Jinja extension for `{% generation %} ... {% endgeneration %}` around the assistant's text.

    Args:
        marks: writes BEGIN before them and END behind them.
    """
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            number = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            if marks:
                ends = [nodes.Output([nodes.TemplateData(mark)], lineno=number) for mark in (BEGIN, END)]
                body = [ends[0], *body, ends[1]]
            return nodes.Scope(body, lineno=number)

    return Generation


def raise_exception(message: str) -> NoReturn:
    """Let a template refuse a conversation."""
    import jinja2

    raise jinja2.TemplateError(message)


def strftime_now(form: str) -> str:
    """Return today's date for templates. Raises ChatTemplateError for an invalid format.

    A width (`%9999999d`) is no part of a date, and Python takes 256 times the length of the form for what it makes.
    """
    if len(form) > LONGEST_DATE or re.search(r"%[-_^#+]*\d", form):
        raise ChatTemplateError(f"The chat template asks for a date in the form {form[:LONGEST_DATE]!r}.")
    return datetime.now().strftime(form)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Dump JSON without escaping; Jinja's own filter escapes for HTML."""
    form = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if indent is None:
        return form.encode(value)
    parts, size = [], 0
    for part in form.iterencode(value):
        size += len(part)
        if size > LONGEST_TEXT:
            raise ChatTemplateError(f"The chat template writes more than {LONGEST_TEXT:,} characters of JSON.")
        parts.append(part)
    return "".join(parts)
