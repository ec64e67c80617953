"""Names of version 4 that version 5 of the reference has not, each with one warning that says what is used today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedOption, warn
from ..training.data.collators import DataCollatorForLanguageModeling
from .logits import TopKLogitsWarper, TopPLogitsWarper


def older(name: str, current: str) -> None:
    """Warn that a name is an older one."""
    warn(f"{name} is of an older version; use {current}.", FutureWarning)


class AdamW(torch.optim.AdamW):
    """torch's AdamW with the defaults of the older class: no weight decay, and 1e-6 for `eps`.

    The older class decays weights after an update and torch's before it; the two differ by the square of the rate.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        no_deprecation_warning: bool = False,
    ) -> None:
        if not correct_bias:
            raise UnsupportedOption("AdamW: correct_bias=False is not computed here; leave it out.")
        if not no_deprecation_warning:
            older("AdamW", "torch.optim.AdamW")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


class DataCollatorForWholeWordMask(DataCollatorForLanguageModeling):
    """Hides whole words: `DataCollatorForLanguageModeling(whole_word_mask=True)`."""

    def __init__(self, tokenizer: Any = None, *args: Any, **options: Any) -> None:
        older("DataCollatorForWholeWordMask", "DataCollatorForLanguageModeling(whole_word_mask=True)")
        super().__init__(tokenizer, *args, **{"whole_word_mask": True, **options})


def top_k_top_p_filtering(
    logits: Tensor, top_k: int = 0, top_p: float = 1.0, filter_value: float = -float("inf"), min_tokens_to_keep: int = 1
) -> Tensor:
    """Return logits (sequences, vocabulary) with only the `top_k` best, and of these the fewest that reach `top_p`."""
    older("top_k_top_p_filtering", "TopKLogitsWarper and TopPLogitsWarper")
    ids = logits.new_empty((logits.shape[0], 0), dtype=torch.long)
    if top_k > 0:
        logits = TopKLogitsWarper(top_k, filter_value, min_tokens_to_keep)(ids, logits)
    if 0 <= top_p <= 1.0:
        logits = TopPLogitsWarper(top_p, filter_value, min_tokens_to_keep)(ids, logits)
    return logits


class LineByLineTextDataset(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The lines of a text file that are not empty, each cut to `block_size` tokens."""

    def __init__(self, tokenizer: Any, file_path: str, block_size: int) -> None:
        older("LineByLineTextDataset", "a data set with `map` and a tokenizer")
        lines = [line for line in Path(file_path).read_text(encoding="utf-8").splitlines() if line.strip()]
        found = tokenizer(lines, add_special_tokens=True, truncation=True, max_length=block_size)["input_ids"]
        self.examples = [{"input_ids": torch.tensor(ids, dtype=torch.long)} for ids in found]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return self.examples[i]
