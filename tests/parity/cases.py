"""The families' tiny random checkpoints, written by the reference implementation: a row each, not a test each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers

WORDS = 99


@dataclass(frozen=True)
class Case:
    """One config of one family.

    Args:
        make: the reference's config. ends: of the class names to compare.
        absolute: positions are absolute, so the reference's numbers depend on padding at the left.
        fixed: parameters that are derived and must keep their values.
    """

    name: str
    make: Callable[[], Any]
    ends: tuple[str, ...]
    absolute: bool = False
    fixed: tuple[str, ...] = ()

    def config(self, end: str) -> Any:
        """The reference's config; question answering has two labels, whatever the config says."""
        config = self.make()
        if end == "ForQuestionAnswering":
            config.num_labels = 2
        return config

    @property
    def family(self) -> str:
        return type(self.make()).__name__.removesuffix("Config")


def bert(**changes: Any) -> transformers.BertConfig:
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 50,
    }
    return transformers.BertConfig(**{**sizes, "max_position_embeddings": 40, "num_labels": 3, **changes})


def albert(**changes: Any) -> transformers.AlbertConfig:
    sizes = {
        "vocab_size": WORDS,
        "embedding_size": 20,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    sizes |= {"intermediate_size": 50, "max_position_embeddings": 40, "num_labels": 2}
    return transformers.AlbertConfig(**{**sizes, **changes})


def llama(**changes: Any) -> transformers.LlamaConfig:
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "intermediate_size": 50,
    }
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 3}
    return transformers.LlamaConfig(**{**sizes, **changes})


def marian(**changes: Any) -> transformers.MarianConfig:
    sizes = {"vocab_size": WORDS, "d_model": 36, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4}
    sizes |= {"decoder_attention_heads": 6, "encoder_ffn_dim": 50, "decoder_ffn_dim": 44, "max_position_embeddings": 64}
    sizes |= {
        "pad_token_id": WORDS - 1,
        "decoder_start_token_id": WORDS - 1,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
    }
    return transformers.MarianConfig(**{**sizes, "num_beams": 1, "max_length": 20, **changes})


BERT_ENDS = (
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
ALBERT_ENDS = tuple(end for end in BERT_ENDS if end != "ForNextSentencePrediction")
LLAMA_ENDS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

CASES = (
    Case("bert", bert, BERT_ENDS, absolute=True),
    Case(
        "bert-untied-relu",
        lambda: bert(hidden_act="relu", tie_word_embeddings=False, layer_norm_eps=1e-3, type_vocab_size=3),
        ("Model", "ForMaskedLM", "ForPreTraining"),
        absolute=True,
    ),
    Case("bert-decoder", lambda: bert(is_decoder=True), ("LMHeadModel",), absolute=True),
    Case("albert", albert, ALBERT_ENDS, absolute=True),
    Case("albert-gelu", lambda: albert(hidden_act="gelu", num_attention_heads=3), ("Model",), absolute=True),
    Case("llama", llama, LLAMA_ENDS),
    Case(
        "llama-biased-tied-wide-heads",
        lambda: llama(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=10),
        ("Model", "ForCausalLM"),
    ),
    Case(
        "llama-linear-rope",
        lambda: llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 50.0}),
        ("Model",),
    ),
    Case("llama-llama3-rope", lambda: llama(rope_parameters=LLAMA3), ("Model", "ForCausalLM")),
    Case("marian", marian, ("Model", "MTModel", "ForCausalLM"), absolute=True, fixed=("embed_positions",)),
    Case(
        "marian-scaled-two-vocabularies",
        lambda: marian(
            scale_embedding=True,
            share_encoder_decoder_embeddings=False,
            decoder_vocab_size=WORDS,
            activation_function="swish",
            tie_word_embeddings=False,
        ),
        ("Model", "MTModel"),
        absolute=True,
        fixed=("embed_positions",),
    ),
)
PAIRS = [(case, end) for case in CASES for end in case.ends]
IDS = [f"{case.name}-{end}" for case, end in PAIRS]


def reference(case: Case, end: str, seed: int = 0) -> Any:
    """The reference's model with *every* parameter random: fresh norms and biases would hide a wrong map."""
    torch.manual_seed(seed)
    model = getattr(transformers, case.family + end)(case.config(end))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not any(part in name for part in case.fixed):
                parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.normal_()
    return model.eval()


def batch(
    case: Case, end: str, *, side: str = "right", lengths: tuple[int, ...] = (11, 7, 4)
) -> dict[str, torch.Tensor]:
    """A padded batch, with every input that the class takes."""
    torch.manual_seed(1)
    config, longest = case.make(), max(lengths)
    ids = torch.randint(1, WORDS - 1, (len(lengths), longest))
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
        if side == "left":
            mask[row] = mask[row].flip(0)
    inputs = {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id), "attention_mask": mask}
    if case.family in ("Bert", "Albert") and end != "LMHeadModel":
        inputs["token_type_ids"] = torch.randint(0, config.type_vocab_size, ids.shape) * mask
    if end == "ForMultipleChoice":
        inputs = {k: torch.stack([v, v.flip(0)], 1) for k, v in inputs.items()}
    if case.family == "Marian" and end != "ForCausalLM":
        inputs["decoder_input_ids"] = torch.randint(1, WORDS - 1, (len(lengths), 6))
    return inputs


def labels(case: Case, end: str, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels at real tokens only: what is padding is never computed here."""
    torch.manual_seed(2)
    count, config = mask.shape[0], case.make()
    words = torch.randint(1, WORDS - 1, mask.shape).masked_fill(mask == 0, -100)
    if end == "MTModel":
        return {"labels": torch.randint(1, WORDS - 1, (count, 6))}
    if end in ("ForMaskedLM", "ForCausalLM", "LMHeadModel"):
        return {"labels": words}
    if end == "ForTokenClassification":
        return {"labels": torch.where(words < 0, words, words % config.num_labels)}
    if end == "ForPreTraining":
        name = "next_sentence_label" if case.family == "Bert" else "sentence_order_label"
        return {"labels": words, name: torch.randint(0, 2, (count,))}
    if end == "ForQuestionAnswering":
        return {"start_positions": torch.tensor([1] * count), "end_positions": torch.tensor([3] * count)}
    if end in ("ForSequenceClassification", "ForNextSentencePrediction", "ForMultipleChoice"):
        return {"labels": torch.randint(0, 2, (count,))}
    return {}
