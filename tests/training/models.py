"""Tiny models of every kind of loss, written by the reference, with examples that they learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import multihead
from multihead.heads.losses import IGNORED

WORDS = 60
BERT = {
    "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32,
}  # fmt: skip
DROP = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BART = {
    "vocab_size": WORDS, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "classifier_dropout": 0.0,
}  # fmt: skip
T5 = {
    "vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0,
    "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
XLNET = {
    "vocab_size": WORDS, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24, "dropout": 0.0,
    "summary_last_dropout": 0.0, "pad_token_id": 5,
}  # fmt: skip
GPT2 = {
    "vocab_size": WORDS, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0,
    "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
SEVERAL, SCORE = {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}

CASES: dict[str, tuple[str, dict[str, Any], str]] = {  # name -> class, its config, what its labels are
    "bert label": ("BertForSequenceClassification", {**BERT, **DROP, "num_labels": 3}, "label"),
    "bert labels": ("BertForSequenceClassification", {**BERT, **DROP, **SEVERAL, "num_labels": 3}, "labels"),
    "bert score": ("BertForSequenceClassification", {**BERT, **DROP, **SCORE, "num_labels": 1}, "score"),
    "xlnet label": ("XLNetForSequenceClassification", {**XLNET, "num_labels": 3}, "label"),
    "bart label": ("BartForSequenceClassification", {**BART, "num_labels": 3}, "label"),
    "bert tokens": ("BertForTokenClassification", {**BERT, **DROP, "num_labels": 4}, "tokens"),
    "deberta tokens": (
        "DebertaV2ForTokenClassification",
        {**BERT, **DROP, "num_labels": 4, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        "tokens",
    ),
    "bert spans": ("BertForQuestionAnswering", {**BERT, **DROP}, "spans"),
    "electra spans": ("ElectraForQuestionAnswering", {**BERT, **DROP, "embedding_size": 16}, "spans"),
    "bert masked": ("BertForMaskedLM", {**BERT, **DROP}, "words"),
    "electra masked": ("ElectraForMaskedLM", {**BERT, **DROP, "embedding_size": 16}, "words"),
    "modernbert masked": (
        "ModernBertForMaskedLM",
        {**BERT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        "words",
    ),
    "gpt2": ("GPT2LMHeadModel", GPT2, "words"),
    "llama": ("LlamaForCausalLM", {**BERT, "num_key_value_heads": 1}, "words"),
    "t5": ("T5ForConditionalGeneration", T5, "target"),
    "bart": ("BartForConditionalGeneration", BART, "target"),
}


def saved(name: str, folder: Path) -> Path:
    """The checkpoint of a case, written by the reference once."""
    place = folder / name.replace(" ", "-")
    if not place.exists():
        kind, settings, _ = CASES[name]
        torch.manual_seed(3)
        made = getattr(transformers, kind)
        model = made(made.config_class(**settings))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        if name == "bart":
            torch.nn.init.normal_(model.final_logits_bias)
        model.save_pretrained(place)
    return place


def ours(name: str, folder: Path) -> Any:
    """In float64, so that what adds up exactly is seen to."""
    return getattr(multihead, CASES[name][0]).from_pretrained(saved(name, folder)).double()


def theirs(name: str, folder: Path) -> Any:
    found = getattr(transformers, CASES[name][0]).from_pretrained(saved(name, folder), attn_implementation="eager")
    return found.double().eval()


def examples(name: str, count: int = 9, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of uneven lengths; labels are left out here and there."""
    kind, draw = CASES[name][2], np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ids = draw.integers(6, WORDS, draw.integers(3, 12))
        ids[-1] = 2  # BART's classifier reads the end-of-text token
        example: dict[str, Any] = {"input_ids": ids, **labels(kind, ids, draw)}
        found.append(example)
    return found


def labels(kind: str, ids: np.ndarray, draw: np.random.Generator) -> dict[str, Any]:
    if kind == "label":
        return {"labels": int(draw.integers(3))}
    if kind == "labels":
        return {"labels": draw.integers(0, 2, 3).astype(np.float32)}
    if kind == "score":
        return {"labels": np.float32(draw.normal())}
    if kind == "spans":
        first, last = sorted(draw.integers(0, len(ids), 2).tolist())
        return {"start_positions": first, "end_positions": last}
    if kind == "target":
        return {"labels": draw.integers(6, WORDS, draw.integers(2, 9))}
    wanted = draw.integers(0, 4, len(ids)) if kind == "tokens" else ids.copy()
    wanted[draw.random(len(ids)) < 0.4] = IGNORED
    wanted[1] = max(wanted[1], 0)
    return {"labels": wanted}


def tensors(examples: list[dict[str, Any]], pad: int = 0) -> dict[str, torch.Tensor]:
    """The padded arguments of a model's `forward`."""
    batch: dict[str, torch.Tensor] = {}
    for name in examples[0]:
        values = [torch.as_tensor(np.asarray(example[name])) for example in examples]
        ragged = values[0].ndim == 1 and values[0].dtype == torch.int64
        fill = pad if name == "input_ids" else IGNORED
        batch[name] = torch.nn.utils.rnn.pad_sequence(values, True, fill) if ragged else torch.stack(values)
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    batch["attention_mask"] = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
    return batch
