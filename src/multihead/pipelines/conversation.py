"""Conversations with a language model: turns, the KV cache between them, and what happens when they no longer fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, TextTooLong, UnsupportedOption
from ..generation.config import GenerationConfig
from ..generation.generate import generate_tokens
from ..generation.session import GenerationSession, SessionResult
from ..generation.strategies.base import Extras
from ..generation.streaming import stop_on_error
from .generation_base import CausalLMPipeline, Message, check_messages, fill_prompt, guard_repetition, set_stream_end
from .streaming_batcher import ModelInput, check_unicode

HISTORY = ("error", "drop", "summarize")
NEW_TOKENS = 512  # default of max_new_tokens in a conversation
SPARE = 4  # one part of the context in so many becomes free when turns are dropped, so that the next turns fit too
SUMMARY_TOKENS = 160  # of a summary of dropped turns, at most
SUMMARY_PROMPT = (
    "Summarize the following conversation in a few sentences. Keep names, numbers, wishes and decisions.\n\n{text}"
)
SUMMARY_TITLE = "Summary of the conversation so far:"


@dataclass(frozen=True)
class Reply:
    """Answer of the model in a conversation.

    Args:
        text: what the model wrote in this turn. finish_reason: "stop", "length", or "abort" after `stop()`.
        prompt_tokens: of the conversation up to the answer. cached_tokens: those that were not read again.
        new_tokens: of the answer. notices: what the user must know, such as that turns were dropped.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    notices: Sequence[str] = ()


class Conversation:
    """Conversation whose turns read only new tokens, since the KV cache of the last turn stays.

    The answers are those that the pipeline gives to the whole list of messages with the same options. A conversation is
    for one thread at a time; only `stop` may come from another one.

    Args:
        pipe: a text-generation pipeline. messages: the beginning. system: instructions that come first.
        history: what happens when the conversation and `max_new_tokens` no longer fit: "error" raises TextTooLong;
            "drop" leaves the oldest exchanges out; "summarize" leaves them out too, and the system message tells the
            model's own summary of them. The system message and the last question always stay.
        context_length: tokens that fit. Default: what the model was made for.
        options: of the pipeline's calls, for all turns (`max_new_tokens`, `temperature`, `tools`, ...).

    Attributes:
        messages: all messages, also those that are no longer read. summary: of those, with history="summarize".
    """

    def __init__(
        self,
        pipe: CausalLMPipeline,
        messages: Iterable[Message] = (),
        *,
        system: str | None = None,
        history: str = "error",
        context_length: int | None = None,
        **options: Any,
    ) -> None:
        if history not in HISTORY:
            raise UnsupportedOption(f"history is one of {', '.join(HISTORY)}, not {history!r}.")
        if context_length is not None and (not isinstance(context_length, int) or context_length < 2):
            raise InvalidInput(f"context_length is a whole number from 2, not {context_length!r}.")
        self.pipe, self.history, self.options = pipe, history, dict(options)
        self.session = GenerationSession(pipe.model)
        limits = (context_length, pipe.context_length if context_length is None else None, pipe.model.max_positions)
        self.context_length = min((n for n in limits if n is not None), default=None)
        self.messages: list[dict[str, Any]] = []
        self.summary, self.first = "", 0  # the first message after the system's that is read
        self._stopped = False
        self._options({})
        self.load([*([{"role": "system", "content": system}] if system else []), *messages])

    @property
    def context(self) -> list[dict[str, Any]]:
        """The messages that the model reads."""
        system, rest = self.messages[: self._begin], self.messages[self.first :]
        if not self.summary:
            return [*system, *rest]
        text = f"{SUMMARY_TITLE}\n{self.summary}"
        if system:
            return [*system[:-1], {**system[-1], "content": f"{system[-1]['content']}\n\n{text}"}, *rest]
        return [{"role": "system", "content": text}, *rest]

    def send(self, text: str, streamer: Any = None, **options: Any) -> Reply:
        """Send a message and return the answer; both are added to `messages`. After an error, neither is.

        Args:
            streamer: receives the answer as it is written. options: of the pipeline's call, for this turn.

        Raises:
            TextTooLong: the conversation no longer fits (history="error"), or the question alone does not.
            InvalidInput, UnsupportedOption, ChatTemplateError: as the pipeline.
        """
        with self._turn(streamer):
            self.messages.append({"role": "user", "content": checked_text(text)})
            return self._answer(streamer, options)

    def answer(self, streamer: Any = None, **options: Any) -> Reply:
        """Return the answer to the messages as they are, and add it; the last one is a question or a tool's result.

        An answer that `stop` ended before its first word is not added.
        """
        with self._turn(streamer):
            if not self.messages or self.messages[-1]["role"] in ("assistant", "system"):
                raise InvalidInput("There is no question to answer.")
            return self._answer(streamer, options)

    def set(self, **options: Any) -> None:
        """Set options of all later turns. Raises UnsupportedOption, InvalidInput."""
        self.config(self._options(options))
        self.options |= options

    def proceed(self, streamer: Any = None, **options: Any) -> Reply:
        """Go on with the last answer, such as one that was cut at `max_new_tokens`; return what was added to it."""
        with self._turn(streamer):
            self.last_question("go on with")
            reply = self._generate(True, streamer, options)
            self.messages[-1] = {**self.messages[-1], "content": self.messages[-1]["content"] + reply.text}
            return reply

    def retry(self, streamer: Any = None, **options: Any) -> Reply:
        """Ask the last question again; its answer is replaced."""
        with self._turn(streamer):
            del self.messages[self.last_question("ask again") + 1 :]
            return self._answer(streamer, options)

    def undo(self) -> None:
        """Remove the last question and its answer. Raises InvalidInput if there is none."""
        index = self.last_question("take back")
        del self.messages[index:]
        if self.first >= index:  # what remains was dropped for what is gone
            self.first, self.summary = self._begin, ""

    def load(self, messages: Iterable[Message]) -> None:
        """Begin again with these messages. Raises InvalidInput."""
        self.messages = [dict(message) for message in check_messages(messages)]
        self.first, self.summary = self._begin, ""

    def stop(self) -> None:
        """End the answer that is being written, from another thread or a signal handler. What was written stays."""
        self._stopped = True

    def close(self) -> None:
        """Free the KV cache. The conversation may go on; its next turn is read whole."""
        self.session.close()

    def last_question(self, purpose: str = "find") -> int:
        """Return the index of the last question. Raises InvalidInput if none was answered."""
        roles = [message["role"] for message in self.messages]
        if "user" not in roles or roles[-1] != "assistant":
            raise InvalidInput(f"There is nothing to {purpose}.")
        return len(roles) - 1 - roles[::-1].index("user")

    @property
    def _begin(self) -> int:
        """Number of system messages at the beginning."""
        roles = enumerate(message["role"] for message in self.messages)
        return next((n for n, role in roles if role not in ("system", "developer")), len(self.messages))

    def _options(self, options: Mapping[str, Any]) -> Any:
        o: Any = self.pipe.resolve_options(**{**self.options, **options})
        if o.return_tensors or o.continue_final_message is not None or o.streamer is not None:
            raise UnsupportedOption(
                "A conversation takes no return_tensors, continue_final_message or streamer option."
            )
        if o.truncation or o.handle_long_generation:
            raise UnsupportedOption(
                "A conversation takes no truncation or handle_long_generation, which would cut messages in their "
                'middle: history="drop" leaves out old turns.'
            )
        return o

    def config(self, o: Any) -> GenerationConfig:
        """Return the generation config of a turn; where nobody says anything about repetition, ours."""
        return self.pipe.with_ends(guard_repetition(self.pipe.config(o, max_new_tokens=NEW_TOKENS)))

    @contextmanager
    def _turn(self, streamer: Any) -> Iterator[None]:
        """Undo a turn that fails or is stopped before its first word; pass its error to the streamer's reader."""
        before = list(self.messages), self.first, self.summary
        done = False
        try:
            with stop_on_error(streamer):
                yield
            done = self.messages[-1]["role"] == "assistant"
        finally:
            if not done:
                self.messages[:], self.first, self.summary = before

    def _answer(self, streamer: Any, options: Mapping[str, Any]) -> Reply:
        """Answer the last message, and add the answer unless `stop` ended it before its first word."""
        reply = self._generate(False, streamer, options)
        if reply.text or reply.finish_reason != "abort":
            self.messages.append({"role": "assistant", "content": reply.text})
        return reply

    def _generate(self, continues: bool, streamer: Any, options: Mapping[str, Any]) -> Reply:
        """Continue the conversation by one answer, or by more of the last one."""
        o, self._stopped = self._options(options), False
        check_unicode(self.messages[-1].get("content"))
        config = self.config(o)
        ids, notices = self._fit(o, config, continues)
        set_stream_end(streamer, config.stops, o)
        result = self.session.generate(
            ids, config, extras=self.pipe.extras(o), streamer=streamer, stopped=lambda: self._stopped
        )
        text = self.pipe.decode(result.continuation, o, ids)
        return self._reply(text, result, notices)

    def _reply(self, text: str, result: SessionResult, notices: list[str]) -> Reply:
        own = result.continuation
        if notice := self.pipe.length_notice(ModelInput([0] * result.prompt_tokens), [own]):
            notices.append(f"The conversation {notice}")
        return Reply(text, own.finish_reason, result.prompt_tokens, result.cached_tokens, len(own), tuple(notices))

    def _ids(self, o: Any, continues: bool) -> list[int]:
        """Return the ids of what the model reads. Raises ChatTemplateError."""
        return self.pipe.chat_ids(self.context, o.tools, o.documents, continues)

    def _fit(self, o: Any, config: GenerationConfig, continues: bool) -> tuple[list[int], list[str]]:
        """Return the prompt's ids and notices, after leaving out what no longer fits. Raises TextTooLong."""
        ids, most, new = self._ids(o, continues), self.context_length, config.max_new_tokens or 1
        if most is None or len(ids) + new <= most:
            return ids, []
        if self.history == "error" or new >= most:
            raise TextTooLong(
                f"The conversation has {len(ids):,} tokens and {new:,} more may follow, but {most:,} fit in all. Begin "
                'again, lower max_new_tokens, or drop or summarize old turns (history="drop", history="summarize").'
            )
        dropped = self._drop(o, continues, most, new)
        if self.history == "summarize" and dropped:
            self.summary = self._summarize(dropped, o)
        ids = self._ids(o, continues)
        if len(ids) + new > most:
            raise TextTooLong(
                f"The last question has {len(ids):,} tokens with the instructions, and {new:,} more may follow, but "
                f"{most:,} fit in all. Shorten it, or lower max_new_tokens."
            )
        turns = sum(message["role"] == "user" for message in dropped)
        kept = "are now summarized for the model" if self.history == "summarize" else "are no longer read by the model"
        return ids, [f"The oldest {turns} of the turns {kept}, since {most:,} tokens fit."]

    def _drop(self, o: Any, continues: bool, most: int, new: int) -> list[dict[str, Any]]:
        """Leave out the oldest exchanges until a part of the context is free; return their messages."""
        begin = self.first
        reserve = self._summary_tokens if self.history == "summarize" else 0
        users = [n for n, message in enumerate(self.messages) if message["role"] == "user" and n > begin]
        for index in users:  # the last question stays
            self.first = index
            if len(self._ids(o, continues)) + new + reserve <= most - most // SPARE:
                break
        return self.messages[begin : self.first]

    @property
    def _summary_tokens(self) -> int:
        return min(SUMMARY_TOKENS, (self.context_length or SUMMARY_TOKENS * 8) // 8)

    def _summarize(self, dropped: Sequence[Message], o: Any) -> str:
        """Return the model's summary of messages and of the summary before, part by part if they are long."""
        most = self._summary_tokens
        config = self.config(o).changed(
            max_new_tokens=most, max_length=None, stop_strings=None, do_sample=False, num_beams=1
        )
        room = (self.context_length or 4096) - most - len(self.pipe.prompt_ids(SUMMARY_PROMPT)) - 8
        parts = split_tokens(transcript(self.summary, dropped), max(room - most, 8), self.pipe.tokenizer)
        summary = ""
        for part in parts:
            text = f"{SUMMARY_TITLE} {summary}\n{part}" if summary else part
            ids = self.pipe.prompt_ids(fill_prompt(SUMMARY_PROMPT, text=text))
            tokens = generate_tokens(self.pipe.model, [ids], config, extras=Extras(tokenizer=self.pipe.tokenizer))[0]
            summary = self.pipe.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return summary


def transcript(summary: str, messages: Sequence[Message]) -> str:
    """Return messages as lines that name their speakers, after the summary of those before."""
    lines = [f"{SUMMARY_TITLE} {summary}"] if summary else []
    lines += [f"{str(message['role']).capitalize()}: {message.get('content') or ''}" for message in messages]
    return "\n".join(lines)


def split_tokens(text: str, most: int, tokenizer: Any) -> list[str]:
    """Return a text in parts of at most `most` tokens."""
    ids = tokenizer.encode_ids([text], special=False)[0]
    if len(ids) <= most:
        return [text]
    return [tokenizer.decode(ids[n : n + most]) for n in range(0, len(ids), most)]


def checked_text(text: Any) -> str:
    """Return a message's text. Raises InvalidInput for what is no text."""
    if not isinstance(text, str):
        raise InvalidInput(f"A message is a text (a string), not {type(text).__name__}.")
    check_unicode(text)
    return text
