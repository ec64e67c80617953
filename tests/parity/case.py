"""What a row of the parity tests says, and what follows from it: a checkpoint, a batch, labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

import multihead
from multihead.heads.head_types import HEAD_TYPES
from multihead.models.common.registry import find_class

WORDS = 99  # vocabulary of all tiny models; the last word is never drawn
WRITES = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


@dataclass(frozen=True)
class Case:
    """One config of one family.

    Args:
        make: the reference's config. ends: of the class names to compare.
        stem: of the class names, where it is not the config's. alike: of the reference's, where these are not ours.
        absolute: positions are absolute, so the reference's numbers depend on padding at the left.
        counts_pads: pads count as tokens in the reference's sums over tokens, in `generate`, too.
        fixed: parts of the names of parameters that are derived and must keep their values.
        std: of the random weights. tolerance: of the largest magnitude.
        segments: how many token types to give; 0 for none.
        lengths: of the texts of a batch; equal where the reference lets padding into its numbers.
        extra: (batch, end) -> more inputs of the model's own.
        hidden, attentions: whether the family shows them. backend: of the reference's attention.
        left_out: outputs of the reference that are not compared; say why in the row.
        chunks: whether a decoder may be read piece by piece; greedy: whether the reference's own `generate` is right.
        beams: whether its beam search is.
        loss: whether losses are compared. half: whether the reference computes in bfloat16.
        unused: parts of the names of tensors that the reference stores for a class and never reads.
        reloads: whether the reference loads what it should; say why not in the row.
        altered: changes the reference's random model before it is saved.
    """

    name: str
    make: Callable[[], Any]
    ends: tuple[str, ...]
    stem: str = ""
    alike: str = ""
    absolute: bool = False
    counts_pads: bool = False
    fixed: tuple[str, ...] = ()
    std: float = 0.25
    tolerance: float = 2e-5
    segments: int = 0
    extra: Callable[[dict[str, torch.Tensor], str], dict[str, Any]] = lambda inputs, end: {}
    lengths: tuple[int, ...] = (11, 7, 4)
    hidden: bool = True
    attentions: bool = True
    backend: str = "eager"
    left_out: tuple[str, ...] = ()
    chunks: bool = True
    greedy: bool = True
    beams: bool = True
    loss: bool = True
    half: bool = True
    unused: tuple[str, ...] = ()
    reloads: bool = True
    altered: Callable[[Any, str], None] = lambda model, end: None

    @cached_property
    def made(self) -> Any:
        """The reference's config, made once: to read, not to change."""
        return self.make()

    def config(self, end: str) -> Any:
        """A config of a model's own; question answering has two labels, whatever the config says."""
        config = self.make()
        if end in ("ForQuestionAnswering", "ForQuestionAnsweringSimple"):
            config.num_labels = 2
        return config

    @property
    def family(self) -> str:
        return self.stem or type(self.made).__name__.removesuffix("Config")

    def peer(self, end: str) -> Any:
        """The reference's class."""
        return getattr(transformers, (self.alike or self.family) + end)

    def reads_a_source(self, end: str) -> bool:
        """Whether a class is an encoder-decoder."""
        alone = ("ForCausalLM", "Encoder", "EncoderModel", "ForTokenClassification")
        return bool(self.made.is_encoder_decoder) and end not in alone


def kind(case: Case, end: str) -> str:
    """The Auto class of a class."""
    found = find_class(case.family + end)
    return HEAD_TYPES[found[1]].auto if found and found[1] in HEAD_TYPES else ""


def writes(case: Case, end: str) -> bool:
    """Whether a class continues texts."""
    return kind(case, end) in WRITES


def reference(case: Case, end: str, seed: int = 0) -> Any:
    """The reference's model with *every* parameter random: fresh norms and biases would hide a wrong map."""
    torch.manual_seed(seed)
    kind = case.peer(end)
    model = kind._from_config(case.config(end), attn_implementation=case.backend)  # some cannot change it later
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not any(part in name for part in case.fixed):
                parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, case.std)
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.normal_()
        case.altered(model, end)
    return model.eval()


def eager(model: Any) -> None:
    """The reference's plain attention, where it has a choice."""
    with suppress(ValueError, AttributeError):
        model.set_attn_implementation("eager")


def ours(case: Case, end: str, path: Path, **options: Any) -> Any:
    """Our model of a checkpoint, one of its own for tests that change it."""
    return getattr(multihead, case.family + end).from_pretrained(path, **options)


def batch(
    case: Case, end: str, *, side: str = "right", lengths: tuple[int, ...] | None = None
) -> dict[str, torch.Tensor]:
    """A padded batch, with every input that the class takes."""
    torch.manual_seed(1)
    lengths = lengths or case.lengths
    config, longest = case.made, max(lengths)
    ids = torch.randint(1, WORDS - 1, (len(lengths), longest))
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
        if side == "left":
            mask[row] = mask[row].flip(0)
    inputs = {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id or 0), "attention_mask": mask}
    if case.segments:
        inputs["token_type_ids"] = torch.randint(0, case.segments, ids.shape) * mask
    if case.reads_a_source(end) and end not in (
        "ForSequenceClassification",
        "ForQuestionAnswering",
    ):  # source is target
        inputs["decoder_input_ids"] = torch.randint(1, WORDS - 1, (len(lengths), 6))
    inputs |= case.extra(inputs, end)
    if end == "ForMultipleChoice":
        inputs = {k: torch.stack([v, v.flip(0)], 1) for k, v in inputs.items()}
    return inputs


def labels(case: Case, end: str, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels at real tokens only: what is padding is never computed here."""
    torch.manual_seed(2)
    count, config = mask.shape[0], case.made
    words = torch.randint(1, WORDS - 1, mask.shape).masked_fill(mask == 0, -100)
    auto = kind(case, end)
    if case.family == "Tapas" and end == "ForQuestionAnswering":  # the tokens of one cell, of none, of two
        cells = torch.zeros_like(mask)
        cells[0, 5:7], cells[2, 5:7], cells[2, 3:5] = 1, 1, 1
        return {"labels": cells * mask, "aggregation_labels": torch.tensor([1, 0, 3])[:count]}
    if case.reads_a_source(end) and auto in WRITES:
        return {"labels": torch.randint(1, WORDS - 1, (count, 6))}
    if auto in ("AutoModelForMaskedLM", *WRITES):
        return {"labels": words}
    if auto == "AutoModelForTokenClassification":
        return {"labels": torch.where(words < 0, words, words % config.num_labels)}
    if end == "ForPreTraining":
        name = {
            "Albert": "sentence_order_label",
            "Bert": "next_sentence_label",
            "BigBird": "next_sentence_label",
            "Ernie": "next_sentence_label",
            "MegatronBert": "next_sentence_label",
            "FNet": "next_sentence_label",
            "MobileBert": "next_sentence_label",
        }.get(case.family)
        if name is None:  # a detector of replaced tokens
            return {"labels": torch.where(words < 0, words, words % 2)}
        return {"labels": words, name: torch.randint(0, 2, (count,))}
    if auto == "AutoModelForQuestionAnswering":
        return {"start_positions": torch.tensor([1] * count), "end_positions": torch.tensor([3] * count)}
    if auto in ("AutoModelForSequenceClassification", "AutoModelForNextSentencePrediction",
                "AutoModelForMultipleChoice"):  # fmt: skip
        return {"labels": torch.randint(0, 2, (count,))}
    return {}
