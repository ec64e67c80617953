"""Runs one model's forward passes and owns its KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...kernels.ragged import SequenceLayout
from ...nn.cache.block_pool import MemoryBudget
from ...nn.cache.store import BatchCache, KVCacheManager
from ...nn.encoder_output import EncoderOutput
from ...nn.forward_context import OutputCapture
from ...runtime.runner import DecoderModel, DecodeRunner, ForwardBatch
from ...runtime.select_runner import keep_idle_runner, select_runner, take_idle_runner
from .sequence import ForwardRequest, ForwardResult

Work = Sequence[tuple[ForwardRequest, int]]  # a request and how many of its unread tokens the pass reads


class ModelRunner:
    """Turns forward requests into batches for the model's decode runner.

    Args:
        budget: bytes of the KV cache, which several models may share. Without a limit the model's idle runner is used
            again, with what it has compiled.
        runner: the decode runner; None to choose one.
    """

    def __init__(self, model: DecoderModel, budget: MemoryBudget) -> None:
        self.model = model
        idle = take_idle_runner(model) if budget.total is None else None
        self.runner: DecodeRunner = self._new_runner(budget) if idle is None else idle
        self.store = self.runner.store
        self._encoded: tuple[list[EncoderOutput | None], EncoderOutput] | None = None

    def _new_runner(self, budget: MemoryBudget) -> DecodeRunner:
        # A text that lost its cache would be read in another way.
        if budget.total is not None and KVCacheManager(self.model.memories()).joint:
            raise InvalidInput("This family's texts cannot be read again, so it is not served from a limited KV cache.")
        probe = None if budget.total is None else self._probe()
        store = KVCacheManager(self.model.memories(), budget, probe, self.model.by_length)
        return select_runner(self.model, store)

    def _probe(self) -> KVCacheManager:
        """Return a cache that has read one token, whose layers know the bytes of a token."""
        store = KVCacheManager(self.model.memories())
        ids = torch.zeros(1, dtype=torch.long, device=self.model.device)  # (1,); any token, since only sizes matter
        with torch.inference_mode():
            encode = getattr(self.model, "encode_texts", None)  # of an encoder-decoder
            encoder_output = None if encode is None else encode([[0]])
            self.model.read(ids, SequenceLayout.packed((1,)), BatchCache(store, [store.begin()], encoder_output))
        return store

    def close(self) -> None:
        """Let the model keep the runner, whose sequences are all closed, where it may serve the next use."""
        if self.store.budget.total is None:
            keep_idle_runner(self.runner)

    def forward(self, work: Work) -> list[tuple[ForwardRequest, ForwardResult]]:
        """Run the passes over the next tokens of some requests; return results of those that are read to their end.

        Runners compute decode steps in another way than prompts, with other rounding. In a pass of their own, a text
        does not depend on whether a prompt is read beside it.
        """
        steps: list[tuple[ForwardRequest, int]] = []
        others: list[tuple[ForwardRequest, int]] = []
        for each in work:
            (steps if is_decode_step(each[0]) else others).append(each)
        results = self._pass(steps, is_decode=True) if steps else []
        return results + self._pass(others, is_decode=False) if others else results

    def _pass(self, work: Work, *, is_decode: bool) -> list[tuple[ForwardRequest, ForwardResult]]:
        batch = self._batch(work, is_decode)
        known = [request.sequence.cached.length for request, _ in work]
        output = self.runner.forward(batch)
        results, row, end = [], 0, 0
        for i, (request, _) in enumerate(work):
            sequence, count = request.sequence, batch.num_logits[i]
            sequence.cached.publish(sequence.tokens)
            begin, end = end, end + len(batch.tokens[i])  # rows of this sequence's new tokens in the hidden states
            if sequence.states is not None:
                recorded = None if batch.record is None else batch.record.hidden
                sequence.states.write_pass(known[i], output.hidden_states, recorded, slice(begin, end))
            if not count:  # part of a prompt, whose last token a later pass reads
                continue
            if request.record is not None and batch.record is not None:
                copy_record(batch.record, request.record, slice(begin, end), i)
            results.append(
                (request, ForwardResult(output, row, count, end, 1 if batch.is_decode else request.num_rows))
            )
            row += count  # rows of logits exist for requested tokens alone
        return results

    def _batch(self, work: Work, is_decode: bool) -> ForwardBatch:
        """Collect the inputs of a pass; a hot loop, so that nothing is called in it that need not be."""
        batch, records, features = ForwardBatch(is_decode=is_decode), list[OutputCapture](), list[Tensor]()
        if not is_decode and any(request.sequence.types is not None for request, _ in work):
            batch.segments = segments(work)
        lookahead, limit = 0, self.runner.max_steps - 1
        for request, new in work:
            sequence = request.sequence
            begin = sequence.cached.length
            unread = len(sequence.tokens) - begin  # a prompt may be read in several passes
            batch.sequences.append(sequence.cached)
            batch.tokens.append(sequence.tokens[begin : begin + new])
            batch.num_logits.append(request.num_logits if new == unread else 0)
            # one at least, so that no sequence is empty
            batch.num_states.append(min(request.num_rows, new) if new == unread else 1)
            if sequence.states is not None:
                batch.num_states[-1] = new
                records += [OutputCapture()] if sequence.states.layers else []
            if sequence.features is not None:
                features.append(sequence.features.states[begin : begin + new])
            if request.record is not None:
                records.append(request.record)
            # all sequences make the same number of steps, so the strictest limit holds
            lookahead, limit = max(lookahead, request.lookahead), min(limit, request.max_lookahead)
            batch.stop_tokens |= request.stop_tokens
        batch.steps = 1 + max(min(lookahead, limit), 0)
        if work[0][0].sequence.encoder_output is not None:
            batch.encoder_output = self._join_encoded(work)
        if features:
            batch.features = torch.cat(features)  # (tokens, width)
        if records:
            seen: Any = ([], []) if any(record.attentions is not None for record in records) else (None, None)
            batch.record = OutputCapture([], *seen)
        return batch

    def _join_encoded(self, work: Work) -> EncoderOutput:
        """Return the encoded sources of a batch as one, which is kept while the same sources come."""
        parts = [request.sequence.encoder_output for request, _ in work]
        # the sources of a running batch rarely change, and the join copies them
        if self._encoded is None or list(map(id, self._encoded[0])) != list(map(id, parts)):
            self._encoded = parts, EncoderOutput.concatenate([part for part in parts if part is not None])
        return self._encoded[1]


def segments(work: Work) -> list[int]:
    """Return the type of each token of a pass: those of prompts that begin in it, and 0."""
    out: list[int] = []
    for request, new in work:
        types = [] if request.sequence.cached.length else list(request.sequence.types or ())
        out += types[:new] + [0] * (new - len(types))
    return out


def is_decode_step(request: ForwardRequest) -> bool:
    """Return whether a request reads one token after cached ones, and needs its logits and last hidden state alone."""
    sequence = request.sequence
    cached = sequence.cached.length
    if sequence.states is not None and sequence.states.layers:
        return False
    return cached > 0 and len(sequence.tokens) - cached == 1 and request.num_rows == 1 and request.record is None


def copy_record(record: OutputCapture, target: OutputCapture, rows: slice, number: int) -> None:
    """Copy one sequence's part of a batch's record. `rows`: its tokens. `number`: its place in the batch."""
    if target.hidden is not None and record.hidden is not None:
        # (tokens, width) of each layer
        target.hidden.extend(x[rows] for x in record.hidden)
    pairs = ((target.attentions, record.attentions), (target.cross_attentions, record.cross_attentions))
    for own, batched in pairs:
        if own is not None and batched is not None:
            # (heads, queries, keys) of each layer
            own.extend([layer[number]] for layer in batched)
