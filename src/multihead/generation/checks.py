"""What cannot be generated, said before any work."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..errors import InvalidInput, TextTooLong, UnsupportedOption
from .config import GenerationConfig
from .constraints import check_constraints
from .job import Extras


def check(config: GenerationConfig, asked: Collection[str], tokenizer: Any) -> None:
    """Raises InvalidInput for settings that contradict each other, and UnsupportedOption for one without effect.

    Args:
        asked: names that the caller gave, beside those of the checkpoint.
    """
    beams, repeats, groups = config.num_beams or 1, config.num_return_sequences or 1, config.num_beam_groups or 1
    if repeats > 1 and not config.do_sample and beams == 1:
        raise InvalidInput("num_return_sequences above 1 gives equal texts without do_sample=True or num_beams.")
    if beams > 1 and repeats > beams:
        raise InvalidInput(f"num_return_sequences = {repeats} cannot be more than num_beams = {beams}.")
    if beams % groups:
        raise InvalidInput(f"num_beams = {beams} cannot be shared evenly by num_beam_groups = {groups}.")
    if groups > 1 and config.do_sample:
        raise InvalidInput("num_beam_groups above 1 searches for different texts; it does not go with do_sample=True.")
    if config.required and (beams == 1 or groups > 1 or config.do_sample):
        raise InvalidInput(
            "Words that must come (force_words_ids, constraints) are searched for by beams: they need num_beams above "
            "1, one group and do_sample=False."
        )
    alone = {"early_stopping": None, "length_penalty": 1.0, "diversity_penalty": 0.0}
    for name, usual in alone.items():
        value = getattr(config, name)
        if value not in (None, usual, False) and beams == 1 and name in asked:
            raise UnsupportedOption(f"{name} = {value!r} has no effect without num_beams above 1.")
    if config.stops and tokenizer is None:
        raise InvalidInput("stop_strings are text: pass the model's tokenizer too (tokenizer=...).")


def check_ways(config: GenerationConfig, extras: Extras) -> None:
    """Raises InvalidInput where what is to be done at once cannot be."""
    ways = {
        "num_beams": (config.num_beams or 1) > 1,
        "an assistant model": extras.assistant is not None,
        "prompt_lookup_num_tokens": bool(config.prompt_lookup_num_tokens),
        "penalty_alpha": bool(config.penalty_alpha),
    }
    asked = [name for name, is_asked in ways.items() if is_asked]
    if len(asked) > 1:
        raise InvalidInput(f"{asked[0]} and {asked[1]} are two ways to go on; choose one.")
    single = [name for name in asked if name != "num_beams"]
    if single and (config.num_return_sequences or 1) > 1:
        raise InvalidInput(f"{single[0]} continues a prompt once; num_return_sequences must be 1.")
    if config.penalty_alpha and config.do_sample:
        raise InvalidInput("penalty_alpha searches and does not draw: it does not go with do_sample=True.")
    if config.penalty_alpha and (config.guidance_scale not in (None, 1.0) or config.dola_layers is not None):
        raise InvalidInput("penalty_alpha does not go with guidance_scale or dola_layers.")
    if single and (config.output_attentions or config.output_hidden_states):
        raise InvalidInput(f"{single[0]} shows scores and logits only, no states or attentions.")


def check_prompts(prompts: Sequence[Sequence[int]], limits: Sequence[int], longest: int | None = None) -> None:
    """Raises InvalidInput for a prompt without a token, or one that leaves no room for another.

    Args:
        limits: most tokens of each text in all. longest: tokens of the longest text that the model can read.
    """
    for number, (prompt, most) in enumerate(zip(prompts, limits, strict=True)):
        if not prompt:
            raise InvalidInput(f"Prompt {number} has no token; give it at least one, a start token for instance.")
        if len(prompt) >= most:
            raise InvalidInput(
                f"Prompt {number} has {len(prompt)} tokens and at most {most} are allowed in all (max_length). "
                "Shorten it, or set max_new_tokens."
            )
        if longest is not None and most - 1 > longest:  # the last token is not read
            may = longest + 1 - len(prompt)
            advice = f"set max_new_tokens to {may} or less" if may > 0 else f"shorten it to at most {longest}"
            raise TextTooLong(
                f"Prompt {number} has {len(prompt)} tokens and up to {most - len(prompt)} are to follow, but this "
                f"model has learned {longest} positions; {advice}."
            )


def check_tokens(config: GenerationConfig, vocabulary: int, prompts: Sequence[int], limits: Sequence[int]) -> None:
    """Raises InvalidInput for tokens outside the vocabulary, and for words that must come and cannot.

    Args:
        prompts: tokens of each. limits: most of them in all.
    """
    last = config.forced_eos_token_id
    named = {
        "forced_bos_token_id": [] if config.forced_bos_token_id is None else [config.forced_bos_token_id],
        "forced_eos_token_id": last if isinstance(last, list) else [] if last is None else [last],
        "bad_words_ids": [token for run in config.bad_words_ids or () for token in run],
        "sequence_bias": [token for run in config.bias_of_runs for token in run],
        "suppress_tokens": config.suppress_tokens or [],
    }
    for name, tokens in named.items():
        wrong = sorted({token for token in tokens if not 0 <= token < vocabulary})
        if wrong:
            raise InvalidInput(f"{name} names tokens {wrong[:8]} outside the vocabulary of {vocabulary}.")
    if config.required:
        room = min(limit - prompt for prompt, limit in zip(prompts, limits, strict=True))
        room -= config.forced_eos_token_id is not None
        never = [[token] for token in (*config.ends, *(config.suppress_tokens or ()))]
        check_constraints(config.required, vocabulary, room, [*never, *(config.bad_words_ids or ())])
