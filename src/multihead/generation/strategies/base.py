"""Generation job: one prompt, its logits processors, stopping criteria, token selection and results."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ...errors import NoContinuation, ScoresNotFinite
from ...nn.encoder_output import EncoderOutput
from ...nn.forward_context import OutputCapture
from ...runtime.runner import DecoderModel
from ...runtime.step_output import NO_TOKEN, NOT_FINITE, NOT_FINITE_ERROR, argmax_tokens
from ..config import GenerationConfig
from ..draft_heads import DraftHead
from ..engine.prefix_cache import PrefixCache
from ..engine.sequence import ForwardRequest, ForwardResult, GenerationSequence, Request
from ..logits.dola import contrast_layers, early_layers
from ..logits.grammar import TextGrammar
from ..logits.processors import (
    Allowed,
    LogitsProcessor,
    logits_processors,
    only_banned_tokens,
    sampling_processors,
    tokens_with,
)
from ..logits.top_candidates import Candidates, on_cpu, sample_candidates
from ..logprobs import NO_LOGPROBS, LogprobsOptions, TokenLogprobs, score_prompt, token_logprobs
from ..stopping import LENGTH, STOP, Continuation, Finish, completed_stop

T = TypeVar("T")
MAX_LOOKAHEAD = 7  # tokens after the next one that one call of a runner may compute
StoppingCriterion = Callable[[Tensor, Tensor], Any]  # ids (sequences, length), scores -> whether each sequence ends
TextCriterion = Callable[[str], bool]  # text of the new tokens -> whether the sequence ends


class TextDecoder(Protocol):
    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str: ...


@dataclass(frozen=True)
class Assistant:
    """A draft model. `tokenizer`: its own, if it differs. `encode`: number of a prompt -> the encoded source."""

    model: DecoderModel
    tokenizer: Any = None
    encode: Callable[[int], EncoderOutput] | None = None


@dataclass(frozen=True)
class Extras:
    """Callables and objects of a caller, which a GenerationConfig cannot hold.

    Args:
        processors: (ids (sequences, length), scores) -> scores. stops: (ids, scores) -> whether each sequence ends.
        allowed: (number of the prompt, ids (length,)) -> tokens that may follow, a list or a tensor.
        tokenizer: for stop strings and `text_stop`. negative: tokens of each prompt's negative prompt, for guidance.
        assistant: a draft model.
        text_stop: needs no scores, so that greedy decoding stays fast.
    """

    processors: Sequence[Callable[[Tensor, Tensor], Tensor]] = ()
    stops: Sequence[StoppingCriterion] = ()
    allowed: Callable[[int, Tensor], Iterable[int]] | None = None
    tokenizer: TextDecoder | None = None
    negative: Sequence[Sequence[int]] | None = None
    assistant: Assistant | None = None
    text_stop: TextCriterion | None = None


class TokenListener(Protocol):
    """Hears of a request's progress, in the thread of the engine."""

    def read_prompt(self, cached: int, logprobs: list[TokenLogprobs] | None) -> None:
        """The prompt is read, `cached` tokens of it from the cache. `logprobs`: of all its tokens but the first."""

    def add_token(self, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        """Continuation `index` has a new token."""


@dataclass
class NextTokens:
    """The next token of each sequence.

    Args:
        scores, logits: (sequences, vocabulary), after and before the logits processors; None where a shortcut selected
            the tokens without computing all scores.
    """

    tokens: list[int]
    scores: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Hypothesis:
    """A finished continuation of beam search.

    Args:
        tokens: new tokens. beams: the beam that each token was selected in.
        score: log-probability over length ** length_penalty. finish: why it ended.
    """

    tokens: tuple[int, ...]
    beams: tuple[int, ...]
    score: float
    finish: Finish


@dataclass
class StepRecord:
    """Scores, logits and captures of a decode step: a row for each open sequence, whose `numbers` are kept too."""

    numbers: tuple[int, ...]
    scores: Tensor
    logits: Tensor
    records: list[OutputCapture] = field(default_factory=list)


class GenerationJob:
    """Prompt and its continuations.

    Args:
        number: of the prompt in its batch. limit: most tokens, prompt included.
        source: tokens of the encoder's input, or of the prompt.
        grammar: constrains the text. logprobs: log-probabilities that are told with tokens.
        listener: hears of the prompt and of every new token of all continuations.
        prefixes: caches of earlier texts, for a prompt that begins as they do.
        types: of the prompt's tokens. seed_offset: added to the seed. Default: `number`.
        tied: whether the head uses the token embeddings.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        config: GenerationConfig,
        limit: int,
        *,
        number: int = 0,
        encoder_output: EncoderOutput | None = None,
        source: Sequence[int] = (),
        extras: Extras = Extras(),
        grammar: TextGrammar | None = None,
        listener: TokenListener | None = None,
        logprobs: LogprobsOptions = NO_LOGPROBS,
        prefixes: PrefixCache | None = None,
        device: torch.device | None = None,
        tied: bool = False,
        types: Sequence[int] | None = None,
        seed_offset: int | None = None,
    ) -> None:
        self.types = types
        self.prompt, self.config, self.limit, self.number = list(prompt), config, limit, number
        self.encoder_output, self.extras = encoder_output, extras
        self.reads_states = bool(config.use_mtp) or isinstance(extras.assistant and extras.assistant.model, DraftHead)
        self.listener, self.logprobs = listener, logprobs
        self.prompt_logprobs: list[TokenLogprobs] | None = None
        self.is_prompt_told = False
        # contrastive search and draft heads read the states of all tokens, so that all must be read
        self.prefixes = None if config.penalty_alpha or self.reads_states else prefixes
        self.request: Request | None = None
        self._num_kept = 0  # prompt tokens whose cache a kept text had
        allowed = extras.allowed
        follow: Allowed | None = None if allowed is None else lambda ids: allowed(number, ids)
        first = (
            len(prompt) == 1 and config.forced_bos_token_id is not None
        )  # the forced token comes before the constrained text
        breakers = config.dry_sequence_breakers if config.dry_multiplier else None
        text_form = None if grammar is None else grammar.processor(len(prompt) + first)
        self.fixed_processors: list[LogitsProcessor] = logits_processors(
            config,
            len(prompt),
            limit,
            source,
            allowed=follow,
            grammar=text_form,
            own=extras.processors,
            breakers=tokens_with(extras.tokenizer, breakers) if breakers else frozenset(),
        )
        self.processors = [*self.fixed_processors, *sampling_processors(config)]
        # A caller's code must see all scores, once a step.
        alone = not (extras.processors or extras.stops or allowed)
        self.candidates = Candidates.of(config) if alone else None
        self.generator: torch.Generator | None = None
        self.device = device or torch.device("cpu")
        if config.seed is not None:
            self.generator = torch.Generator().manual_seed(
                config.seed + (number if seed_offset is None else seed_offset)
            )  # a CPU generator: the same numbers on any device
        self.tied = tied
        self.records_steps = bool(
            config.output_scores or config.output_logits or config.output_attentions or config.output_hidden_states
        )
        self.uses_raw_logits = config.dola_layers is None and config.guidance_scale in (None, 1.0)
        self.start_time = time.monotonic()
        self.forwards: list[ForwardRequest] = []  # of the current step
        self.results: list[Continuation] = []
        self.finished: list[Hypothesis] = []  # of beam search
        self.steps: list[StepRecord] = []

    def begin(self, request: Request) -> GenerationSequence:
        """Open the sequence of the prompt, and that of the negative prompt for classifier-free guidance."""
        self.request, sequence = request, request.open_sequence(self.prompt, self.encoder_output)
        sequence.types = self.types
        if self.prefixes is not None and self.logprobs.prompt is None:
            self._num_kept = sequence.reuse_kept(self.prefixes)
        if self.config.guidance_scale not in (None, 1.0):
            negative = self.extras.negative
            sequence.negative = request.open_sequence(
                self.prompt[-1:] if negative is None else negative[self.number], self.encoder_output
            )
        return sequence

    @property
    def num_cached(self) -> int:
        """Prompt tokens whose cache an earlier text has left."""
        shared = self.request.cached_tokens if self.request is not None else None
        return max(self._num_kept, shared or 0)

    def keep_prompt(self, sequence: GenerationSequence) -> None:
        """Keep the recurrent state after the prompt too: a template may write the answer otherwise in the next one."""
        if self.prefixes is not None and self.prefixes.store.slots:
            self.prefixes.keep(sequence.tokens, sequence.cached.fork())

    def forward_requests(self, sequences: Sequence[GenerationSequence], wanted: int = 1) -> list[ForwardRequest]:
        """Return requests for the logits after the last `wanted` tokens of each sequence, negative ones last."""
        config = self.config
        shown = config.output_hidden_states or config.output_attentions
        deep = config.output_hidden_states or config.dola_layers is not None
        both = [*sequences, *(sequence.negative for sequence in sequences if sequence.negative is not None)]
        self.forwards = []
        for sequence in both:
            hidden: list[Tensor] | None = [] if deep else None
            seen: tuple[Any, Any] = ([], []) if config.output_attentions else (None, None)
            record = OutputCapture(hidden, *seen) if deep or shown else None
            # a pass in parts would leave the first tokens out of the output
            states = sequence.num_unread if shown else 0  # the output shows all tokens of a pass
            self.forwards.append(ForwardRequest(sequence, wanted, states, record))
        return self.forwards

    def add_lookahead(self, sequences: Sequence[GenerationSequence], forward: ForwardRequest) -> None:
        """Allow a runner several greedy steps at once, where no processor but fixed bans could change their tokens."""
        runner, size = sequences[0].runner, len(sequences[0].tokens)
        by_text = self.config.stops or self.extras.text_stop is not None
        alone = len(sequences) == 1 and self.uses_raw_logits and not by_text and not self.config.max_time
        # a runner gives the logits of the last of several steps alone
        if not alone or self.logprobs.new is not None or runner.max_steps == 1:
            return
        longest = runner.max_length
        room = MAX_LOOKAHEAD if longest is None else min(MAX_LOOKAHEAD, longest - size - 1)
        forward.max_lookahead = next((n for n in range(-1, room) if self.banned_tokens(size + 1 + n) != []), room)
        forward.lookahead, forward.stop_tokens = min(forward.max_lookahead, self.limit - size - 1), self.config.ends

    def logits(self, results: Sequence[ForwardResult]) -> Tensor:
        """Return logits (rows, vocabulary) of the requests, after DoLa and classifier-free guidance if on."""
        scores = concat_rows([result.logits for result in results])  # (rows, vocabulary)
        if self.config.dola_layers is not None:
            scores = self._against_early_layers(scores)
        scale = self.config.guidance_scale
        if scale in (None, 1.0):
            return scores
        # (sequences, vocabulary) each: negative sequences are the second half
        own, other = scores.log_softmax(-1).chunk(2)
        return other + scale * (own - other)

    def _against_early_layers(self, scores: Tensor) -> Tensor:
        model = self.forwards[0].sequence.runner.model
        hidden = [forward.record.hidden for forward in self.forwards if forward.record is not None]
        wanted = self.forwards[0].num_logits
        # (rows, width) of each layer, the embeddings first
        layers = [torch.cat([states[-wanted:] for states in each]) for each in zip(*map(not_none, hidden), strict=True)]
        chosen = early_layers(self.config.dola_layers, len(layers) - 1, self.tied)
        with torch.inference_mode():
            return contrast_layers(scores, [model.score_states(layers[i]).float() for i in chosen])

    def process_logits(self, histories: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
        """Return scores (sequences, vocabulary) after all logits processors. `histories`: tokens of each sequence."""
        for processor in self.processors:
            scores = processor(histories, scores)
        if self.extras.processors:  # a caller may force a token by plus infinity
            scores = scores.clamp(max=torch.finfo(scores.dtype).max)
        return scores

    def banned_tokens(self, length: int) -> list[int] | None:
        """Return the tokens banned after `length` tokens; None where bans and argmax do not decide the next token."""
        if self.config.do_sample or self.extras.stops or self.records_steps:
            return None
        return only_banned_tokens(self.processors, length)

    def next_tokens(
        self, sequences: Sequence[GenerationSequence], results: Sequence[ForwardResult]
    ) -> list[NextTokens]:
        """Return the next tokens of all sequences, for one step or for each step of a lookahead.

        Args:
            results: of the requests; in the first step that of the prompt alone serves all sequences.

        Raises:
            NoContinuation: all tokens are banned. ScoresNotFinite: logits are NaN or infinite.
        """
        banned_tokens = self.banned_tokens(len(sequences[0].tokens))
        if banned_tokens is not None and self.uses_raw_logits:
            if self.forwards[0].max_lookahead > 0 and len(following := results[0].argmax_steps) > 1:
                return [NextTokens(self._check_tokens([token])) for token in following]
            # one row of the prompt serves all sequences in the first step
            found = [token for result in results for token in result.argmax(banned_tokens)]
            return [NextTokens(self._check_tokens(found * (len(sequences) // len(found))))]
        draws = self._sample_candidates(sequences, results)
        if draws is not None:
            return [NextTokens(draws)]
        logits = self.logits(results).expand(len(sequences), -1)  # (sequences, vocabulary)
        if banned_tokens is not None:
            return [NextTokens(self._check_tokens(argmax_tokens(logits, banned_tokens).tolist()))]
        scores = self.process_logits([sequence.tokens for sequence in sequences], logits)  # (sequences, vocabulary)
        return [NextTokens(self.select_tokens(scores), scores, logits)]

    def _sample_candidates(
        self, sequences: Sequence[GenerationSequence], results: Sequence[ForwardResult]
    ) -> list[int] | None:
        """Sample from the most likely tokens alone; None where other tokens may be sampled too."""
        source = self.candidates
        if source is None or self.records_steps:
            return None
        banned = only_banned_tokens(self.fixed_processors, len(sequences[0].tokens))
        if banned is not None and self.uses_raw_logits:
            each = [result.top_candidates(source, banned) for result in results]
        else:
            scores, histories = self.logits(results), [sequence.tokens for sequence in sequences]
            for processor in self.fixed_processors:
                scores = processor(histories[: len(scores)], scores)
            each = [on_cpu(source.find(scores, ()))]
        found = [one for one in each if one is not None]
        if len(found) < len(each):
            return None
        # (rows, candidates) each; one row in the first step
        values, tokens = (concat_rows(part) for part in zip(*found, strict=True))
        if bool((values[:, 0] == -torch.inf).any()):  # the best candidate is banned, so all tokens are
            self._check_tokens([NO_TOKEN])
        words = results[0].output.logits.shape[1]
        probabilities = source.probabilities(values, words)  # (rows, candidates)
        if probabilities is None:
            return None
        rows = len(sequences)
        alike = self.device.type == "cpu"  # then the draws are those of torch.multinomial over all tokens
        return sample_candidates(probabilities.expand(rows, -1), tokens.expand(rows, -1), words, self.generator, alike)

    def _check_tokens(self, tokens: list[int]) -> list[int]:
        """Return tokens. Raises ScoresNotFinite, NoContinuation for the marks of `runtime.step_output`."""
        if NOT_FINITE in tokens:
            raise ScoresNotFinite(f"Prompt {self.number}: {NOT_FINITE_ERROR}")
        if NO_TOKEN in tokens:
            raise NoContinuation(f"Prompt {self.number}: no token may come next; the rules together ban every one.")
        return tokens

    def select_tokens(self, scores: Tensor) -> list[int]:
        """Return the argmax or a sampled token of each row of scores. Raises NoContinuation, ScoresNotFinite."""
        # before the draw, since torch.multinomial would raise an error of its own
        best = self._check_tokens(argmax_tokens(scores).tolist())
        if not self.config.do_sample:
            return best
        return self.sample(scores.softmax(-1)).flatten().tolist()

    def sample(self, probabilities: Tensor, count: int = 1) -> Tensor:
        """Sample `count` indices without replacement from probabilities (..., vocabulary): (..., count)."""
        probabilities = probabilities if self.generator is None else probabilities.cpu()
        return torch.multinomial(probabilities, count, generator=self.generator)  # (..., count)

    def finishes(self, sequences: Sequence[Sequence[int]], scores: Tensor | None) -> list[Finish | None]:
        """Return why each of some equally long token lists ends, None for those that go on.

        Args:
            scores: of their last tokens, (sequences, vocabulary).
        """
        config, full = self.config, len(sequences[0]) >= self.limit
        late = config.max_time is not None and time.monotonic() - self.start_time > config.max_time
        # an end token that the limit has forced says nothing about the text
        ends = frozenset[int]() if full and config.forced_eos_token_id is not None else config.ends
        out = [STOP if tokens[-1] in ends else LENGTH if late or full else None for tokens in sequences]
        if config.stops:
            out = [self._stop_string(tokens) or end for end, tokens in zip(out, sequences, strict=True)]
        if self.extras.text_stop is not None:
            out = [STOP if self._text_ends(tokens) else end for end, tokens in zip(out, sequences, strict=True)]
        if self.extras.stops:
            ids = torch.tensor([list(tokens) for tokens in sequences], device=self.device)  # (sequences, length)
            for stop in self.extras.stops:
                # one answer may stand for all sequences
                ends_now = torch.as_tensor(stop(ids, not_none(scores))).flatten().expand(len(out)).tolist()
                out = [STOP if now and end in (None, LENGTH) else end for end, now in zip(out, ends_now, strict=True)]
        return out

    def _text_ends(self, tokens: Sequence[int]) -> bool:
        """Return whether the caller's criterion ends the text of the new tokens."""
        stop, decode = not_none(self.extras.text_stop), not_none(self.extras.tokenizer).decode
        return stop(decode(list(tokens[len(self.prompt) :]), skip_special_tokens=True))

    def _stop_string(self, tokens: Sequence[int]) -> Finish | None:
        """Return the end by the stop string that the last token completes, if it completes one."""
        decode = self.extras.tokenizer.decode  # type: ignore[union-attr]
        longest = max(map(len, self.config.stops))
        tail = list(tokens[-4 * longest - 8 :])  # a character may take several tokens of bytes
        found = completed_stop(decode(tail[:-1]), decode(tail), self.config.stops)
        return None if found is None else Finish("stop", found)

    def record_step(
        self, numbers: Sequence[int], scores: Tensor, logits: Tensor, forwards: Sequence[ForwardRequest]
    ) -> None:
        """Keep a step's scores, logits and captures, if the output asks for any of them."""
        if self.records_steps:
            records = [forward.record for forward in forwards if forward.record is not None]
            self.steps.append(StepRecord(tuple(numbers), scores, logits, records))

    def uniform(self) -> float:
        """Sample a number between 0 and 1."""
        return float(torch.rand((), generator=self.generator))

    def score_prompt(self, sequence: GenerationSequence) -> Generator[Any, Any, None]:
        """Compute the log-probabilities of the prompt where they are asked for; its last token stays unread."""
        if self.logprobs.prompt is None:
            return
        self.prompt_logprobs = yield from score_prompt(sequence, self.logprobs.prompt)
        if self.records_steps or self.config.penalty_alpha:  # these need the states of all tokens, of one pass
            sequence.restart()

    def emit(self, number: int, token: int, result: ForwardResult | None = None, row: int = 0) -> None:
        """Tell the listener of a new token of a continuation. `result`, `row`: whose logits it was selected from."""
        if self.listener is None:
            return
        asked, told = self.logprobs.new, None
        if asked is not None and result is not None:
            told = token_logprobs(result, token, asked, row)
        if not self.is_prompt_told:
            self.tell_prompt()
        self.listener.add_token(number, token, told)

    def tell_prompt(self) -> None:
        """Tell the listener that the prompt is read."""
        self.is_prompt_told = True
        if self.listener is not None:
            self.listener.read_prompt(self.num_cached, self.prompt_logprobs)


def concat_rows(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors (rows, width) by rows; a view where they already are neighbours in memory."""
    first, place = parts[0], parts[0].data_ptr()
    held = first.untyped_storage().data_ptr()
    for part in parts:
        # adjacent addresses are not enough: a view cannot reach into another storage
        if part.data_ptr() != place or not part.is_contiguous() or part.untyped_storage().data_ptr() != held:
            return torch.cat(list(parts))
        place += part.numel() * part.element_size()
    return first.as_strided((sum(map(len, parts)), first.shape[1]), first.stride()) if len(parts) > 1 else first


def not_none(value: T | None) -> T:
    assert value is not None
    return value
