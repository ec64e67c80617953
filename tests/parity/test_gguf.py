"""GGUF files of every family that llama.cpp writes: its names, its layout, and the reference's reading of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch
import transformers

from multihead import AutoModel, AutoModelForCausalLM
from multihead.checkpoints.keys import joined
from multihead.models.registry import FAMILIES, architecture

from .case import WORDS, Case
from .cases import CASES
from .cases.decoders import FEW, of
from .cases.gpt import GPT, LM
from .cases.gpt import of as gpt
from .cases.rotary_encoders import of as turned

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
}
OLD_NAMES = {  # names that the converters know, where they are not today's
    **{("nomic-bert", f"layers.*.attention.step.{n}"): "encoder.layers.1.attn.Wqkv" for n in "qkv"},
    ("nomic-bert", "layers.*.attention.step.out"): "encoder.layers.1.attn.out_proj",
    ("nomic-bert", "layers.*.attention.after"): "encoder.layers.1.norm1",
    ("nomic-bert", "layers.*.ffn.after"): "encoder.layers.1.norm2",
    ("nomic-bert", "layers.*.ffn.step.up"): "encoder.layers.1.mlp.fc11",
    ("nomic-bert", "layers.*.ffn.step.gate"): "encoder.layers.1.mlp.fc12",
    ("nomic-bert", "layers.*.ffn.step.down"): "encoder.layers.1.mlp.fc2",
}
BARE = {"bert", "nomic-bert"}  # without a head
UNREAD = {"bert", "nomic-bert", "gemma", "olmo2"}  # which the reference does not read from GGUF files
ROWS = {case.name: case for case in CASES} | {  # with the numbers that a file cannot tell at their usual values
    "gemma2-gguf": Case("gemma2-gguf", of("Gemma2", head_dim=256, sliding_window=4), FEW),
    "gemma3-gguf": Case("gemma3-gguf", of("Gemma3Text", head_dim=256, sliding_window=4), FEW, stem="Gemma3"),
    "qwen3-gguf": Case("qwen3-gguf", of("Qwen3", head_dim=128), FEW),
    "phi3-gguf": Case("phi3-gguf", of("Phi3"), FEW),
    "gpt2-gguf": Case("gpt2-gguf", gpt("GPT2", **{**GPT, "n_positions": 1024}), LM),
    "nomic-bert-gguf": Case("nomic-bert-gguf", turned("NomicBert"), ("Model",)),
    "starcoder2-gguf": Case("starcoder2-gguf", of("Starcoder2"), FEW),
}


def entries(kind: str, config: Any) -> dict[str, Any]:
    """A file's metadata, as llama.cpp's converters write them."""
    found = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "attention.head_count": config.num_attention_heads,
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
    rope = getattr(config, "rope_parameters", None) or {}
    theta = rope.get("full_attention", rope).get("rope_theta")
    return {f"{kind}.{name}": value for name, value in (found | ({"rope.freq_base": theta} if theta else {})).items()}


def write(path: Path, kind: str, metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    writer = gguf.GGUFWriter(path, kind)
    for name, value in metadata.items():
        writer.add_float32(name, value) if isinstance(value, float) else writer.add_uint32(name, value)
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
    return AutoModel if kind in BARE else AutoModelForCausalLM


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(our model, its file) of an architecture: random weights under llama.cpp's names."""

    def make(kind: str) -> tuple[Any, Path]:
        case: Case = ROWS[FILES[kind]]
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        wanted = ("Model",) if kind in BARE else ("ForCausalLM", "LMHeadModel")
        end = next(end for end in case.ends if end in wanted)
        reference = getattr(transformers, case.family + end)(case.make())
        for parameter in reference.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        reference.save_pretrained(folder)
        ours = loader(kind).from_pretrained(folder)
        table = ours.architecture.layouts["gguf"](ours.config)
        path = folder / "model.gguf"
        ours.head = None if kind in BARE else ours.head
        write(path, kind, entries(kind, reference.config), joined(table, {}).export(ours))
        return ours, path

    return make


@pytest.mark.parametrize("kind", FILES)
def test_a_file_gives_the_numbers_that_were_put_in_and_that_the_reference_reads(made, kind):
    ours, path = made(kind)
    ids = torch.randint(1, WORDS - 1, (2, 9))
    with torch.no_grad():
        expected = ours(ids)[0]
        again = loader(kind).from_pretrained(path)
        assert torch.equal(again(ids)[0], expected)
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
    config = family.config.read(case.make().to_dict())
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
        if found is None:
            found = names.get_name(OLD_NAMES.get((kind, path), ""), try_suffixes=(".weight", ".bias"))
        assert found == wanted.replace("*", "1"), path
        compared += 1
    assert compared >= 8
