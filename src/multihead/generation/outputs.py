"""Output classes of `generate` with return_dict_in_generate, named as in transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..heads.outputs import Output
from ..nn.forward_context import OutputCapture
from .strategies.base import GenerationJob, StepRecord

Steps = tuple[Tensor, ...]
Layers = tuple[tuple[Tensor, ...], ...]


class GenerateOutput(Output):
    """Base of the outputs of `generate`; no dataclass itself.

    Attributes:
        finish_reasons: why each text ended, "stop" or "length" (`stopping.Finish`). It is no field, since the
            reference's outputs have none: `keys`, indexing and unpacking leave it out.
    """

    finish_reasons: Sequence[str] = ()


@dataclass
class GenerateDecoderOnlyOutput(GenerateOutput):
    """Continuations of a decoder.

    Args:
        sequences: (texts, length), prompts included, padded on the right.
        scores, logits: a step each, (texts, vocabulary), after and before the logits processors; zero for a sequence
            that has ended.
        attentions: a step each, a layer each, (texts, heads, queries, keys), aligned on the right.
        hidden_states: a step each, a layer each, (texts, tokens read, width), aligned on the right.
    """

    sequences: Tensor
    scores: Steps | None = None
    logits: Steps | None = None
    attentions: Layers | None = None
    hidden_states: Layers | None = None


@dataclass
class GenerateEncoderDecoderOutput(GenerateOutput):
    """Targets of an encoder-decoder; fields as `GenerateDecoderOnlyOutput`'s.

    Args:
        encoder_attentions, encoder_hidden_states: of the source, a layer each, padded as it was given.
    """

    sequences: Tensor
    scores: Steps | None = None
    logits: Steps | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: Layers | None = None
    cross_attentions: Layers | None = None
    decoder_hidden_states: Layers | None = None


@dataclass
class GenerateBeamDecoderOnlyOutput(GenerateOutput):
    """Continuations found by beam search.

    Args:
        sequences_scores: (texts,), the sum of log-probabilities over length ** length_penalty.
        scores, logits: a step each, (texts * beams, vocabulary).
        beam_indices: (texts, new tokens), the beam that each token was chosen in; -1 past the end.
    """

    sequences: Tensor
    sequences_scores: Tensor | None = None
    scores: Steps | None = None
    logits: Steps | None = None
    beam_indices: Tensor | None = None
    attentions: Layers | None = None
    hidden_states: Layers | None = None


@dataclass
class GenerateBeamEncoderDecoderOutput(GenerateOutput):
    """Targets found by beam search; fields as `GenerateBeamDecoderOnlyOutput`'s."""

    sequences: Tensor
    sequences_scores: Tensor | None = None
    scores: Steps | None = None
    logits: Steps | None = None
    beam_indices: Tensor | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: Layers | None = None
    cross_attentions: Layers | None = None
    decoder_hidden_states: Layers | None = None


def transition_scores(
    sequences: Tensor, scores: Sequence[Tensor], beams: Tensor | None = None, normalize: bool = False
) -> Tensor:
    """Return the score of each new token, (texts, new tokens); 0 past a text's end.

    Args:
        sequences: (texts, length), prompts and new tokens. scores: of each step, (rows, vocabulary).
        beams: (texts, new tokens), the row that each token was chosen in (`beam_indices`); none without beam search.
        normalize: return log-probabilities of unnormalized scores.

    Raises:
        InvalidInput: no scores.
    """
    if not scores:
        raise InvalidInput("There are no scores; generate with return_dict_in_generate=True and output_scores=True.")
    steps = torch.stack(list(scores), 1)
    if normalize:
        past = ~steps.any(-1, keepdim=True)  # a text that has ended has zeros for scores
        steps = steps.log_softmax(-1).masked_fill(past, 0.0)
    if beams is None:
        tokens, rows = sequences[:, -len(scores) :], torch.arange(len(sequences))[:, None]
        return steps[rows, torch.arange(len(scores)), tokens]
    longest = int((beams >= 0).sum(-1).max())
    real, rows = beams[:, :longest] >= 0, beams[:, :longest].clamp(min=0).long()
    tokens = sequences[:, sequences.shape[1] - longest :]
    return steps[rows, torch.arange(longest), tokens].masked_fill(~real, 0.0)


def step_fields(jobs: Sequence[GenerationJob], rows: int, both: bool) -> dict[str, Any]:
    """Return the output's fields of the recorded steps. `rows`: sequences of a job in each step."""
    config = jobs[0].config
    steps = [[job.steps[i] if i < len(job.steps) else None for job in jobs] for i in range(count_steps(jobs))]
    fields: dict[str, Any] = {}
    if config.output_scores:
        fields["scores"] = tuple(stack_rows(step, "scores", rows) for step in steps)
    if config.output_logits:
        fields["logits"] = tuple(stack_rows(step, "logits", rows) for step in steps)
    before = "decoder_" if both else ""
    if config.output_attentions:
        fields[f"{before}attentions"] = tuple(stack_layers(step, "attentions", rows) for step in steps)
        if both:
            fields["cross_attentions"] = tuple(stack_layers(step, "cross_attentions", rows) for step in steps)
    if config.output_hidden_states:
        fields[f"{before}hidden_states"] = tuple(stack_layers(step, "hidden", rows) for step in steps)
    return fields


def beam_fields(jobs: Sequence[GenerationJob]) -> dict[str, Any]:
    """Return the output's fields of beam search."""
    best = [(number, text) for number, job in enumerate(jobs) for text in job.finished]
    size = jobs[0].config.num_beams or 1
    longest = max(len(text.beams) for _, text in best)
    beams = [[number * size + b for b in text.beams] + [-1] * (longest - len(text.beams)) for number, text in best]
    fields: dict[str, Any] = {"beam_indices": torch.tensor(beams, dtype=torch.int32)}
    if jobs[0].config.output_scores:
        fields["sequences_scores"] = torch.tensor([text.score for _, text in best])
    return fields


def count_steps(jobs: Sequence[GenerationJob]) -> int:
    return max(len(job.steps) for job in jobs)


def stack_rows(step: Sequence[StepRecord | None], name: str, rows: int) -> Tensor:
    """Return one step's tensor (jobs * rows, vocabulary), zero for sequences that have ended."""
    like = next(getattr(one, name) for one in step if one is not None)
    out = like.new_zeros(len(step) * rows, like.shape[1])
    for number, one in enumerate(step):
        if one is not None:
            out[[number * rows + row for row in one.numbers]] = getattr(one, name)
    return out


def stack_layers(step: Sequence[StepRecord | None], name: str, rows: int) -> tuple[Tensor, ...]:
    """Return one step's tensors, one a layer; each row is aligned on the right and padded with zeros."""
    placed: dict[int, list[Tensor]] = {}
    for number, one in enumerate(step):
        if one is not None:
            for row, record in zip(one.numbers, one.records, strict=True):
                placed[number * rows + row] = layer_tensors(record, name)
    count = len(next(iter(placed.values())))
    return tuple(align_right({row: seen[i] for row, seen in placed.items()}, len(step) * rows) for i in range(count))


def layer_tensors(record: OutputCapture, name: str) -> list[Tensor]:
    tensors = getattr(record, name)
    return list(tensors) if name == "hidden" else [texts[0] for texts in tensors]


def align_right(parts: dict[int, Tensor], rows: int) -> Tensor:
    """Return parts as one tensor (rows, ...), each aligned at the end of every axis."""
    some = next(iter(parts.values()))
    sizes = [max(part.shape[axis] for part in parts.values()) for axis in range(some.ndim)]
    out = some.new_zeros(rows, *sizes)
    for row, part in parts.items():
        out[row][tuple(slice(size - n, size) for size, n in zip(sizes, part.shape, strict=True))] = part
    return out


def pad_right(texts: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Return token lists as a tensor (texts, longest), padded on the right."""
    longest = max(map(len, texts), default=0)
    return torch.tensor([[*text, *[pad] * (longest - len(text))] for text in texts], dtype=torch.long)
