"""Writes a model and its tokenizer as one GGUF file, which is read back and compared before it is kept."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers.models import BPE

import tokenizers

from ..checkpoints.gguf import WRITTEN
from ..checkpoints.gguf_writing import write
from ..checkpoints.key_map import join_head
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption, UnsupportedTokenizer
from ..models.common.gguf import ENTRIES
from ..models.common.registry import FAMILIES
from ..nn.quantized_linear import is_quantized
from ..runtime.prepare import refuse
from ..tokenizers.gguf import CONTROL, IDS, NORMAL, USER_DEFINED, from_gguf
from ..tokenizers.pretokenizers import CUTS
from ..tokenizers.tokenizer import Tokenizer
from .pretrained import PreTrainedModel

UNUSED = 5  # type of a token
UNCOMPARED = frozenset(  # config entries that a file does not keep, or keeps elsewhere
    """architectures id2label label2id num_labels problem_type extra bos_token_id eos_token_id pad_token_id
    decoder_start_token_id tie_word_embeddings initializer_range attention_dropout hidden_dropout""".split()
)
READ_ONLY = frozenset(  # architectures whose files need settings beyond `ENTRIES`, which are not written here
    """command-r cohere2 deepseek2 ernie4_5-moe glm4moe gpt-oss granitemoe hunyuan-moe lfm2 lfm2moe mamba mamba2
    minimax-m2 modern-bert olmo olmoe qwen2moe qwen3moe""".split()
)
SAMPLES = ("The quick brown fox, 1969!", "  naïve  Grüße\n\n東京 \t½", "def f(x):\n    return x ** 2  # ok", "")


def save_gguf(model: PreTrainedModel, tokenizer: Tokenizer, path: Path, kind: str) -> None:
    """Write a GGUF file.

    Args:
        kind: type of the matrices, a name in `checkpoints.gguf.WRITTEN`.

    Raises:
        UnsupportedOption: a model with adapters, or a quantized one. InvalidInput: a prepared one.
        UnsupportedConfig: a family without a GGUF layout here, or a config entry that the file would lose.
        UnsupportedTokenizer: a tokenizer that the file would change.
    """
    refuse(model, "written as GGUF")
    if model.adapters is not None or is_quantized(model):
        raise UnsupportedOption(
            "GGUF holds plain weights, and the model has adapters or a quantized base: call "
            "model.merge_adapters(dequantize=True) first."
        )
    if kind not in WRITTEN:
        raise InvalidInput(f"A GGUF file is written as {', '.join(WRITTEN)}, not {kind!r}.")
    names = {k: dict(entry.layouts).get("gguf", "") for k, entry in FAMILIES.items()}
    name = names[model.config.model_type]
    if not name or name in READ_ONLY or "gguf" not in model.architecture.layouts or model._head is None:
        able = sorted(k for k, known in names.items() if known and known not in READ_ONLY)
        raise UnsupportedConfig(
            f"{type(model).__name__} is not written as GGUF; these families are: {', '.join(able)}."
        )
    layout = model.architecture.layouts["gguf"](model.config)
    own = {} if any(row.startswith("/") for row in layout.rows) else model._head.rows
    metadata = {**model_metadata(model, name, kind), **tokenizer_metadata(tokenizer, model.vocabulary)}
    metadata |= extra_end_tokens(model, metadata)
    check_roundtrip(model, tokenizer, metadata)
    write(path, metadata, join_head(layout, own).export(model), kind)


def model_metadata(model: PreTrainedModel, name: str, kind: str) -> dict[str, Any]:
    """Return the metadata of a model, under llama.cpp's names."""
    config = model.config
    found: dict[str, Any] = {
        "general.architecture": name,
        "general.name": Path(model.name_or_path.partition("#sha256=")[0]).name or name,
        "general.file_type": WRITTEN[kind].file_type,
        "general.quantization_version": 2,
    }
    for ours, theirs in ENTRIES.items():
        value = getattr(config, ours, None)
        if value is not None:
            found.setdefault(f"{name}.{theirs}", value)
    turned = getattr(config, "rope_parameters", None) or {}
    if "rope_theta" in turned:
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        found |= {f"{name}.rope.freq_base": float(turned["rope_theta"]), f"{name}.rope.dimension_count": int(width)}
    if turned.get("rope_type") in ("linear", "yarn"):
        found[f"{name}.rope.scaling.type"] = turned["rope_type"]
        found[f"{name}.rope.scaling.factor"] = float(turned["factor"])
        if "original_max_position_embeddings" in turned:
            found[f"{name}.rope.scaling.original_context_length"] = turned["original_max_position_embeddings"]
    return found


def tokenizer_metadata(tokenizer: Tokenizer, size: int) -> dict[str, Any]:
    """Return the metadata of a byte-level BPE or SentencePiece BPE tokenizer.

    Raises:
        UnsupportedTokenizer: another kind, or a pretokenizer that llama.cpp has no name for.
    """
    backend, spec = tokenizer.backend, json.loads(tokenizer.backend.to_str())
    if not isinstance(backend.model, BPE):
        raise UnsupportedTokenizer(f"A tokenizer of kind {spec['model']['type']} is not written as GGUF; BPE is.")
    numbered = {number: token for token, number in tokenizer.get_vocab().items()}
    added = {token["id"]: token for token in spec["added_tokens"]}
    types = [
        (CONTROL if added[n]["special"] else USER_DEFINED) if n in added else NORMAL if n in numbered else UNUSED
        for n in range(max(size, len(numbered)))
    ]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in spec["model"]["merges"]]
    found: dict[str, Any] = {
        "tokenizer.ggml.tokens": [numbered.get(n, f"[PAD{n}]") for n in range(len(types))],
        "tokenizer.ggml.token_type": types,
    }
    if spec["model"].get("byte_fallback"):
        first: dict[str, int] = {}
        for place, merge in enumerate(merges):
            first.setdefault(merge.replace(" ", "", 1), place)
        scores = [float(-first.get(token, len(merges))) for token in found["tokenizer.ggml.tokens"]]
        space = backend.encode("a", add_special_tokens=False).tokens[:1] != ["a"]
        found |= {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": scores}
        found["tokenizer.ggml.add_space_prefix"] = space
    else:
        found |= {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pretokenizer_name(backend),
            "tokenizer.ggml.merges": merges,
        }
    for role, name in IDS.items():
        if role in tokenizer.special:
            found[f"tokenizer.ggml.{name}"] = tokenizer.convert_tokens_to_ids(tokenizer.special[role])
    begins = tokenizer.encode_ids(["a"])[0]
    found["tokenizer.ggml.add_bos_token"] = begins[:1] == [tokenizer.bos_token_id]
    found["tokenizer.ggml.add_eos_token"] = begins[-1:] == [tokenizer.eos_token_id]
    if isinstance(tokenizer.chat_template, str):
        found["tokenizer.chat_template"] = tokenizer.chat_template
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


def pretokenizer_name(backend: tokenizers.Tokenizer) -> str:
    """Return llama.cpp's name of the pre-tokenizer. Raises UnsupportedTokenizer."""
    own = (backend.pre_tokenizer.__getstate__() if backend.pre_tokenizer else None, backend.model.ignore_merges)
    for name, one in CUTS.items():
        plain = tokenizers.Tokenizer(BPE(ignore_merges=one.ignore_merges))
        one.set(plain)
        if (plain.pre_tokenizer.__getstate__(), plain.model.ignore_merges) == own:
            return name
    raise UnsupportedTokenizer(
        f"llama.cpp has no name, known here, for how this tokenizer cuts text; known: {', '.join(CUTS)}."
    )


def check_roundtrip(model: PreTrainedModel, tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> None:
    """Raise UnsupportedConfig or UnsupportedTokenizer for what the file would change."""
    exact = {k: v if not isinstance(v, float) else _single(v) for k, v in metadata.items()}
    entries = model.architecture.foreign_config["gguf"](exact)
    lost = list(changed_entries(model.config, type(model.config).read(entries)))
    if lost:
        raise UnsupportedConfig(f"A GGUF file does not keep these entries of the config: {', '.join(lost)}.")
    again = from_gguf(exact)
    for text in SAMPLES:
        if again.encode_ids([text]) != tokenizer.encode_ids([text]):
            raise UnsupportedTokenizer(f"A GGUF file would cut texts otherwise than this tokenizer does: {text!r}.")


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
