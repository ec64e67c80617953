"""Checks of options and prompts, before any forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import InvalidInput, TextTooLong, UnsupportedConfig, UnsupportedOption, warn
from .config import SAMPLING_FIELDS, GenerationConfig
from .logits.constraints import check_constraints
from .strategies.base import Extras

PACKAGE = __name__.split(".")[0]
USUAL: Mapping[str, Any] = {
    "length_penalty": 1.0, "diversity_penalty": 0.0, "early_stopping": False, "penalty_alpha": 0.0, "temperature": 1.0,
    "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "min_p": 0.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
}  # fmt: skip


def check(config: GenerationConfig, tokenizer: Any) -> None:
    """Check that settings do not contradict each other. Raises InvalidInput."""
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
    if config.dry_sequence_breakers and tokenizer is None:
        raise InvalidInput("dry_sequence_breakers are text: pass the model's tokenizer too (tokenizer=...).")
    if config.stops and tokenizer is None:
        raise InvalidInput("stop_strings are text: pass the model's tokenizer too (tokenizer=...).")


def check_functions(name: str, given: Any) -> None:
    """Raise InvalidInput for an option that is no list of functions, such as a function alone."""
    if given is not None and not (isinstance(given, Sequence) and all(map(callable, given))):
        raise InvalidInput(f"{name} is a list of functions of ids and scores, not {given!r:.80}.")


def check_effect(config: GenerationConfig, passed: Mapping[str, Any], both: bool) -> None:
    """Check that each option of a caller has an effect. Raises UnsupportedOption; warns for options of sampling.

    Args:
        passed: what the caller gave by name. both: whether the model is an encoder-decoder.
    """
    passed = {name: value for name, value in passed.items() if value is not None}
    guesses = ("assistant_tokenizer", "num_assistant_tokens", "num_assistant_tokens_schedule",
               "assistant_confidence_threshold")  # fmt: skip
    needs = {
        "num_beams above 1": ((config.num_beams or 1) > 1, ("early_stopping", "length_penalty", "diversity_penalty")),
        "num_beam_groups above 1": ((config.num_beam_groups or 1) > 1, ("diversity_penalty",)),
        "top_k above 1": (config.breadth > 1, ("penalty_alpha",)),
        "assistant_model or use_mtp": ("assistant_model" in passed or bool(config.use_mtp), guesses[1:]),
        "assistant_model": ("assistant_model" in passed, guesses[:1]),
        "prompt_lookup_num_tokens": (bool(config.prompt_lookup_num_tokens), ("max_matching_ngram_size",)),
        "guidance_scale": (config.guidance_scale not in (None, 1.0), ("negative_prompt_ids",)),
        "negative_prompt_ids": ("negative_prompt_ids" in passed, ("negative_prompt_attention_mask",)),
        "an encoder-decoder": (both, ("decoder_input_ids", "encoder_outputs")),
        "decoder_input_ids": ("decoder_input_ids" in passed, ("decoder_attention_mask",)),
    }
    vain = [(name, need) for need, (met, names) in needs.items() if not met for name in names if unusual(name, passed)]
    if vain:
        raise UnsupportedOption(f"{vain[0][0]} has no effect without {vain[0][1]}.")
    used = {"top_k"} if config.penalty_alpha else set[str]()
    idle = [] if config.do_sample else [name for name in sorted(SAMPLING_FIELDS - used) if unusual(name, passed)]
    if idle:
        warn(f"{', '.join(idle)}: without effect, since nothing is drawn; pass do_sample=True.")


def unusual(name: str, passed: Mapping[str, Any]) -> bool:
    """Return whether a caller set an option to another value than its default."""
    return name in passed and (name not in USUAL or passed[name] != USUAL[name])


def check_strategies(config: GenerationConfig, extras: Extras) -> None:
    """Check that only one decoding strategy is set. Raises InvalidInput."""
    ways = {
        "num_beams": (config.num_beams or 1) > 1,
        "an assistant model": extras.assistant is not None,
        "use_mtp": bool(config.use_mtp),
        "prompt_lookup_num_tokens": bool(config.prompt_lookup_num_tokens),
        "penalty_alpha": bool(config.penalty_alpha),
    }
    strategies = [name for name, is_set in ways.items() if is_set]
    if len(strategies) > 1:
        raise InvalidInput(f"{strategies[0]} and {strategies[1]} are two decoding strategies; choose one.")
    single = [name for name in strategies if name != "num_beams"]
    if single and (config.num_return_sequences or 1) > 1:
        raise InvalidInput(f"{single[0]} continues a prompt once; num_return_sequences must be 1.")
    if config.penalty_alpha and config.do_sample:
        raise InvalidInput("penalty_alpha searches and does not draw: it does not go with do_sample=True.")
    if config.penalty_alpha and (config.guidance_scale not in (None, 1.0) or config.dola_layers is not None):
        raise InvalidInput("penalty_alpha does not go with guidance_scale or dola_layers.")
    if single and (config.output_attentions or config.output_hidden_states):
        raise InvalidInput(f"{single[0]} shows scores and logits only, no states or attentions.")


def check_causal(model: Any) -> None:
    """Raise UnsupportedConfig if the model's tokens see later ones, whose cached keys would then be of another text.

    A model that predicts the next token at a mask reads such texts in another way, unless its config hinders it.
    """
    masked = getattr(model, "masked_next", None)
    if masked is not None and not masked.refusal:
        return
    if masked is not None:
        raise UnsupportedConfig(f"{type(model).__name__} cannot write: {masked.refusal}.")
    if not getattr(getattr(model, "backbone", None), "continues", True):
        raise UnsupportedConfig(
            f"{type(model).__name__} reads text in both directions here and cannot write it word by word; load it "
            "with is_decoder=True if it was trained so."
        )


def check_masked(model: Any, **given: Any) -> None:
    """Raise UnsupportedOption for what needs other scores or states than a mask's. `given`: options by name."""
    wanted = [name for name, value in given.items() if value not in (None, False, 0)]
    if wanted and getattr(model, "masked_next", None) is not None:
        raise UnsupportedOption(
            f"{type(model).__name__} scores one token at a time, at a mask behind the text; {wanted[0]} needs more."
        )


def check_one_by_one(model: Any, **given: Any) -> None:
    """Raise UnsupportedOption for what reads several tokens in a pass that must not see later ones of it.

    Args:
        given: options by name.
    """
    wanted = [name for name, value in given.items() if value not in (None, False, 0)]
    if wanted and not getattr(getattr(model, "backbone", None), "causal", True):
        raise UnsupportedOption(
            f"{type(model).__name__} reads the tokens of a pass in both directions, so that each sees those after it; "
            f"{wanted[0]} needs scores of tokens that see none. Leave it out."
        )


def check_forward(model: Any) -> None:
    """Raise UnsupportedOption if the model's own `forward` is replaced or hooked, since it is not called here."""
    if not isinstance(model, nn.Module):
        return
    own = vars(model).get("forward", type(model).forward)
    own = getattr(own, "_torchdynamo_orig_callable", own)  # compiled, it computes the same
    source = getattr(getattr(own, "__func__", own), "__globals__", {}).get("__name__", "")
    if model._forward_hooks or model._forward_pre_hooks or source.split(".")[0] != PACKAGE:
        raise UnsupportedOption(
            f"generate reads tokens through the layers of {type(model).__name__}, and its forward is not called: what "
            "replaces or hooks that would be passed by. Replace or hook model.backbone, its layers or model.head, or "
            "pass a logits_processor."
        )


def check_prompts(prompts: Sequence[Sequence[int]], limits: Sequence[int], longest: int | None = None) -> None:
    """Check that each prompt has a token and leaves room for another. Raises InvalidInput.

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


def check_ids(prompts: Sequence[Sequence[int]], vocabulary: int) -> None:
    """Raise InvalidInput for an id outside the vocabulary: it would end the pass of other prompts too."""
    for prompt in prompts:
        low, high = min(prompt), max(prompt)
        if low < 0 or high >= vocabulary:
            wrong = low if low < 0 else high
            raise InvalidInput(f"The input id {wrong} is outside the model's vocabulary of {vocabulary} rows.")


def check_tokens(config: GenerationConfig, vocabulary: int, prompts: Sequence[int], limits: Sequence[int]) -> None:
    """Check that tokens are in the vocabulary and required words can occur. Raises InvalidInput.

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
