"""XLNet and XLM."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from ..case import WORDS, Case

CLASSIFIERS = ("ForSequenceClassification", "ForMultipleChoice")
TOKENS = ("ForTokenClassification", "ForQuestionAnsweringSimple")


def xlnet(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "d_model": 36, "n_layer": 3, "n_head": 4, "d_inner": 50, "num_labels": 3}
    return lambda: transformers.XLNetConfig(**{**sizes, "pad_token_id": 0, **changes})


def xlm(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "emb_dim": 36, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40}
    return lambda: transformers.XLMConfig(**{**sizes, "pad_token_id": 0, "num_labels": 3, "n_langs": 4, **changes})


def languages(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    return {"langs": torch.randint(0, 4, inputs["input_ids"].shape)}


def targets(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """A random order of prediction, and three places to predict in each text."""
    count, length = inputs["input_ids"].shape
    order = torch.stack([torch.randperm(length) for _ in range(count)])
    later = (order[:, :, None] <= order[:, None, :]).float()
    places = torch.stack([torch.randperm(length)[:3] for _ in range(count)])
    return {"perm_mask": later, "target_mapping": torch.nn.functional.one_hot(places, length).float()}


WHOLE = {"chunks": False, "greedy": False, "half": False}
CASES = (
    # The reference writes by reading everything again for each word, and does not compute in bfloat16.
    Case("xlnet", xlnet(), ("Model", "LMHeadModel", *TOKENS), segments=3, **WHOLE),
    Case("xlnet-no-segments-clamped", xlnet(clamp_len=4, ff_activation="relu", d_head=9), ("Model", "LMHeadModel"),
         **WHOLE),
    Case("xlnet-untied-mean", xlnet(tie_word_embeddings=False, summary_type="mean", mem_len=None),
         ("LMHeadModel", "ForSequenceClassification"), lengths=(9, 9, 9), **WHOLE),
    # The reference takes the last column, padding or not.
    Case("xlnet-last-token", xlnet(), CLASSIFIERS, segments=2, lengths=(9, 9, 9)),
    Case("xlnet-first-token", xlnet(summary_type="first", summary_use_proj=False), CLASSIFIERS, absolute=True),
    # The reference's likeliest spans may begin or end in padding.
    Case("xlnet-spans", xlnet(start_n_top=3, end_n_top=2), ("ForQuestionAnswering",), lengths=(9, 9, 9), loss=False),
    Case("xlnet-targets", xlnet(), ("Model", "LMHeadModel"), segments=2, lengths=(9, 9, 9), extra=targets, loss=False,
         left_out=("hidden_states", "attentions"), hidden=False, attentions=False, **WHOLE),
    Case("xlm", xlm(), ("Model", "WithLMHeadModel", *CLASSIFIERS, *TOKENS), absolute=True, extra=languages),
    # Token types are word vectors, 0 is padding's, which the reference never trains.
    Case("xlm-token-types", xlm(), ("Model", "WithLMHeadModel"), absolute=True, segments=3, loss=False),
    Case("xlm-causal-relu", xlm(causal=True, gelu_activation=False, n_langs=1, tie_word_embeddings=False),
         ("Model", "WithLMHeadModel"), absolute=True),
    Case("xlm-summaries", xlm(summary_proj_to_labels=False, summary_type="mean", summary_activation="tanh"),
         ("ForSequenceClassification",), absolute=True, lengths=(9, 9, 9), loss=False),
    Case("xlm-spans", xlm(start_n_top=3, end_n_top=2), ("ForQuestionAnswering",), absolute=True, lengths=(9, 9, 9),
         loss=False),
)  # fmt: skip
