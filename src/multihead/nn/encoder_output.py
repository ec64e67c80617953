"""The output of an encoder, as a decoder's cross-attention layers read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..kernels.ragged import SequenceLayout


@dataclass(frozen=True)
class EncoderOutput:
    """An encoder's hidden states, read by every cross-attention layer of a decoder.

    Args:
        hidden: (source tokens, width). runs: the sequences of the source, one for each target sequence.
        ids: (source tokens,), for heads that search the source for a token.
        parts: the batches that this one concatenates.
    """

    hidden: Tensor
    runs: SequenceLayout
    ids: Tensor | None = None
    parts: tuple[EncoderOutput, ...] = ()
    _projected: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def concatenate(cls, sources: Sequence[EncoderOutput]) -> EncoderOutput:
        """Return the sources of several batches as one, in this order. Sources of a single batch are not copied."""
        bases = {id(source.hidden): source for source in sources}
        offsets = dict(
            zip(bases, SequenceLayout.packed(tuple(b.hidden.shape[0] for b in bases.values())).begins, strict=True)
        )
        begins = tuple(offsets[id(s.hidden)] + begin for s in sources for begin in s.runs.begins)
        runs = SequenceLayout(begins, tuple(length for s in sources for length in s.runs.lengths))
        parts = tuple(bases.values())
        if len(parts) == 1:
            return replace(parts[0], runs=runs)
        ids = [part.ids for part in parts if part.ids is not None]
        hidden = torch.cat([part.hidden for part in parts])
        return cls(hidden, runs, torch.cat(ids) if len(ids) == len(parts) else None, parts)

    def project(self, owner: nn.Module, project: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the keys and values of one cross-attention layer, computed on its first call only."""
        if owner not in self._projected and self.parts:
            each = [part.project(owner, project) for part in self.parts]
            self._projected[owner] = torch.cat([k for k, _ in each]), torch.cat([v for _, v in each])
        elif owner not in self._projected:
            self._projected[owner] = project(self.hidden)
        return self._projected[owner]

    def select(self, texts: Tensor) -> EncoderOutput:
        """Return the sources of these sequences, in this order, without a copy of their states."""
        begins, lengths = self.runs.begins, self.runs.lengths
        chosen = texts.tolist()
        return replace(self, runs=SequenceLayout(tuple(begins[t] for t in chosen), tuple(lengths[t] for t in chosen)))
