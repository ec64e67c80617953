"""`model.generate`: texts, token lists or padded tensors in, padded tensors out, over the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from ..nn.call import Encoded
from ..nn.ragged import Layout
from ..outputs import Output
from .beams import beamed
from .config import GenerationConfig
from .contrastive import contrasted
from .engine import Engine, Request, Strategy
from .job import Assistant, Extras, Job
from .outputs import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
    found,
    padded,
    shown,
)
from .sampling import sampled
from .speculation import GUESSES, RUN, SURE, Draft, Guesser, Lookup, Translated, speculated

DEFAULT_LENGTH = 20  # tokens in all, as the reference does when nothing is said


def generate(
    model: Any,
    inputs: Any = None,
    generation_config: GenerationConfig | None = None,
    logits_processor: Sequence[Callable[[Tensor, Tensor], Tensor]] | None = None,
    stopping_criteria: Sequence[Callable[[Tensor, Tensor], Any]] | None = None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
    *,
    input_ids: Any = None,
    attention_mask: Tensor | None = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Tensor | None = None,
    negative_prompt_ids: Tensor | None = None,
    negative_prompt_attention_mask: Tensor | None = None,
    assistant_model: Any = None,
    tokenizer: Any = None,
    assistant_tokenizer: Any = None,
    streamer: Any = None,
    **options: Any,
) -> Tensor | Output:
    """Continues texts.

    Args:
        inputs, input_ids: (batch, length), lists of ids, or strings (which need `tokenizer`); for an encoder-decoder
            the source.
        logits_processor: functions (ids (branches, length), scores (branches, vocabulary)) -> scores, after the rules.
        stopping_criteria: functions (ids, scores) -> whether each branch ends.
        prefix_allowed_tokens_fn: (number of the prompt, ids (length,)) -> tokens that may follow.
        attention_mask: (batch, length), 0 at padding; guessed from pad_token_id when left out.
        encoder_outputs: an encoder's states instead of a source. decoder_input_ids: a target's beginning.
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
        InvalidInput: a prompt that is empty or leaves no room. UnsupportedOption: an option not computed here.
    """
    both = model.config.is_encoder_decoder
    own = {name: options.pop(name) for name in model.architecture.inputs if both and name in options}
    config = (generation_config or model.generation_config).changed(**options)
    config = with_ids(config, model.generation_config).computed()
    check(config, options, tokenizer)
    ids, mask = read_inputs(inputs if inputs is not None else input_ids, attention_mask, tokenizer, config)
    if ids is None and encoder_outputs is None:
        raise InvalidInput("generate needs input_ids.")
    negative = None
    if negative_prompt_ids is not None:
        negative = unpadded(negative_prompt_ids, mask_of(negative_prompt_ids, negative_prompt_attention_mask, config))
    extras = Extras(
        tuple(logits_processor or ()), tuple(stopping_criteria or ()), prefix_allowed_tokens_fn, tokenizer, negative,
        assistant_of(model, assistant_model, assistant_tokenizer, tokenizer, ids, mask_of(ids, mask, config)),
    )  # fmt: skip
    check_speculation(config, extras)
    encoded: Encoded | None = None
    if both:
        encoded = source(model, ids, mask_of(ids, mask, config), encoder_outputs, own)
        given = decoder_input_ids if decoder_input_ids is not None else start(model, config, len(encoded.runs))
        prompts = unpadded(given, None)
    else:
        assert ids is not None
        given, prompts = ids, unpadded(ids, mask_of(ids, mask, config))
    limits = [limit(config, len(prompt), given.shape[1]) for prompt in prompts]
    if streamer is not None:
        streamer.put(given.cpu())
    jobs = run(model, prompts, config, limits, encoded=encoded, extras=extras, streamer=streamer)
    return laid_out(jobs, given.to(model.device), config, both)


def continued(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    encoded: Encoded | None = None,
    extras: Extras | None = None,
    streamer: Any = None,
) -> list[list[int]]:
    """New tokens of each prompt, the end token included; nothing is padded. Raises UnsupportedOption as `generate`.

    Args:
        prompts: lists of ids; for an encoder-decoder the targets' beginnings. encoded: its source.
        streamer: as in `generate`; one prompt only.
    """
    config.computed()
    limits = [limit(config, len(prompt), len(prompt)) for prompt in prompts]
    if streamer is not None:
        streamer.put(torch.tensor([prompts[0]]))
    jobs = run(model, prompts, config, limits, encoded=encoded, extras=extras or Extras(), streamer=streamer)
    return [result for job in jobs for result in job.results]


def run(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    limits: Sequence[int],
    *,
    encoded: Encoded | None,
    extras: Extras,
    streamer: Any,
) -> list[Job]:
    """Continues prompts together, each one a request. Raises what a request raised."""
    check_prompts(prompts, limits)
    if streamer is not None and (len(prompts) > 1 or (config.num_return_sequences or 1) > 1):
        raise InvalidInput("A streamer shows one text; this batch has several.")
    listener = None if streamer is None else lambda token: streamer.put(torch.tensor([token]))
    sources = sources_of(encoded, prompts)
    engine = Engine(model)
    jobs, requests = [], []
    for number, (prompt, most) in enumerate(zip(prompts, limits, strict=True)):
        own = None if encoded is None else encoded.select(torch.tensor([number]))
        job = Job(
            prompt, config, most, number=number, encoded=own, source=sources[number], extras=extras,
            listener=listener, device=model.device, tied=model.config.tie_word_embeddings,
        )  # fmt: skip
        jobs.append(job)
        requests.append(enter(engine, job))
    engine.run()
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
    elif config.penalty_alpha and (config.top_k or 1) > 1:
        start, width = lambda request: contrasted(request, job), config.top_k or 1
    width *= 2 if config.guidance_scale not in (None, 1.0) else 1
    seed = b"" if job.encoded is None else str(id(job)).encode()  # what a target is depends on its source
    return engine.submit(start, size=job.limit, width=width, seed=seed)


def assisted(request: Request, job: Job, assistant: Assistant) -> Guesser:
    """The guesser that a draft model makes."""
    config, sure = job.config, job.config.assistant_confidence_threshold
    encoded = None if assistant.encode is None else assistant.encode(job.number)
    draft = Draft(
        request, job, assistant.model, encoded=encoded, count=config.num_assistant_tokens or GUESSES,
        schedule=config.num_assistant_tokens_schedule or "constant", sure=SURE if sure is None else sure,
        likeliest=assistant.tokenizer is not None,
    )  # fmt: skip
    if assistant.tokenizer is None:
        return draft
    return Translated(draft, job.extras.tokenizer, assistant.tokenizer)


def laid_out(jobs: list[Job], given: Tensor, config: GenerationConfig, both: bool) -> Tensor | Output:
    """The texts as the reference lays them out."""
    repeats = config.num_return_sequences or 1
    pad = config.pad_token_id if config.pad_token_id is not None else min(config.ends, default=0)
    new = padded([result for job in jobs for result in job.results], pad).to(given.device)
    sequences = torch.cat([given.repeat_interleave(repeats, 0), new], 1)
    if not config.return_dict_in_generate:
        return sequences
    if (config.num_beams or 1) == 1:
        kind = GenerateEncoderDecoderOutput if both else GenerateDecoderOnlyOutput
        return kind(sequences, **shown(jobs, repeats, both))
    beams = GenerateBeamEncoderDecoderOutput if both else GenerateBeamDecoderOnlyOutput
    return beams(sequences, **found(jobs), **shown(jobs, config.num_beams or 1, both))


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
    alone = {"early_stopping": None, "length_penalty": 1.0, "diversity_penalty": 0.0}
    for name, usual in alone.items():
        value = getattr(config, name)
        if value not in (None, usual, False) and beams == 1 and name in asked:
            raise UnsupportedOption(f"{name} = {value!r} has no effect without num_beams above 1.")
    if config.stops and tokenizer is None:
        raise InvalidInput("stop_strings are text: pass the model's tokenizer too (tokenizer=...).")


def check_speculation(config: GenerationConfig, extras: Extras) -> None:
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


def assistant_of(
    model: Any, assistant: Any, its_tokenizer: Any, tokenizer: Any, ids: Tensor | None, mask: Tensor | None
) -> Assistant | None:
    """What guesses, checked against the model that it helps. Raises InvalidInput."""
    if assistant is None:
        return None
    if its_tokenizer is not None and tokenizer is None:
        raise InvalidInput("assistant_tokenizer needs the model's own tokenizer too (tokenizer=...).")
    own, other = model.config.vocab_size, assistant.config.vocab_size
    if its_tokenizer is None and own != other:
        raise InvalidInput(
            f"The assistant has {other} tokens and the model {own}; pass tokenizer and assistant_tokenizer if they cut "
            "texts differently."
        )
    if not assistant.config.is_encoder_decoder:
        return Assistant(assistant, its_tokenizer)
    if its_tokenizer is not None or ids is None or not model.config.is_encoder_decoder:
        raise InvalidInput("An encoder-decoder helps only another one that reads the same input_ids.")
    encoded = source(assistant, ids, mask, None)
    return Assistant(assistant, None, lambda number: encoded.select(torch.tensor([number])))


def with_ids(config: GenerationConfig, own: GenerationConfig) -> GenerationConfig:
    """Special ids that a config leaves open, from the model's own."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    return config.changed(**{n: getattr(own, n) for n in names if getattr(config, n) is None})


def limit(config: GenerationConfig, prompt: int, width: int) -> int:
    """Most tokens of a text in all; `max_length` counts the padded prompt, as the reference does."""
    if config.max_new_tokens is not None:
        return prompt + config.max_new_tokens
    return prompt + (config.max_length or DEFAULT_LENGTH) - width


def check_prompts(prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
    """Raises InvalidInput for a prompt without a token, or one that leaves no room for another."""
    for number, (prompt, most) in enumerate(zip(prompts, limits, strict=True)):
        if not prompt:
            raise InvalidInput(f"Prompt {number} has no token; give it at least one, a start token for instance.")
        if len(prompt) >= most:
            raise InvalidInput(
                f"Prompt {number} has {len(prompt)} tokens and at most {most} are allowed in all (max_length). "
                "Shorten it, or set max_new_tokens."
            )


def read_inputs(
    given: Any, mask: Tensor | None, tokenizer: Any, config: GenerationConfig
) -> tuple[Tensor | None, Tensor | None]:
    """Padded ids (batch, length) and their mask, of what a caller may give. Raises InvalidInput."""
    if given is None or isinstance(given, Tensor):
        return given, mask
    if isinstance(given, str) or (given and all(isinstance(text, str) for text in given)):
        if tokenizer is None:
            raise InvalidInput("Strings need the model's tokenizer too (tokenizer=...).")
        given = tokenizer([given] if isinstance(given, str) else list(given))["input_ids"]
    if given and all(isinstance(token, int) for token in given):
        given = [given]
    try:
        texts = [[int(token) for token in text] for text in given]
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"generate takes strings, lists of ids or a tensor, not {type(given).__name__}.") from error
    longest = max(map(len, texts), default=0)
    pad = config.pad_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(text)) + text for text in texts], dtype=torch.long)
    real = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
    return ids, real


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
    own: Mapping[str, Tensor | None] = MappingProxyType({}),
) -> Encoded:
    """The encoded source. `own`: the family's own inputs."""
    with torch.inference_mode():
        if states is not None:
            layout = Layout.of(mask, (states[0].shape[0], states[0].shape[1]))
            return model.encoded(layout.pack(states[0].to(model.device)), layout.runs)
        return model.encode(ids, mask, own=dict(own))


def sources_of(encoded: Encoded | None, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """What each text is made of: its encoded source's tokens, where these are known, or its prompt."""
    if encoded is None or encoded.ids is None:
        return [list(prompt) for prompt in prompts]
    ids, spans = encoded.ids.tolist(), zip(encoded.runs.begins, encoded.runs.lengths, strict=True)
    return [ids[begin : begin + length] for begin, length in spans]
