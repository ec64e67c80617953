"""generation_config.json as a dataclass under its own names, checked whenever a field is set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config import GENERATION_FILE, accepts, describe, read_json, to_json, type_hints, write_json
from ..errors import InvalidInput, ModelNotFound, UnsupportedOption, nearest, read_errors
from ..hub.push import PushToHub, pop_upload, refuse_options
from .config_fields import bias_of_runs, checked
from .logits.constraints import Words, read_constraints

if TYPE_CHECKING:
    from ..config import Config

# The reference's fields that are not computed here -> the values that mean "off". Any other value is refused by name.
OFF: Mapping[str, tuple[Any, ...]] = {
    "token_healing": (False,),
    "assistant_early_exit": (),
    "speculation_type": (),
    "is_assistant": (False,),
}
# Fields that change how the reference computes, not its result, or that belong to a strategy that is off.
INERT = frozenset(
    """
    cache_implementation cache_config max_cache_len compile_config disable_compile continuous_batching_config
    low_memory prefill_chunk_size assistant_lookbehind target_lookbehind assistant_ensemble_weight use_cache
    transformers_version multihead_version _from_model_config _commit_hash generation_kwargs
    """.split()
)
# Fields that matter for draws alone.
SAMPLING_FIELDS = frozenset("temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff seed".split())


@dataclass(kw_only=True)
class GenerationConfig(PushToHub):
    """Options of `generate`; None stands for the default in parentheses.

    Args:
        max_length: tokens of prompt and continuation together. max_new_tokens: of the continuation alone (20 where
            neither is given), which goes before max_length.
        min_length, min_new_tokens: no end before that many tokens (0); the latter goes before the former.
        num_beams: of beam search (1 for none). early_stopping: ends when as many texts have ended as there are beams;
            or when none is likely to better them (False); or "never" before none can. length_penalty: the exponent of
            the length that log-probabilities are divided by (1.0).
        num_beam_groups, diversity_penalty: groups of beams, and what a token costs that earlier groups chose (1, 0.0).
        do_sample: samples the next token instead of taking the most likely one (False).
        temperature, top_h, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff: of sampling (1.0, off, 50, 1.0,
            and off; see `logits.warpers`).
        penalty_alpha: contrastive search among the `top_k` most likely tokens (off). dola_layers: early layers that the
            last one's scores are taken against, "low", "high" or numbers (off).
        prompt_lookup_num_tokens: draft tokens of prompt lookup, by n-grams of at most max_matching_ngram_size (off, 2).
        use_mtp: the checkpoint's own layers that predict further tokens draft (False).
        num_assistant_tokens, num_assistant_tokens_schedule, assistant_confidence_threshold: of a draft model
            (20, "constant", 0.4); of draft heads (one a head, none, 0.0).
        repetition_penalty, encoder_repetition_penalty: of tokens already there, and for those of the source (1.0).
        frequency_penalty, presence_penalty: taken off for each time a token is among the new ones, and once (0.0).
        dry_multiplier, dry_base, dry_allowed_length: of new tokens that would prolong a run of n repeated ones, n at
            least the allowed length (2): multiplier * base ** (n - allowed length) is taken off (0.0; 1.75).
        dry_sequence_breakers: texts; tokens with one of them are in no run (none). Needs the tokenizer.
        loop_penalty: of new tokens that would go on with a loop, growing with its length (0.0).
        sequence_bias: added to the score of a run's last token: [[[ids], bias], ...] or {(ids): bias}.
        no_repeat_ngram_size: no run of so many tokens comes twice (off). encoder_no_repeat_ngram_size: or comes from
            the source (off). bad_words_ids: runs that never come.
        json_schema, regex, grammar: the form of the text (a grammar in Lark's notation or GBNF); needs the tokenizer,
            see `logits.grammar`. The text ends once it has the form, or is cut at its limit.
        force_words_ids: runs that must come, each one, or a list of which one will do; beam search only.
        constraints: the same as objects of `constraints`.
        suppress_tokens, begin_suppress_tokens: never, or not first. forced_bos_token_id, forced_eos_token_id: the
            first token, and the last one when the length runs out.
        exponential_decay_length_penalty: (tokens, factor): past so many new tokens, ends grow likelier by the factor.
        guidance_scale: how far scores move away from those without the prompt (1.0; arXiv:2306.17806).
        watermarking_config: settings of `logits.watermark`.
        remove_invalid_values: NaN scores become 0, infinite ones finite.
        num_return_sequences: continuations of each prompt (1). max_time: seconds after which all end.
        stop_strings: text that ends a continuation as soon as it holds one of them; needs the tokenizer.
        seed: of sampling; None takes torch's own generator.
        uncomputed: entries of a file that no field can take: kept and written back. `generate` refuses those that
            would change the result.

    Raises:
        UnsupportedOption: a field that is not computed here has a value that would change the result.
        InvalidInput: a value that no text could meet. Setting a field raises these too.
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
    use_mtp: bool | None = None
    num_assistant_tokens: int | None = None
    num_assistant_tokens_schedule: Literal[None, "constant", "heuristic", "heuristic_transient"] = None
    assistant_confidence_threshold: float | None = None
    repetition_penalty: float | None = None
    encoder_repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_sequence_breakers: list[str] | None = None
    loop_penalty: float | None = None
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

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "uncomputed":
            object.__setattr__(self, name, value)
            return
        known, other = sorted_out({name: value})
        refuse(other)
        if known and value is not None:
            hint = type_hints(type(self))[name]
            if not accepts(hint, value):
                raise InvalidInput(f"{name} must be {describe(hint)}, not {value!r}.")
            value = checked(name, value)
        if known:
            object.__setattr__(self, name, value)
        vars(self).get("uncomputed", {}).pop(name, None)

    @property
    def bias_of_runs(self) -> dict[tuple[int, ...], float]:
        """`sequence_bias` by runs of tokens."""
        return bias_of_runs(self.sequence_bias or {})

    @property
    def required(self) -> tuple[Words, ...]:
        """The runs of tokens that must come."""
        return read_constraints(self.constraints, self.force_words_ids)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        given = self.stop_strings
        return () if given is None else (given,) if isinstance(given, str) else tuple(given)

    @property
    def breadth(self) -> int:
        """Number of most likely tokens to select from, by `top_k`; 0 for all."""
        return 50 if self.top_k is None else self.top_k

    @classmethod
    def read(cls, entries: Mapping[str, Any]) -> GenerationConfig:
        """Read a file's entries; those without a field are kept in `uncomputed`."""
        made, aside = cls(), dict[str, Any]()
        for name, value in entries.items():
            if value is None or name in INERT or value in OFF.get(name, ()):
                continue
            try:
                with read_errors(name, InvalidInput):
                    setattr(made, name, plain(type_hints(cls).get(name), value))
            except (InvalidInput, UnsupportedOption):
                aside[name] = value
        made.uncomputed = aside
        return made

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any], **options: Any) -> GenerationConfig:
        """Read as `read`, and change some fields."""
        return cls.read(entries).changed(**options)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> GenerationConfig:
        """Read generation_config.json of a folder or repository.

        Args:
            options: those of `DownloadOptions`, and fields to change.

        Raises:
            ModelNotFound: there is none. NetworkUnavailable, AccessDenied, CorruptFile: the file.
        """
        from ..hub import Want
        from ..hub.options import DownloadOptions

        place = DownloadOptions.pop_from(options)
        folder = Path(name, place.subfolder)
        if not (folder / GENERATION_FILE).is_file():
            folder = place.resolve(name, Want.CONFIG)
        if not (folder / GENERATION_FILE).is_file():
            raise ModelNotFound(f"{name} has no {GENERATION_FILE}; looked in {folder}.")
        return cls.from_dict(read_json(folder / GENERATION_FILE), **options)

    @classmethod
    def coerce(cls, given: Any) -> GenerationConfig:
        """Return a config as a GenerationConfig; another library's config must have `to_dict()`.

        Raises:
            InvalidInput: anything else.
        """
        if isinstance(given, cls):
            return given
        if not hasattr(given, "to_dict"):
            raise InvalidInput(f"generation_config must be a GenerationConfig, not {type(given).__name__}.")
        return cls.read(given.to_dict())

    @classmethod
    def from_model_config(cls, config: Config) -> GenerationConfig:
        """Read the generation options of config.json, for checkpoints without a generation_config.json."""
        names = [f.name for f in dataclasses.fields(cls)] + list(OFF)
        entries = {name: value for name in names if (value := getattr(config, name, None)) is not None}
        return cls.read(entries)

    def changed(self, **entries: Any) -> GenerationConfig:
        """Return a copy with some fields changed; an unknown name or a value that is not computed is refused."""
        known, other = sorted_out(entries)
        refuse(other)
        kept = {name: value for name, value in self.uncomputed.items() if name not in entries}
        return dataclasses.replace(self, **known, uncomputed=kept)

    def update(self, **entries: Any) -> dict[str, Any]:
        """Set fields; return the entries that have none."""
        names = type_hints(type(self)).keys() - {"uncomputed"}
        for name in entries.keys() & names:
            setattr(self, name, entries[name])
        return {name: value for name, value in entries.items() if name not in names}

    def filled(self, other: GenerationConfig) -> GenerationConfig:
        """Return a copy whose unset fields are taken from another config."""
        open_ = {name: value for name, value in other.set_fields.items() if getattr(self, name) is None}
        aside = {name: value for name, value in other.uncomputed.items() if name not in self.set_fields}
        return dataclasses.replace(self, **open_, uncomputed={**aside, **self.uncomputed})

    def computed(self) -> GenerationConfig:
        """Check that every option is computed here, and return self.

        Raises:
            UnsupportedOption: the checkpoint asks for what is not computed here.
            InvalidInput: it has a value that no text could meet, and that would matter.
        """
        idle = {"bos_token_id"} | (set() if self.do_sample else SAMPLING_FIELDS)
        idle |= set() if self.max_new_tokens is None else {"max_length"}
        for name, value in self.uncomputed.items():
            if name in self.unknown or name in idle:
                continue
            try:
                setattr(GenerationConfig(), name, value)
            except InvalidInput as error:
                raise InvalidInput(f"Of the model's {GENERATION_FILE}: {error} Pass another {name}.") from error
        return self

    @property
    def unknown(self) -> list[str]:
        """Return unknown names of a file's entries, which have no effect."""
        return [name for name in self.uncomputed if name not in OFF and name not in type_hints(type(self))]

    @property
    def set_fields(self) -> dict[str, Any]:
        """Fields that are set, by name; None counts as unset."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "uncomputed"]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def file_entries(self) -> dict[str, Any]:
        """Entries of generation_config.json."""
        found = self.set_fields
        if hasattr(self.json_schema, "model_json_schema"):
            found["json_schema"] = self.json_schema.model_json_schema()
        if self.sequence_bias is not None:
            found["sequence_bias"] = [[list(run), bias] for run, bias in self.bias_of_runs.items()]
        if found.pop("constraints", None):  # objects, which no file holds: the same as plain lists
            found["force_words_ids"] = [[list(word) for word in words] for words in self.required]
        return {**found, **self.uncomputed}

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        ids = self.eos_token_id
        return frozenset() if ids is None else frozenset(ids if isinstance(ids, list) else [ids])

    @property
    def padding(self) -> int:
        """Token that fills rows after a text's end: the padding token, or the first end token."""
        first = self.eos_token_id[:1] if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        return next((token for token in (self.pad_token_id, *first) if token is not None), 0)

    def to_dict(self) -> dict[str, Any]:
        return self.file_entries

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the entries that are set, as `to_dict`: an unset one has no default of its own."""
        return self.file_entries

    def to_json_string(self, use_diff: bool = True, **_: Any) -> str:
        """Return the text of generation_config.json. Raises InvalidInput for a value that JSON cannot have."""
        return to_json(self.file_entries, GENERATION_FILE)

    def to_json_file(self, json_file_path: str | os.PathLike[str], **_: Any) -> None:
        """Write the entries into a file, whole or not at all."""
        write_json(Path(json_file_path), self.file_entries)

    def validate(self, strict: bool = False) -> None:
        """Check that every option is computed here; the range of each is checked when it is set.

        Raises:
            UnsupportedOption, InvalidInput: as `computed`; and, where `strict`, entries that are not known.
        """
        if strict and self.unknown:
            raise UnsupportedOption(f"generation_config has entries that are not known: {', '.join(self.unknown)}.")
        self.computed()

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write generation_config.json into a folder, whole or not at all.

        Args:
            options: `push_to_hub=True` uploads it, with the options of `push_to_hub` and `repo_id`.

        Raises:
            UnsupportedOption: another option.
        """
        upload = pop_upload(options, folder)
        refuse_options(options, "save_pretrained")
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / GENERATION_FILE, self.file_entries)
        if upload is not None:
            self.push_to_hub(**upload)


def sorted_out(entries: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split entries into fields, and those that would change the result and are not computed.

    Raises:
        UnsupportedOption: an unknown name.
    """
    names = type_hints(GenerationConfig).keys() - {"uncomputed"}
    unknown = [name for name in entries if name not in names and name not in INERT and name not in OFF]
    if unknown:
        raise UnsupportedOption(f"{unknown[0]!r} is no option of generation. {nearest(unknown[0], names)}")
    other = {k: v for k, v in entries.items() if k in OFF and v is not None and v not in OFF[k]}
    return {k: v for k, v in entries.items() if k in names}, other


def plain(hint: Any, value: Any) -> Any:
    """Convert a file's value to the type of its field: 50 for 50.0, and 1 for [1]."""
    if hint is None or accepts(hint, value):
        return value
    if isinstance(value, Sequence) and len(value) == 1 and value[0] is not None and accepts(hint, value[0]):
        return value[0]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def refuse(entries: Mapping[str, Any]) -> None:
    """Raise UnsupportedOption for the first of the entries that are not computed here."""
    for name, value in entries.items():
        neutral = " or ".join(map(repr, OFF[name])) or "None"
        raise UnsupportedOption(f"{name} = {value!r} is not computed here yet; pass {name}={neutral}.")
