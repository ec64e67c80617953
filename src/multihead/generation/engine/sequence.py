"""Branches of texts, wishes to read them, and the passes that do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...kernels.ragged import BLOCK, Runs
from ...nn.cache.block_pool import Budget
from ...nn.cache.layer_cache import Memory
from ...nn.cache.store import ByLength, Cache, Store
from ...nn.forward_context import EncoderOutput, OutputCapture
from ...runtime.cpu_decode_runner import Walks
from ...runtime.cuda_graph_runner import Graphs
from ...runtime.graph_cache import Kept
from ..logits.top_candidates import Candidates
from .step_output import Passed

if TYPE_CHECKING:
    from .scheduler import Request


class Decoder(Protocol):
    """What this room needs of a model."""

    @property
    def device(self) -> torch.device: ...

    @property
    def max_positions(self) -> int | None:
        """Number of positions that the model has learned; None where positions are computed."""

    @property
    def by_length(self) -> Sequence[ByLength]:
        """Positions that turn keys by how long their text is."""

    def memories(self) -> list[Memory]:
        """An empty memory a layer."""

    def read(self, ids: Tensor, runs: Runs, memory: Cache, capture: OutputCapture | None = None) -> Tensor:
        """Reads ids (tokens,) into a cache: last states (tokens, width). `record` gets what is seen on the way."""

    def score(self, states: Tensor) -> Tensor:
        """Scores (rows, vocabulary) of what follows, from last states (rows, width)."""


class Branch:
    """One way that a request's text goes on: its tokens, prompt included, and what is remembered of them."""

    def __init__(
        self, request: Request, reader: Reader, tokens: Sequence[int], encoder_output: EncoderOutput | None
    ) -> None:
        self.request, self.reader, self.tokens, self.encoder_output = request, reader, list(tokens), encoder_output
        self.text = reader.store.begin(request.seed)
        self.twin: Branch | None = None  # goes the same way from another prompt (guidance)
        self.open = True
        request.branches.append(self)

    @property
    def left(self) -> int:
        """Tokens that are still to be read."""
        return len(self.tokens) - (self.text.length if self.text.keeps(len(self.tokens)) else 0)

    def adopt(self, rows: int) -> object:
        """Remembers what others have read of the same beginning, all but the last `rows` tokens at least.

        Returns:
            What others with the same beginning give too, where nothing of it was found; None for a short text.
        """
        self.text.adopt(self.tokens[: len(self.tokens) + 1 - rows])
        if self.text.length or len(self.tokens) - rows < BLOCK:
            return None
        return self.text.names[0], tuple(self.tokens[:BLOCK])

    def alike(self, most: int) -> int:
        """How many tokens more can be read in one pass with the next ones, `most` at most.

        All that a pass reads of a text is turned for its last token, so that those before must be turned alike.
        """
        known = len(self.tokens)
        most = most if self.twin is None else self.twin.alike(most)
        if not self.text.store.varies:
            return most
        variant = self.text.store.variant(known)
        return next((n for n in range(most) if self.text.store.variant(known + n + 1) != variant), most)

    def append(self, *tokens: int) -> None:
        self.tokens.extend(tokens)
        if self.twin is not None:
            self.twin.append(*tokens)

    def fork(self) -> Branch:
        """Another branch with the same tokens; what is remembered is shared until one of them writes."""
        other = object.__new__(Branch)
        other.request, other.reader, other.encoder_output = self.request, self.reader, self.encoder_output
        other.tokens = list(self.tokens)
        other.text, other.open = self.text.fork(), True
        other.twin = None if self.twin is None else self.twin.fork()
        self.request.branches.append(other)
        return other

    def crop(self, length: int) -> None:
        """Drops all tokens after the first `length`; what a layer cannot forget is read again."""
        if self.twin is not None:
            self.twin.crop(len(self.twin.tokens) - max(len(self.tokens) - length, 0))
        del self.tokens[length:]
        if self.text.length > length:
            try:
                self.text.crop(length)
            except InvalidInput:
                self.restart()

    def restart(self) -> None:
        """Forgets all that is remembered; the tokens are read again."""
        expected = self.text.expected
        self.text.free()
        self.text = self.reader.store.begin(self.request.seed)
        self.text.expected = expected

    def close(self) -> None:
        """Ends the branch; its blocks are free."""
        if self.open:
            self.open = False
            self.text.free()
            self.request.branches.remove(self)
            if self.twin is not None:
                self.twin.close()


@dataclass
class Read:
    """A wish: that all tokens of a branch be read, and what follows each of the last `wanted`.

    Args:
        states: last states of so many last tokens, where more than `wanted`; read in one pass.
        ahead: tokens that are wanted too, each the likeliest after the one before; more, up to `room`, do no harm.
        ends: tokens after which nothing is wanted.
        record: is filled by the pass that reads the last of them.
    """

    branch: Branch
    wanted: int = 1
    states: int = 0
    record: OutputCapture | None = None
    ahead: int = 0
    room: int = 0
    ends: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        """Last tokens that one pass must read together."""
        known = len(self.branch.tokens) if self.branch.text.store.whole else 0
        return max(self.wanted, self.states, known)


class Reading:
    """What a wish gave.

    Args:
        passed: what the pass gave that read the last of it. row, wanted: where its scores are, and how many.
        end, rows: where its last states end, and how many there are.
    """

    __slots__ = ("end", "passed", "row", "rows", "wanted")

    def __init__(self, passed: Passed, row: int, wanted: int, end: int, rows: int) -> None:
        self.passed, self.row, self.wanted, self.end, self.rows = passed, row, wanted, end, rows

    @property
    def scores(self) -> Tensor:
        """(wanted, vocabulary) of what follows, float32. Raises ScoresNotFinite."""
        self.passed.check(self.row, self.wanted)
        return self.passed.scores[self.row : self.row + self.wanted]

    @property
    def states(self) -> Tensor:
        """(rows, width)."""
        return self.passed.states[self.end - self.rows : self.end]

    @property
    def following(self) -> list[int]:
        """The likeliest token, `NONE` or `BROKEN` after the one that was wanted, and after each that was read ahead."""
        return [step[self.row] for step in self.passed.steps]

    def candidates(self, source: Candidates, banned: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """See `Candidates.find`, of what this wish wanted. Raises ScoresNotFinite."""
        self.passed.check(self.row, self.wanted)
        return self.passed.candidates(self.row, self.wanted, source, banned)

    def highest(self, count: int, banned: Sequence[int]) -> tuple[list[float], list[int]] | None:
        """See `Passed.highest`, of the one token that was wanted. Raises ScoresNotFinite."""
        self.passed.check(self.row, self.wanted)
        return self.passed.highest(self.row, count, banned)

    def likeliest(self, banned: Sequence[int] = ()) -> list[int]:
        """The likeliest token after each that was wanted; `passed.NONE` where all are banned.

        Raises:
            ScoresNotFinite: there is no likeliest one.
        """
        self.passed.check(self.row, self.wanted)
        return self.passed.tokens(self.row, self.wanted, banned)


class Reader:
    """One model and all that it remembers.

    Args:
        budget: bytes, which readers may share.
    """

    def __init__(self, model: Decoder, budget: Budget) -> None:
        self.model = model
        probe = None if budget.total is None else self._probe()
        self.store = Store(model.memories(), budget, probe, model.by_length)
        if self.store.bound:
            raise InvalidInput("This family remembers its last tokens alone and cannot continue texts here.")
        self._joined: tuple[list[EncoderOutput | None], EncoderOutput] | None = None
        self.shortcut: Graphs | Walks | None = Graphs.of(model, self.store) or Walks.of(model, self.store)

    @cached_property
    def longest(self) -> int | None:
        """Tokens of the longest text that the model can read."""
        return self.model.max_positions

    @classmethod
    def of(cls, model: Decoder, budget: Budget) -> Reader:
        """A reader for a model: the one that it keeps, with the steps that were recorded, or a new one."""
        kept: Kept | None = getattr(model, "kept", None)
        reader = None if kept is None or budget.total is not None or _cast() else kept.take()
        if reader is None:
            return cls(model, budget)
        reader.model = reader.shortcut.model = model
        return reader if reader.shortcut.lasting else cls(model, budget)

    def keep(self) -> None:
        """Lets the model keep this reader, whose texts are all gone, where it has recorded steps."""
        kept: Kept | None = getattr(self.model, "kept", None)
        alike = self.store.budget.total is None and not _cast()
        if kept is not None and alike and self.shortcut is not None and self.shortcut.lasting:
            self.store.clear()
            self._joined = None
            self.model = self.shortcut.model = None  # type: ignore[assignment]  # so that a model is freed when it goes
            kept.put(self)

    def read(self, work: Sequence[tuple[Read, int]]) -> Iterator[tuple[Read, Reading]]:
        """One pass over the next so many tokens of each wish; what it gave for those that are read to their end."""
        passed = self._replayed(work)
        if passed is not None:
            for row, (read, _) in enumerate(work):
                read.branch.text.publish(read.branch.tokens)
                yield read, Reading(passed, row, 1, row + 1, 1)
            return
        if isinstance(self.shortcut, Walks):
            self.shortcut.moved = True
        parts = [read.branch.tokens[read.branch.text.length :][:new] for read, new in work]
        ready = [new == read.branch.left for read, new in work]
        cache = Cache(self.store, [read.branch.text for read, _ in work], self._source(work))
        runs = Runs.of(tuple(map(len, parts)))
        ids = torch.tensor([token for part in parts for token in part], device=self.model.device)
        wishes = [read.record for read, _ in work if read.record is not None]
        seen: Any = ([], []) if any(wish.attentions is not None for wish in wishes) else (None, None)
        record = OutputCapture([], *seen) if wishes else None
        with torch.inference_mode():
            states = self.model.read(ids, runs, cache, record)
            ends = [begin + length for begin, length in zip(runs.begins, runs.lengths, strict=True)]
            spans = [(end - read.wanted, end) for (read, _), end, done in zip(work, ends, ready, strict=True) if done]
            rows = [row for begin, end in spans for row in range(begin, end)]
            chosen = (
                states if len(rows) == len(ids) else states[torch.tensor(rows, device=ids.device, dtype=torch.long)]
            )
            scores = self.model.score(chosen).float() if rows else None
        passed = None if scores is None else Passed(states, scores)
        row = 0
        for text, (read, _) in enumerate(work):
            read.branch.text.publish(read.branch.tokens)
            if not ready[text]:
                continue
            assert passed is not None
            if read.record is not None and record is not None:
                copied(record, read.record, runs, text)
            yield read, Reading(passed, row, read.wanted, ends[text], read.rows)
            row += read.wanted

    def _replayed(self, work: Sequence[tuple[Read, int]]) -> Passed | None:
        """What a recorded step gave, where the pass is one; see `Graphs.step`."""
        if self.shortcut is None:
            return None
        for read, new in work:
            branch = read.branch
            if new != 1 or read.rows != 1 or branch.left != 1 or not branch.text.length:
                return None
            if read.record is not None:
                return None
        branches = [read.branch for read, _ in work]
        ahead = min(max(read.ahead for read, _ in work), min(read.room for read, _ in work))
        texts, tokens = [branch.text for branch in branches], [branch.tokens[-1] for branch in branches]
        ends = {end for read, _ in work for end in read.ends}
        return self.shortcut.step(texts, tokens, max(ahead, 0) + 1, ends, self._source(work))

    def _source(self, work: Sequence[tuple[Read, int]]) -> EncoderOutput | None:
        """The encoded sources of a pass as one, kept while the same ones come."""
        parts = [read.branch.encoder_output for read, _ in work]
        if parts[0] is None:
            return None
        known = self._joined
        if known is None or list(map(id, known[0])) != list(map(id, parts)):
            self._joined = known = parts, EncoderOutput.concatenate([part for part in parts if part is not None])
        return known[1]

    def _probe(self) -> Store:
        """A store that has read one token, for the sizes of what is remembered."""
        store = Store(self.model.memories())
        ids = torch.zeros(1, dtype=torch.long, device=self.model.device)
        with torch.inference_mode():
            self.model.read(ids, Runs.of((1,)), Cache(store, [store.begin()]))
        return store


def _cast() -> bool:
    """Whether what is remembered may have another precision than it has in the next use."""
    return torch.is_autocast_enabled("cuda")


def copied(seen: OutputCapture, wish: OutputCapture, runs: Runs, text: int) -> None:
    """One text's share of what a pass showed."""
    begin = runs.begins[text]
    rows = slice(begin, begin + runs.lengths[text])
    if wish.hidden is not None and seen.hidden is not None:
        wish.hidden.extend(x[rows] for x in seen.hidden)
    for mine, all_ in ((wish.attentions, seen.attentions), (wish.cross_attentions, seen.cross_attentions)):
        if mine is not None and all_ is not None:
            mine.extend([layer[text]] for layer in all_)
