"""Base classes of pipelines that generate text: generation options, prompts, forward passes and records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, TextTooLong, UnsupportedConfig, UnsupportedOption, nearest
from ..generation.checks import check_functions
from ..generation.config import GenerationConfig
from ..generation.draft_heads import DraftHead, is_draft_head
from ..generation.generate import generate_tokens, make_assistant
from ..generation.stopping import Continuation, text_before_stop
from ..generation.strategies.base import Extras
from ..generation.streaming import stop_on_error
from ..hub import Want
from ..hub.options import DownloadOptions
from ..modeling.auto import AutoTokenizer
from ..modeling.pretrained import PreTrainedModel
from ..token_batches import batches
from ..tokenizers.tokenizer import Tokenizer
from .answers import WithNotices
from .base import Pipeline, PipelineOptions
from .chat_prompts import prompt_ids
from .streaming_batcher import ModelInput, Preprocessed

NEW_TOKENS = 256  # default of max_new_tokens, if neither the call nor the checkpoint sets a length
CONCURRENT = 32  # sequences of a decode batch; a waiting one starts when another has ended
SOURCE_TOKENS = 2048  # source tokens of one encoder pass
OUTPUT_FIELDS = (
    "return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"
)  # fmt: skip
# Settings of repetition; a call or checkpoint that names one of them gets no other.
REPETITION_FIELDS = (
    "repetition_penalty", "frequency_penalty", "presence_penalty", "no_repeat_ngram_size", "dry_multiplier",
    "loop_penalty",
    "encoder_repetition_penalty", "penalty_alpha",
)  # fmt: skip
# For greedy texts of a small model: sentences may not be repeated, and no text may loop. What code, data, tables and
# numbers are made of repeats by nature, and breaks runs. docs/generation.md has the measurements.
REPETITION_GUARD: Mapping[str, Any] = {
    "dry_multiplier": 1.0, "dry_base": 1.75, "dry_allowed_length": 3,
    "dry_sequence_breakers": [*"{}()<>|=;_\"\\/#`$%&@+~^0123456789\t", "  "], "loop_penalty": 1.0,
}  # fmt: skip
FIELDS = frozenset(f.name for f in fields(GenerationConfig))
Message = Mapping[str, Any]
TokenLists = list[Continuation]  # the continuations of one prompt


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(PipelineOptions):
    """Options of tasks that generate text. Every field of GenerationConfig is an option too (`max_new_tokens`, ...).

    Args:
        return_tensors: returns the ids of the new tokens instead of a text. return_text: the opposite.
        clean_up_tokenization_spaces: removes spaces before punctuation. Default: the tokenizer's setting.
        stop_sequence: text or texts that end the generation. truncation: cuts what is too long for the model.
        include_stop_str_in_output: keeps the stop sequence and the rest of its last token in the text, as the
            reference does. False cuts the text before it, in streams too.
        return_finish_reason: adds `"finish_reason"` to each record: "stop" for a text that ended by itself, "length"
            for one that was cut at its limit of tokens or time.
        prompt: the prompt of a language model, with `{text}` and the like in it.
        streamer: receives tokens as they are generated; for one input.
        assistant_model, assistant_tokenizer: a draft model for `generate`, or its name.
        stopping_criteria, logits_processor: functions of ids and scores for `generate`.
        generation_config: used instead of the checkpoint's. generation: fields of GenerationConfig that the call names.
    """

    return_tensors: bool = False
    return_text: bool | None = None
    clean_up_tokenization_spaces: bool | None = None
    stop_sequence: str | Sequence[str] | None = None
    include_stop_str_in_output: bool = True
    return_finish_reason: bool = False
    truncation: bool = False
    prompt: str | None = None
    streamer: Any = None
    assistant_model: Any = None
    assistant_tokenizer: Any = None
    stopping_criteria: Sequence[Any] | None = None
    logits_processor: Sequence[Any] | None = None
    generation_config: GenerationConfig | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        super().check()
        for name in ("return_finish_reason", "include_stop_str_in_output"):
            if not isinstance(getattr(self, name), bool):  # a text such as "no" would count as yes
                raise InvalidInput(f"{name} is True or False, not {getattr(self, name)!r}.")
        for name in ("logits_processor", "stopping_criteria"):
            check_functions(name, getattr(self, name))
        if self.return_tensors and self.return_text:
            raise InvalidInput("return_text and return_tensors exclude each other.")
        if self.return_tensors and not self.include_stop_str_in_output:
            raise InvalidInput("include_stop_str_in_output=False cuts the text; return_tensors returns whole tokens.")
        if unsupported := [name for name in OUTPUT_FIELDS if self.generation.get(name)]:
            raise UnsupportedOption(
                f"{unsupported[0]} is not in the output of a pipeline. Call pipe.model.generate(...) with it."
            )


class GenerationPipeline(Pipeline):
    """Base of pipelines whose answers a model generates."""

    Options: ClassVar[type[PipelineOptions]] = GenerationOptions
    window = 256
    numbers_inputs = True
    key: ClassVar[str] = "generated"  # prefix of the keys of a record
    says_finish_reason: ClassVar[bool] = False  # records may have a "finish_reason"

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        specific = model.config.extra.get("task_specific_params") or {}
        entries = (specific.get(name) or {}) if isinstance(specific, Mapping) else specific
        if not isinstance(entries, Mapping):
            raise UnsupportedConfig(f"config.json: task_specific_params of {name} are {entries!r:.80}, no settings.")
        self.task_params = dict(entries)
        said = self.task_params.get("prefix", model.config.extra.get("prefix"))
        self.prefix = str(said or "") if said is not None else self.usual_prefix(model)
        self._assistants: dict[str, tuple[Any, Any]] = {}
        super().__init__(model, tokenizer, name, **options)

    def usual_prefix(self, model: PreTrainedModel) -> str:
        """Return the text before each prompt where the checkpoint names none."""
        return ""

    def resolve_options(self, **options: Any) -> Any:
        given = {**self.defaults, **options}
        own = {f.name for f in fields(self.Options)} - {"generation"}  # which holds the others
        if unknown := [name for name in given if name not in own and name not in FIELDS]:
            raise UnsupportedOption(f"{self.task} has no option {unknown[0]!r}. {nearest(unknown[0], own | FIELDS)}")
        cls: Any = self.Options
        resolved = cls(
            **{name: value for name, value in given.items() if name in own},
            generation={name: value for name, value in given.items() if name not in own},
        )
        resolved.check()
        if resolved.return_finish_reason and not self.says_finish_reason:
            raise UnsupportedOption(f"{self.task} has no records with a finish_reason.")
        return resolved

    def config(self, o: Any, **defaults: Any) -> GenerationConfig:
        """Return the generation config of a call.

        Fields given by name come first, then the call's generation_config, the checkpoint's task_specific_params and
        the checkpoint's own config.

        Args:
            defaults: values of fields that none of these sets.
        """
        given = GenerationConfig() if o.generation_config is None else GenerationConfig.coerce(o.generation_config)
        named = dict(o.generation)
        if o.stop_sequence is not None:
            named["stop_strings"] = [o.stop_sequence] if isinstance(o.stop_sequence, str) else list(o.stop_sequence)
        config = self.model.generation_config.changed(
            **{name: value for name, value in self.task_params.items() if name in FIELDS}
        )
        config = given.filled(config.changed(**with_one_length(given.set_fields))).changed(**with_one_length(named))
        sized = config.max_new_tokens is not None or config.max_length is not None
        unset = {
            n: v for n, v in defaults.items() if getattr(config, n) is None and not (n == "max_new_tokens" and sized)
        }
        return config.changed(**unset)

    def extras(self, o: Any) -> Extras:
        """Return arguments of `generate` in addition to its config: processors, criteria, the assistant model."""
        model, its_tokenizer = self.load_assistant(o.assistant_model, o.assistant_tokenizer)
        return Extras(
            tuple(o.logits_processor or ()), tuple(o.stopping_criteria or ()), tokenizer=self.tokenizer,
            assistant=make_assistant(self.model, model, its_tokenizer, self.tokenizer, None, None),
        )  # fmt: skip

    def load_assistant(self, model: Any, its_tokenizer: Any) -> tuple[Any, Any]:
        """Return a draft model, and its tokenizer if its vocabulary differs. A name is loaded once."""
        if not isinstance(model, (str, os.PathLike)):
            return model, its_tokenizer
        name = os.fspath(model)
        if name not in self._assistants and is_draft_head(DownloadOptions().resolve(name, Want.CONFIG)):
            self._assistants[name] = DraftHead.from_pretrained(name), None
        if name not in self._assistants:
            loaded = type(self).load(name, dtype=self.model.dtype, device=self.device)
            same = loaded.vocabulary == self.model.vocabulary
            self._assistants[name] = loaded, None if same else AutoTokenizer.from_pretrained(name)
        loaded, own = self._assistants[name]
        return loaded, its_tokenizer or own

    def record(self, ids: Sequence[int], o: Any) -> dict[str, Any]:
        """Return generated ids as a record with the reference's keys."""
        if o.return_tensors:
            return {f"{self.key}_token_ids": torch.tensor(ids)}
        return {f"{self.key}_text": self.decode(ids, o)}

    def decode(self, ids: Sequence[int], o: Any, prompt: Sequence[int] = ()) -> str:
        """Return the text of generated ids without special tokens, cut before the stop sequence if the call asks."""
        stop: str = getattr(ids, "stop_string", "")
        options = {"skip_special_tokens": getattr(o, "skip_special_tokens", True)}
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=o.clean_up_tokenization_spaces, **options)
        if not stop or o.include_stop_str_in_output:
            return text
        before = self.tokenizer.decode(prompt[-4 * len(stop) :], **options) if len(prompt) else ""
        return text_before_stop(text, stop, before)

    def finished(
        self, records: list[dict[str, Any]], inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any
    ) -> Any:
        """Return an item's records with what the call asks to know of their ends, and notices about them.

        Args:
            outputs: the sequences of each model input; record i is made of each one's sequence i.
        """
        if o.return_finish_reason:
            reasons = [joint_finish_reason([own[number] for own in outputs]) for number in range(len(records))]
            records = [{**record, "finish_reason": why} for record, why in zip(records, reasons, strict=True)]
        notices = [text for each, own in zip(inputs, outputs, strict=True) if (text := self.length_notice(each, own))]
        return WithNotices(records, notices[:1]) if notices else records

    def length_notice(self, each: ModelInput, sequences: Sequence[Sequence[int]]) -> str:
        """Return what to tell about a model input and its sequences that are longer than the model was made for."""
        return ""

    def format_list(self, answers: list[Any], o: Any) -> Any:
        """Return the records themselves if each answer is a list of one record."""
        single = all(isinstance(rows, list) and len(rows) == 1 for rows in answers)
        return [rows[0] for rows in answers] if single else answers

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special tokens."""
        return [len(ids) for ids in self.tokenizer.encode_ids(texts, special=False)]


class CausalLMPipeline(GenerationPipeline):
    """Base of pipelines that continue a prompt with a decoder."""

    auto = "AutoModelForCausalLM"
    new_tokens: ClassVar[int] = NEW_TOKENS
    stop_tokens: AbstractSet[int] = frozenset()  # end the generation, in addition to the end-of-sequence tokens
    guards_repetition = False  # greedy texts without a setting of repetition get `REPETITION_GUARD`

    def chat_ids(
        self, chat: Sequence[Message], tools: Any = None, documents: Any = None, continues: bool = False
    ) -> list[int]:
        """Return the ids of a conversation, with the generation prompt unless its last message is continued."""
        more = {"continue_final_message": True} if continues else {"add_generation_prompt": True}
        return list(self.tokenizer.apply_chat_template(chat, tools, documents, return_dict=False, **more))

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of a request of one message."""
        return prompt_ids(self.tokenizer, text)

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer that the model was made for; None if the config does not say."""
        return context_length(self.model.config)

    def length_notice(self, each: ModelInput, sequences: Sequence[Sequence[int]]) -> str:
        most, longest = self.context_length, len(each.ids) + max(map(len, sequences), default=0)
        if most is None or longest <= most:
            return ""
        return (
            f"has {len(each.ids):,} tokens of prompt and {longest - len(each.ids):,} of answer, and the model was made "
            f"for {most:,} in all: past them, it may write nonsense."
        )

    def full_config(self, o: Any) -> GenerationConfig:
        """Return the generation config of a call with every token that ends a text."""
        config = self.config(o, max_new_tokens=self.new_tokens)
        return self.with_ends(guard_repetition(config) if self.guards_repetition else config)

    def with_ends(self, config: GenerationConfig) -> GenerationConfig:
        """Return a config with every token that ends a text."""
        own = set() if self.tokenizer.eos_token_id is None else {self.tokenizer.eos_token_id}
        return config.changed(eos_token_id=sorted(config.ends | own | self.stop_tokens) or None)

    def make_input(self, ids: Sequence[int], config: GenerationConfig) -> Preprocessed:
        """Return a prompt as model input; TextTooLong if prompt and answer need more learned positions than exist."""
        new, most = config.max_new_tokens or 1, self.model.max_positions
        if most is None or len(ids) + new <= most:
            return [ModelInput(ids)]
        return TextTooLong(
            f"has {len(ids)} tokens with its prompt, and {new} more may follow; this model takes {most}. Shorten it, "
            "split it, or pass truncation=True."
        )

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> list[TokenLists]:
        """Return the generated sequences of each prompt."""
        check_streamer(o, inputs)
        config = self.full_config(o)
        set_stream_end(o.streamer, config.stops, o)
        with stop_on_error(o.streamer):
            sequences = generate_tokens(
                self.model, [list(each.ids) for each in inputs], config, extras=self.extras(o), streamer=o.streamer,
                together=min(CONCURRENT, o.batch_size or CONCURRENT), numbers=item_numbers(inputs),
            )  # fmt: skip
        return group_sequences(sequences, len(inputs))


class SingleLinePipeline(CausalLMPipeline):
    """Base of pipelines whose answers are one line."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        super().__init__(model, tokenizer, name, **options)
        ids = tokenizer.encode_ids(["\n", "\n\n"], special=False)
        self.stop_tokens = frozenset(text[0] for text in ids if len(text) == 1)


class Text2TextPipeline(GenerationPipeline):
    """Base of pipelines that generate a target from a source with an encoder-decoder."""

    auto = "AutoModelForSeq2SeqLM"

    @property
    def limit(self) -> int | None:
        """Tokens where a source is cut: the smaller of the tokenizer's limit and the learned positions."""
        return min((n for n in (self.tokenizer.limit, self.model.max_positions) if n is not None), default=None)

    def default_new_tokens(self, longest: int) -> int:
        """Return the default of max_new_tokens for sources of up to `longest` tokens."""
        return NEW_TOKENS

    def encode_sources(self, texts: Sequence[str], o: Any) -> list[Preprocessed]:
        """Return one model input for each text with the prefix of the task."""
        return self.check_lengths(self.tokenizer.encode_ids([self.prefix + text for text in texts]), texts, o)

    def check_lengths(self, ids: Sequence[list[int]], texts: Sequence[str], o: Any) -> list[Preprocessed]:
        """Return one model input for each text, cut if the call asks for it, or TextTooLong."""
        result: list[Preprocessed] = []
        limit, most = (
            self.limit,
            self.model.max_positions,
        )  # both visit all modules, so they are computed once, not for each text
        for text, own in zip(texts, ids, strict=True):
            if o.truncation and limit is not None and len(own) > limit:
                own = self.tokenizer(self.prefix + text, truncation=True, max_length=limit)["input_ids"]
            if most is not None and len(own) > most:
                result.append(TextTooLong(f"has {len(own)} tokens, and this model takes at most {most}."))
            else:
                result.append([ModelInput(own)])
        return result

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> list[TokenLists]:
        """Return the generated sequences of each source."""
        check_streamer(o, inputs)
        outputs: list[TokenLists] = [[]] * len(inputs)
        for numbers in batches([len(each.ids) for each in inputs], o.token_budget or SOURCE_TOKENS, o.batch_size):
            longest = max(len(inputs[number].ids) for number in numbers)
            config = self.config(o, max_new_tokens=self.default_new_tokens(longest))
            starts = [self.decoder_start(config)] * len(numbers)
            set_stream_end(o.streamer, config.stops, o)
            with torch.inference_mode(), stop_on_error(o.streamer):
                encoder_output = self.model.encode_texts([inputs[number].ids for number in numbers])
                sequences = generate_tokens(
                    self.model,
                    starts,
                    config,
                    encoder_output=encoder_output,
                    extras=self.extras(o),
                    streamer=o.streamer,
                    numbers=item_numbers([inputs[number] for number in numbers]),
                )
            for number, own in zip(numbers, group_sequences(sequences, len(numbers)), strict=True):
                outputs[number] = own
        return outputs

    def decoder_start(self, config: GenerationConfig) -> list[int]:
        """Return the first ids of every target. Raises InvalidInput if the config names none."""
        first = config.decoder_start_token_id
        if first is None:
            raise InvalidInput("The config names no decoder_start_token_id to begin a text with.")
        return [first]


def guard_repetition(config: GenerationConfig) -> GenerationConfig:
    """Return the config with `REPETITION_GUARD` if it is greedy and sets nothing about repetition."""
    searches = config.do_sample or (config.num_beams or 1) > 1
    if searches or any(getattr(config, name) is not None for name in REPETITION_FIELDS):
        return config
    return config.changed(**REPETITION_GUARD)


def with_one_length(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries where max_new_tokens, if set without max_length, unsets max_length, and the other way around."""
    sizes = {name: entries.get(name) for name in ("max_new_tokens", "max_length")}
    both = None not in sizes.values()
    return {**entries, **({} if both or not any(sizes.values()) else sizes)}


def check_streamer(o: Any, inputs: Sequence[ModelInput]) -> None:
    """Raise InvalidInput if a streamer would receive several texts."""
    if o.streamer is not None and len(inputs) > 1:
        raise InvalidInput("A streamer shows one text; this call has several.")


def check_messages(messages: Iterable[Any]) -> list[Message]:
    """Return messages as a list. Raises InvalidInput for one without a role or content."""
    found = list(messages)
    for number, message in enumerate(found):
        if not isinstance(message, Mapping) or "role" not in message or not ({"content", "tool_calls"} & set(message)):
            raise InvalidInput(f'has no {{"role": ..., "content": ...}} as Message {number}, but {message!r}.')
    return found


def joint_finish_reason(parts: Sequence[Any]) -> str:
    """Return why a text of several generated parts ended: "length" if one of them was cut."""
    reasons = [part.finish_reason for part in parts]
    return next((reason for reason in reasons if reason != "stop"), "stop")


def context_length(config: Any) -> int | None:
    """Return the tokens that a model was made for, with its rotary scaling; None if the config does not say."""
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length <= 0:
        return None
    scaling = getattr(config, "rope_scaling", None) or getattr(config, "rope_parameters", None)
    scaling = scaling if isinstance(scaling, Mapping) else {}
    factor, trained = scaling.get("factor"), scaling.get("original_max_position_embeddings") or length
    scaled = int(trained * factor) if isinstance(factor, (int, float)) else length
    return max(length, scaled)


def set_stream_end(streamer: Any, stops: Sequence[str], o: Any) -> None:
    """Let a streamer cut its text before stop strings if the call asks. Raises UnsupportedOption if it cannot."""
    cut = bool(stops) and not o.include_stop_str_in_output
    if hasattr(streamer, "cut_before"):
        streamer.cut_before(stops if cut else ())
    elif streamer is not None and cut:
        raise UnsupportedOption(
            "include_stop_str_in_output=False needs a streamer of text, such as TextStreamer; "
            f"{type(streamer).__name__} gets tokens, which cannot be cut."
        )


def item_numbers(inputs: Sequence[ModelInput]) -> list[int]:
    """Return the number of each model input's item in its stream, so that a seed draws the same in any batch."""
    return [place if each.number is None else each.number for place, each in enumerate(inputs)]


def group_sequences(sequences: Sequence[Continuation], prompts: int) -> list[TokenLists]:
    """Return one list of sequences a prompt; every prompt has the same number of them."""
    each = len(sequences) // prompts if prompts else 0
    return [list(sequences[i * each : (i + 1) * each]) for i in range(prompts)]


def fill_prompt(prompt: str, **values: str) -> str:
    """Return the prompt with each `{name}` replaced by a value. Braces in the values stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), prompt)
