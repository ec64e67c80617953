"""Parts of training loops of one's own: label smoothing, a sampler of similar lengths, wrapped models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from ..errors import InvalidInput

MEGA_BATCHES = 50  # batches that are sorted together, at most


@dataclass
class LabelSmoother:
    """Cross-entropy in which each wrong word has a share of `epsilon` (Szegedy et al., 2016, arXiv:1512.00567)."""

    epsilon: float = 0.1
    ignore_index: int = -100

    def __call__(
        self, model_output: Any, labels: Tensor, shift_labels: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            model_output: has `logits` (..., classes), or begins with them. labels: (...).
            shift_labels: the scores of a token are for the next one.
            num_items_in_batch: divides the sum of losses, instead of the number of labels that count.
        """
        named = isinstance(model_output, Mapping) or hasattr(model_output, "logits")
        logits: Tensor = model_output["logits"] if named else model_output[0]
        if shift_labels:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        labels = labels.reshape(logits.shape[:-1])
        counted = labels != self.ignore_index
        scores = -logits.log_softmax(-1)[counted]  # (labels that count, classes)
        right = scores.gather(-1, labels[counted][:, None]).sum()
        every = scores.sum(dtype=torch.float32) / logits.shape[-1]
        count = counted.sum() if num_items_in_batch is None else num_items_in_batch
        return ((1 - self.epsilon) * right + self.epsilon * every) / count


def get_length_grouped_indices(
    lengths: Sequence[int], batch_size: int, mega_batch_mult: int | None = None, generator: Any = None
) -> list[int]:
    """Return a random order of rows in which those of a batch have similar lengths, the longest row first.

    Args:
        mega_batch_mult: batches whose rows are sorted together.
    """
    together = mega_batch_mult or max(min(len(lengths) // (batch_size * 4), MEGA_BATCHES), 1)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    size = together * batch_size
    groups = [sorted(order[i : i + size], key=lengths.__getitem__, reverse=True) for i in range(0, len(order), size)]
    firsts = [lengths[group[0]] for group in groups]
    longest = firsts.index(max(firsts))
    groups[0][0], groups[longest][0] = groups[longest][0], groups[0][0]
    return [row for group in groups for row in group]


class LengthGroupedSampler(Sampler[int]):
    """Rows of a data set in random order, similar lengths together.

    Args:
        batch_size: rows of a batch. dataset: rows with the column `model_input_name`. lengths: of the rows, instead.
    """

    def __init__(
        self,
        batch_size: int,
        dataset: Any = None,
        lengths: Any = None,
        model_input_name: str | None = None,
        generator: Any = None,
    ) -> None:
        if dataset is None and lengths is None:
            raise InvalidInput("LengthGroupedSampler needs a dataset or the lengths of its rows.")
        name = model_input_name or "input_ids"
        if lengths is None and (not isinstance(dataset[0], Mapping) or name not in dataset[0]):
            raise InvalidInput(f"The rows of the dataset have no column {name!r}; give their lengths.")
        found = [len(row[name]) for row in dataset] if lengths is None else lengths
        self.lengths: list[int] = found.tolist() if isinstance(found, Tensor) else list(found)
        self.batch_size, self.generator = batch_size, generator

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=self.generator))


def unwrap_model(model: nn.Module, recursive: bool = False) -> nn.Module:
    """Return the model inside torch's wrappers for several devices."""
    while isinstance(getattr(model, "module", None), nn.Module) and type(model).__name__.endswith("Parallel"):
        model = model.module  # type: ignore[assignment]
    return model


def rotate_half(x: Tensor) -> Tensor:
    """Return (-second half, first half) of the last dimension."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def apply_rotary_pos_emb(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Return queries and keys turned by their positions' angles (arXiv:2104.09864).

    Args:
        q, k: (batch, heads, length, width). cos, sin: (batch, length, width).
        unsqueeze_dim: dimension of the heads.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def repeat_kv(hidden_states: Tensor, n_rep: int) -> Tensor:
    """Return keys or values (batch, heads * n_rep, length, width), each head `n_rep` times in a row."""
    return hidden_states.repeat_interleave(n_rep, dim=1)


def is_deepspeed_zero3_enabled() -> bool:
    """Return False: DeepSpeed is not used here."""
    return False


@dataclass
class InputExample:
    """A text, or a pair, with a label."""

    guid: str
    text_a: str
    text_b: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class InputFeatures:
    """The ids of a text, with a label."""

    input_ids: list[int]
    attention_mask: list[int] | None = None
    token_type_ids: list[int] | None = None
    label: int | float | None = None


class DataCollatorMixin:
    """Base of collators of one's own: `torch_call(examples)` makes the batch."""

    return_tensors = "pt"

    def __call__(self, features: Any, return_tensors: str | None = None) -> Any:
        """Return the batch of some rows. Raises InvalidInput for tensors other than torch's."""
        if (return_tensors or self.return_tensors) != "pt":
            raise InvalidInput("return_tensors is 'pt': batches are torch's tensors here.")
        return self.torch_call(features)

    def torch_call(self, examples: Any) -> Any:
        """Return the batch; a subclass must define it."""
        raise NotImplementedError(f"{type(self).__name__} must define torch_call(examples).")
