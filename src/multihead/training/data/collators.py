"""Data collators with the names of Transformers.

Called, a collator returns padded tensors, for a custom training loop. A Trainer reads only the settings of a collator,
such as the masking probability, and packs its batches without padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidInput, UnsupportedOption
from ...heads.losses import IGNORED
from .features import Example
from .masked_lm import NO_WORD, Masking, mask_tokens
from .tokenized import rename_labels

SEQUENCE_COLUMNS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "special_tokens_mask",
    "word_ids",
    "decoder_input_ids",
)

Batch = Sequence[Any] | Mapping[str, Sequence[Any]]  # examples, or columns of them


def _array(value: Any) -> np.ndarray:
    """Return an array; floats of Python become float32, as tensors of them are."""
    array = np.asarray(value)
    own = isinstance(value, (np.ndarray, np.generic, Tensor))
    return array.astype(np.float32) if array.dtype == np.float64 and not own else array


class Collator:
    """Pads examples to the longest example of a batch.

    Args:
        tokenizer: gives the padding token, the padding side and the token type of padding.
        padding: True or "longest", or "max_length" with `max_length`. pad_to_multiple_of: rounds the length up.
        label_pad_token_id: padding of token labels.
    """

    def __init__(
        self, tokenizer: Any = None, padding: bool | str = True, max_length: int | None = None,
        pad_to_multiple_of: int | None = None, return_tensors: str = "pt", label_pad_token_id: int = IGNORED,
    ) -> None:  # fmt: skip
        if return_tensors != "pt":
            raise UnsupportedOption(f"return_tensors {return_tensors!r}: batches are torch's tensors here, 'pt'.")
        self.tokenizer, self.padding, self.max_length = tokenizer, padding, max_length
        self.pad_to_multiple_of, self.label_pad_token_id = pad_to_multiple_of, label_pad_token_id

    def __call__(self, features: Batch, return_tensors: str = "pt") -> dict[str, Any]:
        """Return tensors (examples, longest) of the columns that all examples have, and an attention mask."""
        features = rows_of(features)
        if not features:
            raise InvalidInput("A batch needs an example.")
        shared = [name for name in features[0] if all(name in example for example in features)]
        batch: dict[str, Any] = {}
        for name, column in rename_labels(shared).items():
            values = [_array(example[name]) for example in features]
            if values[0].dtype.kind not in "iufb":
                continue
            batch[column] = self._column(column, values)
        if "input_ids" in batch and "attention_mask" not in batch:
            lengths = [len(example["input_ids"]) for example in features]
            batch["attention_mask"] = self._pad([np.ones(n, dtype=np.int64) for n in lengths], 0)
        return batch

    def _column(self, name: str, values: list[np.ndarray]) -> Tensor:
        if values[0].ndim == 1 and (name in SEQUENCE_COLUMNS or len({len(v) for v in values}) > 1 or name == "labels"):
            fill = {"input_ids": self._pad_id, "decoder_input_ids": self._pad_id, "labels": self.label_pad_token_id}
            fill |= {"token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0), "special_tokens_mask": 1}
            return self._pad(values, fill.get(name, 0))
        stacked = torch.from_numpy(np.stack(values))
        return stacked if stacked.is_floating_point() else stacked.long()

    @property
    def _pad_id(self) -> int:
        pad = getattr(self.tokenizer, "pad_token_id", None)
        return 0 if pad is None else int(pad)

    def _pad(self, values: list[np.ndarray], fill: int) -> Tensor:
        longest = max(len(v) for v in values)
        if self.padding == "max_length" and self.max_length is not None:
            longest = max(longest, self.max_length)
        if self.pad_to_multiple_of:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        floats = values[0].dtype.kind == "f"
        out = np.full((len(values), longest), fill, dtype=np.float32 if floats else np.int64)
        left = getattr(self.tokenizer, "padding_side", "right") == "left"
        for row, value in zip(out, values, strict=True):
            row[slice(longest - len(value), longest) if left else slice(0, len(value))] = value
        return torch.from_numpy(out)


def rows_of(features: Batch) -> Sequence[Any]:
    """Return examples, also from a mapping of columns (`dataset[:8]`). Raises InvalidInput for unequal columns."""
    if not isinstance(features, Mapping):
        return features
    lengths = {name: len(values) for name, values in features.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"Columns of a batch have as many rows each; these have {lengths}.")
    return [dict(zip(features, row, strict=True)) for row in zip(*features.values(), strict=True)]


class DataCollatorWithPadding(Collator):
    """Pads the columns that a tokenizer returns."""


class DataCollatorForTokenClassification(Collator):
    """Pads token labels too, with -100."""


class DataCollatorForSeq2Seq(Collator):
    """Pads sources and targets. An encoder-decoder as `model` adds `decoder_input_ids`, its labels one place later."""

    def __init__(self, tokenizer: Any = None, model: Any = None, **options: Any) -> None:
        super().__init__(tokenizer, **options)
        self.model = model

    def __call__(self, features: Batch, return_tensors: str = "pt") -> dict[str, Any]:
        """Return the batch of `Collator`, with the decoder's inputs where there are labels and a model."""
        batch = super().__call__(features, return_tensors)
        prepare = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        if prepare is not None and "labels" in batch and "decoder_input_ids" not in batch:
            batch["decoder_input_ids"] = prepare(labels=batch["labels"])
        return batch


class DefaultDataCollator(Collator):
    """Stacks examples of equal length."""

    def __init__(self, return_tensors: str = "pt") -> None:
        super().__init__(None, return_tensors=return_tensors)


class DataCollatorWithFlattening(Collator):
    """Joins all examples of a batch in one row without padding; `position_ids` restart at each.

    A causal decoder reads such a row as several sequences.

    Args:
        return_position_ids: without them, a model reads one long sequence.
        separator_id: label of the first token of each example, which nothing predicts.
        return_flash_attn_kwargs: also begins and the greatest length, as `cu_seq_lens_q` and `max_length_q`, and the
            same for `k`. Models here need only the positions.
        return_seq_idx: also the number of each token's example. position_ids_start: first position of each example.
    """

    def __init__(
        self, *, return_position_ids: bool = True, separator_id: int = IGNORED, return_flash_attn_kwargs: bool = False,
        return_seq_idx: bool = False, position_ids_start: int = 0, return_tensors: str = "pt",
    ) -> None:  # fmt: skip
        super().__init__(return_tensors=return_tensors)
        self.return_position_ids, self.separator_id = return_position_ids, separator_id
        self.return_flash_attn_kwargs, self.return_seq_idx = return_flash_attn_kwargs, return_seq_idx
        self.position_ids_start = position_ids_start

    def __call__(self, features: Batch, return_tensors: str = "pt", separator_id: int | None = None) -> dict[str, Any]:
        """Return tensors (1, tokens). Labels are the ids where the examples have none."""
        features = rows_of(features)
        if not features:
            raise InvalidInput("A batch needs an example.")
        first = self.separator_id if separator_id is None else separator_id
        ids = [torch.as_tensor(example["input_ids"]).long() for example in features]
        labels = [torch.as_tensor(example.get("labels", example["input_ids"])).long().clone() for example in features]
        for one in labels:
            one[:1] = first
        lengths = [len(one) for one in ids]
        batch: dict[str, Any] = {"input_ids": torch.cat(ids)[None], "labels": torch.cat(labels)[None]}
        if self.return_position_ids:
            batch["position_ids"] = torch.cat([torch.arange(n) + self.position_ids_start for n in lengths])[None]
        if self.return_seq_idx:
            numbers = torch.arange(len(lengths), dtype=torch.int32)
            batch["seq_idx"] = numbers.repeat_interleave(torch.tensor(lengths))[None]
        if self.return_flash_attn_kwargs:
            ends = torch.tensor([0, *lengths]).cumsum(0).int()
            batch |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
            batch |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
        return batch


def default_data_collator(features: Sequence[Example], return_tensors: str = "pt") -> dict[str, Any]:
    """Stack examples of equal length."""
    return DefaultDataCollator(return_tensors)(features)


class DataCollatorForLanguageModeling(Collator):
    """Labels for masked (Devlin et al., 2018) or causal language modelling.

    Args:
        tokenizer: gives the mask token and the special tokens. mlm: masked language modelling; False for causal.
        mlm_probability: probability of selecting a token. mask_replace_prob, random_replace_prob: share of selected
            tokens replaced by the mask token and by a random token. whole_word_mask: select the tokens of a word
            together; examples need `word_ids`, or a tokenizer whose pieces inside a word begin with ##.
        seed: of the masking in direct calls; a Trainer masks by its own seed, the epoch and the example.

    Raises:
        InvalidInput: the tokenizer has no mask token, or the probabilities are invalid.
    """

    def __init__(
        self, tokenizer: Any, mlm: bool = True, mlm_probability: float = 0.15, mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1, whole_word_mask: bool = False, pad_to_multiple_of: int | None = None,
        return_tensors: str = "pt", seed: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tokenizer, pad_to_multiple_of=pad_to_multiple_of, return_tensors=return_tensors)
        if whole_word_mask and not mlm:
            raise UnsupportedOption("whole_word_mask hides words, which mlm=False does not do; leave one of them out.")
        self.mlm, self.calls = mlm, 0
        self.seed = int(np.random.default_rng(seed).integers(2**31))
        self.special = tuple(getattr(tokenizer, "all_special_ids", ()))
        self.masking = None if not mlm else Masking.of(
            tokenizer, probability=mlm_probability, hidden=mask_replace_prob, replaced=random_replace_prob,
            whole_words=whole_word_mask,
        )  # fmt: skip

    def __call__(self, features: Batch, return_tensors: str = "pt") -> dict[str, Any]:
        """Return padded tensors with `labels`, of examples or of lists of ids."""
        features = rows_of(features)
        self.calls += 1
        examples = [e if isinstance(e, Mapping) else {"input_ids": e} for e in features]
        labeled = [self.add_labels(example, (self.seed, self.calls, n)) for n, example in enumerate(examples)]
        return super().__call__(labeled, return_tensors)

    def add_labels(self, example: Example, seed: tuple[int, ...]) -> dict[str, Any]:
        """Return an example with labels; with `mlm`, `seed` determines the masked tokens."""
        columns = {k: v for k, v in example.items() if k not in ("labels", "word_ids", "special_tokens_mask")}
        if self.masking is None:
            ids, real = np.asarray(example["input_ids"]), np.asarray(example.get("attention_mask", 1))
            return {**columns, "labels": np.where(real != 0, ids, IGNORED)}
        ids, labels = mask_tokens({**example, "word_ids": self._word_ids(example)}, seed, self.masking)
        return {**columns, "input_ids": ids, "labels": labels}

    def _word_ids(self, example: Example) -> np.ndarray:
        """Return the word number of each token (tokens,), -1 for tokens that must not be masked."""
        if "word_ids" in example:
            return np.asarray([NO_WORD if word is None else word for word in example["word_ids"]])
        ids = np.asarray(example["input_ids"])
        special = np.asarray(example.get("special_tokens_mask", np.isin(ids, self.special))) != 0
        begins = np.ones(len(ids), dtype=bool)
        if self.masking is not None and self.masking.whole_words:
            begins = np.array([not t.startswith("##") for t in self.tokenizer.convert_ids_to_tokens(ids.tolist())])
        special |= np.asarray(example.get("attention_mask", np.ones(len(ids)))) == 0
        return np.where(special, NO_WORD, np.cumsum(begins))


class DataCollatorForMultipleChoice(Collator):
    """Pads examples with one sequence for each choice, to tensors (examples, choices, longest)."""

    def __call__(self, features: Batch, return_tensors: str = "pt") -> dict[str, Any]:
        """Return padded tensors. Raises InvalidInput for examples with unequal numbers of choices."""
        features = rows_of(features)
        counts = {len(example["input_ids"]) for example in features}
        if len(counts) > 1:
            raise InvalidInput(f"Examples of a batch must have equal numbers of choices; these have {sorted(counts)}.")
        count = counts.pop() if counts else 0
        label_columns = {n for n in (features[0] if features else ()) if n in ("label", "labels", "label_ids")}
        flat = [
            {name: value[choice] for name, value in example.items() if name not in label_columns}
            for example in features
            for choice in range(count)
        ]
        batch = {name: value.view(len(features), count, -1) for name, value in super().__call__(flat).items()}
        for name in label_columns:
            batch["labels"] = torch.tensor([int(example[name]) for example in features])
        return batch


def padding_collator(tokenizer: Any, model: Any) -> Collator:
    """Return the collator for a model whose batches must be padded."""
    kind = getattr(model, "head_type", None)
    return DataCollatorForMultipleChoice(tokenizer) if kind is not None and kind.choices else Collator(tokenizer)
