"""Files of encoders that came with code of their own: other names of tensors and entries, read without that code."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

import multihead

from .case import batch, reference
from .cases import CASES

ROWS = {case.name: case for case in CASES}


def rewritten(folder: Path, names: list[tuple[str, str]], fused: dict[str, tuple[str, ...]], **entries: Any) -> None:
    """Renames a folder's tensors, fuses those whose names differ by a part alone, and changes its config."""
    tensors = load_file(folder / "model.safetensors")
    for whole, parts in fused.items():
        for name in [name for name in tensors if parts[0] in name]:
            pieces = [tensors.pop(name.replace(parts[0], part)) for part in parts]
            tensors[name.replace(parts[0], whole)] = torch.cat(pieces)
    out = {}
    for name, tensor in tensors.items():
        for old, new in names:
            name = name.replace(old, new)
        out[name] = tensor
    save_file(out, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    kept = {k: v for k, v in config.items() if k not in ("rope_parameters",)}
    (folder / "config.json").write_text(json.dumps({**kept, **entries}))


def saved(name: str, end: str, folder: Path) -> Any:
    """The reference's model, and a folder of it with the names of today (the reference writes some with older ones)."""
    model = reference(ROWS[name], end)
    model.save_pretrained(folder)
    getattr(multihead, type(model).__name__).from_pretrained(folder).save_pretrained(folder)
    return model


QKV = tuple(f"self_attn.{n}_proj" for n in "qkv")
GTE = [("gte.", "new."), ("layers.", "encoder.layer."), ("self_attn.o_proj", "attention.o_proj"),
       ("post_attention_layernorm", "attn_ln"), ("post_mlp_layernorm", "mlp_ln"),
       ("lm_head.layer_norm", "lm_head.norm")]  # fmt: skip
GTE_FUSED = {"attention.qkv_proj": QKV, "mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj")}
JINA = [("embeddings.LayerNorm", "emb_ln"), ("layers.", "encoder.layers."), ("self_attn.o_proj", "mixer.out_proj"),
        ("post_attention_layernorm", "norm1"), ("post_mlp_layernorm", "norm2")]  # fmt: skip
JINA_FUSED = {"mixer.Wqkv": QKV}
FLASH = [("embeddings.LayerNorm", "emb_ln"), ("encoder.layer.", "encoder.layers."),
         ("attention.output.dense", "mixer.out_proj"), ("attention.output.LayerNorm", "norm1"),
         ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"), ("output.LayerNorm", "norm2")]  # fmt: skip
FLASH_FUSED = {"mixer.Wqkv": tuple(f"attention.self.{n}" for n in ("query", "key", "value"))}
FILES = {
    "gte": ("ForMaskedLM", GTE, GTE_FUSED, {"model_type": "new", "rope_theta": 160000.0}),
    "gte-without-types": ("ForSequenceClassification", GTE, GTE_FUSED, {"model_type": "new", "rope_theta": 160000.0}),
    "jina-v3": ("ForMaskedLM", JINA, JINA_FUSED,
                {"model_type": "xlm-roberta", "position_embedding_type": "rotary", "rotary_emb_base": 20000.0}),
    "xlm-roberta": ("ForSequenceClassification", FLASH, FLASH_FUSED,
                    {"use_flash_attn": True, "position_embedding_type": "absolute"}),
}  # fmt: skip


def compared(model: Any, mine: Any, name: str, end: str) -> None:
    inputs = batch(ROWS[name], end)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        got, expected = mine(**inputs)[0], model(**inputs)[0]
    every = got.ndim == 2
    torch.testing.assert_close(got if every else got[real], expected if every else expected[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_names_of_its_own_gives_the_numbers_of_the_reference(name, tmp_path):
    end, names, fused, entries = FILES[name]
    model = saved(name, end, tmp_path)
    rewritten(tmp_path, names, fused, **entries)
    auto = {"ForMaskedLM": "AutoModelForMaskedLM", "ForSequenceClassification": "AutoModelForSequenceClassification"}
    mine = getattr(multihead, auto[end]).from_pretrained(tmp_path)
    compared(model, mine, name, end)
    mine.save_pretrained(tmp_path / "again")
    again = type(model).from_pretrained(tmp_path / "again").eval()  # the reference reads what we save
    compared(again, mine, name, end)


def test_the_rotary_base_of_gte_is_raised_by_a_factor(tmp_path):
    model = saved("gte", "Model", tmp_path)
    scaling = {"type": "ntk", "factor": 8.0}
    rewritten(tmp_path, GTE, GTE_FUSED, model_type="new", rope_theta=20000.0, rope_scaling=scaling)
    width = 6
    exponents = torch.arange(0, width, 2).float() / width
    model.rotary_emb.inv_freq = 1 / (20000.0 * 8.0) ** exponents / 8.0 ** (2 / width)
    compared(model, multihead.AutoModel.from_pretrained(tmp_path), "gte", "Model")
    with pytest.raises(multihead.errors.UnsupportedConfig, match="mixed_b"):
        multihead.AutoModel.from_pretrained(tmp_path, rope_parameters={"rope_type": "ntk", "mixed_b": 0.5, "factor": 2})


def test_jina_v3_computes_with_the_weights_of_a_task(tmp_path):
    tasks, rank = ["retrieval.query", "separation"], 3
    model = saved("jina-v3", "Model", tmp_path)
    entries = FILES["jina-v3"][3]
    rewritten(tmp_path, JINA, JINA_FUSED, **entries, lora_adaptations=tasks, lora_rank=rank, lora_alpha=2)
    tensors = load_file(tmp_path / "model.safetensors")
    out, merged = {}, dict(tensors)
    torch.manual_seed(5)
    for name, tensor in tensors.items():
        if not name.endswith(".weight") or tensor.ndim < 2:
            out[name] = tensor
            continue
        stem, table = name.removesuffix(".weight"), "embeddings" in name
        shapes = ((tensor.shape[0], rank), (rank, tensor.shape[1])) if table else (
            (rank, tensor.shape[1]), (tensor.shape[0], rank))  # fmt: skip
        down, up = (torch.randn(len(tasks), *shape) * 0.2 for shape in shapes)
        change = down[1] @ up[1] if table else up[1] @ down[1]
        merged[name] = tensor + change * (2 / rank)
        own = f"{stem}.parametrizations.weight"
        out |= {f"{own}.original": tensor, f"{own}.0.lora_A": down, f"{own}.0.lora_B": up}
    save_file(out, tmp_path / "model.safetensors")
    compared(model, multihead.AutoModel.from_pretrained(tmp_path), "jina-v3", "Model")
    mine = multihead.AutoModel.from_pretrained(tmp_path, task="separation")
    mine.save_pretrained(tmp_path / "merged")
    changed = type(model).from_pretrained(tmp_path / "merged").eval()
    compared(changed, mine, "jina-v3", "Model")
    now = {name.removeprefix("roberta."): tensor for name, tensor in merged.items()}
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    torch.testing.assert_close(stored["layers.1.mlp.fc1.weight"], now["encoder.layers.1.mlp.fc1.weight"])
    wanted = now["encoder.layers.2.mixer.Wqkv.weight"].chunk(3)[1]
    torch.testing.assert_close(stored["layers.2.self_attn.k_proj.weight"], wanted)
    words = "embeddings.word_embeddings.weight"
    torch.testing.assert_close(stored[words], now[words])
    compared(changed, multihead.AutoModel.from_pretrained(tmp_path / "merged"), "jina-v3", "Model")
    with pytest.raises(multihead.errors.UnsupportedConfig, match="separation"):
        multihead.AutoModel.from_pretrained(tmp_path / "merged", task="retrieval.query")
    with pytest.raises(multihead.errors.UnsupportedConfig, match="'summarize'"):
        multihead.AutoModel.from_pretrained(tmp_path, task="summarize")


WIDTH, HEADS, INNER, LAYERS = 36, 6, 20, 2
JINA_BERT = {
    "model_type": "bert", "architectures": ["JinaBertForMaskedLM"], "position_embedding_type": "alibi",
    "vocab_size": 99, "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
    "intermediate_size": INNER, "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}  # fmt: skip


def jina_bert_tensors(normed: bool, gated: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    up, down = ("up_gated_layer", "down_layer") if normed else ("gated_layers", "wo")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (99, WIDTH), "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm": (WIDTH,), "pooler.dense": (WIDTH, WIDTH),
    }  # fmt: skip
    for i in range(LAYERS):
        stem = f"encoder.layer.{i}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{stem}attention.{name}"] = (WIDTH, WIDTH)
        if gated:
            shapes |= {f"{stem}mlp.{up}.weight": (2 * INNER, WIDTH), f"{stem}mlp.{down}": (WIDTH, INNER)}
        else:
            shapes |= {f"{stem}intermediate.dense": (INNER, WIDTH), f"{stem}output.dense": (WIDTH, INNER)}
        norms = ["layer_norm_1", "layer_norm_2", "attention.self.layer_norm_q", "attention.self.layer_norm_k"]
        plain = ["attention.output.LayerNorm", "mlp.layernorm" if gated else "output.LayerNorm"]
        shapes |= {stem + name: (WIDTH,) for name in (norms if normed else plain)}
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(".weight"):
            tensors[name] = torch.randn(shape) * 0.3
        else:
            tensors |= {f"{name}.weight": torch.randn(shape) * 0.3 + 0.5, f"{name}.bias": torch.randn(shape[0]) * 0.3}
    return tensors


def jina_bert_states(w: dict[str, torch.Tensor], ids: torch.Tensor, kind: str, normed: bool) -> torch.Tensor:
    """The last states (length, width) of one text, as the published code computes them."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    x = norm(w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0],
             "embeddings.LayerNorm")  # fmt: skip
    places = torch.arange(len(ids))
    slopes = torch.tensor([2 ** -(8 / 4 * n) for n in (1, 2, 3, 4)] + [2 ** -(8 / 8 * n) for n in (1, 3)])
    bias = -slopes[:, None, None] * (places[:, None] - places).abs()
    for i in range(LAYERS):
        stem = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{stem}attention.self.{n}") for n in ("query", "key", "value"))
        if normed:
            q, k = (norm(a, f"{stem}attention.self.layer_norm_{n}") for a, n in ((q, "q"), (k, "k")))
        q, k, v = (a.unflatten(-1, (HEADS, -1)).transpose(0, 1) for a in (q, k, v))
        scores = q @ k.mT / math.sqrt(WIDTH // HEADS) + bias
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
        names = ("layer_norm_1", "layer_norm_2") if normed else ("attention.output.LayerNorm", "mlp.layernorm")
        x = norm(x + linear(mixed, f"{stem}attention.output.dense"), stem + names[0])
        act = F.relu if kind == "reglu" else F.gelu
        if kind == "original":
            inner = linear(act(linear(x, f"{stem}intermediate.dense")), f"{stem}output.dense")
            x = norm(x + inner, f"{stem}output.LayerNorm")
            continue
        parts = linear(x, f"{stem}mlp.{'up_gated_layer' if normed else 'gated_layers'}").chunk(2, -1)
        inner = parts[0] * act(parts[1]) if normed else act(parts[0]) * parts[1]
        x = norm(x + linear(inner, f"{stem}mlp.{'down_layer' if normed else 'wo'}"), stem + names[1])
    return x


@pytest.mark.parametrize(("kind", "normed"), [("geglu", False), ("reglu", False), ("original", False), ("geglu", True)])
def test_jina_bert_gives_the_numbers_of_its_published_code(kind, normed, tmp_path):
    code = "jinaai/jina-bert-v2-qk-post-norm" if normed else "jinaai/jina-bert-implementation"
    auto = {"auto_map": {"AutoModel": f"{code}--modeling_bert.JinaBertModel"}}
    (tmp_path / "config.json").write_text(json.dumps({**JINA_BERT, **auto, "feed_forward_type": kind}))
    tensors = jina_bert_tensors(normed, kind != "original")
    save_file(tensors, tmp_path / "model.safetensors")
    model = multihead.AutoModel.from_pretrained(tmp_path)
    assert type(model).__name__ == "JinaBertModel"
    ids = torch.randint(1, 99, (3, 11))
    mask = torch.ones_like(ids)
    mask[1, 7:] = mask[2, 4:] = 0
    with torch.no_grad():
        got = model(ids, attention_mask=mask)
    for row, length in enumerate((11, 7, 4)):
        expected = jina_bert_states(tensors, ids[row, :length], kind, normed)
        torch.testing.assert_close(got.last_hidden_state[row, :length], expected, rtol=1e-4, atol=1e-5)
    pooled = torch.tanh(
        F.linear(got.last_hidden_state[:, 0], tensors["pooler.dense.weight"], tensors["pooler.dense.bias"])
    )
    torch.testing.assert_close(got.pooler_output, pooled)
    model.save_pretrained(tmp_path / "again")
    again = multihead.AutoModel.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        torch.testing.assert_close(again(ids, attention_mask=mask)[0], got[0])


def test_a_file_of_jina_bert_is_no_plain_bert(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**JINA_BERT, "feed_forward_type": "geglu"}))
    save_file(jina_bert_tensors(False, True), tmp_path / "model.safetensors")
    with pytest.raises(multihead.errors.InvalidInput, match="not a JinaBertConfig"):
        multihead.BertModel.from_pretrained(tmp_path)


NOMIC = {"model_type": "nomic_bert", "vocab_size": 99, "n_embd": 24, "n_layer": 4, "n_head": 4, "n_inner": 20,
         "n_positions": 64, "activation_function": "gelu", "qkv_proj_bias": True, "mlp_fc1_bias": True,
         "mlp_fc2_bias": True, "num_experts": 4, "moe_top_k": 2, "moe_every_n_layers": 2, "rotary_emb_base": 10000.0,
         "moe_normalize_expert_weights": False, "type_vocab_size": 1, "layer_norm_epsilon": 1e-5, "prenorm": False,
         "rotary_emb_fraction": 1.0, "expert_choice_router": False, "ffn_div": 1, "num_shared_experts": 0}  # fmt: skip


def nomic_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(6)
    shapes: dict[str, tuple[int, ...]] = {"emb_ln.weight": (24,), "emb_ln.bias": (24,)}
    shapes |= {"embeddings.word_embeddings.weight": (99, 24), "embeddings.token_type_embeddings.weight": (1, 24)}
    for i in range(4):
        stem = f"encoder.layers.{i}."
        shapes |= {f"{stem}attn.Wqkv.weight": (72, 24), f"{stem}attn.Wqkv.bias": (72,)}
        shapes |= {f"{stem}attn.out_proj.weight": (24, 24), f"{stem}attn.out_proj.bias": (24,)}
        shapes |= {f"{stem}norm{n}.{leaf}": (24,) for n in (1, 2) for leaf in ("weight", "bias")}
        if i % 2:
            shapes |= {f"{stem}mlp.experts.mlp.w{n}": (80, 24) for n in (1, 2)}
            shapes |= {f"{stem}mlp.experts.bias": (24,), f"{stem}mlp.router.layer.weight": (4, 24)}
        else:
            shapes |= {f"{stem}mlp.fc1.weight": (20, 24), f"{stem}mlp.fc1.bias": (20,)}
            shapes |= {f"{stem}mlp.fc2.weight": (24, 20), f"{stem}mlp.fc2.bias": (24,)}
    return {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}


def nomic_states(w: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """The last states (length, width) of one text, as the published code computes them."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (24,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    angles = torch.arange(len(ids))[:, None] / 10000.0 ** (torch.arange(0, 6, 2) / 6)
    cos, sin = (torch.cat([part, part], -1)[:, None] for part in (angles.cos(), angles.sin()))

    def turned(x: torch.Tensor) -> torch.Tensor:
        return x * cos + torch.cat([-x[..., 3:], x[..., :3]], -1) * sin

    x = norm(w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0], "emb_ln")
    for i in range(4):
        stem = f"encoder.layers.{i}."
        q, k, v = (part.unflatten(-1, (4, 6)) for part in linear(x, f"{stem}attn.Wqkv").chunk(3, -1))
        scores = torch.einsum("qhd,khd->hqk", turned(q), turned(k)) / math.sqrt(6)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        x = norm(x + linear(mixed, f"{stem}attn.out_proj"), f"{stem}norm1")
        if i % 2:
            weights, chosen = linear(x, f"{stem}mlp.router.layer").softmax(-1).topk(2)
            up, down = (w[f"{stem}mlp.experts.mlp.w{n}"].view(4, 20, 24) for n in (1, 2))
            every = torch.stack([F.gelu(x @ up[e].T) @ down[e] for e in range(4)], 1)
            inner = (every.gather(1, chosen[..., None].expand(-1, -1, 24)) * weights[..., None]).sum(1)
            inner = inner + w[f"{stem}mlp.experts.bias"]
        else:
            inner = linear(F.gelu(linear(x, f"{stem}mlp.fc1")), f"{stem}mlp.fc2")
        x = norm(x + inner, f"{stem}norm2")
    return x


def test_nomics_experts_give_the_numbers_of_their_published_code(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(NOMIC))
    tensors = nomic_tensors()
    save_file(tensors, tmp_path / "model.safetensors")
    model = multihead.AutoModel.from_pretrained(tmp_path)
    ids = torch.randint(1, 99, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    model.save_pretrained(tmp_path / "again")
    again = multihead.AutoModel.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        got, same = model(ids, attention_mask=mask)[0], again(ids, attention_mask=mask)[0]
    torch.testing.assert_close(got, same)
    for row, length in enumerate((9, 5)):
        torch.testing.assert_close(got[row, :length], nomic_states(tensors, ids[row, :length]), rtol=1e-4, atol=1e-5)


def test_flaubert_with_norms_before_its_steps(tmp_path, monkeypatch):
    """The reference looks a layer's cache up in an object that has none; given one, it computes."""
    monkeypatch.setattr(
        transformers.cache_utils.EncoderDecoderCache, "__getitem__", lambda self, i: self, raising=False
    )
    sizes = {"vocab_size": 99, "emb_dim": 36, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40}
    torch.manual_seed(0)
    model = transformers.FlaubertModel(transformers.FlaubertConfig(**sizes, pad_token_id=0, pre_norm=True)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    ids = torch.randint(1, 98, (2, 9))
    with torch.no_grad():
        got, expected = multihead.AutoModel.from_pretrained(tmp_path)(ids)[0], model(ids)[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_nystromformer_through_landmarks(tmp_path):
    """Every text has as many tokens as the landmarks' segments have together; the reference reads no other."""
    config = ROWS["nystromformer"].make()
    config.num_landmarks, config.segment_means_seq_len = 4, 8
    torch.manual_seed(0)
    model = transformers.NystromformerModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    mine, ids = multihead.AutoModel.from_pretrained(tmp_path), torch.randint(1, 98, (3, 8))
    with torch.no_grad():
        got, expected = mine(ids)[0], model(ids)[0]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(multihead.errors.InvalidInput, match="8 tokens"):
        mine(ids[:, :5])


PUBLISHED = {  # config.json as published: the family, and the parameters of its backbone in millions
    "jina-embeddings-v2-base-en": ("JinaBertModel", 137, {
        "architectures": ["JinaBertForMaskedLM"], "attention_probs_dropout_prob": 0.0, "attn_implementation": "torch",
        "auto_map": {"AutoConfig": "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig"},
        "classifier_dropout": None, "emb_pooler": "mean", "feed_forward_type": "geglu", "gradient_checkpointing": False,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 8192, "model_max_length": 8192,
        "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "position_embedding_type": "alibi", "torch_dtype": "float32", "type_vocab_size": 2, "use_cache": True,
        "vocab_size": 30528}),
    "gte-multilingual-base": ("GteModel", 305, {
        "architectures": ["NewModel"], "attention_probs_dropout_prob": 0.0, "auto_map": {},
        "classifier_dropout": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False, "logn_attention_scale": False, "max_position_embeddings": 8192,
        "model_type": "new", "num_attention_heads": 12, "num_hidden_layers": 12, "pack_qkv": True, "pad_token_id": 1,
        "position_embedding_type": "rope", "rope_scaling": {"factor": 8.0, "type": "ntk"}, "rope_theta": 20000,
        "torch_dtype": "float16", "type_vocab_size": 1, "unpad_inputs": False,
        "use_memory_efficient_attention": False, "vocab_size": 250048}),
    "nomic-embed-text-v2-moe": ("NomicBertMoeModel", 475, {
        "activation_function": "gelu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0, "auto_map": {},
        "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0, "expert_choice_router": False, "ffn_div": 1,
        "fused_bias_fc": True, "fused_dropout_add_ln": True, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
        "max_trained_positions": 2048, "mlp_fc1_bias": True, "mlp_fc2_bias": True, "model_type": "nomic_bert",
        "moe_every_n_layers": 2, "moe_impl": "megablocks", "moe_normalize_expert_weights": False,
        "moe_resid_pdrop": 0.0, "moe_top_k": 2, "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12,
        "n_positions": 2048, "num_experts": 8, "num_shared_experts": 0, "pad_token_id": 1, "padding_idx": 1,
        "pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False, "prenorm": False,
        "qkv_proj_bias": True, "resid_pdrop": 0.0, "rotary_emb_base": 10000, "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None,
        "router_aux_loss_coef": 0.1, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
        "type_vocab_size": 1, "use_cache": True, "use_flash_attn": True, "use_rms_norm": None, "use_xentropy": True,
        "vocab_size": 250048}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_of_a_file_with_code_of_its_own_is_all_known(name, tmp_path):
    kind, millions, entries = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = multihead.AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        model = multihead.AutoModel.from_config(config)
    assert type(model).__name__ == kind
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
