"""`model.generate`: texts, token lists or padded tensors in, padded tensors out, over the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..heads.outputs import Output
from ..nn.forward_context import EncoderOutput
from .checks import check, check_effect, check_forward, check_prompts, check_tokens, check_ways
from .config import GenerationConfig
from .engine.scheduler import MAX_SEQUENCES, Engine
from .engine.sequence import Request, Strategy
from .inputs import beginning, mask_of, opposites, prompt_of, read_inputs, source, sources_of, targets, unpadded
from .logits.grammar import Structure
from .outputs import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
    found,
    padded,
    shown,
)
from .strategies.base import Assistant, Extras, Job, some
from .strategies.beam_search import beamed
from .strategies.contrastive import contrasted
from .strategies.sampling import sampled
from .strategies.speculative import GUESSES, RUN, SURE, Draft, Guesser, Lookup, Translated, speculated

NEW_TOKENS = 20  # where nothing says how many, as the reference does


def generate(
    model: Any,
    inputs: Any = None,
    generation_config: GenerationConfig | None = None,
    logits_processor: Sequence[Callable[[Tensor, Tensor], Tensor]] | None = None,
    stopping_criteria: Sequence[Callable[[Tensor, Tensor], Any]] | None = None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Iterable[int]] | None = None,
    *,
    input_ids: Any = None,
    attention_mask: Any = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Any = None,
    decoder_attention_mask: Any = None,
    negative_prompt_ids: Any = None,
    negative_prompt_attention_mask: Any = None,
    assistant_model: Any = None,
    tokenizer: Any = None,
    assistant_tokenizer: Any = None,
    streamer: Any = None,
    **options: Any,
) -> Tensor | Output:
    """Continues texts.

    Args:
        inputs, input_ids: (batch, length), lists of ids, or strings (which need `tokenizer`); for an encoder-decoder
            the source. What a tokenizer gives may come whole, as a mapping. Without a prompt, bos_token_id is one.
        logits_processor: functions (ids (branches, length), scores (branches, vocabulary)) -> scores, after the rules.
        stopping_criteria: functions (ids, scores) -> whether each branch ends.
        prefix_allowed_tokens_fn: (number of the prompt, ids (length,)) -> tokens that may follow.
        attention_mask: (batch, length), 0 at padding; guessed from pad_token_id when left out.
        encoder_outputs: an encoder's states instead of a source. decoder_input_ids, decoder_attention_mask: a target's
            beginning; the start token is put before it where no row has it.
        negative_prompt_ids: (batch, length), what `guidance_scale` moves away from; the prompt's last token if none.
        assistant_model: a smaller model whose guesses are read ahead; the text stays what it is without it. With
            `assistant_tokenizer`, which then needs `tokenizer` too, it may have another vocabulary.
        tokenizer: for strings and `stop_strings`.
        streamer: gets `put(ids)` for the prompt and each new token, and `end()`; for one text.
        options: fields of GenerationConfig to change, and an encoder-decoder family's own inputs.

    Returns:
        (batch * num_return_sequences, length): prompt (or start token) and continuation; with
        return_dict_in_generate one of `generation.outputs`.

    Raises:
        InvalidInput: a prompt that is empty or leaves no room, or inputs that do not fit each other.
        UnsupportedOption: an option that is not computed here, or has no effect.
    """
    both = model.config.is_encoder_decoder
    prompt, mask, options = prompt_of(inputs, input_ids, attention_mask, options)
    own = {name: options.pop(name) for name in model.architecture.inputs if both and name in options}
    config = GenerationConfig.taken(generation_config if generation_config is not None else model.generation_config)
    config = config.filled(model.generation_config).changed(**options).computed()
    asked = {
        "assistant_model": assistant_model, "assistant_tokenizer": assistant_tokenizer,
        "negative_prompt_ids": negative_prompt_ids, "negative_prompt_attention_mask": negative_prompt_attention_mask,
        "decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask,
        "encoder_outputs": encoder_outputs,
    }  # fmt: skip
    check(config, tokenizer)
    check_effect(config, {**options, **asked}, both)
    ids: Tensor | None = None
    if prompt is not None or encoder_outputs is None:
        ids, mask = read_inputs(beginning(config) if prompt is None else prompt, mask, tokenizer, config)
        mask = mask_of(ids, mask, config)
    encoder_output: EncoderOutput | None = None
    fields: dict[str, Any] = {}
    if both:
        encoder_output, fields = source(model, config, ids, mask, encoder_outputs, own)
        given, seen = targets(config, decoder_input_ids, decoder_attention_mask, len(encoder_output.runs))
    else:
        given, seen = some(ids), mask
    prompts = unpadded(given, seen)
    extras = Extras(
        tuple(logits_processor or ()), tuple(stopping_criteria or ()), prefix_allowed_tokens_fn, tokenizer,
        opposites(negative_prompt_ids, negative_prompt_attention_mask, tokenizer, config, len(prompts)),
        assistant_of(model, assistant_model, assistant_tokenizer, tokenizer, ids, mask),
    )  # fmt: skip
    check_ways(config, extras)
    limits = [limit(model, config, len(prompt), given.shape[1]) for prompt in prompts]
    jobs = run(model, prompts, config, limits, encoder_output=encoder_output, extras=extras, streamer=streamer)
    return laid_out(jobs, given.to(model.device), config, both, fields)


def continued(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    encoder_output: EncoderOutput | None = None,
    extras: Extras | None = None,
    streamer: Any = None,
    together: int = MAX_SEQUENCES,
) -> list[list[int]]:
    """New tokens of each prompt, the end token included; nothing is padded. Raises UnsupportedOption as `generate`.

    Args:
        prompts: lists of ids; for an encoder-decoder the targets' beginnings. encoder_output: its source.
        streamer: as in `generate`; one prompt only. together: texts that are read at once, at most.
    """
    config.computed()
    check_ways(config, extras or Extras())
    limits = [limit(model, config, len(prompt), len(prompt)) for prompt in prompts]
    jobs = run(
        model,
        prompts,
        config,
        limits,
        encoder_output=encoder_output,
        extras=extras or Extras(),
        streamer=streamer,
        together=together,
    )
    return [result for job in jobs for result in job.results]


def run(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    limits: Sequence[int],
    *,
    encoder_output: EncoderOutput | None,
    extras: Extras,
    streamer: Any,
    together: int = MAX_SEQUENCES,
) -> list[Job]:
    """Continues prompts together, each one a request. Raises what a request raised."""
    check_forward(model)
    check_prompts(prompts, limits, model.max_positions)
    check_tokens(config, model.vocabulary, [len(prompt) for prompt in prompts], limits)
    if streamer is not None and (len(prompts) > 1 or (config.num_return_sequences or 1) > 1):
        raise InvalidInput("A streamer shows one text; this batch has several.")
    if streamer is not None and (config.num_beams or 1) > 1:
        raise InvalidInput("A streamer shows a text as it grows; beam search knows it at the end only.")
    listener = None if streamer is None else lambda token: streamer.put(torch.tensor([token]))
    structure = Structure.of(config, extras.tokenizer, model.vocabulary)
    sources = sources_of(encoder_output, prompts)
    if streamer is not None:
        streamer.put(torch.tensor([prompts[0]]))
    engine = Engine(model, max_sequences=together)
    jobs, requests = [], []
    for number, (prompt, most) in enumerate(zip(prompts, limits, strict=True)):
        own = None if encoder_output is None else encoder_output.select(torch.tensor([number]))
        job = Job(
            prompt, config, most, number=number, encoder_output=own, source=sources[number], extras=extras,
            structure=structure, listener=listener, device=model.device, tied=model.config.tie_word_embeddings,
        )  # fmt: skip
        jobs.append(job)
        requests.append(enter(engine, job))
    engine.run()
    engine.close()
    for request in requests:
        if request.error is not None:
            raise request.error
    if streamer is not None:
        streamer.end()
    return jobs


def enter(engine: Engine, job: Job) -> Request:
    """Queues a job, to go on as its config says. Raises MemoryFull as `Engine.submit`."""
    config, assistant = job.config, job.extras.assistant
    width = max(config.num_beams or 1, config.num_return_sequences or 1)
    start: Callable[[Request], Strategy] = lambda request: sampled(request, job)  # noqa: E731
    if (config.num_beams or 1) > 1:
        start = lambda request: beamed(request, job)  # noqa: E731
    elif assistant is not None:
        start = lambda request: speculated(request, job, assisted(request, job, assistant))  # noqa: E731
    elif config.prompt_lookup_num_tokens:
        lookup = Lookup(config.prompt_lookup_num_tokens, config.max_matching_ngram_size or RUN)
        start = lambda request: speculated(request, job, lookup)  # noqa: E731
    elif config.penalty_alpha and config.breadth > 1:
        start, width = lambda request: contrasted(request, job), config.breadth
    width *= 2 if config.guidance_scale not in (None, 1.0) else 1
    salt = b"" if job.encoder_output is None else str(id(job)).encode()  # what a target is depends on its source
    return engine.submit(start, max_tokens=job.limit, max_sequences=width, cache_salt=salt)


def assisted(request: Request, job: Job, assistant: Assistant) -> Guesser:
    """The guesser that a draft model makes."""
    config, sure = job.config, job.config.assistant_confidence_threshold
    encoder_output = None if assistant.encode is None else assistant.encode(job.number)
    draft = Draft(
        request, job, assistant.model, encoder_output=encoder_output, count=config.num_assistant_tokens or GUESSES,
        schedule=config.num_assistant_tokens_schedule or "constant", sure=SURE if sure is None else sure,
        likeliest=assistant.tokenizer is not None,
    )  # fmt: skip
    if assistant.tokenizer is None:
        return draft
    return Translated(draft, job.extras.tokenizer, assistant.tokenizer)


def laid_out(
    jobs: list[Job], given: Tensor, config: GenerationConfig, both: bool, fields: dict[str, Any]
) -> Tensor | Output:
    """The texts as the reference lays them out. `fields`: what is shown of the source."""
    repeats = config.num_return_sequences or 1
    new = padded([result for job in jobs for result in job.results], config.padding).to(given.device)
    sequences = torch.cat([given.repeat_interleave(repeats, 0), new], 1)
    if not config.return_dict_in_generate:
        return sequences
    if (config.num_beams or 1) == 1:
        kind = GenerateEncoderDecoderOutput if both else GenerateDecoderOnlyOutput
        return kind(sequences, **shown(jobs, repeats, both), **fields)
    beams = GenerateBeamEncoderDecoderOutput if both else GenerateBeamDecoderOnlyOutput
    return beams(sequences, **found(jobs), **shown(jobs, config.num_beams or 1, both), **fields)


def assistant_of(
    model: Any, assistant: Any, its_tokenizer: Any, tokenizer: Any, ids: Tensor | None, mask: Tensor | None
) -> Assistant | None:
    """What guesses, checked against the model that it helps. Raises InvalidInput."""
    if assistant is None:
        return None
    if its_tokenizer is not None and tokenizer is None:
        raise InvalidInput("assistant_tokenizer needs the model's own tokenizer too (tokenizer=...).")
    if not hasattr(assistant, "vocabulary"):
        raise InvalidInput(f"assistant_model is no model that writes but {type(assistant).__name__}.")
    own, other = model.vocabulary, assistant.vocabulary
    if its_tokenizer is None and own != other:
        raise InvalidInput(
            f"The assistant has {other} tokens and the model {own}; pass tokenizer and assistant_tokenizer if they cut "
            "texts differently."
        )
    if not assistant.config.is_encoder_decoder:
        return Assistant(assistant, its_tokenizer)
    if its_tokenizer is not None or ids is None or not model.config.is_encoder_decoder:
        raise InvalidInput("An encoder-decoder helps only another one that reads the same input_ids.")
    encoder_output, _ = source(assistant, GenerationConfig(), ids, mask)
    return Assistant(assistant, None, lambda number: encoder_output.select(torch.tensor([number])))


def limit(model: Any, config: GenerationConfig, prompt: int, width: int) -> int:
    """Most tokens of a text in all; `max_length` counts the padded prompt, as the reference does."""
    if config.max_new_tokens is not None:
        return prompt + config.max_new_tokens
    if config.max_length is not None:
        return prompt + config.max_length - width
    positions = getattr(model.config, "max_position_embeddings", None) or 0
    return prompt + (min(NEW_TOKENS, positions - width) if positions > 0 else NEW_TOKENS)
