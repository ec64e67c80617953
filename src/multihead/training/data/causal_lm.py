"""Causal language modelling: texts, prompts with completions, conversations; each by itself or packed into blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .conversations import Written, conversation, doubled, is_chat, messages, tokenized
from .features import Builder, Features, Ragged, in_windows
from .reading import DECODER, Reading, cell, column, cut_note, maybe, skipped_note, taken, text, texts, told
from .source import Row, Rows

TEXT = ("text", "content", "document", "sentence")
PROMPT = ("prompt", "instruction", "question")
COMPLETION = ("completion", "response", "output", "answer")
SYSTEM = ("system", "system_prompt")
COMPANIONS = (
    *SYSTEM,
    *PROMPT,
    *COMPLETION,
    "instructions",
    "input",
    "inputs",
    "context",
    "history",
    "passage",
    "document",
)
CHAT = ("messages", "conversations", "conversation")
PACKINGS = ("documents", "blocks")
OVERLONG = ("windows", "truncate")


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Of causal language modelling; rows with an empty text are left out, prompts and completions never are.

    Args:
        text_column, prompt_column, completion_column, messages_column: guessed when left out: messages, else prompt and
            completion, else text.
        learn: "completion" learns completions and what an assistant says (what a chat template marks with
            `{% generation %}`, where it does), "last" the last of it, "all" every token.
        append_eos: the end-of-text token follows texts and completions, where there is one.
        packing: "documents" keeps each text by itself: no token sees another text's. "blocks" puts all texts end to end
            and cuts them into blocks of max_length, the last of which may be shorter.
        overlong: "windows" cuts what is longer than max_length into several examples, "truncate" drops its end; None
            takes windows for texts and truncates the others. Only of documents.
        whole_file: a text file is one text, instead of one a line.
        chat_template: instead of the tokenizer's own. template_options: variables that the template reads.
    """

    text_column: str | None = None
    prompt_column: str | None = None
    completion_column: str | None = None
    messages_column: str | None = None
    learn: str = "completion"
    append_eos: bool = True
    packing: str = "documents"
    overlong: str | None = None
    whole_file: bool = False
    skip_empty: bool = True
    chat_template: str | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raises InvalidInput for values that cannot be."""
        choices = {"learn": ("completion", "last", "all"), "packing": PACKINGS, "overlong": (None, *OVERLONG)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} is one of {', '.join(map(str, known))}, not {getattr(self, name)!r}.")


def prepare(source: Any, tokenizer: Tokenizer, options: Options) -> Features:
    """Features with `input_ids` and `labels`, which are the same store where every token is learned.

    Raises:
        InvalidInput: columns that are not there, rows without text or with nothing to learn, with their row.
        ChatTemplateError: the chat template refuses a conversation.
    """
    options.check()
    if options.whole_file and isinstance(source, Rows):
        raise InvalidInput("whole_file=True reads files by itself: give their path instead of rows.")
    rows = Rows.of(source, whole_files=options.whole_file)
    chat = maybe(rows, options.messages_column, CHAT, "messages_column")
    completion = maybe(rows, options.completion_column, COMPLETION, "completion_column")
    prompt = maybe(rows, options.prompt_column, PROMPT, "prompt_column")
    if options.text_column is not None or (chat is None and (completion is None or prompt is None)):
        return of_texts(rows, tokenizer, options)
    return of_parts(rows, tokenizer, options, (chat,) if chat is not None else (prompt or "", completion or ""))


def of_texts(rows: Rows, tokenizer: Tokenizer, options: Options) -> Features:
    """Of texts that are learned whole."""
    name = column(rows, options.text_column, TEXT, "text_column")
    beside = (*SYSTEM, *PROMPT, *COMPLETION)
    used = taken(rows, [name], options, beside, named=options.text_column is not None)
    length, end = options.limit(tokenizer, DECODER), tokenizer.eos_token_id if options.append_eos else None
    truncated = options.overlong == "truncate" and options.packing == "documents"
    builder, skipped, cut, twice, endless = Builder({"input_ids": "int32"}), 0, 0, 0, 0
    for begin, chunk in rows.chunks():
        numbers, found = texts(rows, begin, chunk, [name], options.skip_empty)
        skipped += len(chunk) - len(numbers)
        for number, ids in zip(numbers, tokenizer.encode_ids(found[0]), strict=True):
            if doubled(ids, tokenizer):
                ids, twice = ids[1:], twice + 1
            if end is not None and (not ids or ids[-1] != end):
                ids = [*ids, end]
            endless += tokenizer.eos_token_id not in ids[-1:]
            cut += truncated and len(ids) > length
            builder.add(number, input_ids=ids[:length] if truncated else ids)
    notes = skipped_note(skipped, len(rows)) + cut_note(cut, len(rows), length) + used.notes
    notes += framed(tokenizer, twice, endless, len(rows))
    features = in_windows(builder.done(rows, notes=notes, **used.told), length, across=options.packing == "blocks")
    features.ragged["labels"] = features.ragged["input_ids"]
    return features


def of_parts(rows: Rows, tokenizer: Tokenizer, options: Options, names: Sequence[str]) -> Features:
    """Of conversations (one name) or of prompts and completions (two)."""
    named = options.messages_column if len(names) == 1 else options.prompt_column and options.completion_column
    tools = ["tools"] if "tools" in rows.columns else []
    used = taken(rows, [*names, *tools], options, SYSTEM if len(names) == 1 else COMPANIONS, named=named is not None)
    length = options.limit(tokenizer, DECODER)
    documents = options.packing == "documents"
    truncated = documents and options.overlong != "windows"
    builder, cut, empty, endless = Builder({"input_ids": "int32", "labels": "int32"}), 0, 0, 0
    begins, twice = tokenizer.bos_token if adds_begin(tokenizer) else None, 0
    for begin, chunk in rows.chunks(500):
        numbers = range(begin, begin + len(chunk))
        written = [of_row(rows, number, row, tokenizer, options, names) for number, row in enumerate(chunk, begin)]
        twice += sum(one.special and begins is not None and one.text.startswith(begins) for one in written)
        for number, (ids, labels) in zip(numbers, tokenized(written, tokenizer, rows, numbers), strict=True):
            cut += truncated and len(ids) > length
            endless += tokenizer.eos_token_id not in labels
            kept = (ids[:length], labels[:length]) if truncated else (ids, labels)
            if all(label == IGNORED for label in kept[1][1:]):
                empty += 1
                continue
            builder.add(number, input_ids=kept[0], labels=kept[1])
    notes = cut_note(cut, len(rows), length, "examples") + told(
        empty, len(rows), f"examples have nothing to learn within {length} tokens and were left out."
    )
    features = in_windows(
        builder.done(rows, notes=notes + used.notes + framed(tokenizer, twice, endless, len(rows)), **used.told),
        length,
        across=not documents,
    )
    return taught(features) if documents and not truncated else features


def adds_begin(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts a begin-of-text token before texts."""
    return tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]


def framed(tokenizer: Tokenizer, twice: int, endless: int, total: int) -> list[str]:
    """Notes on texts that bring a begin-of-text token, and on those that learn no end."""
    end = f" ({tokenizer.eos_token})" if tokenizer.eos_token is not None else ""
    return [
        *told(twice, total, f"texts begin with {tokenizer.bos_token} themselves; the tokenizer's was left out."),
        *told(endless, total, f"examples learn no end-of-text token{end}: the model is not taught where to stop."),
    ]


def taught(features: Features) -> Features:
    """Without the windows that have nothing to learn."""
    labels: Ragged = features.ragged["labels"]
    return features.subset(i for i in range(len(features)) if (labels[i][1:] != IGNORED).any())


def of_row(
    rows: Rows, number: int, row: Row, tokenizer: Tokenizer, options: Options, names: Sequence[str]
) -> Written:  # fmt: skip
    """What a row's example reads and learns. Raises InvalidInput with the row."""
    everything, last = options.learn == "all", options.learn == "last"
    variables = {"chat_template": options.chat_template, **options.template_options}
    if row.get("tools"):
        variables["tools"] = row["tools"]
    if len(names) == 1:
        chat = messages(rows, number, cell(rows, number, row, names[0]))
        return conversation(rows, number, chat, tokenizer, everything=everything, last=last, **variables)
    prompt, completion = (cell(rows, number, row, name) for name in names)
    if is_chat(prompt):
        asked, told_ = (messages(rows, number, part) for part in (prompt, completion))
        return conversation(
            rows, number, [*asked, *told_], tokenizer, everything=everything, after=len(asked), last=last, **variables
        )
    prompt, completion = (text(rows, number, row, name) or "" for name in names)
    whole = prompt + completion
    return Written(whole, ((0 if everything else len(prompt), len(whole)),), ended=options.append_eos)
