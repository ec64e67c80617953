"""Heads: modules that turn hidden states into logits of tokens or labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.tensor_sources import Source
from ..config import Config
from ..errors import InvalidInput, UnsupportedConfig
from ..kernels.ops import linear
from ..nn.activations import activation
from ..nn.forward_context import ForwardContext
from ..nn.hooks import is_hooked
from ..nn.ragged import mean_pool, select_tokens, sequence_ids
from ..nn.weights import Dropout, LayerNorm, Linear

Pool = Callable[[Tensor, ForwardContext], Tensor]


def first(hidden: Tensor, context: ForwardContext) -> Tensor:
    """Return the state of each sequence's first token, (sequences, width)."""
    return select_tokens(hidden, context.runs, 0)


def last(hidden: Tensor, context: ForwardContext) -> Tensor:
    """Return the state of each sequence's last token, (sequences, width)."""
    return select_tokens(hidden, context.runs, -1)


def last_word(config: Config) -> Pool:
    """Return a pooler of each sequence's last token whose id is not padding, as decoder classifiers use.

    It is the last state where `config` names no pad_token_id or vectors were given, and the first of a text of padding
    alone.
    """

    def pool(hidden: Tensor, context: ForwardContext) -> Tensor:
        if context.ids is None or config.pad_token_id is None or not hidden.shape[0]:
            return last(hidden, context)
        rows = torch.arange(hidden.shape[0], device=hidden.device)  # (tokens,)
        # texts: (tokens,), the sequence of each token
        runs, texts = context.runs, sequence_ids(context.runs, hidden.device)
        # (sequences,) each
        begins, lengths = (torch.tensor(each, device=hidden.device) for each in (runs.begins, runs.lengths))
        # (tokens,): the row of each token, -1 for padding
        words = rows.masked_fill(context.ids == config.pad_token_id, -1)
        # (sequences,): the last row that is no padding, else the first of the text
        chosen = begins.scatter_reduce(0, texts, words, "amax")
        # an empty text begins after the last row: clamped, then zeroed
        return hidden[chosen.clamp(max=hidden.shape[0] - 1)] * (lengths > 0)[:, None]

    return pool


def average(hidden: Tensor, context: ForwardContext) -> Tensor:
    """Return the mean of each sequence's states, (sequences, width)."""
    return mean_pool(hidden, context.runs)


def every(hidden: Tensor, context: ForwardContext) -> Tensor:
    """Return all states, (tokens, width)."""
    return hidden


def at_token(token: int) -> Pool:
    """Return a pooler of the decoder's state at the last position of `token` in the source (BART, T5)."""

    def pool(hidden: Tensor, context: ForwardContext) -> Tensor:
        source = context.encoder_output
        if source is None or source.ids is None:
            raise InvalidInput("This head looks for the source's end token, so it needs input_ids.")
        if source.runs != context.runs:
            raise InvalidInput("This head needs a target as long as its source; leave decoder_input_ids out.")
        known, rows = source.ids.tolist(), []
        for number, (begin, length) in enumerate(zip(source.runs.begins, source.runs.lengths, strict=True)):
            places = [place for place in range(begin, begin + length) if known[place] == token]
            if length and not places:
                raise InvalidInput(f"Text {number} has no end token ({token}), at which this head reads its state.")
            rows.append(places[-1] if places else -1)
        index = torch.tensor(rows, device=hidden.device)  # (sequences,), -1 for an empty text
        if not hidden.shape[0]:
            return hidden.new_zeros(len(rows), hidden.shape[1])  # (sequences, width)
        return hidden[index] * (index >= 0)[:, None]  # (sequences, width)

    return pool


def end_token(config: Config) -> int:
    """Return the only eos_token_id. Raises UnsupportedConfig where the config names none or several."""
    if not isinstance(config.eos_token_id, int):
        raise UnsupportedConfig(f"This head reads its state at one eos_token_id, not {config.eos_token_id!r}.")
    return config.eos_token_id


class Transform(nn.Module):
    """norm(act(dense(x))), between a backbone and its output embeddings."""

    def __init__(
        self, width: int, inner: int, act: str, eps: float, *, bias: bool = True, norm_bias: bool = True
    ) -> None:
        super().__init__()
        self.dense, self.norm = Linear(width, inner, bias=bias), LayerNorm(inner, eps, bias=norm_bias)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.act(self.dense(x)))  # (tokens, width) to (tokens, inner)


class LanguageModel(nn.Module):
    """Logits of the vocabulary, (tokens, vocabulary).

    Args:
        table: the scoring matrix; the embedding's own module when the two are tied.
        transform: between backbone and table, as BERT has.
        bias: width of a bias of its own, None for none.
        rest: a second table for the states' last channels, where the first is narrower than they are (MobileBERT).
        scale: of the scores. softcap: squeezes them into (-softcap, softcap) (Gemma 2, arXiv:2408.00118).
    """

    scores_words = True  # False where the table is of another vocabulary (LUKE's entities)

    def __init__(
        self,
        table: nn.Module,
        *,
        transform: nn.Module | None = None,
        bias: int | None = None,
        rest: nn.Module | None = None,
        scale: float = 1.0,
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.softcap, self.rest = scale, softcap, rest
        self.table, self.transform = table, transform or nn.Identity()
        self.bias = None if bias is None else nn.Parameter(torch.empty(bias))
        self.packed: nn.Module | None = None  # the table and bias in codes, which compute the scores

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        return self._shaped(self._scores(self.transform(hidden)))  # (tokens, vocabulary)

    def exact(self, hidden: Tensor) -> Tensor:
        """Return the same logits; those of a packed table are float32, not rounded to the dtype of the states."""
        states = self.transform(hidden)  # (tokens, inner)
        return self._shaped(self._scores(states) if self.packed is None else self.packed(states, dtype=torch.float32))

    def _shaped(self, scores: Tensor) -> Tensor:
        scores = scores if self.scale == 1.0 else scores * self.scale  # (tokens, vocabulary)
        return scores if self.softcap is None else torch.tanh(scores / self.softcap) * self.softcap

    def _scores(self, states: Tensor) -> Tensor:
        if self.packed is not None:
            return self.packed(states)
        if not isinstance(self.table, nn.Embedding) and (type(self.table) is not Linear or is_hooked(self.table)):
            scores = self.table(states)  # one that does more than its weight says
            return scores if self.bias is None else scores + self.bias
        weight: Tensor = self.table.weight  # (vocabulary, inner)
        scores = linear(states[:, : weight.shape[1]], weight, self.bias)
        return scores if self.rest is None else scores + self.rest(states[:, weight.shape[1] :])


class CutLanguageModel(LanguageModel):
    """Logits of the first `kept` words of a table that is padded (Inkling): (tokens, kept)."""

    def __init__(self, table: nn.Module, kept: int, **options: Any) -> None:
        super().__init__(table, **options)
        self.kept = kept

    def _shaped(self, scores: Tensor) -> Tensor:
        return super()._shaped(scores[:, : self.kept])


class Classifier(nn.Module):
    """Logits of labels for pooled states: (sequences, labels) or (tokens, labels).

    Args:
        dense: act(dense(x)) before the scores; None for no such layer.
    """

    def __init__(
        self,
        width: int,
        labels: int,
        *,
        pool: Pool = every,
        dense: nn.Module | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pool, self.dense, self.dropout = pool, dense or nn.Identity(), Dropout(dropout)
        self.out = Linear(width, labels, bias=bias)

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        # (sequences, width) or (tokens, width), to labels
        return self.out(self.dropout(self.dense(self.pool(hidden, context))))


class Dense(nn.Module):
    """act(linear(x)).

    Args:
        dropout: of x.
    """

    def __init__(self, width: int, act: str, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear, self.act, self.dropout = Linear(width, width), activation(act), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(self.dropout(x)))  # (rows, width)


class Pooler(nn.Module):
    """`dense` of each sequence's first state: (sequences, width)."""

    def __init__(self, dense: nn.Module) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        return self.dense(first(hidden, context))  # (sequences, width)


class Both(nn.Module):
    """Two heads over the same states, for pre-training: token logits and sequence logits."""

    def __init__(self, words: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.words, self.text = words, text

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        # (tokens, vocabulary), (sequences, labels)
        return self.words(hidden, context), self.text(hidden, context)


class Summary(nn.Module):
    """Vector of each sequence, (sequences, out): act(linear(state)) of a pooled state (XLNet, XLM).

    Args:
        pool: chooses the state. out: width of the projection, None for none. dropouts: before and after.
    """

    def __init__(self, width: int, out: int | None, pool: Pool, act: str | None, dropouts: tuple[float, float]) -> None:
        super().__init__()
        self.pool, self.act = pool, activation(act) if act else nn.Identity()
        self.linear = nn.Identity() if out is None else Linear(width, out)
        self.before, self.after = (Dropout(p) for p in dropouts)

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        # (sequences, width) to (sequences, out)
        return self.after(self.act(self.linear(self.before(self.pool(hidden, context)))))


POOLS: Mapping[str, Pool] = {"first": first, "last": last, "mean": average}


def summary(config: Any) -> Summary:
    """Build a `Summary` from a config's `summary_…` entries, by default of the last state. Raises UnsupportedConfig."""

    def entry(name: str, usual: Any) -> Any:
        return getattr(config, f"summary_{name}", usual)

    if entry("type", "last") not in POOLS:
        raise UnsupportedConfig(f"summary_type is one of {', '.join(POOLS)} here, not {config.summary_type!r}.")
    out = config.num_labels if entry("proj_to_labels", False) else config.hidden_size
    dropouts = (entry("first_dropout", 0.0), entry("last_dropout", 0.0))
    pool, act = POOLS[entry("type", "last")], entry("activation", None)
    return Summary(config.hidden_size, out if entry("use_proj", False) else None, pool, act, dropouts)


@dataclass(frozen=True)
class Head:
    """A head and the rows of its key map.

    Args:
        rows: key map rows of the head; a key that starts with `/` is outside the backbone's prefix.
        prefix: of the backbone under this head, where it is not the family's own.
        optional: the head may be absent from a checkpoint, and is then left out instead of newly initialized.
    """

    module: nn.Module
    rows: Mapping[str, str | Source] = field(default_factory=dict)
    prefix: str | None = None
    optional: bool = False


def attach_unused(head: Head, part: nn.Module, rows: Mapping[str, str | Source]) -> Head:
    """Return the head with a part that checkpoints store and no forward pass uses (a pooler beside an MLM head).

    It is loaded and saved, and left out where a checkpoint has none.
    """
    part.requires_grad_(False)  # no pass reads it, so it never has a gradient
    head.module.carried = part
    return replace(head, rows={**head.rows, **{f"carried.{ours}": theirs for ours, theirs in rows.items()}})
