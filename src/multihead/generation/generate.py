"""`model.generate`: padded tensors in, padded tensors out, over the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..nn.cache import Cache
from ..nn.call import Encoded
from ..nn.ragged import Layout
from ..outputs import Output
from .config import GenerationConfig
from .engine import Step, steps

DEFAULT_LENGTH = 20  # tokens in all, as the reference does when nothing is said


@dataclass
class GenerateOutput(Output):
    """What `generate` gives with return_dict_in_generate.

    Args:
        sequences: (texts, length), prompts included, padded on the right.
        scores, logits: a step each, (texts, vocabulary), after and before the rules.
    """

    sequences: Tensor
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    past_key_values: Cache | None = None


def generate(
    model: Any,
    inputs: Tensor | None = None,
    generation_config: GenerationConfig | None = None,
    *,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Tensor | None = None,
    streamer: Any = None,
    **options: Any,
) -> Tensor | GenerateOutput:
    """Continues texts.

    Args:
        inputs, input_ids: (batch, length); for an encoder-decoder the source.
        attention_mask: (batch, length), 0 at padding; guessed from pad_token_id when left out.
        encoder_outputs: an encoder's states instead of a source. decoder_input_ids: a target's beginning.
        streamer: gets `put(ids)` for the prompt and each new token, and `end()`; for one text.
        options: fields of GenerationConfig to change, and an encoder-decoder family's own inputs.

    Returns:
        (batch * num_return_sequences, length): prompt (or start token) and continuation.

    Raises:
        InvalidInput: a prompt that is empty or leaves no room. UnsupportedOption: an option not computed here.
    """
    both = model.config.is_encoder_decoder
    own = {name: options.pop(name) for name in model.architecture.inputs if both and name in options}
    config = (generation_config or model.generation_config).changed(**options)
    config = with_ids(config, model.generation_config).computed()
    ids = inputs if inputs is not None else input_ids
    if ids is None and encoder_outputs is None:
        raise InvalidInput("generate needs input_ids.")
    repeats = config.num_return_sequences or 1
    if repeats > 1 and not config.do_sample:
        raise InvalidInput("num_return_sequences above 1 gives equal texts without do_sample=True.")
    if both:
        encoded = source(model, ids, mask_of(ids, attention_mask, config), encoder_outputs, repeats, own)
        given = (
            decoder_input_ids if decoder_input_ids is not None else start(model, config, len(encoded.runs) // repeats)
        )
        mask = None
    else:
        assert ids is not None
        encoded, given, mask = None, ids, mask_of(ids, attention_mask, config)
    given = given.repeat_interleave(repeats, 0)
    prompts = unpadded(given, None if mask is None else mask.repeat_interleave(repeats, 0))
    memory = model.remember(len(prompts), encoded)
    return collected(model, given, prompts, memory, config, streamer)


def continued(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    encoded: Encoded | None = None,
    streamer: Any = None,
) -> list[list[int]]:
    """New tokens of each prompt, the end token included; nothing is padded. Raises UnsupportedOption as `generate`.

    Args:
        prompts: lists of ids; for an encoder-decoder the targets' beginnings. encoded: its source.
        streamer: as in `generate`; one prompt only.
    """
    config.computed()
    memory = model.remember(len(prompts), encoded)
    limits = [limit(config, len(prompt), len(prompt)) for prompt in prompts]
    new: list[list[int]] = [[] for _ in prompts]
    if streamer is not None:
        streamer.put(torch.tensor([prompts[0]]))
    for step in steps(model, prompts, memory, config, limits):
        for text, token in zip(step.texts, step.tokens, strict=True):
            new[text].append(token)
        if streamer is not None:
            streamer.put(torch.tensor(step.tokens))
    if streamer is not None:
        streamer.end()
    return new


def collected(
    model: Any, given: Tensor, prompts: list[list[int]], memory: Cache, config: GenerationConfig, streamer: Any
) -> Tensor | GenerateOutput:
    """Runs the engine and lays the texts out as the reference does."""
    if streamer is not None:
        if len(prompts) > 1:
            raise InvalidInput("A streamer shows one text; this batch has several.")
        streamer.put(given.cpu())
    limits = [limit(config, len(prompt), given.shape[1]) for prompt in prompts]
    new: list[list[int]] = [[] for _ in prompts]
    taken: list[Step] = []
    for step in steps(model, prompts, memory, config, limits):
        for text, token in zip(step.texts, step.tokens, strict=True):
            new[text].append(token)
        if streamer is not None:
            streamer.put(torch.tensor(step.tokens))
        if config.output_scores or config.output_logits:
            taken.append(step)
    if streamer is not None:
        streamer.end()
    sequences = torch.cat([given.to(model.device), padded(new, config).to(model.device)], 1)
    if not config.return_dict_in_generate:
        return sequences
    shown: dict[str, Any] = {
        name: tuple(spread(getattr(step, name), step.texts, len(prompts)) for step in taken)
        for name, asked in (("scores", config.output_scores), ("logits", config.output_logits))
        if asked
    }
    return GenerateOutput(sequences, **shown)


def with_ids(config: GenerationConfig, own: GenerationConfig) -> GenerationConfig:
    """Special ids that a config leaves open, from the model's own."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    return config.changed(**{n: getattr(own, n) for n in names if getattr(config, n) is None})


def limit(config: GenerationConfig, prompt: int, width: int) -> int:
    """Most tokens of a text in all; `max_length` counts the padded prompt, as the reference does."""
    if config.max_new_tokens is not None:
        return prompt + config.max_new_tokens
    return prompt + (config.max_length or DEFAULT_LENGTH) - width


def mask_of(ids: Tensor | None, mask: Tensor | None, config: GenerationConfig) -> Tensor | None:
    """The mask given, or one guessed from padding ids where these end no text."""
    if mask is not None or ids is None:
        return mask
    pad = config.pad_token_id
    if pad is None or pad in config.ends or not bool((ids == pad).any()):
        return None
    return ids != pad


def unpadded(ids: Tensor, mask: Tensor | None) -> list[list[int]]:
    layout = Layout.of(mask, (ids.shape[0], ids.shape[1]))
    flat = layout.pack(ids).tolist()
    return [flat[begin : begin + length] for begin, length in zip(layout.runs.begins, layout.runs.lengths, strict=True)]


def start(model: Any, config: GenerationConfig, texts: int) -> Tensor:
    """(texts, 1): the token that a target begins with."""
    first = config.decoder_start_token_id
    first = config.bos_token_id if first is None else first
    if first is None:
        raise InvalidInput("The config names no decoder_start_token_id to begin a target with.")
    return torch.full((texts, 1), first, device=model.device)


def source(
    model: Any,
    ids: Tensor | None,
    mask: Tensor | None,
    states: Any,
    repeats: int,
    own: Mapping[str, Tensor | None] = MappingProxyType({}),
) -> Encoded:
    """The encoded source, each text as often as it is continued. `own`: the family's own inputs."""

    def repeated(x: Tensor | None) -> Tensor | None:
        return x if x is None or repeats == 1 else x.repeat_interleave(repeats, 0)

    with torch.inference_mode():
        if states is not None:
            layout = Layout.of(repeated(mask), (states[0].shape[0] * repeats, states[0].shape[1]))
            vectors = repeated(states[0])
            assert vectors is not None
            return model.encoded(layout.pack(vectors.to(model.device)), layout.runs)
        return model.encode(repeated(ids), repeated(mask), own={name: repeated(x) for name, x in own.items()})


def padded(texts: Sequence[Sequence[int]], config: GenerationConfig) -> Tensor:
    """(texts, longest), padded on the right."""
    pad = config.pad_token_id if config.pad_token_id is not None else min(config.ends, default=0)
    longest = max(map(len, texts), default=0)
    return torch.tensor([[*text, *[pad] * (longest - len(text))] for text in texts], dtype=torch.long)


def spread(scores: Tensor, texts: Sequence[int], count: int) -> Tensor:
    """Scores of the texts that were still going, zero for the others: (count, vocabulary)."""
    if len(texts) == count:
        return scores
    out = scores.new_zeros(count, scores.shape[1])
    out[list(texts)] = scores
    return out
