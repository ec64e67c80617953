"""Watermarks: a key and the last tokens select a green list, whose scores rise (Kirchenbauer et al., 2023,
arXiv:2301.10226; the hash that looks at the token itself: arXiv:2306.04634)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidInput, UnsupportedOption, nearest

PRIME = 1_000_003  # entries of the hash's table
TRIES = 40  # most likely tokens that "selfhash" tries
DEFAULTS: Mapping[str, Any] = {
    "greenlist_ratio": 0.25,
    "bias": 2.0,
    "hashing_key": 15485863,
    "seeding_scheme": "lefthash",
    "context_width": 1,
}


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a watermark's settings, with defaults filled in.

    Raises:
        UnsupportedOption: an unknown setting. InvalidInput: a value that makes no watermark.
    """
    unknown = next((name for name in given if name not in DEFAULTS), None)
    if unknown is not None:
        raise UnsupportedOption(f"{unknown!r} is no setting of watermarking_config. {nearest(unknown, DEFAULTS)}")
    known = {**DEFAULTS, **given}
    if known["seeding_scheme"] not in ("lefthash", "selfhash"):
        raise InvalidInput(f"seeding_scheme must be 'lefthash' or 'selfhash', not {known['seeding_scheme']!r}.")
    if not 0 < known["greenlist_ratio"] < 1:
        raise InvalidInput(f"greenlist_ratio must be between 0 and 1, not {known['greenlist_ratio']!r}.")
    if not isinstance(known["context_width"], int) or known["context_width"] < 1:
        raise InvalidInput(f"context_width must be at least 1, not {known['context_width']!r}.")
    return known


class Watermark:
    """Green lists of one key.

    Args:
        vocabulary: number of tokens.
    """

    def __init__(self, given: Any, vocabulary: int) -> None:
        self.settings, self.vocabulary = settings(given), vocabulary
        self.draw = torch.Generator().manual_seed(self.settings["hashing_key"])
        self.table = torch.randperm(PRIME, generator=self.draw)  # (PRIME,)

    def green_list(self, text: Sequence[int]) -> Tensor:
        """Return the green list after a sequence that ends with `text`."""
        # recent: (context width,)
        key, recent = self.settings["hashing_key"], torch.tensor(text[-self.settings["context_width"] :])
        if self.settings["seeding_scheme"] == "selfhash":
            # the least product over the recent tokens
            seed = int((key * (self.table[recent % PRIME] + 1) * (self.table[recent[-1] % PRIME] + 1)).min())
        else:
            seed = key * int(recent[-1])
        # transformers reduces the seed by the same number, so that its detector finds the text
        self.draw.manual_seed(seed % (2**64 - 1))
        count = int(self.vocabulary * self.settings["greenlist_ratio"])
        return torch.randperm(self.vocabulary, generator=self.draw)[:count]  # (count,)

    def boosted_tokens(self, text: Sequence[int], scores: Tensor) -> Tensor:
        """Return the tokens to raise: the green list, or with "selfhash" likely tokens in their own green lists."""
        if self.settings["seeding_scheme"] == "lefthash":
            return self.green_list(text)
        # each token needs a permutation of the vocabulary, so only some are tried
        best = scores.argsort(descending=True)[:TRIES].tolist()
        return torch.tensor([t for t in best if bool((self.green_list([*text, t]) == t).any())], dtype=torch.long)


def watermark_processor(given: Any) -> Callable[[Sequence[Sequence[int]], Tensor], Tensor]:
    """Return the logits processor of a watermark."""
    known = settings(given)
    made: list[Watermark] = []  # made when the vocabulary is known

    def process(history: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
        if len(history[0]) < known["context_width"]:
            return scores
        mark = made[0] if made else Watermark(given, scores.shape[1])
        made[:] = [mark]
        scores = scores.clone()  # (sequences, vocabulary); the caller keeps its own
        for row, text in zip(scores, history, strict=True):
            row[mark.boosted_tokens(text, row).to(row.device)] += known["bias"]
        return scores

    return process
