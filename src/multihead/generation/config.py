"""generation_config.json as a checked dataclass under its own names."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config import admits, describe, hints, write_json
from ..errors import InvalidInput, UnsupportedOption, nearest
from .constraints import Words, read_constraints
from .watermark import settings as watermark_settings

if TYPE_CHECKING:
    from ..config import Config

# The reference's fields that are not computed here -> the values that mean "off". Any other value is refused by name.
OFF: Mapping[str, tuple[Any, ...]] = {
    "token_healing": (False,),
    "assistant_early_exit": (),
    "use_mtp": (False,),
    "speculation_type": (),
    "is_assistant": (False,),
}
# Fields that say how the reference computes, not what comes out, or that belong to a strategy that is off.
INERT = frozenset(
    """
    cache_implementation cache_config max_cache_len compile_config disable_compile continuous_batching_config
    low_memory prefill_chunk_size assistant_lookbehind target_lookbehind assistant_ensemble_weight use_cache
    transformers_version multihead_version _from_model_config _commit_hash generation_kwargs
    """.split()
)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How texts are continued; None stands for the default in parentheses.

    Args:
        max_length: tokens of prompt and continuation together (20). max_new_tokens: of the continuation alone.
        min_length, min_new_tokens: no end before that many tokens (0).
        num_beams: of beam search (1 for none). early_stopping: ends when as many texts have ended as there are beams;
            or when none is likely to better them (False); or "never" before none can. length_penalty: the exponent of
            the length that log-probabilities are divided by (1.0).
        num_beam_groups, diversity_penalty: groups of beams, and what a token costs that earlier groups chose (1, 0.0).
        do_sample: draws the next token instead of taking the likeliest (False).
        temperature, top_h, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff: of the draw (1.0, off, 50, 1.0,
            and off; `draws` says what each one keeps).
        penalty_alpha: contrastive search among the `top_k` likeliest tokens (off). dola_layers: early layers that the
            last one's scores are taken against, "low", "high" or numbers (off).
        prompt_lookup_num_tokens: guesses so many tokens by runs of at most max_matching_ngram_size (off, 2).
        num_assistant_tokens, num_assistant_tokens_schedule, assistant_confidence_threshold: of a draft model's guesses
            (20, "constant", 0.4).
        repetition_penalty, encoder_repetition_penalty: of tokens already there, and for those of the source (1.0).
        frequency_penalty, presence_penalty: taken off for each time a token is there, and once (0.0).
        sequence_bias: added to the score of a run's last token: [[[ids], bias], ...] or {(ids): bias}.
        no_repeat_ngram_size: no run of so many tokens comes twice (off). encoder_no_repeat_ngram_size: or comes from
            the source (off). bad_words_ids: runs that never come.
        json_schema, regex, grammar: the form of the text (a grammar in Lark's notation); needs the tokenizer, see
            `structure`. The text ends once it has the form, or is cut at its limit.
        force_words_ids: runs that must come, each one, or a list of which one will do; beam search only.
        constraints: the same as objects of `constraints`.
        suppress_tokens, begin_suppress_tokens: never, or not first. forced_bos_token_id, forced_eos_token_id: the
            first token, and the last one when the length runs out.
        exponential_decay_length_penalty: (tokens, factor): past so many new tokens, ends grow likelier by the factor.
        guidance_scale: how far scores move away from those without the prompt (1.0; arXiv:2306.17806).
        watermarking_config: settings of `watermark`. remove_invalid_values: NaN scores become 0, infinite ones finite.
        num_return_sequences: continuations of each prompt (1). max_time: seconds after which all end.
        stop_strings: text that ends a continuation as soon as it holds one of them; needs the tokenizer.
        seed: of the draws; None takes torch's own generator.
        uncomputed: what a checkpoint asks for and is not computed here: kept, written back, and refused by `generate`.

    Raises:
        UnsupportedOption: a field that is not computed here has a value that would change the result.
        InvalidInput: a value that no text could meet.
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    num_beams: int | None = None
    num_beam_groups: int | None = None
    diversity_penalty: float | None = None
    early_stopping: Literal[None, True, False, "never"] = None
    length_penalty: float | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_h: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    penalty_alpha: float | None = None
    dola_layers: Any = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None
    num_assistant_tokens: int | None = None
    num_assistant_tokens_schedule: Literal[None, "constant", "heuristic", "heuristic_transient"] = None
    assistant_confidence_threshold: float | None = None
    repetition_penalty: float | None = None
    encoder_repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    sequence_bias: Any = None
    no_repeat_ngram_size: int | None = None
    encoder_no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    json_schema: Any = None
    regex: str | None = None
    grammar: str | None = None
    force_words_ids: Any = None
    constraints: Any = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    exponential_decay_length_penalty: Any = None
    guidance_scale: float | None = None
    watermarking_config: Any = None
    remove_invalid_values: bool | None = None
    renormalize_logits: bool | None = None
    num_return_sequences: int | None = None
    max_time: float | None = None
    stop_strings: str | list[str] | None = None
    seed: int | None = None
    output_scores: bool | None = None
    output_logits: bool | None = None
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    return_dict_in_generate: bool | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    uncomputed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():
            if not admits(hint, getattr(self, name)):
                raise InvalidInput(f"{name} must be {describe(hint)}, not {getattr(self, name)!r}.")
        self._check_bounds()
        if self.sequence_bias is not None:
            _ = self.bias_of_runs
        _ = self.required
        if self.watermarking_config is not None:
            watermark_settings(self.watermarking_config)
        decay = self.exponential_decay_length_penalty
        if decay is not None and not (isinstance(decay, (list, tuple)) and len(decay) == 2):
            raise InvalidInput(f"exponential_decay_length_penalty must be (tokens, factor), not {decay!r}.")
        if any(not text for text in self.stops):
            raise InvalidInput("A stop string is empty; every text would end at once.")

    def _check_bounds(self) -> None:
        above = {"temperature": 0.0, "repetition_penalty": 0.0, "encoder_repetition_penalty": 0.0, "max_time": 0.0,
                 "top_h": 0.0, "typical_p": 0.0}  # fmt: skip
        for name, bound in above.items():
            value = getattr(self, name)
            if value is not None and value <= bound:
                raise InvalidInput(f"{name} must be above {bound:g}, not {value!r}; for no sampling, do_sample=False.")
        least = {"max_length": 1, "max_new_tokens": 1, "min_length": 0, "min_new_tokens": 0, "top_k": 0, "num_beams": 1,
                 "num_beam_groups": 1, "num_return_sequences": 1, "no_repeat_ngram_size": 0,
                 "prompt_lookup_num_tokens": 1, "max_matching_ngram_size": 1, "num_assistant_tokens": 1}  # fmt: skip
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InvalidInput(f"{name} must be at least {bound}, not {value}.")
        for name in (
            "top_p",
            "min_p",
            "top_h",
            "typical_p",
            "epsilon_cutoff",
            "eta_cutoff",
            "penalty_alpha",
            "assistant_confidence_threshold",
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidInput(f"{name} must be between 0 and 1, not {value!r}.")

    @property
    def bias_of_runs(self) -> dict[tuple[int, ...], float]:
        """`sequence_bias` by runs of tokens. Raises InvalidInput for what is none."""
        given = self.sequence_bias or {}
        try:
            pairs = given.items() if isinstance(given, Mapping) else given
            runs = {tuple(int(token) for token in run): float(bias) for run, bias in pairs}
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"sequence_bias must be pairs of token ids and a number, not {given!r}.") from error
        if any(not run or min(run) < 0 for run in runs):
            raise InvalidInput(f"sequence_bias must name at least one token, none below 0: {given!r}.")
        return runs

    @property
    def required(self) -> tuple[Words, ...]:
        """The runs of tokens that must come. Raises InvalidInput for what is none."""
        return read_constraints(self.constraints, self.force_words_ids)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        given = self.stop_strings
        return () if given is None else (given,) if isinstance(given, str) else tuple(given)

    @classmethod
    def read(cls, entries: Mapping[str, Any]) -> GenerationConfig:
        """The config that parsed generation_config.json entries describe."""
        known, other = sorted_out(entries)
        return cls(**known, uncomputed=other)

    @classmethod
    def from_model_config(cls, config: Config) -> GenerationConfig:
        """What a config.json says about generation, as checkpoints without a generation_config.json have it."""
        names = [f.name for f in dataclasses.fields(cls)] + list(OFF)
        entries = {name: value for name in names if (value := getattr(config, name, None)) is not None}
        return cls.read(entries)

    def changed(self, **entries: Any) -> GenerationConfig:
        """A copy with some fields changed; a name that is no field is refused, and a value that is not computed."""
        known, other = sorted_out(entries)
        refuse(other)
        kept = {name: value for name, value in self.uncomputed.items() if name not in entries}
        return dataclasses.replace(self, **known, uncomputed=kept)

    def computed(self) -> GenerationConfig:
        """Itself. Raises UnsupportedOption where the checkpoint asks for what is not computed here."""
        refuse(self.uncomputed)
        return self

    @property
    def chosen(self) -> dict[str, Any]:
        """The fields that are not None."""
        fields = [f.name for f in dataclasses.fields(self) if f.name not in ("uncomputed", "constraints")]
        found = {name: v for name in fields if (v := getattr(self, name)) is not None}
        if hasattr(self.json_schema, "model_json_schema"):
            found["json_schema"] = self.json_schema.model_json_schema()
        if self.constraints:  # objects, which no file holds: the same as plain lists
            found["force_words_ids"] = [[list(word) for word in words] for words in self.required]
        return {**found, **self.uncomputed}

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        ids = self.eos_token_id
        return frozenset() if ids is None else frozenset(ids if isinstance(ids, list) else [ids])

    def to_dict(self) -> dict[str, Any]:
        return self.chosen

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes generation_config.json into a folder, whole or not at all."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "generation_config.json", self.chosen)


def sorted_out(entries: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries that are fields here, and those that would change the result and are not computed.

    Raises:
        UnsupportedOption: a name that nobody knows.
    """
    names = {f.name for f in dataclasses.fields(GenerationConfig)} - {"uncomputed"}
    unknown = [name for name in entries if name not in names and name not in INERT and name not in OFF]
    if unknown:
        raise UnsupportedOption(f"{unknown[0]!r} is no option of generation. {nearest(unknown[0], names)}")
    other = {k: v for k, v in entries.items() if k in OFF and v is not None and v not in OFF[k]}
    return {k: v for k, v in entries.items() if k in names}, other


def refuse(entries: Mapping[str, Any]) -> None:
    """Raises UnsupportedOption for the first of entries that are not computed here."""
    for name, value in entries.items():
        neutral = " or ".join(map(repr, OFF[name])) or "None"
        raise UnsupportedOption(f"{name} = {value!r} is not computed here yet; pass {name}={neutral}.")
