"""Language models of multimodal families that are, on text alone, families here: their entries and their tensors.

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import UnsupportedConfig

if TYPE_CHECKING:
    from torch import Tensor

Entries = dict[str, Any]
Read = Callable[["Tensor"], "Tensor"]
Parts = Callable[[Entries, str], Iterable[tuple[str, "Read | None"]]]  # (entries, name) -> (new name, how to read it)


def one_part(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Return a tensor's own name."""
    return ((name, None),)


def as_given(entries: Entries) -> Entries:
    """Return the entries unchanged."""
    return entries


def no_other(entries: Entries) -> TextType | None:
    """Return no other row."""
    return None


@dataclass(frozen=True)
class TextType:
    """A `model_type` of text configs whose model is another family on text alone.

    Args:
        family: its model_type. defaults: entries where the config has none.
        convert: brings entries to the family's. parts: brings a tensor's name to the family's names.
        renamed: other names of entries.
        other: chooses another row for some entries.
    """

    family: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    convert: Callable[[Entries], Entries] = as_given
    parts: Parts = one_part
    renamed: Mapping[str, str] = field(default_factory=dict)
    other: Callable[[Entries], TextType | None] = no_other

    def variant(self, entries: Entries) -> TextType:
        """Return the row that reads these entries."""
        return self.other(entries) or self

    def complete(self, entries: Mapping[str, Any]) -> Entries:
        """Return the entries of a text config with this type's defaults."""
        given = {self.renamed.get(k, k): v for k, v in entries.items()}
        return {**self.defaults, **{k: v for k, v in given.items() if v is not None or k not in self.defaults}}


def one_axis(entries: Entries) -> Entries:
    """Return entries whose rotary positions have one axis: text has the same position on all of them."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = entries.get(name)
        if isinstance(rope, Mapping):
            kept = {k: v for k, v in rope.items() if k not in ("mrope_section", "mrope_interleaved", "interleaved")}
            for kind in ("type", "rope_type"):
                if kept.get(kind) == "mrope":
                    kept[kind] = "default"
            entries = {**entries, name: kept}
    return entries


def one_axis_of_hunyuan(entries: Entries) -> Entries:
    """Do the same for HunyuanOCR, whose positions with several axes have a name and a list of their own."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = entries.get(name)
        if isinstance(rope, Mapping):
            kept = {k: v for k, v in rope.items() if k != "xdrope_section"}
            kinds = {kind: "dynamic" for kind in ("type", "rope_type") if kept.get(kind) == "xdrope"}
            entries = {**entries, name: {**kept, **kinds}}
    return one_axis(entries)


def one_axis_of_part(entries: Entries) -> Entries:
    """Do the same for GLM, which turns all channels of a head unless the entries say another part."""
    entries = one_axis(entries)
    name = "rope_scaling" if entries.get("rope_scaling") else "rope_parameters"
    rope = dict(entries.get(name) or {})
    part = entries.get("partial_rotary_factor")
    rope.setdefault("partial_rotary_factor", 1.0 if part is None else part)
    width = entries.get("head_dim") or entries["hidden_size"] // entries["num_attention_heads"]
    return {**entries, "head_dim": width, name: {"rope_type": rope.pop("type", "default"), **rope}}


def biases_of_all(entries: Entries) -> Entries:
    """Return entries with Llama's two for the one that says whether all matrices have biases (PaddleOCR)."""
    entries = one_axis(entries)
    bias = entries.pop("use_bias")
    return {**entries, "attention_bias": bias, "mlp_bias": bias}


def without_image_layers(entries: Entries) -> Entries:
    """Return entries without the layers that attend to an image: on text alone they are skipped."""
    entries = dict(entries)
    crossing = set(entries.pop("cross_attention_layers"))
    entries.pop("dropout", None)  # which no layer has
    layers = range(entries["num_hidden_layers"])
    return {**entries, "num_hidden_layers": sum(i not in crossing for i in layers)}


def image_layer_parts(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Number the remaining layers anew, and cut the rows of image tokens from the word vectors."""
    if name == "model.embed_tokens.weight":
        return ((name, lambda table: table[: entries["vocab_size"]]),)
    found = re.match(r"model\.layers\.(\d+)\.(.+)", name)
    if found is None:
        return ((name, None),)
    number, crossing = int(found[1]), entries["cross_attention_layers"]
    if number in crossing:
        return ()
    return ((f"model.layers.{number - sum(i < number for i in crossing)}.{found[2]}", None),)


def stacked_expert_parts(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Take each expert's matrices out of stacked ones: (experts, in, out), or (experts, out, in)."""
    stem, _, kind = name.rpartition(".experts.")
    wide, narrow = entries["hidden_size"], entries["moe_intermediate_size"]
    experts = range(entries.get("num_experts") or entries["n_routed_experts"])
    if kind == "gate_up_proj":
        each = {"gate_proj": slice(0, narrow), "up_proj": slice(narrow, 2 * narrow)}
        shape = (2 * narrow, wide)
    elif kind == "down_proj":
        each, shape = {"down_proj": slice(None)}, (wide, narrow)
    else:
        return ((name, None),)

    def read(number: int, rows: slice) -> Read:
        def one(stacked: Tensor) -> Tensor:
            matrix = stacked[number]
            return (matrix if tuple(matrix.shape) == shape else matrix.T)[rows]

        return one

    return [(f"{stem}.experts.{i}.{n}.weight", read(i, rows)) for i in experts for n, rows in each.items()]


def within_layers(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Leave out layers past the last one, which predict several tokens at once."""
    found = re.match(r"model\.layers\.(\d+)\.", name)
    return () if found and int(found[1]) >= entries["num_hidden_layers"] else ((name, None),)


def text_experts(entries: Entries) -> Entries:
    """Return entries with the text's experts alone, for layers that have others for images (ERNIE 4.5)."""
    entries = {name: value for name, value in one_axis(entries).items() if name not in ERNIE_VL_ENTRIES}
    layers = entries["num_hidden_layers"]
    kinds = entries.pop("mlp_layer_types", None) or ["dense", *["sparse"] * (layers - 1)]
    sparse = [i for i, kind in enumerate(kinds) if kind == "sparse"]
    first, last = (sparse[0], sparse[-1]) if sparse else (layers, layers)
    if len(kinds) != layers or len(sparse) not in (0, last - first + 1):
        raise UnsupportedConfig(f"mlp_layer_types is {kinds}; the layers with experts must follow each other.")
    own = {"moe_layer_start_index": first, "moe_layer_end_index": last, **entries}
    own["moe_intermediate_size"] = entries["moe_intermediate_size"][0]
    for name in ("moe_num_experts", "moe_layer_start_index", "moe_layer_end_index"):
        own[name] = of_text(own, name)
    own["moe_layer_end_index"] = min(own["moe_layer_end_index"], layers)
    return own


def of_text(entries: Entries, name: str) -> int:
    """Return the text's number in an entry of two, for texts and for images.

    Raises:
        UnsupportedConfig: they differ, except in last layers that are past the end.
    """
    found = entries[name]
    both = found if isinstance(found, list) else [found, found]
    least = entries["num_hidden_layers"] - 1 if name == "moe_layer_end_index" else None
    if len(both) != 2 or len({both[i] if least is None else min(both[i], least) for i in (0, 1)}) != 1:
        raise UnsupportedConfig(f"{name} is {found}; texts and images must have the same number.")
    return int(both[0])


def text_expert_parts(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Take the text's experts and router out of the hub's names, which number them first, and the reference's."""
    count = of_text(entries, "moe_num_experts")
    numbered = re.search(r"\.mlp\.experts\.(\d+)\.", name)
    if ".vision_moe." in name or name.endswith(".mlp.gate.weight_1") or (numbered and int(numbered[1]) >= count):
        return ()
    if name.endswith(".mlp.gate.weight"):  # (width, experts) in the hub's files
        return ((name, lambda matrix: matrix.T),)
    if name.endswith("e_score_correction_bias"):  # (2, experts) in the hub's files, (1, experts) in the reference's
        return ((name.replace(".text_moe.", "."), lambda biases: biases[:1]),)
    sizes = {"num_experts": count, "moe_intermediate_size": entries["moe_intermediate_size"][0]}
    return stacked_expert_parts({**entries, **sizes}, name.replace(".text_moe.", "."))


def numbered_matrices(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Rename the two matrices of a feed-forward step from those that the reference gives them (Cosmos 3 Edge)."""
    return ((name.replace(".mlp.fc1.", ".mlp.up_proj.").replace(".mlp.fc2.", ".mlp.down_proj."), None),)


def without_score_bias(entries: Entries) -> Entries:
    """Return entries without the one that adds a bias to Phi-4's scores, which no file has."""
    if entries.get("lm_head_bias"):
        raise UnsupportedConfig("lm_head_bias is true; the scores of this family are computed without a bias.")
    return {name: value for name, value in entries.items() if name != "lm_head_bias"}


def molmo2_parts(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Split the fused matrices of the hub's files, and cut the rows of images from the word vectors (Molmo 2)."""
    if name.endswith(("wte.embedding", "wte.new_embedding", "embed_tokens.weight")):
        return (("model.embed_tokens.weight", lambda table: table[: entries["vocab_size"]]),)
    queries, keys = (entries[kind] * entries["head_dim"] for kind in ("num_attention_heads", "num_key_value_heads"))
    wide = entries["intermediate_size"]
    if ".att_proj." in name:
        bounds = (0, queries, queries + keys, queries + 2 * keys)
        return [(name.replace(".att_", f".{n}_"), rows(*bounds[i : i + 2])) for i, n in enumerate("qkv")]
    if ".ff_proj." in name:
        return [(name.replace(".ff_", f".{n}_"), rows(i * wide, (i + 1) * wide)) for i, n in enumerate(("up", "gate"))]
    for old, new in MOLMO2_NAMES.items():
        name = name.replace(f".{old}.", f".{new}.")
    return ((name, None),)


def molmo2_olmo_parts(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Do the same where norms stand behind the steps, for which OLMo has other names."""
    after = {"input_layernorm": "post_attention_layernorm", "post_attention_layernorm": "post_feedforward_layernorm"}
    for part, read in molmo2_parts(entries, name):
        yield re.sub(r"(?<=\.)(input|post_attention)_layernorm", lambda found: after[found[0]], part), read


def rows(begin: int, end: int) -> Read:
    """Return a reader of some rows of a matrix."""
    return lambda matrix: matrix[begin:end]


def molmo2(entries: Entries) -> Entries:
    """Return entries of Molmo 2 without those that choose its layers, which this row of the table stands for."""
    if entries.get("attention_bias"):
        raise UnsupportedConfig("attention_bias is true; the attention of Molmo 2 is computed without biases.")
    layers = range(entries["num_hidden_layers"])
    scaled = entries.get("rope_scaling_layers")
    if not is_olmo(entries) and scaled is not None and {*scaled} != {*layers}:
        raise UnsupportedConfig(f"rope_scaling_layers is {scaled}; beside Qwen's norms all layers must be scaled.")
    return {name: value for name, value in entries.items() if name not in MOLMO2_ENTRIES}


def molmo2_olmo(entries: Entries) -> Entries:
    """Return OLMo 3's entries for Molmo 2, whose layers without scaled positions see all tokens too."""
    scaled = entries.get("rope_scaling_layers")
    kinds = [
        "full_attention" if scaled is None or i in scaled else "sliding_attention"
        for i in range(entries["num_hidden_layers"])
    ]
    rope = {"rope_type": "default", **(entries.get("rope_scaling") or entries.get("rope_parameters") or {})}
    rope["rope_type"] = rope.pop("type", rope["rope_type"])
    rope.setdefault("rope_theta", entries.get("rope_theta") or 10000.0)
    plain = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
    kept = {k: v for k, v in molmo2(entries).items() if k not in ("rope_scaling", "rope_theta")}
    turned = {"rope_parameters": {"full_attention": rope, "sliding_attention": plain}}
    return {**kept, **turned, "layer_types": kinds, "sliding_window": 2**30}


def is_olmo(entries: Entries) -> bool:
    """Return whether Molmo 2 is built on OLMo 3.

    Raises:
        UnsupportedConfig: norms of Qwen 3 at the places of OLMo's, or the reverse.
    """
    kind, after = entries.get("qk_norm_type") or "qwen3", bool(entries.get("norm_after"))
    if (kind, after) not in (("qwen3", False), ("olmo", True)):
        raise UnsupportedConfig(f"qk_norm_type is {kind!r} beside norm_after {after}: no checkpoint has both.")
    return after


INKLING = (  # (pattern, replacement): the authors' names of tensors to those of the text family, one after the other
    (r"^model\.embed_norm\.", "model.embed_tokens.embed_norm."),
    (r"^model\.embed\.", "model.embed_tokens."),
    (r"\.mlp\.gate\.bias$", ".mlp.gate.e_score_correction_bias"),
    (r"\.shared_w2_weight$", ".down_proj"),
    (r"\.experts\.w2_weight$", ".experts.down_proj"),
    (r"\.mlp\.w2_md\.", ".mlp.down_proj."),
    (r"\.attn\.(rel_logits_proj|q_norm|k_norm)", r".self_attn.\1"),
    (r"\.attn\.w([qkvr])_d[uv]\.", r".self_attn.\1_proj."),
    (r"\.attn\.wo_ud\.", ".self_attn.o_proj."),
    (r"\.attn\.([kv])_sconv\.weight$", r".self_attn.\1_sconv.conv1d.weight"),
    (r"\.(attn|mlp)_sconv\.weight$", r".\1_sconv.conv1d.weight"),
    (r"\.attn_norm\.", ".input_layernorm."),
    (r"\.mlp_norm\.", ".post_attention_layernorm."),
)


def inkling_parts(entries: Entries, name: str) -> Iterable[tuple[str, Read | None]]:
    """Return names of the text family; the authors keep gates and ups in one tensor, row by row in turns."""
    for pattern, new in INKLING:
        name = re.sub(pattern, new, name)
    stem, _, last = name.rpartition(".")
    if last == "shared_w13_weight":
        return ((f"{stem}.gate_proj", lambda x: x[:, ::2]), (f"{stem}.up_proj", lambda x: x[:, 1::2]))
    if last == "w13_weight":
        return ((f"{stem}.gate_up_proj", lambda x: x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)),)
    if stem.endswith(".mlp.w13_dn"):
        owner = stem.removesuffix(".w13_dn")
        return ((f"{owner}.gate_proj.{last}", lambda x: x[::2]), (f"{owner}.up_proj.{last}", lambda x: x[1::2]))
    return ((name, None),)


def theta(base: float) -> Entries:
    """Return the entry of a rotary base; entries of a file come before it."""
    return {"rope_theta": base}


QWEN2_VL = {
    "vocab_size": 152064,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "max_window_layers": 80,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    **theta(1000000.0),
}
QWEN2_OMNI = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    **theta(1000000.0),
}
QWEN3_VL_MOE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "max_position_embeddings": 128000,
    "moe_intermediate_size": 1408,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "norm_topk_prob": True,
    **theta(500000.0),
}
QWEN3_OMNI_MOE = {
    "num_experts": 128,
    "hidden_size": 2048,
    "moe_intermediate_size": 768,
    "vocab_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "norm_topk_prob": True,
    **theta(1000000.0),
}
GLM4V = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "pad_token_id": None, "eos_token_id": None,
         "hidden_size": 4096, "num_attention_heads": 32}  # fmt: skip
GLM_OCR = {
    "vocab_size": 59392,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "eos_token_id": None,
}
GLM4V_MOE = {
    "vocab_size": 151424,
    "hidden_size": 4096,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 128,
    "max_position_embeddings": 65536,
    "attention_bias": True,
}
MLLAMA = {
    "vocab_size": 128256,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "pad_token_id": 128004,
    "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
    **theta(500000.0),
}
GRANITE_DOCLING = {
    "vocab_size": 133800,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 100256,
    "bos_token_id": 100257,
    "eos_token_id": 100257,
    "embedding_multiplier": 12.0,
    "logits_scaling": 4.0,
    "residual_multiplier": 0.263,
    "attention_multiplier": 0.015625,
}
PADDLE_OCR = {
    "vocab_size": 103424,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "use_bias": False,
    "tie_word_embeddings": True,
    **theta(500000.0),
}
COSMOS_EDGE = {
    "vocab_size": 131072,
    "hidden_size": 2048,
    "intermediate_size": 9216,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 11,
    **theta(100000000.0),
}
ERNIE_VL_ENTRIES = (  # of images and of training, in Baidu's own files
    *("pixel_hidden_size", "modality_detach", "temporal_conv_size", "spatial_conv_size"),
    *("mm_vocab_size", "max_text_id", "use_temporal_conv", "rope_3d", "freq_allocation", "moe_use_hard_gate"),
    *("moe_multimodal_dispatch_use_allgather", "moe_dense_experts_token_type_id", "moe_layer_feed_fake_token"),
)
ERNIE_VL = {
    "num_hidden_layers": 28,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "moe_num_experts": 64,
    "moe_intermediate_size": [1536, 512],
}
PHI4 = {
    "vocab_size": 200064,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "bos_token_id": 199999,
    "eos_token_id": [199999, 200020],
    "pad_token_id": 199999,
}
MOLMO2_ENTRIES = (  # what the layers are, and rates of dropout that no layer has
    *("qk_norm_type", "norm_after", "use_qk_norm", "rope_scaling_layers", "additional_vocab_size"),
    *("embedding_dropout", "residual_dropout"),
)
MOLMO2_NAMES = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "attn_out": "o_proj",
    "ff_out": "down_proj",
}
MOLMO2: Entries = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 36864,
    "rms_norm_eps": 1e-6,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
MOLMO2_RENAMED = {"qkv_bias": "attention_bias", "layer_norm_eps": "rms_norm_eps"}
MOLMO2_OLMO = TextType("olmo3", MOLMO2, molmo2_olmo, molmo2_olmo_parts, MOLMO2_RENAMED)
EXPERTS = {"num_local_experts": "num_experts"}
TEXT_TYPES: Mapping[str, TextType] = {  # by the model_type of a text config
    "cosmos3_edge_text": TextType("arcee", COSMOS_EDGE, one_axis, numbered_matrices),
    "ernie4_5_vl_moe_text": TextType(
        "ernie4_5_moe",
        ERNIE_VL,
        text_experts,
        text_expert_parts,
        {"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
    ),
    "glm4v_moe_text": TextType("glm4_moe", GLM4V_MOE, one_axis, stacked_expert_parts),
    "glm4v_text": TextType("glm4", GLM4V, one_axis_of_part),
    "glm_ocr_text": TextType("glm4", GLM_OCR, one_axis_of_part, within_layers),
    "granite4_vision_text": TextType("granite"),
    "granite_docling_text": TextType("granite", GRANITE_DOCLING),
    "hunyuan_vl_text": TextType("hunyuan_v1_dense", {"tie_word_embeddings": True}, one_axis_of_hunyuan),
    "inkling_text": TextType("inkling_text", parts=inkling_parts),
    "mllama_text_model": TextType("llama", MLLAMA, without_image_layers, image_layer_parts),
    "molmo2_text": TextType(
        "qwen3",
        MOLMO2,
        molmo2,
        molmo2_parts,
        MOLMO2_RENAMED,
        lambda entries: MOLMO2_OLMO if is_olmo(entries) else None,
    ),
    "paddleocr_vl_text": TextType("llama", PADDLE_OCR, biases_of_all),
    "phi4_multimodal_text": TextType("phi3", PHI4, without_score_bias),
    "qwen2_5_omni_text": TextType("qwen2", QWEN2_OMNI, one_axis),
    "qwen2_5_vl_text": TextType("qwen2", QWEN2_VL, one_axis),
    "qwen2_vl_text": TextType("qwen2", QWEN2_VL, one_axis),
    "qwen3_omni_moe_text": TextType("qwen3_moe", QWEN3_OMNI_MOE, one_axis, stacked_expert_parts, EXPERTS),
    "qwen3_vl_moe_text": TextType("qwen3_moe", QWEN3_VL_MOE, one_axis, stacked_expert_parts, EXPERTS),
    "qwen3_vl_text": TextType("qwen3", {"max_position_embeddings": 128000, **theta(500000.0)}, one_axis),
}
