"""Steps of one token a text on a CPU without Python between them, by `runtime.cpu_decode`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch

from ..generation.engine.step_output import Passed
from ..heads.heads import LanguageModel
from ..kernels.cpu import native
from ..kernels.ragged import BLOCK
from ..kernels.torch.attention import fused
from ..nn.cache.block_pool import Table
from ..nn.cache.cache_rows import joined_rows
from ..nn.cache.layer_cache import KeyValues
from ..nn.cache.store import Store, Text
from ..nn.forward_context import EncoderOutput
from ..nn.weights import Embedding, Linear, ScaledEmbedding
from .cpu_decode import CpuDecodeStep, DecodeSlots, fits_cpu_decode
from .cuda_graph_runner import taken
from .graph_cache import settle
from .layer_spec import LayerSpec, describe
from .strided_weights import StridedWeight, same_layout

CPU = torch.device("cpu")
BURST = 0.05  # seconds that steps without Python between may take


class Walks:
    """The steps of one model over one store.

    Args:
        model: whose steps the kernels compute, as `of` finds. decoder: the spec of its decoder's stack.
    """

    lasting = False  # made anew for every use: weights may have changed

    def __init__(self, model: Any, store: Store, decoder: LayerSpec) -> None:
        self.model, self.store, self._decoder = model, store, decoder
        self.moved = True  # whether something else has read texts since the last step
        self._compiled: CpuDecodeStep | None = None
        self._tops: dict[int | None, int] = {}
        self._seconds = BURST

    @classmethod
    def of(cls, model: Any, store: Store) -> Walks | None:
        """Those of a model on a CPU; None where the kernels do not compute all that its steps do."""
        fine = native.library() is not None and model.device.type == "cpu" and model.dtype in native.TYPES
        if not fine or model.training or not hasattr(model, "backbone") or model.attend is not fused:
            return None
        if not all(type(layer) is KeyValues for layer in store.layers):
            return None
        if not all(x.is_cpu for x in (*model.parameters(), *model.buffers())):
            return None
        backbone = describe(model.backbone)
        decoder = None if backbone is None else backbone.parts.get("decoder", backbone)
        if decoder is None or not _fits_head(model.head, model.dtype):
            return None
        return cls(model, store, decoder) if fits_cpu_decode(decoder, model.dtype) else None

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
        if self._compiled is None:
            head, packed = self.model.head, self.model.head.packed
            scorer = packed or StridedWeight([head.table.weight], [head.bias])
            self._compiled = CpuDecodeStep(self._decoder, scorer, self.store, self.model.dtype, rounded=packed is None)
        compiled, places = self._compiled, [text.length for text in texts]
        if torch.is_autocast_enabled("cpu") or (compiled.most is not None and len(texts) > compiled.most):
            return None
        if not compiled.accepts(source) or compiled.padding_id in tokens:
            return None
        if not all(0 <= token < compiled.words for token in tokens):
            return None
        ahead = taken(texts, max(1, min(ahead, int(BURST / self._seconds))))
        if not all(table.straight for text in texts for table in text.tables.values()):
            ahead = 1
        if compiled.max_positions is not None and max(places) + ahead > compiled.max_positions:
            return None
        compiled.bind_source(source)
        if not self._settle(compiled, texts):
            return None
        rows = {window: _rows([text.tables[window] for text in texts], places, window) for window in self.store.windows}
        began = time.perf_counter()
        last = [*ends, *([] if compiled.padding_id is None else [compiled.padding_id])]
        states, scores, found = compiled.run(tokens, places, rows, ahead, last, max(text.expected for text in texts))
        self._seconds = (time.perf_counter() - began) / len(found)
        for text in texts:
            text.advance(len(found))
        scale = self.model.head.scale
        return Passed(states, scores.float() if scale == 1.0 else (scores * scale).float(), found)

    def _settle(self, compiled: CpuDecodeStep, texts: Sequence[Text]) -> bool:
        """Puts all that was read into storage, which gets room for these texts' next tokens; whether it can be read."""
        tops = {window: pool.top for window, pool in self.store.pools.items()}
        if self.moved or tops != self._tops:
            settle(self.store, texts, self.model.device)
            if not compiled.bind_cache():
                return False
            self._tops, self.moved = tops, False
        return True


def _rows(tables: Sequence[Table], places: Sequence[int], window: int | None) -> DecodeSlots:
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
        return DecodeSlots(writes, [row + 1 - n for row, n in zip(writes, seen, strict=True)], seen, copies=copies)
    index = joined_rows(tables, [(place + 1 - n, place + 1) for place, n in zip(places, seen, strict=True)], CPU)
    assert isinstance(index, torch.Tensor)  # one that is straight alone is told above
    return DecodeSlots(writes, list(accumulate(seen, initial=0))[:-1], seen, index, copies)


def _fits_head(head: Any, dtype: torch.dtype) -> bool:
    """Whether the kernels compute a head's logits."""
    spec = None if head is None else describe(head)
    if spec is None or type(head) is not LanguageModel or spec.options or not spec.complete or not head.scale > 0:
        return False
    if head.packed is not None:
        return True
    return type(head.table) in (Embedding, ScaledEmbedding, Linear) and same_layout([head.table], dtype)
