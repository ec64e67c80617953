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
from multihead.models.common.registry import FAMILIES
from multihead.models.common.wrappers import WRAPPERS
from multihead.nn.own_names import own_parameters

FOLDER = Path(__file__).with_name("published_configs")


def entries_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


PUBLISHED, OWN_CODE = entries_of(FOLDER), entries_of(FOLDER / "own_code")
FIRST_NAMES = {"RefinedWebModel": "falcon", "kimi_k2": "deepseek_v3"}  # which the reference does not read
TABLES = {"roformer", "pegasus", "marian", "wmt19-en-ru"}  # the reference counts its computed positions as parameters
# Buffers that are parameters here.
BUFFERS = (
    "e_score_correction_bias", "layer_scalar", "expert_bias", "act_fn.beta", "act_fn.eps", "tid2eid",
    "balancing_biases", "rotary_emb.alpha",
)  # fmt: skip
# Modules of the reference's models that are read as text here.
SIGHT = ("encoder.vision_tower.", "encoder.multi_modal_projector.", "patch_embeddings.")
FEW_LAYERS = 8  # of models with tens of thousands of modules
MANY_EXPERTS = (
    "deepseek_v3", "deepseek_v32", "deepseek_v4", "dots1", "gemma-4-26b-a4b-text", "glm-5", "glm4_moe", "hy_v4",
    "inkling-small-text", "k-exaone", "kimi_k2", "laguna-xs", "ling-3.0-flash", "longcat_flash",
    "mimo_v2_flash", "minimax_m2", "qwen3_moe", "qwen3_next", "solar_open",
)  # fmt: skip
# Families whose config class has the sizes of the checkpoint that it documents: each says all of its entries itself.
DEFAULTS = {
    "axk1": "skt/A.X-K1",
    "beam": "reflection/Beam-1.0-501B-A23B",
    "dots3_note_text": "dots-studio/dots3-note-prev",
    "flint": "RecursiveSI/flint",
    "glm5_next_text": "zai-org/GLM-5.3-Flash",
    "granite_swa": "ibm-granite/granite-swash-2b",
    "hy_v3": "tencent/Hy3-preview",
    "inkling2_text": "thinkingmachines/Inkling-2-Small-MXFP8",
    "iquestcoder": "IQuestLab/IQuest-Coder-V1-40B-Instruct",
    "kolibri1": "Aleph-Alpha/Kolibri-1",
    "lfm3": "LiquidAI/LFM3-1.7B",
    "mellum": "JetBrains/Mellum2-12B-A2.5B-Base",
    "mistral4": "mistralai/Mistral-Small-4-119B-2603",
    "mistral_large4_text": "mistralai/Mistral-Large-4-1T-A52B",
    "muse_glimmer_text": "meta-models/Muse-Glimmer-30B",
    "muse_spark_text": "meta-models/Muse-Spark-Open-816B-A42B",
    "neomme": "Hcompany/NeoMME-260M",
    "openai_privacy_filter": "openai/privacy-filter",
    "qwen3_5_moe_text": "Qwen/Qwen3.5-35B-A3B",
    "zaya": "Zyphra/ZAYA1-8B",
}
# Parameters of published files that came with code of their own, which the reference does not read.
SIZES = {
    "baichuan2-7b": 7_505_973_248,
    "chatglm3-6b": 6_243_584_000,
    "dream-7b": 7_615_616_512,
    "falcon-40b": 41_303_293_952,
    "internlm2-7b": 7_737_708_544,
    "jina-embeddings-v2-base-en": 137_368_320,
    "llada-8b": 8_015_581_184,
    "minicpm-2b": 2_724_880_896,
    "nomic-embed-text-v2-moe": 475_292_928,
    "phi-3-small-8k": 7_392_272_384,
    "qwen-7b": 7_721_324_544,
}
# Families of which no published sizes are known to the authors of these tests.
UNKNOWN = {
    "axk2", "cohere2_moe", "cohere_compass_text", "deepseek_ocr2_text", "encoder-decoder", "granitemoe_swa",
    "granitemoeshared", "marian_ssru", "qwen4_exp_text", "step3p5", "t5gemma",
}  # fmt: skip


def cut(entries: dict[str, Any]) -> dict[str, Any]:
    """Entries of the first few layers alone, in lists with an entry for each layer too."""
    layers = entries.get("num_hidden_layers", FEW_LAYERS)
    few = {k: v[:FEW_LAYERS] for k, v in entries.items() if isinstance(v, list) and len(v) == layers}
    return {**entries, **few, "num_hidden_layers": FEW_LAYERS}


def read(entries: dict[str, Any], folder: Path) -> Any:
    """Our config of the entries, all of which must be known."""
    (folder / "config.json").write_text(json.dumps(entries))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return multihead.AutoConfig.from_pretrained(folder)


def count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def reference_count(config: Any, name: str = "") -> int:
    """Parameters of the reference's model, and those of its buffers that are parameters here."""
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    model = model.language_model if config.model_type in WRAPPERS else model
    model = model.model if name == "llama-4-scout" else model  # whose Auto class keeps its scores
    computed = "embed_positions.weight" if name in TABLES else "-"
    parameters = {n: p for n, p in own_parameters(model) if not n.endswith(computed) and not n.startswith(SIGHT)}
    buffers = {n: b for n, b in model.named_buffers() if n.endswith(BUFFERS)}
    return sum(each.numel() for each in (*parameters.values(), *buffers.values()))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_all_known_and_makes_the_model_that_the_reference_makes(name, tmp_path):
    entries = cut(PUBLISHED[name]) if name in MANY_EXPERTS else PUBLISHED[name]
    config = read(entries, tmp_path)
    today = {**entries, "model_type": FIRST_NAMES.get(name, entries["model_type"])}
    (tmp_path / "config.json").write_text(json.dumps(today))
    with torch.device("meta"):
        mine = multihead.AutoModel.from_config(config)
    expected = reference_count(transformers.AutoConfig.from_pretrained(tmp_path), name)
    if name == "longcat_flash":  # the reference keeps matrices of experts that do nothing
        wide = config.hidden_size * config.expert_ffn_hidden_size
        expected -= config.num_layers * config.zero_expert_num * 2 * wide
    if name == "nomic":  # a pooler that is dropped where a file has none
        expected += config.hidden_size * (config.hidden_size + 1)
    assert count(mine) == expected


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_checkpoint_that_a_config_class_documents_makes_the_model_that_the_reference_makes(kind, tmp_path):
    theirs = transformers.AutoConfig.for_model(kind, num_hidden_layers=FEW_LAYERS)
    config = read(theirs.to_dict(), tmp_path)
    with torch.device("meta"):
        mine = multihead.AutoModel.from_config(config)
    assert count(mine) == reference_count(theirs)


@pytest.mark.parametrize("name", OWN_CODE)
def test_a_config_of_files_with_their_own_code_makes_the_published_number_of_parameters(name, tmp_path):
    config = read(OWN_CODE[name], tmp_path)
    writes = FAMILIES[OWN_CODE[name]["model_type"]].file not in ("bert", "nomic_bert")
    with torch.device("meta"):
        model = (multihead.AutoModelForCausalLM if writes else multihead.AutoModel).from_config(config)
    assert count(model) == SIZES[name]


def test_families_without_a_published_config_are_named():
    kinds = {entries["model_type"] for entries in (*PUBLISHED.values(), *OWN_CODE.values())}
    inner = {each.get("model_type") for entries in PUBLISHED.values() for each in entries.values()
             if isinstance(each, dict)}  # fmt: skip
    renamed = {"jina_bert", "nomic_bert_moe"}  # whose files call themselves otherwise
    assert set(FAMILIES) - kinds - inner - renamed - set(DEFAULTS) == UNKNOWN
