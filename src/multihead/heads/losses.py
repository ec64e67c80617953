"""Losses of the heads; label -100 is ignored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import Config
from ..errors import InvalidInput
from ..kernels.ragged import SequenceLayout

IGNORED = -100


def words(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of logits (tokens, vocabulary) at labels (tokens,), in float32.

    Args:
        count: of the labels of several batches, which divides the sum instead of the number of these labels.
    """
    _check_range(labels, logits.shape[-1])
    logits, labels = logits.float(), labels.to(logits.device)
    if count is None:
        return F.cross_entropy(logits, labels, ignore_index=IGNORED)
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / count.to(logits.device)


def next_words(logits: Tensor, labels: Tensor, runs: SequenceLayout, count: Tensor | None = None) -> Tensor:
    """`words` of each token's successor in its own text: logits (tokens, vocabulary), labels (tokens,)."""
    follows = torch.ones(labels.shape[0], dtype=torch.bool, device=labels.device)
    firsts = [begin for begin, length in zip(runs.begins, runs.lengths, strict=True) if length]
    follows[firsts] = False
    after = follows.nonzero().flatten()
    return words(logits.index_select(0, (after - 1).to(logits.device)), labels.index_select(0, after), count)


def replaced(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (tokens,) at labels (tokens,), 1 for a replaced word (arXiv:2003.10555)."""
    real = labels != IGNORED
    return F.binary_cross_entropy_with_logits(logits[real].float(), labels[real].float().to(logits.device))


def texts(logits: Tensor, labels: Tensor, config: Config) -> Tensor:
    """Loss of a sequence classifier: logits (sequences, labels).

    Regression, one label, or several, after `config.problem_type`; guessed from the labels where that is None.
    """
    kind = config.problem_type or guess_problem_type(labels, config.num_labels)
    labels = labels.to(logits.device)
    if kind == "regression":
        return F.mse_loss(logits.reshape(labels.shape).float(), labels.float())
    if kind == "single_label_classification":
        return words(logits, labels.flatten())
    if labels.shape != logits.shape:
        raise InvalidInput(f"Labels of several classes need shape {list(logits.shape)}, not {list(labels.shape)}.")
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


def spans(start: Tensor, end: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Mean cross-entropy of an answer's first and last token: logits (texts, length), labels (texts,).

    A label at or past the length stands for an answer outside the window and is left out.
    """
    length = start.shape[1]
    pairs = ((start, starts), (end, ends))
    parts = [F.cross_entropy(x.float(), _inside(y, length).to(x.device), ignore_index=length) for x, y in pairs]
    return (parts[0] + parts[1]) / 2


def load_balance(scores: Sequence[Tensor], chosen: int) -> Tensor:
    """Load-balancing loss of router scores (tokens, experts), one a layer (Fedus et al., 2021, arXiv:2101.03961).

    The share of choices that an expert gets times its mean probability, summed over experts, times their number.

    Args:
        chosen: experts of a token.
    """
    rows = sum(each.shape[0] for each in scores)
    count, device = scores[0].shape[1], scores[0].device
    choices, mass = torch.zeros(count, device=device), torch.zeros(count, device=device)  # (experts,) each
    for each in scores:
        p = each.to(device).softmax(-1)  # (tokens, experts)
        picked = p.topk(chosen, -1).indices.flatten()  # (tokens * chosen,)
        choices = choices + torch.bincount(picked, minlength=count)
        mass = mass + p.float().sum(0)
    return (choices / rows * (mass / rows)).sum() * count


def _inside(labels: Tensor, length: int) -> Tensor:
    return labels.reshape(-1).clamp(0, length)


def guess_problem_type(labels: Tensor, count: int) -> str:
    """Return the `problem_type` that the labels imply."""
    if count == 1:
        return "regression"
    whole = labels.dtype in (torch.long, torch.int)
    return "single_label_classification" if whole else "multi_label_classification"


def _check_range(labels: Tensor, count: int) -> None:
    real = labels[labels != IGNORED]
    if real.numel() and (int(real.min()) < 0 or int(real.max()) >= count):
        wrong = int(real.min()) if int(real.min()) < 0 else int(real.max())
        raise InvalidInput(f"The label {wrong} is outside 0 to {count - 1} (or {IGNORED} for what is left out).")
