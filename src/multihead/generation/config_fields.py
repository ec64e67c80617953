"""Checks of single fields of a GenerationConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from .logits.constraints import read_constraints
from .logits.watermark import settings as watermark_settings

ABOVE = {
    "temperature": 0.0, "repetition_penalty": 0.0, "encoder_repetition_penalty": 0.0, "max_time": 0.0, "top_h": 0.0,
    "typical_p": 0.0,
}  # fmt: skip
LEAST = {
    "max_length": 1, "max_new_tokens": 1, "min_length": 0, "min_new_tokens": 0, "top_k": 0, "num_beams": 1,
    "num_beam_groups": 1, "num_return_sequences": 1, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
    "dry_multiplier": 0, "dry_base": 1, "dry_allowed_length": 1, "loop_penalty": 0, "prompt_lookup_num_tokens": 1,
    "max_matching_ngram_size": 1, "num_assistant_tokens": 1,
}  # fmt: skip
MOST = dict.fromkeys(("num_beams", "num_beam_groups", "num_return_sequences"), 10_000)  # sequences of one request
SHARES = frozenset(
    "top_p min_p top_h typical_p epsilon_cutoff eta_cutoff penalty_alpha assistant_confidence_threshold".split()
)


def checked(name: str, value: Any) -> Any:
    """A field's value, of the right type, as the config keeps it.

    Raises:
        InvalidInput: a value that no text can satisfy. UnsupportedOption: an unknown setting of a watermark.
    """
    check_bounds(name, value)
    if name == "sequence_bias":
        bias_of_runs(value)
    elif name == "bad_words_ids" and not all(value):
        raise InvalidInput(f"bad_words_ids holds a word without a token: {value!r}.")
    elif name in ("constraints", "force_words_ids"):
        read_constraints(*((value, None) if name == "constraints" else (None, value)))
    elif name == "watermarking_config":
        if not isinstance(value, Mapping) and not hasattr(value, "to_dict"):
            raise InvalidInput(f"watermarking_config must be a mapping of settings, not {value!r}.")
        value = dict(value if isinstance(value, Mapping) else value.to_dict())
        watermark_settings(value)
    elif name == "exponential_decay_length_penalty" and not decays(value):
        raise InvalidInput(f"exponential_decay_length_penalty must be (tokens, factor), not {value!r}.")
    elif name == "dry_sequence_breakers" and not all(value):
        raise InvalidInput("A text in dry_sequence_breakers is empty; every token has it.")
    elif name == "stop_strings" and not all([value] if isinstance(value, str) else value):
        raise InvalidInput("A stop string in stop_strings is empty; every text would end at once.")
    return value


def check_bounds(name: str, value: Any) -> None:
    """Raises InvalidInput for a number that is too small or too large."""
    if name in ABOVE and value <= ABOVE[name]:
        advice = "; for no sampling, do_sample=False" if name == "temperature" else ""
        raise InvalidInput(f"{name} must be above {ABOVE[name]:g}, not {value!r}{advice}.")
    if name in LEAST and value < LEAST[name]:
        raise InvalidInput(f"{name} must be at least {LEAST[name]}, not {value}.")
    if name in MOST and value > MOST[name]:
        raise InvalidInput(f"{name} must be at most {MOST[name]:,}, not {value}.")
    if name in SHARES and not 0 <= value <= 1:
        raise InvalidInput(f"{name} must be between 0 and 1, not {value!r}.")


def decays(value: Any) -> bool:
    """Return whether a value is a number of tokens and a factor."""
    numbers = isinstance(value, (list, tuple)) and all(isinstance(x, (int, float)) for x in value)
    return numbers and len(value) == 2


def bias_of_runs(given: Any) -> dict[tuple[int, ...], float]:
    """A `sequence_bias` by runs of tokens. Raises InvalidInput for what is none."""
    try:
        pairs = given.items() if isinstance(given, Mapping) else given
        runs = {tuple(int(token) for token in run): float(bias) for run, bias in pairs}
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"sequence_bias must be pairs of token ids and a number, not {given!r}.") from error
    if any(not run or min(run) < 0 for run in runs):
        raise InvalidInput(f"sequence_bias must name at least one token, none below 0: {given!r}.")
    return runs
