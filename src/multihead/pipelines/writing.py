"""What every task that writes text shares: options of generation, prompts, continuations, records of the outcome."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, MultiheadError, TextTooLong, UnsupportedConfig, UnsupportedOption, nearest
from ..generation.config import GenerationConfig
from ..generation.generate import assistant_of, continued
from ..generation.strategies.base import Extras
from ..generation.streaming import told
from ..modeling.auto import AutoTokenizer
from ..modeling.pretrained import PreTrainedModel
from ..token_batches import batches
from ..tokenizers.tokenizer import Tokenizer
from .base import Options, Pipeline
from .streaming_batcher import Piece

NEW_TOKENS = 256  # where neither the call nor the checkpoint says how many
TOGETHER = 32  # texts that are continued at once; another begins when one has ended
SOURCES = 2048  # tokens of sources that are encoded at once
SHOWN = ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states")
FIELDS = frozenset(f.name for f in fields(GenerationConfig))
Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Writing(Options):
    """Of tasks that write; every field of GenerationConfig is an option too (`max_new_tokens`, `num_beams`, ...).

    Args:
        return_tensors: the new tokens' ids instead of a text. return_text: the opposite.
        clean_up_tokenization_spaces: takes out spaces before punctuation; as the tokenizer says, when left out.
        stop_sequence: text or texts that end what is written. truncation: cuts what is too long for the model.
        prompt: the words around the input, with `{text}` and the like in them, where a language model is asked.
        streamer: gets tokens as they come; for one input.
        assistant_model, assistant_tokenizer: a draft model, as `generate` takes it, or its name.
        stopping_criteria, logits_processor: functions of ids and scores, as `generate` takes them.
        generation_config: instead of the checkpoint's. generation: fields that were given by name.
    """

    return_tensors: bool = False
    return_text: bool | None = None
    clean_up_tokenization_spaces: bool | None = None
    stop_sequence: str | Sequence[str] | None = None
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
        if self.return_tensors and self.return_text:
            raise InvalidInput("return_text and return_tensors exclude each other.")
        if asked := [name for name in SHOWN if self.generation.get(name)]:
            raise UnsupportedOption(
                f"{asked[0]} has no place in what a pipeline gives. Call pipe.model.generate(...) with it."
            )


class Writer(Pipeline):
    """A task whose answers are written by a model."""

    Options: ClassVar[type[Options]] = Writing
    window = 256
    key: ClassVar[str] = "generated"

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        specific = model.config.extra.get("task_specific_params") or {}
        found = (specific.get(name) or {}) if isinstance(specific, Mapping) else specific
        if not isinstance(found, Mapping):
            raise UnsupportedConfig(f"config.json: task_specific_params of {name} are {found!r:.80}, no settings.")
        self.specific = dict(found)
        self.prefix = str(self.specific.get("prefix", model.config.extra.get("prefix")) or "")
        self._helpers: dict[str, tuple[Any, Any]] = {}
        super().__init__(model, tokenizer, name, **options)

    def given(self, **options: Any) -> Any:
        known = {**self.defaults, **options}
        own = {f.name for f in fields(self.Options)}
        if wrong := [name for name in known if name not in own and name not in FIELDS]:
            raise UnsupportedOption(f"{self.task} has no option {wrong[0]!r}. {nearest(wrong[0], own | FIELDS)}")
        kind: Any = self.Options
        made = kind(
            **{name: value for name, value in known.items() if name in own},
            generation={name: value for name, value in known.items() if name not in own},
        )
        made.check()
        return made

    def config(self, o: Any, **defaults: Any) -> GenerationConfig:
        """How texts are continued: by what the call says by name, else its generation_config, else the task's own
        entry, else the checkpoint's.

        Args:
            defaults: where none of them says anything.
        """
        given = GenerationConfig() if o.generation_config is None else GenerationConfig.taken(o.generation_config)
        asked = dict(o.generation)
        if o.stop_sequence is not None:
            asked["stop_strings"] = [o.stop_sequence] if isinstance(o.stop_sequence, str) else list(o.stop_sequence)
        config = self.model.generation_config.changed(
            **{name: value for name, value in self.specific.items() if name in FIELDS}
        )
        config = given.filled(config.changed(**alone(given.given))).changed(**alone(asked))
        sized = config.max_new_tokens is not None or config.max_length is not None
        open_ = {
            n: v for n, v in defaults.items() if getattr(config, n) is None and not (n == "max_new_tokens" and sized)
        }
        return config.changed(**open_)

    def extras(self, o: Any) -> Extras:
        model, its_tokenizer = self.helper(o.assistant_model, o.assistant_tokenizer)
        return Extras(
            tuple(o.logits_processor or ()), tuple(o.stopping_criteria or ()), tokenizer=self.tokenizer,
            assistant=assistant_of(self.model, model, its_tokenizer, self.tokenizer, None, None),
        )  # fmt: skip

    def helper(self, model: Any, its_tokenizer: Any) -> tuple[Any, Any]:
        """A draft model and its tokenizer, where it has another vocabulary; read once where a name is given."""
        if not isinstance(model, (str, os.PathLike)):
            return model, its_tokenizer
        name = os.fspath(model)
        if name not in self._helpers:
            found = type(self).load(name, dtype=self.model.dtype, device=self.device)
            alike = found.vocabulary == self.model.vocabulary
            self._helpers[name] = found, None if alike else AutoTokenizer.from_pretrained(name)
        found, own = self._helpers[name]
        return found, its_tokenizer or own

    def record(self, ids: Sequence[int], o: Any) -> dict[str, Any]:
        """What was written, in the reference's shape."""
        if o.return_tensors:
            return {f"{self.key}_token_ids": torch.tensor(ids)}
        return {f"{self.key}_text": self.decoded(ids, o)}

    def decoded(self, ids: Sequence[int], o: Any) -> str:
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=o.clean_up_tokenization_spaces
        )
        return text

    def together(self, found: list[Any], o: Any) -> Any:
        """Lists of one record each become their records."""
        return [rows[0] for rows in found] if all(isinstance(r, list) and len(r) == 1 for r in found) else found

    def counted(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones left out."""
        return [len(ids) for ids in self.tokenizer.encode_ids(texts, special=False)]


class Speaker(Writer):
    """A task that a decoder answers by continuing a text."""

    auto = "AutoModelForCausalLM"
    new_tokens: ClassVar[int] = NEW_TOKENS
    ends: AbstractSet[int] = frozenset()  # more tokens that end what is written

    def chat(
        self, chat: Sequence[Message], tools: Any = None, documents: Any = None, goes_on: bool = False
    ) -> list[int]:
        """A conversation's ids, up to where the answer begins; or its last message goes on."""
        more = {"continue_final_message": True} if goes_on else {"add_generation_prompt": True}
        return list(self.tokenizer.apply_chat_template(chat, tools, documents, return_dict=False, **more))

    def ask(self, text: str) -> list[int]:
        """The ids of a request: as a conversation where the model was taught any, else as a text to go on with."""
        if self.tokenizer.chat_template is not None:
            return self.chat([{"role": "user", "content": text}])
        return self.tokenizer.encode_ids([text + "\n"])[0]

    @property
    def room(self) -> int | None:
        """Tokens of prompt and answer together that the model was made for, where the config says how many."""
        found: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return found if found is not None and found > 0 else None

    def settled(self, o: Any) -> GenerationConfig:
        """The config of a call, with every token that ends a text."""
        config = self.config(o, max_new_tokens=self.new_tokens)
        own = set() if self.tokenizer.eos_token_id is None else {self.tokenizer.eos_token_id}
        return config.changed(eos_token_id=sorted(config.ends | own | self.ends) or None)

    def fits(self, ids: Sequence[int], config: GenerationConfig) -> TextTooLong | None:
        """The error for a prompt that leaves its answer no room among the learned positions."""
        new, most = config.max_new_tokens or 1, self.model.max_positions
        if most is None or len(ids) + new <= most:
            return None
        return TextTooLong(
            f"has {len(ids)} tokens with its prompt, and {new} more may follow; this model takes {most}. Shorten it, "
            "split it, or pass truncation=True."
        )

    def compute(self, pieces: Sequence[Piece], o: Any) -> list[list[list[int]]]:
        """The continuations of each piece."""
        check_streamer(o, pieces)
        config = self.settled(o)
        with told(o.streamer):
            found = continued(
                self.model, [list(piece.ids) for piece in pieces], config, extras=self.extras(o), streamer=o.streamer,
                together=min(TOGETHER, o.batch_size or TOGETHER),
            )  # fmt: skip
        return grouped(found, len(pieces))


class LineSpeaker(Speaker):
    """A task whose answers are one line."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        super().__init__(model, tokenizer, name, **options)
        ids = tokenizer.encode_ids(["\n", "\n\n"], special=False)
        self.ends = frozenset(text[0] for text in ids if len(text) == 1)


class Rewriter(Writer):
    """A task that an encoder-decoder answers by writing another text."""

    auto = "AutoModelForSeq2SeqLM"

    @property
    def limit(self) -> int | None:
        """Tokens of a source where it must be cut: the tokenizer's own limit or the learned positions."""
        return min((n for n in (self.tokenizer.limit, self.model.max_positions) if n is not None), default=None)

    def most(self, longest: int) -> int:
        """New tokens for a source of so many, where nothing says how many."""
        return NEW_TOKENS

    def source(self, texts: Sequence[str], o: Any) -> list[list[Piece] | MultiheadError]:
        """A piece for each text."""
        return self.sized(self.tokenizer.encode_ids([self.prefix + text for text in texts]), texts, o)

    def sized(self, ids: Sequence[list[int]], texts: Sequence[str], o: Any) -> list[list[Piece] | MultiheadError]:
        """Pieces, cut to the limit where that is asked; TextTooLong for what the model cannot read."""
        found: list[Any] = []
        limit, most = self.limit, self.model.max_positions  # each looks through all modules: once, not a text
        for text, own in zip(texts, ids, strict=True):
            if o.truncation and limit is not None and len(own) > limit:
                own = self.tokenizer(self.prefix + text, truncation=True, max_length=limit)["input_ids"]
            if most is not None and len(own) > most:
                found.append(TextTooLong(f"has {len(own)} tokens, and this model takes at most {most}."))
            else:
                found.append([Piece(own)])
        return found

    def compute(self, pieces: Sequence[Piece], o: Any) -> list[list[list[int]]]:
        """What is written for each piece."""
        check_streamer(o, pieces)
        found: list[list[list[int]]] = [[]] * len(pieces)
        for numbers in batches([len(piece.ids) for piece in pieces], o.token_budget or SOURCES, o.batch_size):
            longest = max(len(pieces[number].ids) for number in numbers)
            config = self.config(o, max_new_tokens=self.most(longest))
            begins = [self.beginning(config)] * len(numbers)
            with torch.inference_mode(), told(o.streamer):
                encoder_output = self.model.encode_texts([pieces[number].ids for number in numbers])
                rows = continued(
                    self.model,
                    begins,
                    config,
                    encoder_output=encoder_output,
                    extras=self.extras(o),
                    streamer=o.streamer,
                )
            for number, row in zip(numbers, grouped(rows, len(numbers)), strict=True):
                found[number] = row
        return found

    def beginning(self, config: GenerationConfig) -> list[int]:
        """What every target begins with. Raises InvalidInput where nobody says."""
        first = config.decoder_start_token_id
        if first is None:
            raise InvalidInput("The config names no decoder_start_token_id to begin a text with.")
        return [first]


def alone(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a config, where the one length that they give takes the other's place."""
    sizes = {name: entries.get(name) for name in ("max_new_tokens", "max_length")}
    both = None not in sizes.values()
    return {**entries, **({} if both or not any(sizes.values()) else sizes)}


def check_streamer(o: Any, pieces: Sequence[Piece]) -> None:
    """Raises InvalidInput where a streamer would have to show several texts."""
    if o.streamer is not None and len(pieces) > 1:
        raise InvalidInput("A streamer shows one text; this call has several.")


def grouped(rows: Sequence[list[int]], count: int) -> list[list[list[int]]]:
    """Continuations of several prompts, so many for each, one list a prompt."""
    each = len(rows) // count if count else 0
    return [list(rows[i * each : (i + 1) * each]) for i in range(count)]


def filled(prompt: str, **given: str) -> str:
    """The prompt with `{name}` replaced by what is given; braces in the given texts stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: given.get(found[1], found[0]), prompt)
