"""GGUF files of every family that llama.cpp writes: its names, its layout, and the reference's reading of it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import sentencepiece
import torch
import transformers
from sentencepiece import sentencepiece_model_pb2

from multihead import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from multihead.checkpoints.key_map import join_head
from multihead.models.common.registry import FAMILIES, architecture

from .case import WORDS, Case
from .cases import CASES
from .cases.decoders import ALTERNATING, FEW, of
from .cases.experts import deepseek
from .cases.experts import of as moe
from .cases.gpt import GPT, LM
from .cases.gpt import of as gpt
from .cases.rotary_encoders import of as turned
from .cases.seq2seq import t5

# name of the architecture in a file -> a row of the parity tests
FILES = {
    "bert": "bert",
    "nomic-bert": "nomic-bert-gguf",
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3-gguf",
    "gemma": "gemma",
    "gemma2": "gemma2-gguf",
    "gemma3": "gemma3-gguf",
    "olmo2": "olmo2",
    "phi3": "phi3-gguf",
    "starcoder2": "starcoder2-gguf",
    "gpt2": "gpt2-gguf",
    "falcon": "falcon",
    "t5": "t5-gguf",
    "mamba": "mamba",
    "gpt-oss": "gpt-oss-gguf",
    "deepseek2": "deepseek-v2-gguf",
}
OLD_NAMES = {  # names that the converters know, where they are not today's
    **{("nomic-bert", f"layers.*.attention.step.{n}"): "encoder.layers.1.attn.Wqkv" for n in "qkv"},
    ("nomic-bert", "layers.*.attention.step.out"): "encoder.layers.1.attn.out_proj",
    ("nomic-bert", "layers.*.attention.after"): "encoder.layers.1.norm1",
    ("nomic-bert", "layers.*.ffn.after"): "encoder.layers.1.norm2",
    ("nomic-bert", "layers.*.ffn.step.up"): "encoder.layers.1.mlp.fc11",
    ("nomic-bert", "layers.*.ffn.step.gate"): "encoder.layers.1.mlp.fc12",
    ("nomic-bert", "layers.*.ffn.step.down"): "encoder.layers.1.mlp.fc2",
    ("gpt-oss", "layers.*.ffn.step.experts.gate_up"): "model.layers.1.mlp.experts.gate_proj",
    ("gpt-oss", "layers.*.ffn.step.experts.gate_up_bias"): "model.layers.1.mlp.experts.gate_proj",
    ("gpt-oss", "layers.*.ffn.step.experts.down_bias"): "model.layers.1.mlp.experts.down_proj",
    **{
        ("deepseek2", f"layers.*.ffn.step.routed.experts.*.{n}"): f"model.layers.1.mlp.experts.{n}_proj"
        for n in ("gate", "up", "down")
    },
    ("deepseek2", "layers.*.ffn.step.routed.rule.correction"): "model.layers.1.mlp.gate.e_score_correction",
    **{("deepseek2", f"layers.*.attention.step.{n}"): f"model.layers.1.self_attn.{n}_b_proj" for n in "kv"},
}
BARE = {"bert", "nomic-bert"}  # without a head
UNREAD = {"bert", "nomic-bert", "deepseek2", "gpt-oss", "t5", "gemma", "olmo2"}  # by the reference, from such files
T5_CONFIG = {"num_decoder_layers": 3, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32}
ROWS = {case.name: case for case in CASES} | {  # with the numbers that a file cannot tell at their usual values
    "gemma2-gguf": Case("gemma2-gguf", of("Gemma2", head_dim=256, sliding_window=4), FEW),
    "gemma3-gguf": Case("gemma3-gguf", of("Gemma3Text", head_dim=256, sliding_window=4), FEW, stem="Gemma3"),
    "qwen3-gguf": Case("qwen3-gguf", of("Qwen3", head_dim=128), FEW),
    "phi3-gguf": Case("phi3-gguf", of("Phi3"), FEW),
    "gpt2-gguf": Case("gpt2-gguf", gpt("GPT2", **{**GPT, "n_positions": 1024}), LM),
    "nomic-bert-gguf": Case("nomic-bert-gguf", turned("NomicBert"), ("Model",)),
    "t5-gguf": Case("t5-gguf", partial(t5, **T5_CONFIG), ("ForConditionalGeneration",)),
    "gpt-oss-gguf": Case(
        "gpt-oss-gguf",
        moe(
            "GptOss",
            num_local_experts=4,
            num_experts_per_tok=2,
            head_dim=8,
            sliding_window=4,
            layer_types=ALTERNATING,
            swiglu_limit=7.0,
        ),
        FEW,
    ),
    "deepseek-v2-gguf": Case("deepseek-v2-gguf", deepseek("V2"), FEW),
    "starcoder2-gguf": Case("starcoder2-gguf", of("Starcoder2"), FEW),
}


OWN = {  # what a file says beyond what all say -> its name in config.json
    "t5": {
        "attention.key_length": "d_kv",
        "feed_forward_length": "d_ff",
        "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
        "attention.relative_buckets_count": "relative_attention_num_buckets",
        "decoder_start_token_id": "decoder_start_token_id",
    },
    "mamba": {
        "ssm.conv_kernel": "conv_kernel",
        "ssm.inner_size": "intermediate_size",
        "ssm.state_size": "state_size",
        "ssm.time_step_rank": "time_step_rank",
        "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
    },
    "gpt-oss": {
        "expert_count": "num_local_experts",
        "expert_used_count": "num_experts_per_tok",
        "expert_feed_forward_length": "intermediate_size",
    },
    "deepseek2": {
        "leading_dense_block_count": "first_k_dense_replace",
        "attention.q_lora_rank": "q_lora_rank",
        "attention.kv_lora_rank": "kv_lora_rank",
        "attention.value_length_mla": "v_head_dim",
        "rope.dimension_count": "qk_rope_head_dim",
        "expert_feed_forward_length": "moe_intermediate_size",
        "expert_count": "n_routed_experts",
        "expert_shared_count": "n_shared_experts",
        "expert_used_count": "num_experts_per_tok",
        "expert_weights_scale": "routed_scaling_factor",
    },
}


def entries(kind: str, config: Any) -> dict[str, Any]:
    """A file's metadata, as llama.cpp's converters write them."""
    found = {
        "context_length": getattr(config, "max_position_embeddings", 512),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "attention.head_count": getattr(config, "num_attention_heads", 0),
        "attention.head_count_kv": getattr(config, "num_key_value_heads", 1),
        "vocab_size": config.vocab_size,
    }
    for name in ("rms_norm_eps", "norm_epsilon", "layer_norm_epsilon", "layer_norm_eps"):
        if hasattr(config, name):
            end = "layer_norm_rms_epsilon" if name == "rms_norm_eps" else "layer_norm_epsilon"
            found[f"attention.{end}"] = getattr(config, name)
    if getattr(config, "head_dim", None):
        found |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if getattr(config, "sliding_window", None):
        found["attention.sliding_window"] = config.sliding_window
    found |= {theirs: getattr(config, ours) for theirs, ours in OWN.get(kind, {}).items()}
    if kind == "deepseek2":
        found |= {"attention.key_length_mla": config.qk_head_dim, "expert_gating_func": 1}
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "yarn":
        found |= {"rope.scaling.type": "yarn", "rope.scaling.factor": rope["factor"]}
        found |= {"rope.scaling.original_context_length": rope["original_max_position_embeddings"]}
    theta = rope.get("full_attention", rope).get("rope_theta")
    return {f"{kind}.{name}": value for name, value in (found | ({"rope.freq_base": theta} if theta else {})).items()}


def write(path: Path, kind: str, metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    writer = gguf.GGUFWriter(path, kind)
    for name, value in metadata.items():
        kinds = {float: writer.add_float32, str: writer.add_string, bool: writer.add_bool, list: writer.add_array}
        add = kinds.get(type(value), writer.add_uint32)
        add(name, value)
    writer.add_tokenizer_model("gpt2")
    tokens = [f"w{number}" for number in range(WORDS)]
    writer.add_token_list(tokens)
    writer.add_token_merges([])
    writer.add_pad_token_id(0)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy().astype(numpy.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()


def loader(kind: str) -> Any:
    if kind == "t5":
        return AutoModelForSeq2SeqLM
    return AutoModel if kind in BARE else AutoModelForCausalLM


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(our model, its file) of an architecture: random weights under llama.cpp's names."""

    def make(kind: str) -> tuple[Any, Path]:
        case: Case = ROWS[FILES[kind]]
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        wanted = ("Model",) if kind in BARE else ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
        end = next(end for end in case.ends if end in wanted)
        reference = case.peer(end)(case.make())
        for parameter in reference.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        reference.save_pretrained(folder)
        ours = loader(kind).from_pretrained(folder)
        table = ours.architecture.layouts["gguf"](ours.config)
        path = folder / "model.gguf"
        ours.head = None if kind in BARE else ours.head
        write(path, kind, entries(kind, reference.config), join_head(table, {}).export(ours))
        return ours, path

    return make


@pytest.mark.parametrize("kind", FILES)
def test_a_file_gives_the_numbers_that_were_put_in_and_that_the_reference_reads(made, kind):
    ours, path = made(kind)
    ids = torch.randint(1, WORDS - 1, (2, 9))
    with torch.no_grad():
        given = {"decoder_input_ids": ids.flip(0)} if kind == "t5" else {}
        expected = ours(ids, **given)[0]
        again = loader(kind).from_pretrained(path)
        torch.testing.assert_close(again(ids, **given)[0], expected, rtol=1e-6, atol=1e-6)
        if kind in UNREAD:
            return
        theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
        torch.testing.assert_close(theirs(ids).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FILES)
def test_names_are_llama_cpps_own(kind):
    """The map of names that llama.cpp's converters use, from the format's own package."""
    case = ROWS[FILES[kind]]
    model_type = next(t for t, e in FAMILIES.items() if ("gguf", kind) in e.layouts)
    family = architecture(model_type)
    config = family.config.read(case.made.to_dict())
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    stored, ours = family.keys(config), family.layouts["gguf"](config)
    compared = 0
    for path, row in stored.rows.items():
        theirs = ours.rows.get(path)
        if theirs is None:
            continue
        key, wanted = (x if isinstance(x, str) else x.key for x in (row, theirs))
        for prefix in (stored.prefix, ""):
            found = names.get_name(prefix + key.replace("*", "1"), try_suffixes=(".weight", ".bias"))
            if found is not None:
                break
        if found is None or (kind, path) in OLD_NAMES:
            found = names.get_name(OLD_NAMES.get((kind, path), ""), try_suffixes=(".weight", ".bias"))
        bare = [re.sub(r"\.(weight|bias)$", "", name or "") for name in (found, wanted.replace("*", "1"))]
        assert bare[0] == bare[1], path
        compared += 1
    assert compared >= 8


def test_a_file_of_t5_holds_the_tokenizer_that_its_sentencepiece_model_is(tmp_path):
    """The same pieces, once in a model's own file and once in a GGUF file."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"the {word} of café number {n} ﬁnds ½ a house" for n, word in enumerate("abcdefgh" * 9)))
    names = {"model_prefix": str(tmp_path / "spiece"), "vocab_size": 40, "character_coverage": 1.0}
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, **names
    )
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    expected = AutoTokenizer.from_pretrained(tmp_path)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((tmp_path / "spiece.model").read_bytes())
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "t5")
    writer.add_tokenizer_model("t5")
    writer.add_token_list([piece.piece for piece in model.pieces])
    writer.add_token_scores([piece.score for piece in model.pieces])
    writer.add_token_types([piece.type for piece in model.pieces])
    writer.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    for add, number in ((writer.add_pad_token_id, 0), (writer.add_eos_token_id, 1), (writer.add_unk_token_id, 2)):
        add(number)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    ours = AutoTokenizer.from_pretrained(tmp_path / "model.gguf")
    for words in ("the house  of café 5", "ﬁnds ½ <unk> zzz </s> x", ""):
        assert ours(words).input_ids == expected(words).input_ids
        assert ours.decode(ours(words).input_ids) == expected.decode(expected(words).input_ids)
