"""Tensors that the reference itself leaves unread are left unread here: the classes name them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multihead

from .case import Case, reference
from .cases import CASES

EXAMPLES = {  # the reference's pattern -> a name in published files; {} is the backbone's prefix
    "encoder.version": "{}encoder.version",
    "final_logits_bias": None,
    "decoder.version": "{}decoder.version",
    "position_embeddings": "{}embeddings.position_embeddings.weight",
    "position_embeddings.weight": "{}embeddings.position_embeddings.weight",
    "mask_predictions.*": "mask_predictions.dense.weight",
    **{rf"model\.layers\.{n}.*": f"{{}}layers.{n}.self_attn.o_proj.weight" for n in (46, 47, 61, 78, 80, 92)},
    r"model\.layers\.42\..*": "{}layers.42.attention.dense.weight",
    r"mlp\.post_mlp_layernorm": "{}layers.0.post_mlp_layernorm.weight",
    "mtp": "{}mtp_block.0.mlp.gate_proj.weight",
    r"layers\.45\.": "{}layers.45.mlp.gate.weight",
    r"layers\.\d+\.shared_head\.": "{}layers.45.shared_head.norm.weight",
    r"mtp_dspark\..*": "mtp_dspark.layers.0.mlp.gate.weight",
    r"^mtp\.": "mtp.layers.0.mlp.gate_proj.weight",
    r"(^|\.)mtp\..*": "mtp.0.attn.wkv.weight",
    r"model\.mtp\..*": "{}mtp.layers.0.input_proj.weight",
    r"model\.mtp_layers\..*": "{}mtp_layers.0.mlp.gate_proj.weight",
    "^mtp.*": "mtp.layers.0.mlp.gate_proj.weight",
    "^model.visual.*": "model.visual.pos_embed.weight",
    r"^model\.(language_model\.)?layers\.46\.": "{}layers.46.self_attn.o_proj.weight",
    r"^model\.(language_model\.)?mtp\.": "{}mtp.layers.0.mlp.gate_proj.weight",
    r"^model\.mtp\.": "{}mtp.layers.0.mlp.gate_proj.weight",
    r"model\.mtp.*": "{}mtp.layers.0.mlp.gate_proj.weight",
    "attn.bias": "{}h.0.attn.bias",
    "crossattention.bias": "{}h.0.crossattention.bias",
    "attention.bias": "{}layers.0.attention.bias",
    r"attention.masked_bias": "{}layers.0.attention.masked_bias",
    "mtp.*": "mtp.layers.0.mixer.q_proj.weight",
    "inv_freq": "{}encoder.layers.0.attn.rotary_emb.inv_freq",
    "original_inv_freq": "{}rotary_emb.original_inv_freq",
    "decoder": "decoder.block.0.layer.0.layer_norm.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": None,  # as it stands
}


def classes() -> list[tuple[Case, str, str]]:
    """(case, end, pattern) of every class here for which the reference names tensors to leave unread."""
    found, seen = [], set()
    for case in CASES:
        for end in case.ends:
            kind = case.peer(end)
            if kind in seen:
                continue
            seen.add(kind)
            found += [(case, end, pattern) for pattern in kind._keys_to_ignore_on_load_unexpected or ()]
    return found


CLASSES = classes()


@pytest.mark.parametrize(("case", "end", "pattern"), CLASSES, ids=[f"{c.name}/{end}-{p}" for c, end, p in CLASSES])
def test_what_the_reference_leaves_unread_is_left_unread(folders, case, end, pattern, tmp_path):
    source = folders(case, end)[1]
    shutil.copy(source / "config.json", tmp_path)
    stored = load_file(source / "model.safetensors")
    prefix = case.peer(end).base_model_prefix + "."
    name = (EXAMPLES[pattern] or pattern).format(prefix if any(n.startswith(prefix) for n in stored) else "")
    if name in stored:
        pytest.skip("this config's model has the tensor")
    save_file({**stored, name: torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    kind: Any = getattr(multihead, case.family + end)
    assert kind.from_pretrained(tmp_path).new_weights == ()


def ids() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randint(3, 32, (2, 7))


SMALL = {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 50}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pad_token_id": 0,
    "max_position_embeddings": 40,
    "vocab_size": 33,
}


@pytest.mark.parametrize(
    "config",
    [
        transformers.DebertaConfig(**SMALL, **RELATIVE),
        transformers.DebertaV2Config(**SMALL, **RELATIVE),
        transformers.EsmConfig(
            **SMALL, vocab_size=33, position_embedding_type="rotary", pad_token_id=1, mask_token_id=32
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_a_stored_table_of_positions_that_the_config_does_not_use_changes_nothing(config, tmp_path):
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    stored["embeddings.position_embeddings.weight"] = torch.randn(40, 36)
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    with torch.no_grad():
        got, expected = multihead.AutoModel.from_pretrained(tmp_path)(ids())[0], model(ids())[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def pickled(folder: Path, **more: Any) -> None:
    """Turns a folder's weights into a `pytorch_model.bin` with more entries."""
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**stored, **more}, folder / "pytorch_model.bin")


def test_a_pickled_bart_keeps_fairseqs_version_and_settings_that_are_no_tensors(tmp_path):
    case = next(case for case in CASES if case.name == "bart")
    reference(case, "ForConditionalGeneration").save_pretrained(tmp_path)
    usual = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    versions = {
        f"{prefix}{side}.version": torch.tensor([3.0]) for prefix in ("model.", "") for side in ("encoder", "decoder")
    }
    pickled(tmp_path, **versions, config={"d_model": 36}, step=7, optimizer=None)
    with pytest.warns(UserWarning, match="no tensors; they are left out: config, step, optimizer"):
        model = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), usual.parameters(), strict=True))


def test_a_layer_of_the_models_own_is_still_asked_for(tmp_path):
    """Only layers past the last are left unread: one that is missing in a deeper model is an error."""
    case = next(case for case in CASES if case.made.model_type == "deepseek_v3")
    reference(case, "ForCausalLM").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}))
    with pytest.raises(multihead.errors.CheckpointMismatch, match=r"missing .*layers\.3"):
        multihead.AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "end"),
    [("marian", "MTModel"), ("marian", "ForCausalLM"), ("pegasus", "Model"), ("roformer", "Model")],
    ids="-".join,
)
def test_a_stored_table_of_computed_positions_is_compared_with_them(name, end, tmp_path):
    """The reference reads the file's table, so one with other numbers is no table to leave unread."""
    case = next(case for case in CASES if case.name == name)
    model = reference(case, end)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    tables = {name: table for name, table in model.state_dict().items() if name.endswith("embed_positions.weight")}
    kind: Any = getattr(multihead, case.family + end)
    half = {name: table.half().float() for name, table in tables.items()}
    save_file({**stored, **half}, tmp_path / "model.safetensors", {"format": "pt"})
    assert kind.from_pretrained(tmp_path).new_weights == ()
    moved = {name: table.roll(1, 0).contiguous() for name, table in tables.items()}
    save_file({**stored, **moved}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(multihead.errors.UnsupportedConfig, match=r"embed_positions\.weight is a table of its own"):
        kind.from_pretrained(tmp_path)
