"""`model.generate`: strings, token lists or padded tensors in, padded tensors out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..heads.outputs import Output
from ..models.common.multimodal import refuse_placeholders, without_media
from ..nn.encoder_output import EncoderOutput
from .checks import (
    check,
    check_causal,
    check_effect,
    check_forward,
    check_functions,
    check_ids,
    check_masked,
    check_one_by_one,
    check_prompts,
    check_strategies,
    check_tokens,
)
from .config import GenerationConfig
from .draft_heads import DraftHead, GemmaAssistant, own_heads
from .engine.scheduler import MAX_SEQUENCES, Engine
from .engine.sequence import Request, Strategy
from .hosts import host_of
from .inputs import (
    decoder_prompt,
    default_prompt,
    encode_source,
    infer_mask,
    negative_prompts,
    prompt_types,
    read_inputs,
    source_tokens,
    split_prompt,
    strip_padding,
)
from .logits.grammar import TextGrammar
from .logprobs import TokenLogprobs
from .outputs import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
    beam_fields,
    pad_right,
    step_fields,
)
from .stopping import Continuation
from .strategies.base import Assistant, Extras, GenerationJob, not_none
from .strategies.beam_search import beam_search
from .strategies.contrastive import contrastive_search
from .strategies.head_drafts import HeadDrafts
from .strategies.key_drafts import KeyDrafts
from .strategies.prompt import read_prompt
from .strategies.sampling import sampling
from .strategies.speculative import (
    MAX_NGRAM,
    MIN_CONFIDENCE,
    NUM_DRAFT_TOKENS,
    Drafter,
    DraftModel,
    PromptLookup,
    RetokenizedDraft,
    speculative_decoding,
)

SOURCES = count()  # of encoder-decoders
# Fields that need more than the scores of the next token.
BEYOND_NEXT = (
    "penalty_alpha", "dola_layers", "prompt_lookup_num_tokens", "use_mtp", "output_attentions", "output_hidden_states"
)  # fmt: skip
LOOKING_AHEAD = ("penalty_alpha", "prompt_lookup_num_tokens", "use_mtp")  # read several tokens in a pass, or some again
NEW_TOKENS = 20  # without max_new_tokens and max_length, as in transformers


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
    """Generate continuations of prompts.

    Args:
        inputs, input_ids: (batch, length), lists of ids, or strings (which need `tokenizer`); for an encoder-decoder
            the source. What a tokenizer gives may come whole, as a mapping. Without a prompt, bos_token_id is one.
        logits_processor: functions (ids (sequences, length), scores (sequences, vocabulary)) -> scores, after the
            processors of the config.
        stopping_criteria: functions (ids, scores) -> whether each sequence ends.
        prefix_allowed_tokens_fn: (number of the prompt, ids (length,)) -> tokens that may follow.
        attention_mask: (batch, length), 0 at padding; guessed from pad_token_id when left out.
        encoder_outputs: an encoder's states instead of a source. decoder_input_ids, decoder_attention_mask: a target's
            beginning; the start token is put before it where no row has it.
        negative_prompt_ids: (batch, length), what `guidance_scale` moves away from; the prompt's last token if none.
        assistant_model: a smaller model that drafts tokens; the text stays the same. With `assistant_tokenizer`, which
            then needs `tokenizer` too, it may have another vocabulary.
        tokenizer: for strings and `stop_strings`.
        streamer: gets `put(ids)` for the prompt and each new token, and `end()`; for one text.
        options: fields of GenerationConfig to change, an encoder-decoder family's own inputs, and token_type_ids
            (batch, length) of prompts whose prefix is read both ways (HRM-Text).

    Returns:
        (batch * num_return_sequences, length): prompt (or start token) and continuation; with
        return_dict_in_generate one of `generation.outputs`, whose `finish_reasons` say why each text ended.

    Raises:
        InvalidInput: a prompt that is empty or leaves no room, or inputs that do not fit each other.
        UnsupportedOption: an option that is not computed here, or has no effect.
    """
    both = model.config.is_encoder_decoder
    typed = bool(getattr(model.backbone, "reads_prefixes", False))
    prompt, mask, options = split_prompt(inputs, input_ids, attention_mask, options, typed)
    types = options.pop("token_type_ids", None)
    options = without_media(options)
    own = {name: options.pop(name) for name in model.architecture.inputs if both and name in options}
    config = GenerationConfig.coerce(generation_config if generation_config is not None else model.generation_config)
    config = config.filled(model.generation_config).changed(**options).computed()
    asked = {
        "assistant_model": assistant_model, "assistant_tokenizer": assistant_tokenizer,
        "negative_prompt_ids": negative_prompt_ids, "negative_prompt_attention_mask": negative_prompt_attention_mask,
        "decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask,
        "encoder_outputs": encoder_outputs,
    }  # fmt: skip
    check(config, tokenizer)
    check_functions("logits_processor", logits_processor)
    check_functions("stopping_criteria", stopping_criteria)
    check_effect(config, {**options, **asked}, both)
    ids: Tensor | None = None
    if prompt is not None or encoder_outputs is None:
        ids, mask = read_inputs(default_prompt(config) if prompt is None else prompt, mask, tokenizer, config)
        mask = infer_mask(ids, mask, config)
    encoder_output: EncoderOutput | None = None
    fields: dict[str, Any] = {}
    if both:
        encoder_output, fields = encode_source(model, config, ids, mask, encoder_outputs, own)
        given, seen = decoder_prompt(config, decoder_input_ids, decoder_attention_mask, len(encoder_output.runs))
    else:
        given, seen = not_none(ids), mask
    prompts = strip_padding(given, seen)
    extras = Extras(
        tuple(logits_processor or ()), tuple(stopping_criteria or ()), prefix_allowed_tokens_fn, tokenizer,
        negative_prompts(negative_prompt_ids, negative_prompt_attention_mask, tokenizer, config, len(prompts)),
        make_assistant(model, assistant_model, assistant_tokenizer, tokenizer, ids, mask),
    )  # fmt: skip
    check_strategies(config, extras)
    limits = [max_length(model, config, len(prompt), given.shape[1]) for prompt in prompts]
    jobs = run(
        model, prompts, config, limits, encoder_output=encoder_output, extras=extras, streamer=streamer,
        types=prompt_types(types, given, seen),
    )  # fmt: skip
    return build_output(jobs, given.to(model.device), config, both, fields)


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    encoder_output: EncoderOutput | None = None,
    extras: Extras | None = None,
    streamer: Any = None,
    together: int = MAX_SEQUENCES,
    numbers: Sequence[int] | None = None,
) -> list[Continuation]:
    """Return the new tokens of each prompt, the end token included, without padding, and why each ended.

    Args:
        prompts: lists of ids; for an encoder-decoder the targets' beginnings. encoder_output: its source.
        streamer: as in `generate`; one prompt only. together: sequences that run at once, at most.
        numbers: added to the seed of each prompt. Default: 0, 1, ...

    Raises:
        UnsupportedOption, InvalidInput: as `generate`.
    """
    config.computed()
    check_strategies(config, extras or Extras())
    limits = [max_length(model, config, len(prompt), len(prompt)) for prompt in prompts]
    jobs = run(
        model,
        prompts,
        config,
        limits,
        encoder_output=encoder_output,
        extras=extras or Extras(),
        streamer=streamer,
        together=together,
        numbers=numbers,
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
    types: Sequence[Sequence[int]] | None = None,
    numbers: Sequence[int] | None = None,
) -> list[GenerationJob]:
    """Run a job for each prompt in one engine. Raises the first error of a request.

    Args:
        types: of prompts' tokens. numbers: added to the seed of each prompt.
    """
    check_run(model, prompts, config, limits, streamer)
    grammar = TextGrammar.from_config(config, extras.tokenizer, model.vocabulary)
    sources = source_tokens(encoder_output, prompts)
    jobs = []
    for number, (prompt, most) in enumerate(zip(prompts, limits, strict=True)):
        own = None if encoder_output is None else encoder_output.select(torch.tensor([number]))
        job = GenerationJob(
            prompt, config, most, number=number, encoder_output=own, source=sources[number], extras=extras,
            grammar=grammar, listener=begin_stream(streamer, prompt), device=model.device,
            tied=model.config.tie_word_embeddings, types=None if types is None else types[number],
            seed_offset=number if numbers is None else numbers[number],
        )  # fmt: skip
        jobs.append(job)
    host = None if extras.assistant is not None else host_of(model)
    errors = run_alone(model, jobs, together) if host is None else host.run_jobs(jobs)
    for error in errors:
        if error is not None:
            raise error
    if streamer is not None:
        end_stream(streamer, jobs[0])
    return jobs


def run_alone(model: Any, jobs: Sequence[GenerationJob], together: int) -> list[BaseException | None]:
    """Run jobs in an engine of their own; return the error of each."""
    engine = Engine(model, max_sequences=together)
    requests = [submit_job(engine, job) for job in jobs]
    engine.run()
    engine.close()
    return [request.error for request in requests]


def check_run(
    model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig, limits: Sequence[int], streamer: Any
) -> None:
    """Raise an error for what a model cannot continue, or a streamer cannot show."""
    check_causal(model)
    check_request(model, prompts, config, limits, model.max_positions)
    if streamer is not None and (len(prompts) > 1 or (config.num_return_sequences or 1) > 1):
        raise InvalidInput("A streamer shows one text; this batch has several.")
    if streamer is not None and (config.num_beams or 1) > 1:
        raise InvalidInput("A streamer shows a text as it grows; beam search knows it at the end only.")


class StreamerListener:
    """Gives a streamer the prompt and each new token of the one text."""

    def __init__(self, streamer: Any, prompt: Sequence[int]) -> None:
        self.streamer = streamer
        streamer.put(torch.tensor([prompt]))

    def read_prompt(self, cached: int, logprobs: list[TokenLogprobs] | None) -> None: ...

    def add_token(self, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        self.streamer.put(torch.tensor([token]))


def check_request(
    model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig, limits: Sequence[int], longest: int | None
) -> None:
    """Raise an error for prompts that a causal model cannot continue. `longest`: positions that it has learned."""
    check_forward(model)
    check_masked(model, **{name: getattr(config, name) for name in BEYOND_NEXT})
    check_one_by_one(model, **{name: getattr(config, name) for name in LOOKING_AHEAD})
    if config.use_mtp:
        own_heads(model)  # here, since a request that is refused must not end others
    check_prompts(prompts, limits, longest)
    for prompt in prompts:
        refuse_placeholders(model.config, prompt)
    check_ids(prompts, model.vocabulary)
    check_tokens(config, model.vocabulary, [len(prompt) for prompt in prompts], limits)


def begin_stream(streamer: Any, prompt: Sequence[int]) -> StreamerListener | None:
    """Give a streamer the prompt; return what gives it each new token. None without a streamer."""
    return None if streamer is None else StreamerListener(streamer, prompt)


def end_stream(streamer: Any, job: GenerationJob) -> None:
    """End a stream; a streamer of this library knows why the text ended before its reader does."""
    if hasattr(streamer, "finish_reason"):
        streamer.finish_reason = job.results[0].finish_reason
    streamer.end()


def submit_job(engine: Engine, job: GenerationJob, cache_salt: bytes = b"", adapter: str | None = None) -> Request:
    """Queue a job with the strategy that its config asks for. Raises MemoryFull as `Engine.submit`."""
    config, assistant = job.config, job.extras.assistant
    width = max(config.num_beams or 1, config.num_return_sequences or 1)
    start: Callable[[Request], Strategy] = lambda request: sampling(request, job)  # noqa: E731
    if job.limit <= len(job.prompt):
        start = lambda request: read_prompt(request, job)  # noqa: E731
    elif (config.num_beams or 1) > 1:
        start = lambda request: beam_search(request, job)  # noqa: E731
    elif job.reads_states:
        heads = heads_of(job, engine)
        start = lambda request: speculative_decoding(request, job, head_drafts(request, job, heads))  # noqa: E731
    elif assistant is not None:
        start = lambda request: speculative_decoding(request, job, draft_model(request, job, assistant))  # noqa: E731
    elif config.prompt_lookup_num_tokens:
        lookup = PromptLookup(config.prompt_lookup_num_tokens, config.max_matching_ngram_size or MAX_NGRAM)
        start = lambda request: speculative_decoding(request, job, lookup)  # noqa: E731
    elif config.penalty_alpha and config.breadth > 1:
        start, width = lambda request: contrastive_search(request, job), config.breadth
    guessed = config.use_mtp or assistant is not None or config.prompt_lookup_num_tokens
    width *= 2 if guessed and engine.store.slots else 1  # a recurrent state is copied before each draft
    width *= 2 if config.guidance_scale not in (None, 1.0) else 1
    # keys and values depend on the source too, which no other job has
    # Types change what a prompt's first tokens see later in it.
    salt = cache_salt if job.encoder_output is None and job.types is None else b"source %d" % next(SOURCES)
    drafts = [head for head in heads_of(job, engine) if not isinstance(head, GemmaAssistant)]  # it caches nothing
    return engine.submit(
        start, max_tokens=job.limit, max_sequences=width, cache_salt=salt, adapter=adapter, drafts=drafts
    )


def heads_of(job: GenerationJob, engine: Engine) -> Sequence[DraftHead]:
    """Return the heads that draft for a job: the model's own, or that of another checkpoint."""
    assistant = job.extras.assistant
    if job.config.use_mtp:
        return own_heads(engine.model_runners[0].model)
    return [assistant.model] if assistant is not None and isinstance(assistant.model, DraftHead) else []


def head_drafts(request: Request, job: GenerationJob, heads: Sequence[DraftHead]) -> Drafter:
    """Return the drafter of heads that read the model's states."""
    count, confidence = job.config.num_assistant_tokens, job.config.assistant_confidence_threshold or 0.0
    if isinstance(heads[0], GemmaAssistant):
        return KeyDrafts(job, heads[0], count, confidence)
    return HeadDrafts(request, job, heads, count, confidence)


def draft_model(request: Request, job: GenerationJob, assistant: Assistant) -> Drafter:
    """Return the drafter of an assistant model."""
    config, confidence = job.config, job.config.assistant_confidence_threshold
    encoder_output = None if assistant.encode is None else assistant.encode(job.number)
    draft = DraftModel(
        request, job, assistant.model, encoder_output=encoder_output,
        count=config.num_assistant_tokens or NUM_DRAFT_TOKENS,
        schedule=config.num_assistant_tokens_schedule or "constant",
        min_confidence=MIN_CONFIDENCE if confidence is None else confidence, greedy=assistant.tokenizer is not None,
    )  # fmt: skip
    if assistant.tokenizer is None:
        return draft
    return RetokenizedDraft(draft, job.extras.tokenizer, assistant.tokenizer)


def build_output(
    jobs: list[GenerationJob], given: Tensor, config: GenerationConfig, both: bool, fields: dict[str, Any]
) -> Tensor | Output:
    """Return prompts and continuations, padded, as transformers returns them. `fields`: of the encoder's output."""
    repeats = config.num_return_sequences or 1
    new = pad_right([result for job in jobs for result in job.results], config.padding).to(given.device)
    sequences = torch.cat([given.repeat_interleave(repeats, 0), new], 1)
    if not config.return_dict_in_generate:
        return sequences
    output: Any
    if (config.num_beams or 1) == 1:
        kind = GenerateEncoderDecoderOutput if both else GenerateDecoderOnlyOutput
        output = kind(sequences, **step_fields(jobs, repeats, both), **fields)
    else:
        beams = GenerateBeamEncoderDecoderOutput if both else GenerateBeamDecoderOnlyOutput
        output = beams(sequences, **beam_fields(jobs), **step_fields(jobs, config.num_beams or 1, both), **fields)
    output.finish_reasons = [result.finish_reason for job in jobs for result in job.results]
    return output


def make_assistant(
    model: Any, assistant: Any, its_tokenizer: Any, tokenizer: Any, ids: Tensor | None, mask: Tensor | None
) -> Assistant | None:
    """Return the assistant of a model. Raises InvalidInput where their vocabularies or architectures do not match."""
    if assistant is None:
        return None
    if its_tokenizer is not None and tokenizer is None:
        raise InvalidInput("assistant_tokenizer needs the model's own tokenizer too (tokenizer=...).")
    check_masked(model, assistant_model=True)
    check_one_by_one(model, assistant_model=True)
    if isinstance(assistant, DraftHead):
        if its_tokenizer is not None or model.config.is_encoder_decoder:
            raise InvalidInput("A draft head helps the decoder that it was trained for, and has its tokenizer.")
        return Assistant(assistant.bind(model))
    if not hasattr(assistant, "vocabulary"):
        raise InvalidInput(f"assistant_model is no model that writes but {type(assistant).__name__}.")
    check_masked(assistant, assistant_model=True)
    check_one_by_one(assistant, assistant_model=True)
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
    encoder_output, _ = encode_source(assistant, GenerationConfig(), ids, mask)
    return Assistant(assistant, None, lambda number: encoder_output.select(torch.tensor([number])))


def max_length(model: Any, config: GenerationConfig, prompt: int, width: int) -> int:
    """Return the most tokens of a sequence with its prompt. `max_length` counts the padded prompt of `width` tokens."""
    if config.max_new_tokens is not None:
        return prompt + config.max_new_tokens
    if config.max_length is not None:
        return prompt + config.max_length - width
    positions = getattr(model.config, "max_position_embeddings", None) or 0
    return prompt + (min(NEW_TOKENS, positions - width) if positions > 0 else NEW_TOKENS)
