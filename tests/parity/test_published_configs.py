"""config.json entries as well-known checkpoints have them, those of older releases too."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import multihead
from multihead.models.common.wrappers import WRAPPERS

FOLDER = Path(__file__).with_name("published_configs")
PUBLISHED: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
FIRST_NAMES = {"RefinedWebModel": "falcon", "kimi_k2": "deepseek_v3"}  # which the reference does not read
TABLES = {"roformer", "pegasus", "marian", "wmt19-en-ru"}  # the reference counts its computed positions as parameters
# Buffers that are parameters here.
BUFFERS = ("e_score_correction_bias", "layer_scalar", "expert_bias", "act_fn.beta", "act_fn.eps", "tid2eid")
SIGHT = ("encoder.vision_tower.", "encoder.multi_modal_projector.")  # of T5Gemma 2, which is read as text here
FEW_LAYERS = 8  # of models with tens of thousands of modules
MANY_EXPERTS = (
    "deepseek_v3", "deepseek_v32", "deepseek_v4", "dots1", "glm-5", "glm4_moe", "hy_v4", "inkling-small-text",
    "kimi_k2", "longcat_flash", "minimax_m2", "qwen3_next", "solar_open",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_all_known_and_makes_the_model_that_the_reference_makes(name, tmp_path):
    entries = {**PUBLISHED[name], **({"num_hidden_layers": FEW_LAYERS} if name in MANY_EXPERTS else {})}
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = multihead.AutoConfig.from_pretrained(tmp_path)
    today = {**entries, "model_type": FIRST_NAMES.get(name, entries["model_type"])}
    (tmp_path / "config.json").write_text(json.dumps(today))
    with torch.device("meta"):
        mine = multihead.AutoModel.from_config(config)
        theirs = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(tmp_path))
        theirs = theirs.language_model if today["model_type"] in WRAPPERS else theirs
        theirs = theirs.model if name == "llama-4-scout" else theirs  # whose Auto class keeps its scores
    computed = "embed_positions.weight" if name in TABLES else "-"
    expected = sum(
        p.numel() for n, p in theirs.named_parameters() if not n.endswith(computed) and not n.startswith(SIGHT)
    )
    expected += sum(b.numel() for n, b in theirs.named_buffers() if n.endswith(BUFFERS))
    if name == "longcat_flash":  # the reference keeps matrices of experts that do nothing
        wide = config.hidden_size * config.expert_ffn_hidden_size
        expected -= config.num_layers * config.zero_expert_num * 2 * wide
    if name == "nomic":  # a pooler that is dropped where a file has none
        expected += config.hidden_size * (config.hidden_size + 1)
    assert sum(p.numel() for p in mine.parameters()) == expected
