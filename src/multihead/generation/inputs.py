"""Inputs of `generate`: prompts, masks and encoder inputs, converted to token lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from ..nn.encoder_output import EncoderOutput
from ..nn.ragged import Layout
from .config import GenerationConfig

# Inputs of transformers' `generate` that are refused here -> what to do instead.
UNSUPPORTED_INPUTS: Mapping[str, str] = {
    "inputs_embeds": "generate reads tokens: pass input_ids.",
    "past_key_values": "The KV cache ends with each call: pass the whole text as input_ids.",
    "position_ids": "Positions are counted within each text: leave it out.",
    "token_type_ids": "A text is continued as one segment: leave it out.",
    "synced_gpus": "Each device generates by itself: leave it out.",
    "custom_generate": "Custom code does not run here: leave it out.",
}


def split_prompt(
    inputs: Any, input_ids: Any, mask: Any, options: Mapping[str, Any], typed: bool = False
) -> tuple[Any, Any, dict[str, Any]]:
    """Return the prompt, its mask and the other options; a tokenizer's output may be passed whole, as a mapping.

    Args:
        typed: the model reads token types of prompts.

    Raises:
        InvalidInput: two prompts. UnsupportedOption: an input that is not read here.
    """
    if inputs is not None and input_ids is not None:
        raise InvalidInput("inputs and input_ids are two names of the prompt; give one of them.")
    given, known = inputs if inputs is not None else input_ids, dict(options)
    if isinstance(given, Mapping):
        known = {**given, **known}
        given, mask = known.pop("input_ids", None), mask if mask is not None else known.pop("attention_mask", None)
        known.pop("attention_mask", None)
    for name, advice in UNSUPPORTED_INPUTS.items():
        value = None if typed and name == "token_type_ids" else known.pop(name, None)
        if value is not None and value is not False:
            raise UnsupportedOption(f"{name} is no input of generate here. {advice}")
    return given, mask, known


def read_inputs(
    given: Any, mask: Any, tokenizer: Any, config: GenerationConfig, name: str = "input_ids"
) -> tuple[Tensor, Tensor | None]:
    """Return padded ids (batch, length) and their mask (batch, length) of a prompt in any form. Raises InvalidInput."""
    ids, real = (given, None) if isinstance(given, Tensor) else tokenize_prompts(given, tokenizer, config)
    if ids.ndim != 2 or not len(ids) or ids.is_floating_point():
        raise InvalidInput(f"{name} must be whole numbers (batch, length), not {ids.dtype} {tuple(ids.shape)}.")
    if mask is None:
        return ids, real
    if real is not None and not isinstance(mask, Tensor):  # lists, from a tokenizer without return_tensors
        rows, own = tokenize_prompts(mask, None, config)
        if own.equal(real):
            return ids, rows * own
    if real is not None and not bool(real.all()):
        raise InvalidInput(f"The mask of {name} belongs to padded ids; lists of several lengths need none.")
    mask = torch.as_tensor(mask, device=ids.device)
    if mask.shape != ids.shape:
        raise InvalidInput(
            f"{name} is {tuple(ids.shape)} and its mask {tuple(mask.shape)}; their shapes must be equal."
        )
    return ids, mask


def tokenize_prompts(given: Any, tokenizer: Any, config: GenerationConfig) -> tuple[Tensor, Tensor]:
    """Return ids (batch, length) of strings or lists, padded on the left, and their mask. Raises InvalidInput."""
    if isinstance(given, str) or (len(given) and all(isinstance(text, str) for text in given)):
        if tokenizer is None:
            raise InvalidInput("Strings need the model's tokenizer too (tokenizer=...).")
        given = tokenizer([given] if isinstance(given, str) else list(given))["input_ids"]
    if len(given) and all(isinstance(token, int) for token in given):
        given = [given]
    try:
        texts = [[int(token) for token in text] for text in given]
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"generate takes strings, lists of ids or a tensor, not {type(given).__name__}.") from error
    longest = max(map(len, texts), default=0)
    pad = config.pad_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(text)) + text for text in texts], dtype=torch.long)
    return ids, torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])


def default_prompt(config: GenerationConfig) -> list[list[int]]:
    """Return the prompt of a call without one: the beginning-of-sequence token. Raises InvalidInput."""
    if config.bos_token_id is None:
        raise InvalidInput("generate needs input_ids, or a config with a bos_token_id to begin with.")
    return [[config.bos_token_id]]


def infer_mask(ids: Tensor | None, mask: Tensor | None, config: GenerationConfig) -> Tensor | None:
    """Return the mask, or one inferred from padding ids; None where padding could be an end-of-sequence token."""
    if mask is not None or ids is None:
        return mask
    pad = config.pad_token_id
    if pad is None or pad in config.ends or not bool((ids == pad).any()):
        return None
    return ids != pad


def strip_padding(ids: Tensor, mask: Tensor | None) -> list[list[int]]:
    """Return each row of ids (batch, length) without the positions that the mask excludes."""
    layout = Layout.of(mask, (ids.shape[0], ids.shape[1]))
    flat = layout.pack(ids).tolist()
    return [flat[begin : begin + length] for begin, length in zip(layout.runs.begins, layout.runs.lengths, strict=True)]


def prompt_types(given: Any, ids: Tensor, mask: Tensor | None) -> list[list[int]] | None:
    """Return the token types of each prompt. Raises InvalidInput unless they have the shape of ids (batch, length)."""
    if given is None:
        return None
    types, _ = read_inputs(given, None, None, GenerationConfig(), "token_type_ids")
    if types.shape != ids.shape:
        raise InvalidInput(f"token_type_ids are {tuple(types.shape)}, the prompts {tuple(ids.shape)}.")
    return strip_padding(types.to(ids.device), mask)


def negative_prompts(
    given: Any, mask: Any, tokenizer: Any, config: GenerationConfig, prompts: int
) -> list[list[int]] | None:
    """Return the tokens of each negative prompt, for guidance. Raises InvalidInput unless there is one a prompt."""
    if given is None:
        return None
    ids, mask = read_inputs(given, mask, tokenizer, config, "negative_prompt_ids")
    if len(ids) != prompts:
        raise InvalidInput(f"negative_prompt_ids has {len(ids)} rows, and there are {prompts} prompts.")
    return strip_padding(ids, infer_mask(ids, mask, config))


def decoder_prompt(config: GenerationConfig, given: Any, mask: Any, texts: int) -> tuple[Tensor, Tensor | None]:
    """Return the decoder's prompt for `texts` sources, (texts, length), and its mask: the start token and given ids.

    Raises:
        InvalidInput: the config has no start token, or the number of rows differs from the number of sources.
    """
    first = config.decoder_start_token_id
    first = config.bos_token_id if first is None else first
    if given is None:
        if first is None:
            raise InvalidInput("The config names no decoder_start_token_id to begin a target with.")
        return torch.full((texts, 1), first), None
    ids, mask = read_inputs(given, mask, None, config, "decoder_input_ids")
    if len(ids) != texts:
        raise InvalidInput(f"decoder_input_ids has {len(ids)} rows, and there are {texts} sources.")
    if first is not None and not bool((ids[:, 0] == first).any()):
        ids = torch.cat([torch.full_like(ids[:, :1], first), ids], 1)
        mask = None if mask is None else torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
    return ids, mask


def encode_source(
    model: Any,
    config: GenerationConfig,
    ids: Tensor | None,
    mask: Tensor | None,
    states: Any = None,
    own: Mapping[str, Tensor | None] = MappingProxyType({}),
) -> tuple[EncoderOutput, dict[str, Any]]:
    """Encode the source; return it and the fields of it for the output of `generate`.

    Args:
        states: encoder outputs to use instead. own: further inputs of the model's family, by name.

    Raises:
        InvalidInput: states have another shape than ids or mask, or a logits processor needs ids that are missing.
    """
    if (
        states is not None
        and ids is None
        and (config.encoder_repetition_penalty not in (None, 1.0) or config.encoder_no_repeat_ngram_size)
    ):
        raise InvalidInput(
            "encoder_repetition_penalty and encoder_no_repeat_ngram_size read the source's tokens: pass input_ids "
            "in addition to encoder_outputs."
        )
    for given in (ids, mask):
        if states is not None and given is not None and given.shape != states[0].shape[:2]:
            raise InvalidInput(f"encoder_outputs is {tuple(states[0].shape)}, its ids or mask {tuple(given.shape)}.")
    with torch.inference_mode():
        encoder_output, layout, shown = model.encode_source(
            ids, None, mask, states, bool(config.output_hidden_states), bool(config.output_attentions), own
        )
    if states is not None and ids is not None:
        encoder_output = replace(encoder_output, ids=layout.pack(ids.to(model.device)))
    if states is not None:
        shown = {f"encoder_{name}": getattr(states, name, None) for name in ("hidden_states", "attentions")}
    return encoder_output, {name: x for name, x in shown.items() if name != "encoder_last_hidden_state"}


def source_tokens(encoder_output: EncoderOutput | None, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the tokens of each encoded source, or of each prompt where there is none."""
    if encoder_output is None or encoder_output.ids is None:
        return [list(prompt) for prompt in prompts]
    ids, spans = encoder_output.ids.tolist(), zip(encoder_output.runs.begins, encoder_output.runs.lengths, strict=True)
    return [ids[begin : begin + length] for begin, length in spans]
