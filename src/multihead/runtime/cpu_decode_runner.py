"""Decode steps on a CPU without Python between the layers, or between several steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..heads.heads import LanguageModel
from ..kernels.ops import BACKENDS, backend_of, fused_attention
from ..kernels.ragged import BLOCK
from ..nn.cache.block_pool import BlockTable
from ..nn.cache.cache_rows import slot_rows
from ..nn.cache.layer_cache import KVLayerCache
from ..nn.cache.store import CachedSequence, KVCacheManager
from ..nn.experts import RoutedExperts, parts_without_experts
from ..nn.own_names import own_buffers, own_parameters
from ..nn.switch import SwitchFeedForward
from ..nn.weights import Embedding, Linear, ScaledEmbedding
from .cpu_decode import CpuDecodeStep, DecodeSlots, decode_refusal, fits_cpu_decode
from .delta_layers import has_delta
from .expert_layers import ROUTED, rule_fields
from .layer_spec import LayerSpec, describe
from .refusals import undescribed_layer
from .runner import EagerRunner, ForwardBatch, reserve_blocks
from .step_output import StepOutput
from .strided_weight import StridedWeight, same_layout

CPU = torch.device("cpu")
EXPERTS = (RoutedExperts, SwitchFeedForward)
_described: WeakKeyDictionary[KVCacheManager, LayerSpec | None] = WeakKeyDictionary()  # by `refusal`, for the runner
MAX_SECONDS = 0.05  # of one call, which makes fewer steps where they take long


class CpuDecodeRunner(EagerRunner):
    """Makes decode steps on a CPU in one call of the C++ kernels, see `runtime.cpu_decode`.

    A pass that is no decode step, or whose many sequences torch computes faster, runs layer by layer.
    """

    name = "cpu"
    max_steps = 8

    def __init__(self, model: Any, store: KVCacheManager) -> None:
        super().__init__(model, store)
        self._stale = True  # whether the layers have written into storage since the last call of the kernels
        self._compiled: CpuDecodeStep | None = None
        self._tops: dict[int | None, int] = {}
        self._seconds = MAX_SECONDS  # of the last step

    @classmethod
    def unavailable(cls) -> str:
        reason = BACKENDS["cpu"].reason()
        return f"the C++ kernels are not in use ({reason})" if reason else ""

    @classmethod
    def refusal(cls, model: Any, store: KVCacheManager) -> str:
        if reason := cls.unavailable():
            return reason
        if not backend_of(model.device).runs_stacks(model.dtype):
            return f"the model is {model.dtype} on {model.device}"
        if not hasattr(model, "backbone"):
            return "it has no backbone of known layers"
        if model.training:
            return "it is in training mode"
        if model.attend is not fused_attention:
            return 'its attention is set to "eager"'
        stack = getattr(model.backbone, "decoder", model.backbone)
        if len(store.layers) > len(stack.layers):
            return f"its {len(stack.layers)} layers run {len(store.layers)} times in a pass"
        for number, layer in enumerate(store.layers):
            if type(layer) is not KVLayerCache and not has_delta(stack.layers[number]):
                return f"layer {number} caches more than keys and values"
            # Before the checks of every parameter and layer, of which models with experts have tens of thousands.
            for part in parts_without_experts(stack.layers[number]):
                routes: Any = part
                known = type(part) in ROUTED and rule_fields(routes.rule, routes.count)
                if isinstance(part, EXPERTS) and not known:
                    return f"layer {number} has a {type(part).__name__} that runs layer by layer"
        if not all(x.is_cpu for x in chain(model.parameters(), model.buffers())):
            named = chain(own_parameters(model), own_buffers(model))
            return next(f"{name} is on {x.device}" for name, x in named if not x.is_cpu)
        decoder = _described[store] = _decoder(model)
        if decoder is None or not decoder.complete:
            return undescribed_layer("backbone", model.backbone)
        if not _fits_head(model.head, model.dtype):
            return "the kernels do not compute the logits of its head"
        return "" if fits_cpu_decode(decoder, model.dtype) else decode_refusal(decoder, model.dtype)

    def storage_changed(self) -> None:
        self._stale = True

    def forward(self, batch: ForwardBatch) -> StepOutput:
        output = self._decode(batch) if batch.is_decode else None
        if output is None:
            self._stale = True
            return super().forward(batch)
        return output

    @torch.inference_mode()
    def _decode(self, batch: ForwardBatch) -> StepOutput | None:
        """Make decode steps; None where torch is faster, since sequences are many, or must report an error."""
        compiled = self._compiled or self._compile()
        sequences, source = batch.sequences, batch.encoder_output
        # the position of a new token is the number of cached ones
        places, tokens = [sequence.length for sequence in sequences], [new[0] for new in batch.tokens]
        # autocast changes the dtype of products, which the kernels do not do
        if torch.is_autocast_enabled("cpu") or (compiled.max_rows is not None and len(sequences) > compiled.max_rows):
            return None
        padding = compiled.padding_id
        # a wrong token id raises its error in the layers
        if not compiled.accepts(source) or padding in tokens or min(tokens) < 0 or max(tokens) >= compiled.vocabulary:
            return None
        # short calls, so that new requests and streamed tokens do not wait
        steps = reserve_blocks(sequences, max(1, min(batch.steps, int(MAX_SECONDS / self._seconds))))
        if steps > 1 and not all(table.contiguous for sequence in sequences for table in sequence.tables.values()):
            # the kernels find the next slot by adding one, which holds in contiguous blocks alone
            steps = 1
        limits = (compiled.max_positions, compiled.scaled_from)
        if any(limit is not None and max(places) + steps > limit for limit in limits):
            return None
        compiled.bind_source(source)
        slots_of_states = [sequence.slot or 0 for sequence in sequences]
        if not self._bind_cache(compiled, sequences) or not compiled.bind_states(slots_of_states):
            return None
        slots = {w: _slots([sequence.tables[w] for sequence in sequences], places, w) for w in self.store.windows}
        began = time.perf_counter()
        # after a padding token the next step must run layer by layer: it has no position
        ends = [*batch.stop_tokens] if padding is None else [*batch.stop_tokens, padding]
        expected = max([sequence.expected for sequence in sequences])
        states, logits, argmax = compiled.run(tokens, places, slots, steps, ends, expected)
        self._seconds = (time.perf_counter() - began) / len(argmax)  # of one step
        for sequence in sequences:
            sequence.advance(len(argmax))
        scale = self.model.head.scale
        return StepOutput(states, logits.float() if scale == 1.0 else (logits * scale).float(), argmax)

    def _compile(self) -> CpuDecodeStep:
        decoder, head = _described.pop(self.store, None) or _decoder(self.model), self.model.head
        assert decoder is not None
        scorer = head.packed or StridedWeight([head.table.weight], [head.bias])
        self._compiled = CpuDecodeStep(
            decoder, scorer, self.store, self.model.dtype, rounded=head.packed is None, softcap=head.softcap
        )
        return self._compiled

    def _bind_cache(self, compiled: CpuDecodeStep, sequences: Sequence[CachedSequence]) -> bool:
        """Move all cached keys and values into storage with room for the new tokens; False if it is unreadable."""
        tops = {window: pool.top for window, pool in self.store.pools.items()}
        if self._stale or tops != self._tops:
            self.store.flush(sequences, self.model.device)
            if not compiled.bind_cache():
                return False
            self._tops, self._stale = tops, False
        return True


def _decoder(model: Any) -> LayerSpec | None:
    """Return the spec of a model's decoder, which may be its whole backbone."""
    backbone = describe(model.backbone)
    return None if backbone is None else backbone.parts.get("decoder", backbone)


def _slots(tables: Sequence[BlockTable], places: Sequence[int], window: int | None) -> DecodeSlots:
    """Return the cache slots that each sequence's next token writes and sees."""
    seen = [place + 1 if window is None else min(place + 1, window) for place in places]  # the new token sees itself
    writes = [table.row(place) for table, place in zip(tables, places, strict=True)]
    copies = [
        number for table in tables for source, target, count in table.copies
        for number in (source * BLOCK, target * BLOCK, count)
    ]  # fmt: skip
    for table in tables:
        table.copies = []
    if all(table.contiguous for table in tables):
        # visible keys are the last n slots up to the new one
        return DecodeSlots(writes, [row + 1 - n for row, n in zip(writes, seen, strict=True)], seen, copies=copies)
    # (keys,): slots of all sequences, end to end
    index = slot_rows(tables, [(place + 1 - n, place + 1) for place, n in zip(places, seen, strict=True)], CPU)
    assert isinstance(index, torch.Tensor)  # a slice would be of one contiguous table, see above
    # each sequence begins in `index` where the one before ends
    return DecodeSlots(writes, list(accumulate(seen, initial=0))[:-1], seen, index, copies)


def _fits_head(head: Any, dtype: torch.dtype) -> bool:
    """Return whether the kernels compute a head's logits."""
    spec = None if head is None else describe(head)
    if spec is None or type(head) is not LanguageModel or not spec.complete or not head.scale > 0:
        return False
    # the kernels squeeze logits, and the scale is applied to what they return
    if spec.options - {"softcap"} or (spec.options and head.scale != 1.0):
        return False
    if head.packed is not None:
        return True
    return type(head.table) in (Embedding, ScaledEmbedding, Linear) and same_layout([head.table], dtype)
