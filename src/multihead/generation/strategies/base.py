"""One prompt that is being continued: its settings, its rules, when it ends, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ...errors import NoContinuation, ScoresNotFinite
from ...nn.forward_context import EncoderOutput, OutputCapture
from ...runtime.runner import DecoderModel
from ...runtime.step_output import NO_TOKEN, NOT_FINITE, NOT_FINITE_ERROR, argmax_tokens
from ..config import GenerationConfig
from ..engine.sequence import ForwardRequest, ForwardResult, GenerationSequence, Request
from ..logits.dola import contrasted, early_layers
from ..logits.grammar import Structure
from ..logits.processors import Allowed, Rule, bans_alone, first_rules, last_rules
from ..logits.top_candidates import Candidates, drawn, on_cpu

T = TypeVar("T")
AHEAD = 7  # tokens that are read after the next one, at most
Stop = Callable[[Tensor, Tensor], Any]  # ids (branches, length), scores -> whether each ends


class Decodes(Protocol):
    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str: ...


@dataclass(frozen=True)
class Assistant:
    """A draft model, its tokenizer where that is another, and the source that it reads for each prompt."""

    model: DecoderModel
    tokenizer: Any = None
    encode: Callable[[int], EncoderOutput] | None = None


@dataclass(frozen=True)
class Extras:
    """What a caller adds to a config: code, not numbers.

    Args:
        processors: (ids (branches, length), scores) -> scores. stops: (ids, scores) -> whether each branch ends.
        allowed: (number of the prompt, ids (length,)) -> tokens that may follow, a tensor too.
        tokenizer: for stop strings. negative: tokens of each prompt's opposite, for guidance.
        assistant: a draft model.
    """

    processors: Sequence[Callable[[Tensor, Tensor], Tensor]] = ()
    stops: Sequence[Stop] = ()
    allowed: Callable[[int, Tensor], Iterable[int]] | None = None
    tokenizer: Decodes | None = None
    negative: Sequence[Sequence[int]] | None = None
    assistant: Assistant | None = None


@dataclass
class Chosen:
    """A token a branch; scores (branches, vocabulary) that it was chosen by and what these were before the rules.

    Neither is there where the likeliest tokens alone were asked for, which is where nobody wants to see them.
    """

    tokens: list[int]
    scores: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Hypothesis:
    """A continuation that has ended.

    Args:
        tokens: new ones. beams: which beam each was chosen in. score: log-probability over length ** length_penalty.
    """

    tokens: tuple[int, ...]
    beams: tuple[int, ...]
    score: float


@dataclass
class Shown:
    """What a step shows: a row for each branch of the job, None for those that have ended."""

    numbers: tuple[int, ...]
    scores: Tensor
    logits: Tensor
    records: list[OutputCapture] = field(default_factory=list)


class Job:
    """One prompt and its continuations.

    Args:
        number: of the prompt. limit: most tokens in all. source: tokens that the text is made of.
        structure: the text's form. listener: called with every new token of the first continuation.
        tied: whether word scores use the word embeddings themselves.
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
        structure: Structure | None = None,
        listener: Callable[[int], None] | None = None,
        device: torch.device | None = None,
        tied: bool = False,
    ) -> None:
        self.prompt, self.config, self.limit, self.number = list(prompt), config, limit, number
        self.encoder_output, self.extras, self.listener = encoder_output, extras, listener
        allowed = extras.allowed
        follow: Allowed | None = None if allowed is None else lambda ids: allowed(number, ids)
        first = len(prompt) == 1 and config.forced_bos_token_id is not None  # comes before the text
        form = None if structure is None else structure.rule(len(prompt) + first)
        self.first: list[Rule] = first_rules(
            config, len(prompt), limit, source, allowed=follow, form=form, own=extras.processors
        )
        self.rules = [*self.first, *last_rules(config)]
        alone = not (extras.processors or extras.stops or allowed)  # code of a caller's must see all scores, once
        self.candidates = Candidates.of(config) if alone else None
        self.generator: torch.Generator | None = None
        self.device = device or torch.device("cpu")
        if config.seed is not None:
            self.generator = torch.Generator().manual_seed(config.seed + number)  # on any device the same numbers
        self.tied = tied
        self.shows = bool(
            config.output_scores or config.output_logits or config.output_attentions or config.output_hidden_states
        )  # whether somebody wants to see the steps
        self.plain = config.dola_layers is None and config.guidance_scale in (None, 1.0)
        self.began = time.monotonic()
        self.reads: list[ForwardRequest] = []  # what was asked for last
        self.results: list[list[int]] = []  # new tokens of each continuation
        self.finished: list[Hypothesis] = []  # of beam search
        self.steps: list[Shown] = []

    def begin(self, request: Request) -> GenerationSequence:
        """The branch that reads the prompt, and its twin that does not know it, where guidance asks for one."""
        branch = request.open_sequence(self.prompt, self.encoder_output)
        if self.config.guidance_scale not in (None, 1.0):
            negative = self.extras.negative
            branch.negative = request.open_sequence(
                self.prompt[-1:] if negative is None else negative[self.number], self.encoder_output
            )
        return branch

    def wishes(self, branches: Sequence[GenerationSequence], wanted: int = 1) -> list[ForwardRequest]:
        """What to read for the scores that follow each of the last `wanted` tokens of some branches."""
        config = self.config
        shown = config.output_hidden_states or config.output_attentions
        deep = config.output_hidden_states or config.dola_layers is not None
        both = [*branches, *(branch.negative for branch in branches if branch.negative is not None)]
        self.reads = []
        for branch in both:
            hidden: list[Tensor] | None = [] if deep else None
            seen: tuple[Any, Any] = ([], []) if config.output_attentions else (None, None)
            record = OutputCapture(hidden, *seen) if deep or shown else None
            states = branch.num_unread if shown else 0  # who wants to see a pass wants all of it
            self.reads.append(ForwardRequest(branch, wanted, states, record))
        return self.reads

    def look_ahead(self, branches: Sequence[GenerationSequence], read: ForwardRequest) -> None:
        """Lets tokens be read after the next one, where they are the likeliest whatever comes."""
        runner, size = branches[0].runner, len(branches[0].tokens)
        if runner.max_steps == 1 or len(branches) > 1 or not self.plain or self.config.stops or self.config.max_time:
            return
        longest = runner.max_length
        room = AHEAD if longest is None else min(AHEAD, longest - size - 1)
        read.max_lookahead = next((n for n in range(-1, room) if self.bans(size + 1 + n) != []), room)
        read.lookahead, read.stop_tokens = min(read.max_lookahead, self.limit - size - 1), self.config.ends

    def logits(self, readings: Sequence[ForwardResult]) -> Tensor:
        """Scores (rows, vocabulary) of what `wishes` asked for, against early layers' and twins' where so set."""
        scores = joined([reading.logits for reading in readings])
        if self.config.dola_layers is not None:
            scores = self._against_early_layers(scores)
        scale = self.config.guidance_scale
        if scale in (None, 1.0):
            return scores
        own, other = scores.log_softmax(-1).chunk(2)
        return other + scale * (own - other)

    def _against_early_layers(self, scores: Tensor) -> Tensor:
        model = self.reads[0].sequence.runner.model
        hidden = [read.record.hidden for read in self.reads if read.record is not None]
        wanted = self.reads[0].num_logits
        layers = [torch.cat([states[-wanted:] for states in each]) for each in zip(*map(some, hidden), strict=True)]
        chosen = early_layers(self.config.dola_layers, len(layers) - 1, self.tied)
        with torch.inference_mode():
            return contrasted(scores, [model.score(layers[i]).float() for i in chosen])

    def ruled(self, histories: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
        for rule in self.rules:
            scores = rule(histories, scores)
        if self.extras.processors:  # which may say by infinity that a token must come
            scores = scores.clamp(max=torch.finfo(scores.dtype).max)
        return scores

    def bans(self, length: int) -> list[int] | None:
        """Tokens that may not follow so many, where all that is wanted are the likeliest others; else None."""
        if self.config.do_sample or self.extras.stops or self.shows:
            return None
        return bans_alone(self.rules, length)

    def next(self, branches: Sequence[GenerationSequence], readings: Sequence[ForwardResult]) -> list[Chosen]:
        """The next token of each branch, from what `wishes` asked for; the first reading may be for all branches.

        What was read ahead gives several in a row.

        Raises:
            NoContinuation: all tokens are banned. ScoresNotFinite: the model knows no scores.
        """
        bans = self.bans(len(branches[0].tokens))
        if bans is not None and self.plain:
            if self.reads[0].max_lookahead > 0 and len(following := readings[0].argmax_steps) > 1:
                return [Chosen(self._checked([token])) for token in following]
            found = [token for reading in readings for token in reading.argmax(bans)]
            return [Chosen(self._checked(found * (len(branches) // len(found))))]
        draws = self._drawn(branches, readings)
        if draws is not None:
            return [Chosen(draws)]
        logits = self.logits(readings).expand(len(branches), -1)
        if bans is not None:
            return [Chosen(self._checked(argmax_tokens(logits, bans).tolist()))]
        scores = self.ruled([branch.tokens for branch in branches], logits)
        return [Chosen(self.choose(scores), scores, logits)]

    def _drawn(self, branches: Sequence[GenerationSequence], readings: Sequence[ForwardResult]) -> list[int] | None:
        """A draw for each branch from the likeliest tokens, where no others may come; else None."""
        source = self.candidates
        if source is None or self.shows:
            return None
        banned = bans_alone(self.first, len(branches[0].tokens))
        if banned is not None and self.plain:
            each = [reading.top_candidates(source, banned) for reading in readings]
        else:
            scores, histories = self.logits(readings), [branch.tokens for branch in branches]
            for rule in self.first:
                scores = rule(histories[: len(scores)], scores)
            each = [on_cpu(source.find(scores, ()))]
        found = [one for one in each if one is not None]
        if len(found) < len(each):
            return None
        values, tokens = (joined(part) for part in zip(*found, strict=True))
        if bool((values[:, 0] == -torch.inf).any()):
            self._checked([NO_TOKEN])
        words = readings[0].output.logits.shape[1]
        chances = source.chances(values, words)
        if chances is None:
            return None
        rows = len(branches)
        alike = self.device.type == "cpu"
        return drawn(chances.expand(rows, -1), tokens.expand(rows, -1), words, self.generator, alike)

    def _checked(self, tokens: list[int]) -> list[int]:
        if NOT_FINITE in tokens:
            raise ScoresNotFinite(f"Prompt {self.number}: {NOT_FINITE_ERROR}")
        if NO_TOKEN in tokens:
            raise NoContinuation(f"Prompt {self.number}: no token may come next; the rules together ban every one.")
        return tokens

    def choose(self, scores: Tensor) -> list[int]:
        """The next token of each branch. Raises NoContinuation where all tokens are banned."""
        best = self._checked(argmax_tokens(scores).tolist())
        if not self.config.do_sample:
            return best
        return self.draw(scores.softmax(-1)).flatten().tolist()

    def draw(self, chances: Tensor, count: int = 1) -> Tensor:
        """Places of so many draws from chances (..., vocabulary): (..., count)."""
        chances = chances if self.generator is None else chances.cpu()
        return torch.multinomial(chances, count, generator=self.generator)

    def ended(self, branches: Sequence[Sequence[int]], scores: Tensor | None) -> list[bool]:
        """Whether each of some texts, all equally long, has ended with its last token."""
        late = self.config.max_time is not None and time.monotonic() - self.began > self.config.max_time
        full, ends = len(branches[0]) >= self.limit, self.config.ends
        out = [late or full or tokens[-1] in ends for tokens in branches]
        if self.config.stops:
            out = [end or self._stopped(tokens) for end, tokens in zip(out, branches, strict=True)]
        if self.extras.stops:
            ids = torch.tensor([list(tokens) for tokens in branches], device=self.device)
            for stop in self.extras.stops:
                says = torch.as_tensor(stop(ids, some(scores))).flatten().expand(len(out)).tolist()
                out = [end or said for end, said in zip(out, says, strict=True)]
        return out

    def _stopped(self, tokens: Sequence[int]) -> bool:
        """Whether the last token completes a stop string."""
        decode = self.extras.tokenizer.decode  # type: ignore[union-attr]
        longest = max(map(len, self.config.stops))
        tail = list(tokens[-4 * longest - 8 :])  # a character may take several tokens of bytes
        before, after = decode(tail[:-1]), decode(tail)
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
        known = len(list(alike))  # an unfinished character before may be another one now
        return any(stop in after[max(known - len(stop) + 1, 0) :] for stop in self.config.stops)

    def show(self, numbers: Sequence[int], scores: Tensor, logits: Tensor, reads: Sequence[ForwardRequest]) -> None:
        """Keeps what a step shows, where somebody wants to see it."""
        if self.shows:
            records = [read.record for read in reads if read.record is not None]
            self.steps.append(Shown(tuple(numbers), scores, logits, records))

    def uniform(self) -> float:
        """A number between 0 and 1."""
        return float(torch.rand((), generator=self.generator))

    def say(self, token: int) -> None:
        if self.listener is not None:
            self.listener(token)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows under one another; nothing is moved where they lie so already."""
    first, place = parts[0], parts[0].data_ptr()
    held = first.untyped_storage().data_ptr()
    for part in parts:
        if part.data_ptr() != place or not part.is_contiguous() or part.untyped_storage().data_ptr() != held:
            return torch.cat(list(parts))
        place += part.numel() * part.element_size()
    return first.as_strided((sum(map(len, parts)), first.shape[1]), first.stride()) if len(parts) > 1 else first


def some(value: T | None) -> T:
    assert value is not None
    return value
