"""Reader of causal language modelling: texts, prompts with completions, and chats, one by one or in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .columns import (
    DECODER_LIMIT,
    ReaderOptions,
    chunk_texts,
    column_use,
    count_note,
    cut_note,
    find_column,
    require_cell,
    require_column,
    require_text,
    skipped_note,
)
from .conversations import LabeledText, has_double_bos, is_chat, messages, render_chat, tokenize_labeled
from .features import FeatureBuilder, Features, Ragged, split_windows
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
class CausalLMOptions(ReaderOptions):
    """Options of causal language modelling; rows with an empty text are left out, empty prompts are errors.

    Args:
        text_column, prompt_column, completion_column, messages_column: detected by name when None: messages, else
            prompt and completion, else text.
        learn: "completion" learns completions and assistant messages (or the `{% generation %}` parts of the chat
            template, if it has them), "last" only the last assistant message, "all" every token.
        append_eos: append the end-of-text token to texts and completions, if the tokenizer has one.
        packing: "documents" keeps texts apart: no token attends to another text. "blocks" concatenates all texts and
            splits them into blocks of max_length; the last block may be shorter.
        overlong: "windows" splits texts longer than max_length into several examples, "truncate" drops their end; None
            means windows for texts and truncation for chats and completions. Only for documents.
        whole_file: a text file is one text, instead of one text a line.
        chat_template: replaces the tokenizer's template. template_options: variables of the template.
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
        """Raise InvalidInput for unknown values of `learn`, `packing` and `overlong`."""
        choices = {"learn": ("completion", "last", "all"), "packing": PACKINGS, "overlong": (None, *OVERLONG)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} must be one of {', '.join(map(str, known))}, not {getattr(self, name)!r}.")


def prepare(source: Any, tokenizer: Tokenizer, options: CausalLMOptions) -> Features:
    """Build features with `input_ids` and `labels`; both share one array if every token is learned.

    Raises:
        InvalidInput: a missing column, or a row without text or without tokens to learn, with its row.
        ChatTemplateError: the chat template refuses a chat.
    """
    options.check()
    if options.whole_file and isinstance(source, Rows):
        raise InvalidInput("whole_file=True reads the files itself: give their path instead of rows.")
    rows = Rows.of(source, whole_files=options.whole_file)
    chat = find_column(rows, options.messages_column, CHAT, "messages_column")
    completion = find_column(rows, options.completion_column, COMPLETION, "completion_column")
    prompt = find_column(rows, options.prompt_column, PROMPT, "prompt_column")
    if options.text_column is not None or (chat is None and (completion is None or prompt is None)):
        return prepare_texts(rows, tokenizer, options)
    names = (chat,) if chat is not None else (prompt or "", completion or "")
    return prepare_completions(rows, tokenizer, options, names)


def prepare_texts(rows: Rows, tokenizer: Tokenizer, options: CausalLMOptions) -> Features:
    """Build features of texts in which every token is learned."""
    name = require_column(rows, options.text_column, TEXT, "text_column")
    companions = (*SYSTEM, *PROMPT, *COMPLETION)
    use = column_use(rows, [name], options, companions, named=options.text_column is not None)
    length, end = options.limit(tokenizer, DECODER_LIMIT), tokenizer.eos_token_id if options.append_eos else None
    truncated = options.overlong == "truncate" and options.packing == "documents"
    builder, skipped, cut, double_bos, without_eos = FeatureBuilder({"input_ids": "int32"}), 0, 0, 0, 0
    for begin, chunk in rows.chunks():
        numbers, columns = chunk_texts(rows, begin, chunk, [name], options.skip_empty)
        skipped += len(chunk) - len(numbers)
        for number, ids in zip(numbers, tokenizer.encode_ids(columns[0]), strict=True):
            if has_double_bos(ids, tokenizer):
                ids, double_bos = ids[1:], double_bos + 1
            if end is not None and (not ids or ids[-1] != end):
                ids = [*ids, end]
            without_eos += tokenizer.eos_token_id not in ids[-1:]
            cut += truncated and len(ids) > length
            builder.add(number, input_ids=ids[:length] if truncated else ids)
    notes = skipped_note(skipped, len(rows)) + cut_note(cut, len(rows), length) + use.notes
    notes += boundary_notes(tokenizer, double_bos, without_eos, len(rows))
    features = split_windows(
        builder.build(rows, notes=notes, **use.feature_fields), length, across=options.packing == "blocks"
    )
    features.ragged["labels"] = features.ragged["input_ids"]
    return features


def prepare_completions(rows: Rows, tokenizer: Tokenizer, options: CausalLMOptions, names: Sequence[str]) -> Features:
    """Build features of chats (one column name) or of prompts and completions (two names)."""
    named = options.messages_column if len(names) == 1 else options.prompt_column and options.completion_column
    tools = ["tools"] if "tools" in rows.columns else []
    use = column_use(
        rows, [*names, *tools], options, SYSTEM if len(names) == 1 else COMPANIONS, named=named is not None
    )
    length = options.limit(tokenizer, DECODER_LIMIT)
    documents = options.packing == "documents"
    truncated = documents and options.overlong != "windows"
    builder, cut, empty = FeatureBuilder({"input_ids": "int32", "labels": "int32"}), 0, 0
    bos, double_bos, without_eos = tokenizer.bos_token if adds_bos(tokenizer) else None, 0, 0
    for begin, chunk in rows.chunks(500):
        numbers = range(begin, begin + len(chunk))
        texts = [row_text(rows, number, row, tokenizer, options, names) for number, row in enumerate(chunk, begin)]
        double_bos += sum(text.special and bos is not None and text.text.startswith(bos) for text in texts)
        for number, (ids, labels) in zip(numbers, tokenize_labeled(texts, tokenizer, rows, numbers), strict=True):
            cut += truncated and len(ids) > length
            without_eos += tokenizer.eos_token_id not in labels
            if truncated:
                ids, labels = ids[:length], labels[:length]
            if all(label == IGNORED for label in labels[1:]):
                empty += 1
                continue
            builder.add(number, input_ids=ids, labels=labels)
    notes = cut_note(cut, len(rows), length, "examples") + count_note(
        empty, len(rows), f"examples have nothing to learn within {length} tokens and were left out."
    )
    notes += use.notes + boundary_notes(tokenizer, double_bos, without_eos, len(rows))
    features = split_windows(builder.build(rows, notes=notes, **use.feature_fields), length, across=not documents)
    return drop_unlabeled(features) if documents and not truncated else features


def adds_bos(tokenizer: Tokenizer) -> bool:
    """Return whether the tokenizer adds a begin-of-text token."""
    return tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]


def boundary_notes(tokenizer: Tokenizer, double_bos: int, without_eos: int, total: int) -> list[str]:
    """Return notes on texts with their own begin-of-text token, and on texts that learn no end-of-text token."""
    end = f" ({tokenizer.eos_token})" if tokenizer.eos_token is not None else ""
    return [
        *count_note(
            double_bos, total, f"texts already begin with {tokenizer.bos_token}; the tokenizer's own was left out."
        ),
        *count_note(
            without_eos, total, f"examples learn no end-of-text token{end}: the model does not learn where to stop."
        ),
    ]


def drop_unlabeled(features: Features) -> Features:
    """Return the windows that have a token to learn."""
    labels: Ragged = features.ragged["labels"]
    return features.subset(i for i in range(len(features)) if (labels[i][1:] != IGNORED).any())


def row_text(
    rows: Rows, number: int, row: Row, tokenizer: Tokenizer, options: CausalLMOptions, names: Sequence[str]
) -> LabeledText:  # fmt: skip
    """Return the text of a row with the parts that are learned. Raises InvalidInput, naming the row."""
    everything, last = options.learn == "all", options.learn == "last"
    variables = {"chat_template": options.chat_template, **options.template_options}
    if row.get("tools"):
        variables["tools"] = row["tools"]
    if len(names) == 1:
        chat = messages(rows, number, require_cell(rows, number, row, names[0]))
        return render_chat(rows, number, chat, tokenizer, everything=everything, last=last, **variables)
    prompt, completion = (require_cell(rows, number, row, name) for name in names)
    if is_chat(prompt):
        prompt, completion = (messages(rows, number, part) for part in (prompt, completion))
        return render_chat(
            rows, number, [*prompt, *completion], tokenizer, everything=everything, after=len(prompt), last=last,
            **variables,
        )  # fmt: skip
    prompt, completion = (require_text(rows, number, row, name) or "" for name in names)
    text = prompt + completion
    return LabeledText(text, ((0 if everything else len(prompt), len(text)),), append_eos=options.append_eos)
