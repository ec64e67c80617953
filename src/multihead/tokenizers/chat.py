"""Chat templates: Jinja in a sandbox, with the helpers that templates expect and limits on what they may cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ChatTemplateError, UnsupportedOption, nearest
from .encodings import Encodings, to_tensors

if TYPE_CHECKING:
    import jinja2

    from .tokenizer import Tokenizer

LONGEST_TEMPLATE = 1_000_000  # characters
LONGEST_TEXT = 50_000_000  # characters that a template may write
CALL_OPTIONS = ("padding", "truncation", "max_length", "return_tensors")
MARK = "\ue000\ue001\ue000"  # where a message is gone on with: of private use, so in no text
BEGIN, END = "\ue002\ue003\ue002", "\ue003\ue002\ue003"  # around what the assistant says, likewise
MARKS = re.compile(f"({BEGIN}|{END})")
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
Spans = tuple[tuple[int, int], ...]


def apply(
    tokenizer: Tokenizer,
    conversation: Any,
    tools: Any = None,
    documents: Any = None,
    *,
    chat_template: str | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    tokenize: bool = True,
    return_dict: bool = True,
    return_assistant_tokens_mask: bool = False,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    **variables: Any,
) -> Any:
    """A conversation, or a batch of them, as the model was taught to read it.

    Args:
        conversation: a list of `{"role": ..., "content": ...}`, or a list of such lists; entries that are None count
            as absent.
        tools: JSON schemas of functions, for templates that know them. documents: likewise.
        chat_template: a template, or the name of one of several; the tokenizer's own when left out.
        add_generation_prompt: ends where the model's answer begins.
        continue_final_message: ends inside the last message, for the model to go on with it.
        tokenize: gives ids (in an Encodings, or with return_dict=False bare) instead of text.
        return_assistant_tokens_mask: adds `assistant_masks`, 1 for each token inside the template's `{% generation %}`.
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
    options = {name: variables.pop(name) for name in CALL_OPTIONS if name in variables}
    batched = bool(conversation) and not isinstance(conversation[0], Mapping)
    chats = list(conversation) if batched else [conversation]
    source = chosen(tokenizer, chat_template, tools)
    schemas = [schema(tool) for tool in tools] if tools else None
    shared = {**tokenizer.special_tokens_map, **variables, "tools": schemas, "documents": documents}
    shared["add_generation_prompt"] = add_generation_prompt
    texts, spans = [], []
    for chat in chats:
        messages = [stated(message) for message in chat]
        if continue_final_message:
            texts.append(continued(source, shared, messages))
        elif return_assistant_tokens_mask:
            text, of_the_assistant = marked(source, {**shared, "messages": messages})
            texts.append(text)
            spans.append(of_the_assistant)
        else:
            texts.append(rendered(source, {**shared, "messages": messages}))
    if not tokenize:
        return texts if batched else texts[0]
    found = tokenizer(
        texts if batched else texts[0], add_special_tokens=False, **options, **dict(tokenizer_kwargs or {})
    )
    if return_assistant_tokens_mask:
        found["assistant_masks"] = masks(found, spans, options.get("return_tensors"), batched)
    return found if return_dict else found["input_ids"]


def masks(found: Encodings, spans: Sequence[Spans], kind: str | None, batched: bool) -> Any:
    """1 for each token of the spans, else 0: a list a row, or a tensor where the ids are one."""
    rows = [mask(encoding.offsets, own) for encoding, own in zip(found.encodings, spans, strict=True)]
    if kind is not None:
        return to_tensors({"assistant_masks": rows}, kind)["assistant_masks"]
    return rows if batched else rows[0]


def mask(offsets: Sequence[tuple[int, int]], spans: Spans) -> list[int]:
    """1 for the tokens from the first to the last that holds a character of a span."""
    out = [0] * len(offsets)
    for begin, end in spans:
        places = [place for place, (first, past) in enumerate(offsets) if first < end and past > begin and past > first]
        if places:
            out[places[0] : places[-1] + 1] = [1] * (places[-1] + 1 - places[0])
    return out


def schema(tool: Any) -> Any:
    """A tool as templates read it. Raises UnsupportedOption for what is no JSON schema."""
    if isinstance(tool, Mapping):
        return tool
    raise UnsupportedOption(
        f"A tool is a JSON schema (a dict), not {type(tool).__name__}: describe the function as one."
    )


def chosen(tokenizer: Tokenizer, name: str | None, tools: Any = None) -> str:
    """The template text of a name, a given template, or the tokenizer's default."""
    own = tokenizer.chat_template
    if isinstance(own, Mapping):
        if name in own:
            return str(own[name])
        if name is None:
            key = "tool_use" if tools and "tool_use" in own else "default"
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


def marked(source: str, variables: Mapping[str, Any]) -> tuple[str, Spans]:
    """What a template writes, and where it writes what `{% generation %}` marks: (first, one past the last) characters.

    The template is rendered once more with a character before and behind each marked part.

    Raises:
        ChatTemplateError: as `rendered`; no marks, or a template that changes a marked part afterwards.
    """
    if not GENERATION.search(source):
        raise ChatTemplateError(
            "The chat template has no {% generation %} marks, so what the assistant says cannot be told apart. Put "
            "{% generation %} and {% endgeneration %} around its words, or leave return_assistant_tokens_mask out."
        )
    text = rendered(source, variables)
    plain, spans, begin = "", [], 0
    for part in MARKS.split(rendered(source, variables, marks=True)):
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


def rendered(source: str, variables: Mapping[str, Any], *, marks: bool = False) -> str:
    """What a template writes.

    Args:
        marks: with BEGIN and END around each part inside `{% generation %}`.

    Raises:
        ChatTemplateError: with the template's line where that is known.
    """
    import jinja2

    template = compiled(source, marks)
    parts, size = [], 0
    try:
        for part in template.generate(**variables):
            size += len(part)
            if size > LONGEST_TEXT:
                raise ChatTemplateError(f"The chat template writes more than {LONGEST_TEXT:,} characters.")
            parts.append(part)
    except ChatTemplateError:
        raise
    except jinja2.TemplateError as error:
        raise ChatTemplateError(f"The chat template refuses this conversation{line(error)}: {error}.") from error
    except Exception as error:  # whatever a template's own expressions stumble over
        raise ChatTemplateError(
            f"The chat template fails on this conversation{line(error)}: {type(error).__name__}: {error}. "
            'Are all messages {"role": ..., "content": ...}?'
        ) from error
    return "".join(parts)


def line(error: BaseException) -> str:
    """Where in the template an error came up, from its traceback."""
    place, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            place = trace.tb_lineno
        trace = trace.tb_next
    return f" at its line {place}" if place else ""


@lru_cache(maxsize=16)
def compiled(source: str, marks: bool = False) -> jinja2.Template:
    """A parsed template. Raises ChatTemplateError where it does not parse."""
    import jinja2

    if len(source) > LONGEST_TEMPLATE:
        raise ChatTemplateError(f"The chat template is longer than {LONGEST_TEMPLATE:,} characters.")
    try:
        return environment(marks).from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ChatTemplateError(
            f"The chat template does not parse at its line {error.lineno}: {error.message}."
        ) from error


@lru_cache(maxsize=2)
def environment(marks: bool = False) -> jinja2.Environment:
    """Jinja's immutable sandbox, set up as chat templates expect."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, generation_tag(marks)]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


def generation_tag(marks: bool) -> type[Any]:
    """`{% generation %} ... {% endgeneration %}` around an assistant's words, which are written as they are.

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
    """Lets a template refuse a conversation."""
    import jinja2

    raise jinja2.TemplateError(message)


def strftime_now(form: str) -> str:
    """Today's date, for templates that tell it."""
    return datetime.now().strftime(form)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON with its characters as they are: Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def stated(message: Any) -> Any:
    """A message without the entries that are None: templates know an absent one, and write "None" for the others."""
    return {k: v for k, v in message.items() if v is not None} if isinstance(message, Mapping) else message


def continued(source: str, variables: Mapping[str, Any], messages: Sequence[Any]) -> str:
    """What a template writes up to the end of the last message, found by a mark that a copy of it ends with.

    Raises:
        ChatTemplateError: a last message without text, or a template that changes or leaves out its words.
    """
    last = messages[-1] if messages else {}
    words, marked = ended(last.get("content") if isinstance(last, Mapping) else None)
    text = rendered(source, {**variables, "messages": [*messages[:-1], {**last, "content": marked}]})
    place = text.rfind(MARK)
    if place < 0 or words.strip() not in text[:place]:
        raise ChatTemplateError(
            "continue_final_message: the last message does not stand in the text that the template writes."
        )
    whole = text.startswith(f"{MARK} ", place)  # else the template trims its messages
    return text[:place] if whole else text[:place].rstrip()


def ended(content: Any) -> tuple[str, Any]:
    """The words of a message, and its content with the mark and a space behind them. Raises ChatTemplateError."""
    if isinstance(content, str):
        return content, f"{content}{MARK} "
    parts = list(content) if isinstance(content, (list, tuple)) else []
    for number, part in reversed(list(enumerate(parts))):
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            parts[number] = {**part, "text": f"{part['text']}{MARK} "}
            return str(part["text"]), parts
    raise ChatTemplateError("continue_final_message: the last message has no text to go on with.")
