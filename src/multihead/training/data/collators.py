"""Padded batches of examples, under the names that users of the reference know.

Given to a Trainer, these stand for what they mean (which words are hidden, say), and nothing is padded. Called, they
give padded tensors, for a loop of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidInput, UnsupportedOption
from ...heads.losses import IGNORED
from ..objectives.packed_batch import Example
from ..objectives.token import NextWords, Objective, Words
from .masked_lm import SPECIAL, Masking, mask
from .tokenized import renamed

RAGGED = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "special_tokens_mask",
    "word_ids",
    "decoder_input_ids",
)

Batch = Sequence[Any] | Mapping[str, Sequence[Any]]  # examples, or columns of them


class Collator:
    """Pads examples to the longest of a batch.

    Args:
        tokenizer: whose padding token, padding side and type of padding are used.
        padding: True or "longest". max_length: with padding="max_length". pad_to_multiple_of: of the length.
        label_pad_token_id: of labels a token.
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
        """Tensors (examples, longest) of every column that all examples have, with their attention mask."""
        features = rows_of(features)
        if not features:
            raise InvalidInput("A batch needs an example.")
        shared = [name for name in features[0] if all(name in example for example in features)]
        batch: dict[str, Any] = {}
        for name, own in renamed(shared).items():
            values = [np.asarray(example[name]) for example in features]
            if values[0].dtype.kind not in "iufb":
                continue
            batch[own] = self._column(own, values)
        if "input_ids" in batch and "attention_mask" not in batch:
            lengths = [len(example["input_ids"]) for example in features]
            batch["attention_mask"] = self._padded([np.ones(n, dtype=np.int64) for n in lengths], 0)
        return batch

    def dressed(self, objective: Objective) -> Objective:
        """The objective with what this collator means."""
        return objective

    def _column(self, name: str, values: list[np.ndarray]) -> Tensor:
        if values[0].ndim == 1 and (name in RAGGED or len({len(v) for v in values}) > 1 or name == "labels"):
            fill = {"input_ids": self._pad, "decoder_input_ids": self._pad, "labels": self.label_pad_token_id}
            fill |= {"token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0), "special_tokens_mask": 1}
            return self._padded(values, fill.get(name, 0))
        stacked = torch.from_numpy(np.stack(values))
        return stacked if stacked.is_floating_point() else stacked.long()

    @property
    def _pad(self) -> int:
        found = getattr(self.tokenizer, "pad_token_id", None)
        return 0 if found is None else int(found)

    def _padded(self, values: list[np.ndarray], fill: int) -> Tensor:
        longest = max(len(v) for v in values)
        if self.padding == "max_length" and self.max_length is not None:
            longest = max(longest, self.max_length)
        if self.pad_to_multiple_of:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        floats = values[0].dtype.kind == "f"
        out = np.full((len(values), longest), fill, dtype=np.float32 if floats else np.int64)
        left = getattr(self.tokenizer, "padding_side", "right") == "left"
        for row, value in zip(out, values, strict=True):
            place = slice(longest - len(value), longest) if left else slice(0, len(value))
            row[place] = value
        return torch.from_numpy(out)


def rows_of(features: Batch) -> Sequence[Any]:
    """Examples, also of a mapping of columns (`dataset[:8]`). Raises InvalidInput for columns of unlike lengths."""
    if not isinstance(features, Mapping):
        return features
    lengths = {name: len(values) for name, values in features.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"Columns of a batch have as many rows each; these have {lengths}.")
    return [dict(zip(features, row, strict=True)) for row in zip(*features.values(), strict=True)]


class DataCollatorWithPadding(Collator):
    """Pads what the tokenizer gave."""


class DataCollatorForTokenClassification(Collator):
    """Pads labels a token too, with -100."""


class DataCollatorForSeq2Seq(Collator):
    """Pads sources and targets; a model, where given, makes the decoder's inputs by itself."""

    def __init__(self, tokenizer: Any = None, model: Any = None, **options: Any) -> None:
        super().__init__(tokenizer, **options)
        self.model = model


class DefaultDataCollator(Collator):
    """Stacks examples of one length."""

    def __init__(self, return_tensors: str = "pt") -> None:
        super().__init__(None, return_tensors=return_tensors)


def default_data_collator(features: Sequence[Example], return_tensors: str = "pt") -> dict[str, Any]:
    """Stacks examples of one length."""
    return DefaultDataCollator(return_tensors)(features)


class DataCollatorForLanguageModeling(Collator):
    """Hides words of a text, which are learned (Devlin et al., 2018), or makes every word of it the one to learn.

    Args:
        tokenizer: whose mask token and special tokens are used. mlm: whether words are hidden.
        mlm_probability: of a token to be chosen. mask_replace_prob, random_replace_prob: share of the chosen that are
            hidden, and that a random token replaces. whole_word_mask: a word's tokens are chosen together; examples
            need `word_ids`, or a tokenizer whose pieces inside a word begin with ##.
        seed: of what is hidden when this is called; a Trainer draws from its own seed, epoch and example.

    Raises:
        InvalidInput: the tokenizer has no mask token, or shares that cannot be.
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
        """Padded tensors of examples, or of lists of ids, with `labels`."""
        features = rows_of(features)
        self.calls += 1
        examples = [e if isinstance(e, Mapping) else {"input_ids": e} for e in features]
        made = [self.ready(example, (self.seed, self.calls, n)) for n, example in enumerate(examples)]
        return super().__call__(made, return_tensors)

    def dressed(self, objective: Objective) -> Objective:
        """Raises UnsupportedOption for a model that learns something else than words."""
        kind = Words if self.mlm else NextWords
        if type(objective) is not kind:
            raise UnsupportedOption(
                f"DataCollatorForLanguageModeling(mlm={self.mlm}) is for models of "
                f"AutoModelFor{'MaskedLM' if self.mlm else 'CausalLM'}, not for {type(objective.model).__name__}."
            )
        if self.mlm:
            return HiddenWords(objective.model, objective.smoothing, self)
        return EveryNextWord(objective.model, objective.smoothing)

    def ready(self, example: Example, seed: tuple[int, ...]) -> dict[str, Any]:
        """An example with its labels, as `seed` hides it."""
        kept = {k: v for k, v in example.items() if k not in ("labels", "word_ids", "special_tokens_mask")}
        if self.masking is None:
            ids, real = np.asarray(example["input_ids"]), np.asarray(example.get("attention_mask", 1))
            return {**kept, "labels": np.where(real != 0, ids, IGNORED)}
        ids, labels = mask({**example, "word_ids": self._words(example)}, seed, self.masking)
        return {**kept, "input_ids": ids, "labels": labels}

    def _words(self, example: Example) -> np.ndarray:
        """(tokens,): the number of each token's word, -1 where none may be hidden."""
        if "word_ids" in example:
            return np.asarray([SPECIAL if word is None else word for word in example["word_ids"]])
        ids = np.asarray(example["input_ids"])
        framing = np.asarray(example.get("special_tokens_mask", np.isin(ids, self.special))) != 0
        begins = np.ones(len(ids), dtype=bool)
        if self.masking is not None and self.masking.whole_words:
            begins = np.array([not t.startswith("##") for t in self.tokenizer.convert_ids_to_tokens(ids.tolist())])
        framing |= np.asarray(example.get("attention_mask", np.ones(len(ids)))) == 0
        return np.where(framing, SPECIAL, np.cumsum(begins))


class HiddenWords(Words):
    """Words that a collator hides anew each time that an example is read."""

    columns = ("input_ids",)

    def __init__(self, model: Any, smoothing: float, collator: DataCollatorForLanguageModeling) -> None:
        super().__init__(model, smoothing)
        self.collator = collator

    def ready(self, example: Example, seed: tuple[int, int, int]) -> Example:
        return self.collator.ready(example, seed)


class EveryNextWord(NextWords):
    """The word after each word, whatever labels examples have."""

    def ready(self, example: Example, seed: tuple[int, int, int]) -> Example:
        return {name: value for name, value in example.items() if name != "labels"}


class DataCollatorForMultipleChoice(Collator):
    """Pads examples whose columns have a run for each choice: tensors (examples, choices, longest)."""

    def __call__(self, features: Batch, return_tensors: str = "pt") -> dict[str, Any]:
        """Raises InvalidInput for examples with unlike numbers of choices."""
        features = rows_of(features)
        counts = {len(example["input_ids"]) for example in features}
        if len(counts) > 1:
            raise InvalidInput(f"Examples of a batch must have as many choices each; these have {sorted(counts)}.")
        count = counts.pop() if counts else 0
        whole = {n for n in (features[0] if features else ()) if n in ("label", "labels", "label_ids")}
        flat = [
            {name: value[choice] for name, value in example.items() if name not in whole}
            for example in features
            for choice in range(count)
        ]
        batch = {name: value.view(len(features), count, -1) for name, value in super().__call__(flat).items()}
        for name in whole:
            batch["labels"] = torch.tensor([int(example[name]) for example in features])
        return batch


def padded(tokenizer: Any, model: Any) -> Collator:
    """What pads for a model whose batches must be padded."""
    kind = getattr(model, "head_type", None)
    return DataCollatorForMultipleChoice(tokenizer) if kind is not None and kind.choices else Collator(tokenizer)
