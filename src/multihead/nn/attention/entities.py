"""Entities beside the words of a text, which attend to each other (LUKE, Yamada et al., 2020, arXiv:2010.01057)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InvalidInput
from ...kernels.ragged import SequenceLayout
from ..embeddings import Embeddings, check_ids
from ..forward_context import ForwardContext
from ..ragged import positions_in_sequences
from ..stack import Stack
from ..weights import Dropout, Embedding, Linear
from .attention import Attention

IDS, MASK, TYPES, PLACES = (f"entity_{name}" for name in ("ids", "attention_mask", "token_type_ids", "position_ids"))
FLAGS, STATES = "entity flags", "entity states"  # of each row of words and entities; and the entities' last states


class EntityEmbeddings(nn.Module):
    """Embeddings of entities: of the entity, of the mean of its words' positions, and of its type.

    Args:
        count, narrow: of the entities' own vectors, which `dense` maps to `width` where they are narrower.
    """

    def __init__(
        self, count: int, narrow: int, width: int, *, positions: int, types: int, norm: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        self.token = Embedding(count, narrow)
        self.dense = nn.Identity() if narrow == width else Linear(narrow, width, bias=False)
        self.position, self.segment = Embedding(positions, width), Embedding(types, width)
        self.norm, self.dropout = norm, Dropout(dropout)

    def forward(self, ids: Tensor, places: Tensor, types: Tensor) -> Tensor:
        """Map entities (entities,), their words' positions (entities, longest), -1 for none, and types to vectors."""
        check_ids(ids, self.token.num_embeddings, "entity id", "table of entities")
        check_ids(places.clamp(min=0), self.position.num_embeddings, "place of an entity", "table of positions")
        check_ids(types, self.segment.num_embeddings, "entity_token_type_id", "table of types")
        given = (places != -1)[..., None]
        vectors = self.position(places.clamp(min=0)) * given  # (entities, longest, width)
        mean = vectors.sum(-2) / given.sum(-2).clamp(min=1)
        return self.dropout(self.norm(self.dense(self.token(ids)) + mean + self.segment(types)))


class EntityAttention(Attention):
    """Attention with a query of each token for words, and another for entities.

    Args:
        aware: whether it has them; else one query serves both.
    """

    def __init__(self, width: int, heads: int, *, aware: bool, dropout: float = 0.0) -> None:
        super().__init__(width, heads, dropout=dropout)
        self.aware = aware
        if aware:  # from words to entities, entities to words, entities to entities
            self.w2e, self.e2w, self.e2e = (Linear(width, width) for _ in range(3))

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def forward(self, x: Tensor, context: ForwardContext, memory: object) -> Tensor:
        """Map states of words and entities (tokens, width) to the same."""
        flags = context.extra_inputs.get(FLAGS)
        if not self.aware or flags is None:
            return super().forward(x, context, None)
        entity = flags[:, None, None]
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        to_words = torch.where(entity, self._split(self.e2w(x)), q)
        to_entities = torch.where(entity, self._split(self.e2e(x)), self._split(self.w2e(x)))
        # A key has zeros where the query of the other kind stands, so that each product takes the right query.
        q = torch.cat([to_words, to_entities], -1)
        k = torch.cat([k.masked_fill(entity, 0), k.masked_fill(~entity, 0)], -1)
        attention_mask = context.attention_mask(context.runs, causal=False, window=None)
        v = F.pad(v, (0, self.head_width))
        mixed = self._mix(q, k, v, attention_mask, None, context, context.capture.attentions)
        return self.out(mixed[..., : self.head_width].flatten(1))


class EntityStack(Stack):
    """Stack whose texts may have entities (`entity_ids` and the like), which go through the layers after the words.

    The result is the words' states; `entity_states` returns those of the entities.
    """

    def __init__(self, embed: Embeddings, layers: Sequence[nn.Module], entities: EntityEmbeddings) -> None:
        super().__init__(embed, layers)
        self.entities = entities

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        ids = context.extra_inputs.get(IDS)
        if ids is None:
            return super().forward(words, context)
        real = context.extra_inputs.get(MASK, torch.ones_like(ids)).bool()  # (texts, entities)
        if ids.shape[0] != len(context.runs) or real.shape != ids.shape:
            raise InvalidInput(f"{IDS} have shape {list(ids.shape)}; there are {len(context.runs)} texts.")
        rows = real.flatten().nonzero().flatten()
        x, flags, inner = self._joined(self.embed(words, context), self._embedded(ids, rows, context), real, context)
        seen = context.capture.hidden
        for layer in self.layers:
            if seen is not None:
                seen.append(x[~flags])
            x = self._through(layer, x, inner, None)
        if seen is not None:
            seen.append(x[~flags])
        for maps in context.capture.attentions or ():  # those between words
            maps[:] = [part[:, :length, :length] for part, length in zip(maps, context.runs.lengths, strict=True)]
        out = x.new_zeros(ids.numel(), x.shape[1]).index_copy(0, rows, x[flags]).unflatten(0, tuple(ids.shape))
        context.cached(STATES, lambda: out)
        return x[~flags]

    def _embedded(self, ids: Tensor, rows: Tensor, context: ForwardContext) -> Tensor:
        """Return the embeddings of the entities in `rows` of the flattened (texts, entities)."""
        places = context.extra_inputs.get(PLACES)
        if places is None or places.shape[:2] != ids.shape:
            raise InvalidInput(f"{PLACES} need shape {[*ids.shape, 'words']}: the positions of each entity's words.")
        types = context.extra_inputs.get(TYPES, torch.zeros_like(ids))
        return self.entities(ids.flatten()[rows], places.flatten(0, 1)[rows], types.flatten()[rows])

    def _joined(
        self, words: Tensor, entities: Tensor, real: Tensor, context: ForwardContext
    ) -> tuple[Tensor, Tensor, ForwardContext]:
        """Return the words and then the entities of each text, which are entities, and their context."""
        lengths, counts = context.runs.lengths, real.sum(1).tolist()
        pairs = zip(words.split(lengths), entities.split(counts), strict=True)
        x = torch.cat([part for pair in pairs for part in pair])
        flags = torch.cat(
            [torch.arange(length + count) >= length for length, count in zip(lengths, counts, strict=True)]
        ).to(x.device)
        runs = SequenceLayout.packed(tuple(a + b for a, b in zip(lengths, counts, strict=True)))
        places = positions_in_sequences(runs, x.device)
        return x, flags, replace(context, runs=runs, positions=places, extra_inputs={FLAGS: flags}, selected=None)


def entity_states(context: ForwardContext) -> Tensor:
    """Return the last states of entities, (texts, entities, width), zeros where masked. Raises InvalidInput."""
    found: Tensor | None = context.cached(STATES, lambda: None)
    if found is None:
        raise InvalidInput("This class reads the states of entities: give entity_ids and entity_position_ids.")
    return found
