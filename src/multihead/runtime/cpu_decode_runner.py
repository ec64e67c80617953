"""Steps of one token a text on a CPU without Python between them, by `runtime.cpu_decode`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch

from ..generation.engine.step_output import Passed
from ..heads.heads import LanguageModel
from ..kernels.ops import backend_of, fused_attention
from ..kernels.ragged import BLOCK
from ..nn.cache.block_pool import Table
from ..nn.cache.cache_rows import joined_rows
from ..nn.cache.layer_cache import KeyValues
from ..nn.cache.store import Store, Text
from ..nn.forward_context import EncoderOutput
from ..nn.hooks import hooked
from ..nn.weights import Embedding, Linear, ScaledEmbedding
from .cpu_decode import Rows, Walk, walks
from .cuda_graph_runner import taken
from .fused_linear_cpu import Product
from .graph_cache import settle
from .layer_spec import all_known, learn
from .strided_weights import Unpacked, lie_alike

CPU = torch.device("cpu")
BURST = 0.05  # seconds that steps without Python between may take


class Walks:
    """The steps of one model over one store.

    Args:
        model: whose steps the kernels compute, as `of` finds.
    """

    lasting = False  # made anew for every use: weights may have changed

    def __init__(self, model: Any, store: Store) -> None:
        self.model, self.store = model, store
        self.moved = True  # whether something else has read texts since the last step
        self._walk: Walk | None = None
        self._tops: dict[int | None, int] = {}
        self._seconds = BURST

    @classmethod
    def of(cls, model: Any, store: Store) -> Walks | None:
        """Those of a model on a CPU; None where the kernels do not compute all that its steps do."""
        runs = backend_of(model.device).runs_stacks(model.dtype)
        if not runs or model.training or not hasattr(model, "backbone") or model.attend is not fused_attention:
            return None
        if not all(type(layer) is KeyValues for layer in store.layers) or any(map(hooked, model.modules())):
            return None
        if not all(x.is_cpu for x in (*model.parameters(), *model.buffers())):
            return None
        parts = [model.backbone, *_decoder(model).modules(), *_parts(model.head)]
        if not _scores(model.head, model.dtype) or not all_known(parts):
            return None
        return cls(model, store) if walks(_decoder(model), model.dtype) else None

    @torch.inference_mode()
    def step(
        self,
        texts: Sequence[Text],
        tokens: Sequence[int],
        ahead: int = 1,
        ends: Iterable[int] = (),
        source: EncoderOutput | None = None,
    ) -> Passed | None:
        """Reads one token of each text, for which the texts have taken blocks.

        Args:
            ahead: steps, of which each reads the tokens that the one before found likeliest; fewer are made where
                they take long. ends: tokens after which nothing more is read. source: what the texts read besides.

        Returns:
            What the last step gave; None where torch is faster, since texts are many, or must say what is wrong.
        """
        if self._walk is None:
            self._walk = _walk(self.model, self.store)
        walk, places = self._walk, [text.length for text in texts]
        if torch.is_autocast_enabled("cpu") or (walk.most is not None and len(texts) > walk.most):
            return None
        if not walk.reads(source) or walk.placeless in tokens:
            return None
        if not all(0 <= token < walk.words for token in tokens):
            return None
        ahead = taken(texts, max(1, min(ahead, int(BURST / self._seconds))))
        if not all(table.straight for text in texts for table in text.tables.values()):
            ahead = 1
        if walk.longest is not None and max(places) + ahead > walk.longest:
            return None
        walk.tell_source(source)
        if not self._settle(walk, texts):
            return None
        rows = {window: _rows([text.tables[window] for text in texts], places, window) for window in self.store.windows}
        began = time.perf_counter()
        last = [*ends, *([] if walk.placeless is None else [walk.placeless])]
        states, scores, found = walk.run(tokens, places, rows, ahead, last, max(text.expected for text in texts))
        self._seconds = (time.perf_counter() - began) / len(found)
        for text in texts:
            text.advance(len(found))
        scale = self.model.head.scale
        return Passed(states, scores.float() if scale == 1.0 else (scores * scale).float(), found)

    def _settle(self, walk: Walk, texts: Sequence[Text]) -> bool:
        """Puts all that was read into storage, which gets room for these texts' next tokens; whether it can be read."""
        tops = {window: pool.top for window, pool in self.store.pools.items()}
        if self.moved or tops != self._tops:
            settle(self.store, texts, self.model.device)
            if not walk.settled():
                return False
            self._tops, self.moved = tops, False
        return True


def _rows(tables: Sequence[Table], places: Sequence[int], window: int | None) -> Rows:
    """Where each text's next token is remembered, and what it sees."""
    seen = [place + 1 if window is None else min(place + 1, window) for place in places]
    writes = [table.row(place) for table, place in zip(tables, places, strict=True)]
    copies = [
        number for table in tables for source, target, count in table.copies
        for number in (source * BLOCK, target * BLOCK, count)
    ]  # fmt: skip
    for table in tables:
        table.copies = []
    if all(table.straight for table in tables):
        return Rows(writes, [row + 1 - n for row, n in zip(writes, seen, strict=True)], seen, copies=copies)
    index = joined_rows(tables, [(place + 1 - n, place + 1) for place, n in zip(places, seen, strict=True)], CPU)
    assert isinstance(index, torch.Tensor)  # one that is straight alone is told above
    return Rows(writes, list(accumulate(seen, initial=0))[:-1], seen, index, copies)


def _scores(head: Any, dtype: torch.dtype) -> bool:
    """Whether the kernels compute a head's scores."""
    if type(head) is not LanguageModel or type(head.transform) is not torch.nn.Identity:
        return False
    plain = head.rest is None and head.scale > 0 and head.softcap is None
    if head.packed is not None or not plain:
        return plain
    return type(head.table) in (Embedding, ScaledEmbedding, Linear) and lie_alike([head.table], dtype)


learn(LanguageModel, *"scale softcap rest table transform bias packed carried".split())


def _parts(head: Any) -> list[torch.nn.Module]:
    """A head and its parts, but for what is carried and no pass reads."""
    used = [child for name, child in head.named_children() if name != "carried"]
    return [head, *(part for child in used for part in child.modules())]


def _walk(model: Any, store: Store) -> Walk:
    head, packed = model.head, model.head.packed
    scorer: Product | Unpacked = packed or Unpacked([head.table.weight], [head.bias])
    return Walk(_decoder(model), scorer, store, model.dtype, rounded=packed is None)


def _decoder(model: Any) -> Any:
    return getattr(model.backbone, "decoder", model.backbone)
