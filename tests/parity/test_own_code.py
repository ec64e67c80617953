"""Families that the reference runs only with code of the checkpoint: equal to a relative on converted weights.

Each file is written with the names and entries of the published checkpoints, and with the `auto_map` that names their
code. The entry is a name: nothing of it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import multihead

Tensors = dict[str, Tensor]
SIZES = {
    "vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Relative:
    """A family, and the reference's model that gives its numbers.

    Args:
        entries: of the family's config.json. peer: the relative's config.
        stored: the relative's tensors -> the family's, by the published names.
    """

    name: str
    entries: dict[str, Any]
    peer: Callable[[], Any]
    stored: Callable[[Tensors], Tensors]


def same(tensors: Tensors) -> Tensors:
    return tensors


CASES = (
    Relative(
        "minicpm",
        {**SIZES, "model_type": "minicpm", "num_key_value_heads": 2, "scale_emb": 3, "scale_depth": 1.4,
         "dim_model_base": 16, "tie_word_embeddings": True},
        lambda: transformers.GraniteConfig(
            **SIZES, num_key_value_heads=2, embedding_multiplier=3.0, residual_multiplier=1.4 / 3**0.5,
            attention_multiplier=0.25, logits_scaling=4.0, tie_word_embeddings=True,
        ),
        same,
    ),
)  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    case: Relative = request.param
    torch.manual_seed(0)
    peer = transformers.AutoModelForCausalLM.from_config(case.peer(), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
    folder = tmp_path_factory.mktemp(case.name)
    tensors = {name: tensor.contiguous().clone() for name, tensor in peer.state_dict().items()}
    if peer.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(case.stored(tensors), folder / "model.safetensors", {"format": "pt"})
    code = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**case.entries, "auto_map": code}))
    return peer, folder


def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(3, 98, (3, 11)), torch.ones(3, 11, dtype=torch.long)
    mask[1, 7:] = mask[2, 4:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def test_logits_equal_the_relatives(pair):
    peer, folder = pair
    inputs = batch()
    with torch.no_grad():
        got, expected = multihead.AutoModelForCausalLM.from_pretrained(folder)(**inputs).logits, peer(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert (got - expected)[real].abs().max() <= 2e-5 * expected[real].abs().max()


def test_texts_equal_the_relatives(pair):
    peer, folder = pair
    ids, options = batch()["input_ids"][:1], {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    got = multihead.AutoModelForCausalLM.from_pretrained(folder).generate(ids, **options)
    expected = peer.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert got.tolist() == expected.tolist()


def test_a_saved_model_has_the_published_names_and_numbers(pair, tmp_path):
    _, folder = pair
    multihead.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    one, other = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_entry_is_known(pair):
    assert multihead.AutoConfig.from_pretrained(pair[1]).unknown == ()
