"""Sequences of a request, and the forward passes that strategies ask for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...errors import InvalidInput
from ...kernels.ragged import BLOCK
from ...nn.encoder_output import EncoderOutput
from ...nn.forward_context import OutputCapture
from ...runtime.runner import DecoderModel, DecodeRunner
from ...runtime.step_output import StepOutput
from ..logits.top_candidates import Candidates, on_cpu
from .prefix_cache import PrefixCache
from .state_buffer import StateBuffer

# A prompt's last pass reads this many tokens or more: products of up to 8 rows add in another order (FEW in
# native/product.h), and the text would depend on what the cache has of its prompt, and on the pace it is read at.
MIN_PREFILL = 9
RESERVED = 1024  # tokens after a prompt that contiguous blocks are reserved for at first


class GenerationSequence:
    """Continuation of a request: its tokens, prompt included, and its part of the KV cache.

    Args:
        runner: computes its forward passes. encoder_output: the source that an encoder-decoder reads.
    """

    def __init__(
        self, request: Request, runner: DecodeRunner, tokens: Sequence[int], encoder_output: EncoderOutput | None
    ) -> None:
        self.request, self.runner, self.tokens, self.encoder_output = request, runner, list(tokens), encoder_output
        self.cached = runner.store.begin(request.cache_salt)
        self.negative: GenerationSequence | None = None  # the same continuation of a negative prompt, for guidance
        self.prefixes: PrefixCache | None = None  # keeps the cache after the sequence's end
        self.states: StateBuffer | None = None  # keeps the hidden states of all tokens that are read
        self.features: StateBuffer | None = None  # what a draft head reads beside the tokens
        self.types: Sequence[int] | None = None  # of the prompt's tokens, which one pass reads
        self.is_open = True
        request.sequences.append(self)

    def reuse_kept(self, prefixes: PrefixCache) -> int:
        """Begin with the cache of an earlier text, and keep the own one at the end; return the tokens that it has."""
        self.prefixes = prefixes
        cached = prefixes.take(self.tokens)
        if cached is not None:
            cached.expected = self.cached.expected
            self.cached.free()
            self.cached = cached
        return self.cached.length

    @property
    def num_unread(self) -> int:
        """Tokens without cached keys and values."""
        # cached keys are of no use where the rotary frequencies are now others
        return len(self.tokens) - (self.cached.length if self.cached.is_valid_for(len(self.tokens)) else 0)

    def reuse_prefix(self, num_rows: int) -> object:
        """Share the cached blocks of other sequences with the same first tokens.

        Args:
            num_rows: last tokens that are read again, MIN_PREFILL at least.

        Returns:
            A key that other sequences with the same first block have too, where no block was found; None for a
            sequence of less than a block.
        """
        num_rows = max(num_rows, MIN_PREFILL)  # their logits are needed
        self.cached.reuse_prefix(self.tokens[: len(self.tokens) + 1 - num_rows])
        if self.cached.length or len(self.tokens) - num_rows < BLOCK:
            return None
        # the first hash is that of the salt, so other sources never match
        return self.cached.hashes[0], tuple(self.tokens[:BLOCK])

    def max_pass_tokens(self, limit: int) -> int:
        """Return how many more tokens one pass may read together with the next one, at most `limit`.

        Rotary frequencies may depend on the sequence's length. A pass uses those of its last token, so that all of
        its tokens must have the same ones.
        """
        known, store = len(self.tokens), self.cached.store
        limit = limit if self.negative is None else self.negative.max_pass_tokens(limit)
        if not store.varies:
            return limit
        variant = store.variant(known)
        return next((n for n in range(limit) if store.variant(known + n + 1) != variant), limit)

    def check_unread(self) -> None:
        """Raise InvalidInput for padding among the unread tokens, here, since a pass would end other requests too."""
        padding = getattr(getattr(self.runner.model, "backbone", None), "padding", None)
        if padding is not None and padding in self.tokens[self.cached.length :]:
            raise InvalidInput(
                f"The id {padding} is padding in this family, and no token of a text: leave it out of the prompt; "
                f"suppress_tokens=[{padding}] keeps it from being written."
            )
        if self.negative is not None:
            self.negative.check_unread()

    def append(self, *tokens: int) -> None:
        self.tokens.extend(tokens)
        if self.negative is not None:
            self.negative.append(*tokens)

    def fork(self) -> GenerationSequence:
        """Return another sequence with the same tokens; they share cache blocks until one of them writes."""
        other = object.__new__(GenerationSequence)  # __init__ would open an empty cache
        other.request, other.runner, other.encoder_output = self.request, self.runner, self.encoder_output
        other.tokens, other.prefixes = list(self.tokens), None  # one sequence of a request is kept
        other.states, other.features, other.types = self.states, self.features, self.types
        other.cached, other.is_open = self.cached.fork(), True
        other.negative = None if self.negative is None else self.negative.fork()
        self.request.sequences.append(other)
        return other

    def crop(self, length: int) -> None:
        """Drop all tokens after the first `length`. Layers that cannot drop their state read the rest again."""
        if self.negative is not None:
            # it has another prompt, so the number of dropped tokens counts, not the length
            self.negative.crop(len(self.negative.tokens) - max(len(self.tokens) - length, 0))
        del self.tokens[length:]
        if self.states is not None:
            self.states.crop(length)
        if self.cached.length > length:
            try:
                self.cached.crop(length)
            except InvalidInput:
                self.restart()

    def restart(self) -> None:
        """Free the cache blocks; the tokens are read again."""
        expected = self.cached.expected  # a new cache should reserve room for as many tokens
        self.cached.free()
        self.cached = self.runner.store.begin(self.request.cache_salt)
        self.cached.expected = expected

    def move(self) -> None:
        """Begin again in the present cache of the engine, after a change of the model; the tokens are read again."""
        self.cached.free()
        expected, self.prefixes = self.cached.expected, None
        self.runner = self.request.engine.runner(self.runner.model)
        self.cached = self.runner.store.begin(self.request.cache_salt)
        self.cached.expected = expected

    def close(self) -> None:
        """End the sequence, and free or keep its cache blocks."""
        if self.is_open:
            self.is_open = False
            if self.prefixes is None:
                self.cached.free()
            else:
                self.prefixes.keep(self.tokens, self.cached)
            self.request.sequences.remove(self)
            if self.negative is not None:
                self.negative.close()


@dataclass
class ForwardRequest:
    """Asks for a forward pass over a sequence's unread tokens and the logits after its last `num_logits` tokens.

    Args:
        num_states: last tokens whose hidden states are needed, where more than `num_logits`; read in one pass.
        record: is filled by the pass that reads the last token.
        lookahead: further tokens that are needed too, each the argmax after the one before.
        max_lookahead: further tokens that may be computed, since they do no harm.
        stop_tokens: after one of which no further token is needed.
    """

    sequence: GenerationSequence
    num_logits: int = 1
    num_states: int = 0
    record: OutputCapture | None = None
    lookahead: int = 0
    max_lookahead: int = 0
    stop_tokens: frozenset[int] = frozenset()

    @property
    def num_rows(self) -> int:
        """Last tokens that one pass must read together."""
        store = self.sequence.cached.store
        begins = self.sequence.types is not None and not self.sequence.cached.length
        known = len(self.sequence.tokens) if store.whole or store.joint or begins else 0
        return max(self.num_logits, self.num_states, known)


class ForwardResult:
    """Output of a forward pass for one request.

    Args:
        output: of the pass that read the last token. row, num_logits: first row of its logits, and how many there are.
        end, num_states: end of its rows of hidden states, and how many there are.
    """

    __slots__ = ("end", "num_logits", "num_states", "output", "row")

    def __init__(self, output: StepOutput, row: int, num_logits: int, end: int, num_states: int) -> None:
        self.output, self.row, self.num_logits, self.end, self.num_states = output, row, num_logits, end, num_states

    @property
    def logits(self) -> Tensor:
        """(num_logits, vocabulary), float32. Raises ScoresNotFinite."""
        self.output.check_finite(self.row, self.num_logits)
        return self.output.logits[self.row : self.row + self.num_logits]

    @property
    def hidden_states(self) -> Tensor:
        """(num_states, width)."""
        return self.output.hidden_states[self.end - self.num_states : self.end]

    @property
    def argmax_steps(self) -> list[int]:
        """The argmax after the requested token, and after each token of the lookahead; `NO_TOKEN` or `NOT_FINITE`."""
        return [step[self.row] for step in self.output.steps]

    def argmax(self, banned: Sequence[int] = ()) -> list[int]:
        """Return the most likely token of each row that is not banned; `NO_TOKEN` where all are.

        Raises:
            ScoresNotFinite: a logit is NaN or infinite.
        """
        self.output.check_finite(self.row, self.num_logits)
        return self.output.argmax(self.row, self.num_logits, banned)

    def top_candidates(self, candidates: Candidates, banned: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Return what `Candidates.find` gives of these rows, on the CPU. Raises ScoresNotFinite."""
        begin, count = self.row, self.num_logits
        self.output.check_finite(begin, count)
        key = "candidates", candidates.key, *banned
        top, row = self.output.query(key, begin, count, lambda logits: on_cpu(candidates.find(logits, banned)))
        return None if top is None else (top[0][row : row + count], top[1][row : row + count])

    def top_logprobs(self, count: int, banned: Sequence[int]) -> tuple[list[float], list[int]] | None:
        """Return the highest log-probabilities of the one row and their tokens. Raises ScoresNotFinite."""
        self.output.check_finite(self.row, self.num_logits)
        return self.output.top_logprobs(self.row, count, banned)

    def token_logprobs(self, number: int, token: int, count: int) -> tuple[float, list[float], list[int]]:
        """Return what `StepOutput.token_logprobs` gives of one of these rows. Raises ScoresNotFinite."""
        self.output.check_finite(self.row, self.num_logits)
        return self.output.token_logprobs(self.row + number, token, count)


Strategy = Generator[list[ForwardRequest], list[ForwardResult], None]


class RequestHost(Protocol):
    """The part of the engine that a request uses."""

    def runner(self, model: DecoderModel | None = None) -> DecodeRunner:
        """Return the decode runner of a model; of the engine's own for None."""

    def finish(self, request: Request, error: BaseException | None = None) -> None:
        """End a request, and free its cache blocks."""


class Request:
    """Prompt to be continued, with the sequences that its strategy has opened.

    Args:
        start: makes the strategy, once the request is admitted.
        max_tokens: of a sequence. max_sequences: that are open at once.
        cache_salt: identifies what decides keys and values in addition to tokens (an encoded source). Only requests
            with the same salt share cache blocks.
        adapter: of the model, with which its passes are computed; None for the model as it is.
    """

    def __init__(
        self,
        engine: RequestHost,
        start: Callable[[Request], Strategy],
        *,
        max_tokens: int,
        max_sequences: int = 1,
        cache_salt: bytes = b"",
        adapter: str | None = None,
    ) -> None:
        self.engine, self.start, self.adapter = engine, start, adapter
        self.max_tokens, self.max_sequences = max_tokens, max_sequences
        # keys and values of other adapters are others
        self.cache_salt = cache_salt if adapter is None else b"%b\0%b" % (cache_salt, adapter.encode())
        self.sequences: list[GenerationSequence] = []
        self.error: BaseException | None = None
        self.done = False
        self.admitted = 0.0  # when it left the queue for the first time, in seconds of `time.monotonic`
        self.cached_tokens: int | None = None  # of the prompt, shared with other sequences; None before it is read
        self.strategy: Strategy | None = None
        self.pending: list[ForwardRequest] = []
        self.results: dict[int, ForwardResult] = {}  # by the id of the forward request

    def open_sequence(
        self, tokens: Sequence[int], encoder_output: EncoderOutput | None = None, model: DecoderModel | None = None
    ) -> GenerationSequence:
        """Return a new sequence, of which nothing is read. `model`: another one than the engine's own."""
        sequence = GenerationSequence(self, self.engine.runner(model), tokens, encoder_output)
        # an engine without a limit has room for whole texts; otherwise blocks that stay unused are missing elsewhere
        limited = sequence.cached.store.budget.total is not None
        sequence.cached.expected = min(self.max_tokens, len(tokens) + RESERVED) if limited else self.max_tokens
        return sequence

    def cancel(self) -> None:
        """End the request now."""
        self.engine.finish(self)
