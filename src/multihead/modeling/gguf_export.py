"""Writes a model and its tokenizer as one GGUF file, which is read back and compared before it is kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import Checkpoint
from ..checkpoints.gguf_mixes import OTHER_NAMES, WRITTEN
from ..checkpoints.gguf_writing import write
from ..checkpoints.key_map import KeyMap, join_head
from ..checkpoints.tensor_sources import Slice
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption, UnsupportedTokenizer
from ..models.common.gguf import ENTRIES
from ..models.common.registry import FAMILIES
from ..nn.own_names import own_modules
from ..nn.quantized_linear import is_quantized
from ..runtime.prepare import refuse
from ..tokenizers.gguf import from_gguf
from ..tokenizers.gguf_writing import tokenizer_metadata
from ..tokenizers.tokenizer import Tokenizer
from .model_config import gguf_config
from .pretrained import PreTrainedModel
from .structure import same, same_structure

UNCOMPARED = frozenset(  # config entries that a file does not keep, or keeps elsewhere
    """architectures id2label label2id num_labels problem_type extra bos_token_id eos_token_id pad_token_id
    decoder_start_token_id tie_word_embeddings initializer_range attention_dropout hidden_dropout vocab_size""".split()
)
READ_ONLY = frozenset(  # architectures whose files need settings beyond `ENTRIES`, which are not written here
    """command-r cohere2 deepseek2 ernie4_5-moe glm4moe gpt-oss granitemoe hunyuan-moe lfm2 lfm2moe mamba mamba2
    minimax-m2 modern-bert olmo olmoe qwen2moe qwen3moe bloom mpt qwen3next qwen35 qwen35moe starcoder
    falcon-h1 granitehybrid llama4 nemotron_h nemotron_h_moe""".split()
)
NORMS = dict.fromkeys(("layer_norm_epsilon", "norm_epsilon", "norm_eps"), "attention.layer_norm_epsilon")
OWN_ENTRIES: Mapping[str, Mapping[str, str]] = {  # architecture -> config.json's name -> the file's
    "granite": {
        "embedding_multiplier": "embedding_scale", "attention_multiplier": "attention.scale",
        "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
    },
    "falcon": {"key_heads": "attention.head_count_kv", "ffn_hidden_size": "feed_forward_length"},
    "gptneox": {"use_parallel_residual": "use_parallel_residual"},
}  # fmt: skip
BARE = frozenset(("bert", "nomic-bert"))  # encoders, whose files have no head
SAMPLES = ("The quick brown fox, 1969!", "  naïve  Grüße\n\n東京 \t½", "def f(x):\n    return x ** 2  # ok", "")


class TensorsToWrite(dict[str, Tensor]):
    """The tensors of a file that is not written yet."""

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)


def save_gguf(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    path: Path,
    kind: str,
    importance: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a GGUF file.

    Args:
        kind: type of the file, a name in `checkpoints.gguf_mixes.WRITTEN` or `OTHER_NAMES`.
        importance: mean squared inputs of weights, by their names in the file: (columns,), or (experts, columns) for
            stacked experts. `importance_by_tensor` makes them of a model's own names. The larger one is, the less the
            column's weights are changed by quantizing.

    Raises:
        UnsupportedOption: a model with adapters, or a quantized one. InvalidInput: a prepared one, or importances that
            do not fit.
        UnsupportedConfig: a family without a GGUF layout here, or a config entry that the file would lose.
        UnsupportedTokenizer: a tokenizer that the file would change.
    """
    refuse(model, "written as GGUF")
    if model.adapters is not None or is_quantized(model):
        raise UnsupportedOption(
            "GGUF holds plain weights, and the model has adapters or a quantized base: call "
            "model.merge_adapters(dequantize=True) first."
        )
    kind = OTHER_NAMES.get(kind, kind)
    if kind not in WRITTEN:
        raise InvalidInput(f"A GGUF file is written as {', '.join((*WRITTEN, *OTHER_NAMES))}, not {kind!r}.")
    name = architecture_name(model)
    metadata = {**model_metadata(model, name, kind), **tokenizer_metadata(tokenizer, model.vocabulary)}
    metadata |= extra_end_tokens(model, metadata)
    table, module = table_of(model, name)
    tensors = table.export(module)
    check_roundtrip(model, tokenizer, metadata, tensors)
    write(path, metadata, tensors, kind, importance)


def architecture_name(model: PreTrainedModel) -> str:
    """Return the name of the model's architecture in files. Raises UnsupportedConfig for one that is not written."""
    names = {k: dict(entry.layouts).get("gguf", "") for k, entry in FAMILIES.items()}
    name = names[model.config.model_type]
    bare = name in BARE and model.head_suffix == "Model"
    written = bare or (name not in BARE and model._head is not None)
    if not name or name in READ_ONLY or "gguf" not in model.architecture.layouts or not written:
        able = sorted(k for k, known in names.items() if known and known not in READ_ONLY)
        raise UnsupportedConfig(
            f"{type(model).__name__} is not written as GGUF; these families are, decoders with their output embeddings "
            f"and encoders without a head: {', '.join(able)}."
        )
    return name


def table_of(model: PreTrainedModel, name: str) -> tuple[KeyMap, nn.Module]:
    """Return the key map of a model's file, and the module whose parameters it names."""
    layout = model.architecture.layouts["gguf"](model.config)
    if name in BARE:
        return layout, model.backbone  # files have no head, such as BERT's pooler
    assert model._head is not None
    own = {} if any(row.startswith("/") for row in layout.rows) else model._head.rows
    return join_head(layout, own), model


def importance_by_tensor(model: PreTrainedModel, importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return importances by the names of tensors in the file.

    Args:
        importance: mean squared inputs (columns,) of linear layers, by our names or the reference's.

    Raises:
        InvalidInput: a name that is no layer of the model. UnsupportedConfig: as `save_gguf` does.
    """
    table, module = table_of(model, architecture_name(model))
    stem = "" if module is model else "backbone."
    found: dict[str, Tensor] = {}
    own = {id(layer): path for path, layer in own_modules(model)}
    for name, given in importance.items():
        try:
            path = own.get(id(model.get_submodule(name)), name)
        except AttributeError:
            path = name
        where = table.locate(f"{path.removeprefix(stem)}.weight", table.prefix)
        if where is None:
            raise InvalidInput(f"{name!r} is no layer of this model whose weight a GGUF file has.")
        source, keys = where
        for key in keys:
            if isinstance(source, Slice):  # one expert of a stack
                found.setdefault(key, given.new_zeros(source.count, *given.shape))[source.number] = given
            else:
                found[key] = given
    return found


def model_metadata(model: PreTrainedModel, name: str, kind: str) -> dict[str, Any]:
    """Return the metadata of a model, under llama.cpp's names."""
    config = model.config
    found: dict[str, Any] = {
        "general.architecture": name,
        "general.name": Path(model.name_or_path.partition("#sha256=")[0]).name or name,
        "general.file_type": WRITTEN[kind].number,
        "general.quantization_version": 2,
    }
    for ours, theirs in {**ENTRIES, **NORMS, **OWN_ENTRIES.get(name, {})}.items():
        value = getattr(config, ours, None)
        if value is not None:
            found.setdefault(f"{name}.{theirs}", value)
    if name in ("falcon", "gpt2"):  # whose configs may leave it out
        found.setdefault(f"{name}.feed_forward_length", 4 * config.hidden_size)
    if f"{name}.attention.key_length" in found:
        found[f"{name}.attention.value_length"] = found[f"{name}.attention.key_length"]
    turned = getattr(config, "rope_parameters", None) or {}
    if "rope_theta" in turned:
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = int(width * (turned.get("partial_rotary_factor") or 1))
        found |= {f"{name}.rope.freq_base": float(turned["rope_theta"]), f"{name}.rope.dimension_count": width}
    if turned.get("rope_type") in ("linear", "yarn"):
        found[f"{name}.rope.scaling.type"] = turned["rope_type"]
        found[f"{name}.rope.scaling.factor"] = float(turned["factor"])
        if "original_max_position_embeddings" in turned:
            found[f"{name}.rope.scaling.original_context_length"] = turned["original_max_position_embeddings"]
    return found


def extra_end_tokens(model: PreTrainedModel, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end tokens in addition to the tokenizer's own. Raises UnsupportedConfig for more than two."""
    known = model.generation_config.eos_token_id
    all_ends = known if isinstance(known, list) else [] if known is None else [known]
    others = [token for token in all_ends if token != metadata.get("tokenizer.ggml.eos_token_id")]
    if len(others) > 2:
        raise UnsupportedConfig(
            f"A GGUF file has room for two end tokens in addition to the tokenizer's, not {others}."
        )
    return {
        f"tokenizer.ggml.{name}": token for name, token in zip(("eot_token_id", "eom_token_id"), others, strict=False)
    }


def check_roundtrip(
    model: PreTrainedModel, tokenizer: Tokenizer, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Raise UnsupportedConfig or UnsupportedTokenizer for what the file would change."""
    exact = {k: v if not isinstance(v, float) else _single(v) for k, v in metadata.items()}
    found = gguf_config(Checkpoint("The file", "gguf", TensorsToWrite(tensors), exact), model.config.model_type)
    lost = list(changed_entries(model.config, found))
    if lost and not computes_as(model, found):
        raise UnsupportedConfig(f"A GGUF file does not keep these entries of the config: {', '.join(lost)}.")
    again = from_gguf(exact)
    for text in SAMPLES:
        if again.encode_ids([text]) != tokenizer.encode_ids([text]):
            raise UnsupportedTokenizer(f"A GGUF file would cut texts otherwise than this tokenizer does: {text!r}.")


def computes_as(model: PreTrainedModel, config: Any) -> bool:
    """True if a model of the config computes the same: entries may say one thing in several ways."""
    if type(config) is not type(model.config):
        return False
    with torch.device("meta"):
        one, other = (type(model)(each) for each in (model.config, config))
    return same_structure(one.backbone, other.backbone) and same(one.head, other.head)


def _single(value: float) -> float:
    import struct

    found: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return found


def changed_entries(one: Any, other: Any) -> Iterator[str]:
    """Yield names of entries that differ."""
    for f in dataclasses.fields(one):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if f.name not in UNCOMPARED and not equal_entries(a, b):
            yield f"{f.name} = {a!r}"


def equal_entries(one: Any, other: Any) -> bool:
    """True if two entries are equal, or close where they are numbers."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal_entries(value, other[name]) for name, value in one.items())
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)
