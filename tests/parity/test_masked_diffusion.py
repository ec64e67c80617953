"""LLaDA and Dream: logits of the relative that sees both ways, and texts of the published loops, written plainly."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from multihead import AutoModelForCausalLM, AutoModelForMaskedLM
from multihead.errors import InvalidInput, UnsupportedConfig

SIZES = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}  # fmt: skip
MASK = 98
LLADA = {
    "model_type": "llada", "architectures": ["LLaDAModelLM"], "d_model": 32, "n_layers": 2, "n_heads": 4,
    "n_kv_heads": 2, "mlp_hidden_size": 48, "mlp_ratio": 4, "vocab_size": 99, "embedding_size": 99,
    "max_sequence_length": 64, "rope_theta": 500.0, "rms_norm_eps": 1e-5, "weight_tying": False, "mask_token_id": MASK,
    "activation_type": "silu", "block_type": "llama", "layer_norm_type": "rms", "rope": True, "alibi": False,
    "include_bias": False, "include_qkv_bias": False, "init_fn": "mitchell", "init_std": 0.02, "precision": "amp_bf16",
    "pad_token_id": 2, "eos_token_id": 2, "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"},
}  # fmt: skip
NAMES = {
    "model.layers": "model.transformer.blocks", "model.embed_tokens": "model.transformer.wte",
    "model.norm": "model.transformer.ln_f", "lm_head": "model.transformer.ff_out", "self_attn.o_proj": "attn_out",
    "self_attn.": "", "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj", "mlp.down_proj": "ff_out",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ff_norm",
}  # fmt: skip
IDS = torch.tensor([[5, 17, 60, 33, 9], [8, 41, 90, 2, 77]])


def drawn(config):
    torch.manual_seed(0)
    peer = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
    return peer


def stored(tensors, names):
    out = {}
    for name, tensor in tensors.items():
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = tensor.contiguous()
    return out


@pytest.fixture(scope="module")
def llada(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llada")
    peer = drawn(
        transformers.LlamaConfig(
            **SIZES, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
        )
    )
    save_file(stored(peer.state_dict(), NAMES), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(LLADA))
    return peer, folder


@pytest.fixture(scope="module")
def dream(tmp_path_factory):
    folder, peer = tmp_path_factory.mktemp("dream"), drawn(transformers.Qwen2Config(**SIZES))
    save_file(stored(peer.state_dict(), {}), folder / "model.safetensors")
    entries = {**SIZES, "model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": MASK,
               "rope_theta": 10000.0, "pad_token_id": 2, "use_sliding_window": False, "sliding_window": None,
               "max_window_layers": 28, "rope_scaling": None, "tie_word_embeddings": False}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(entries))
    return peer, folder


def both_ways(peer, ids):
    """The relative's logits of one text whose tokens all see each other."""
    with torch.no_grad():
        return peer(ids, attention_mask=torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])).logits


def test_logits_and_files_are_those_of_the_relative(llada, dream, tmp_path):
    for (peer, folder), auto in (
        (llada, AutoModelForMaskedLM),
        (llada, AutoModelForCausalLM),
        (dream, AutoModelForCausalLM),
    ):
        model = auto.from_pretrained(folder)
        torch.testing.assert_close(model(IDS).logits, both_ways(peer, IDS), atol=2e-5, rtol=2e-5)
        assert model.config.unknown == ()
        model.save_pretrained(tmp_path)
        one, again = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
        assert one.keys() == again.keys()
        assert all(torch.equal(one[name], again[name]) for name in one)
        entries = json.loads((tmp_path / "config.json").read_text())
        assert entries["rope_theta" if "d_model" in entries else "hidden_size"] in (500.0, 32)


@pytest.mark.parametrize("scale", [0.0, 0.7])
@pytest.mark.parametrize(("length", "steps"), [(4, 8), (12, 5)])
def test_lladas_texts_are_those_of_the_published_loop(llada, length, steps, scale):
    peer, folder = llada
    steps = steps // (12 // length) * (12 // length) or 12 // length
    got = AutoModelForMaskedLM.from_pretrained(folder).diffusion_generate(
        IDS, gen_length=12, block_length=length, steps=steps, cfg_scale=scale
    )
    for row, text in enumerate(IDS):
        x = torch.cat([text, torch.full((12,), MASK)])[None]
        prompt, each = x != MASK, steps * length // 12
        for block in range(12 // length):
            end = 5 + (block + 1) * length
            for step in range(each):
                logits = both_ways(peer, x)
                if scale:
                    other = both_ways(peer, torch.where(prompt, MASK, x))
                    logits = other + (scale + 1) * (logits - other)
                best, sure = logits.argmax(-1), logits.softmax(-1).amax(-1)
                sure = torch.where((x == MASK) & (torch.arange(17) < end), sure, -1.0)
                chosen = sure[0].topk(length // each + (step < length % each)).indices
                x[0, chosen] = best[0, chosen]
        assert got[row].tolist() == x[0].tolist()


@pytest.mark.parametrize("alg", ["maskgit_plus", "topk_margin", "entropy"])
def test_dreams_texts_are_those_of_the_published_loop(dream, alg):
    peer, folder = dream
    got = AutoModelForCausalLM.from_pretrained(folder).diffusion_generate(IDS, max_new_tokens=9, steps=6, alg=alg)
    times = torch.linspace(1, 1e-3, 7)
    for row, text in enumerate(IDS):
        x = torch.cat([text, torch.full((9,), MASK)])
        for step in range(6):
            p = both_ways(peer, x[None])[0].roll(1, 0).softmax(-1)  # the place before tells a token
            two = p.topk(2).values
            sure = {"maskgit_plus": two[:, 0], "topk_margin": two[:, 0] - two[:, 1], "entropy": (p * p.log()).sum(-1)}[
                alg
            ]
            left = int((x == MASK).sum())
            count = left if step == 5 else int(left * (1 - times[step + 1] / times[step]))
            chosen = torch.where(x == MASK, sure, -torch.inf).topk(count).indices
            x[chosen] = p.argmax(-1)[chosen]
        assert got[row].tolist() == x.tolist()


def test_padding_changes_no_text_and_draws_follow_the_seed(llada, dream):
    padded, real = torch.cat([torch.full((2, 3), 2), IDS], 1), torch.tensor([[0] * 3 + [1] * 5] * 2)
    for (_, folder), options in (
        (llada, {"gen_length": 8, "steps": 8, "block_length": 4}),
        (dream, {"max_new_tokens": 8, "steps": 4, "alg": "entropy"}),
    ):  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(folder)
        expected = model.diffusion_generate(IDS, **options)
        assert model.diffusion_generate(padded, real, **options)[:, 3:].tolist() == expected.tolist()
    model = AutoModelForCausalLM.from_pretrained(llada[1])
    for ways in ({"temperature": 0.8}, {"remasking": "random"}):
        one, again, other = (
            model.diffusion_generate(IDS, gen_length=8, steps=4, seed=seed, **ways) for seed in (1, 1, 2)
        )
        assert one.tolist() == again.tolist() != other.tolist()
    model = AutoModelForCausalLM.from_pretrained(dream[1])
    for ways in ({}, {"temperature": 0.9, "top_p": 0.9, "top_k": 20}, {"alg": "entropy", "alg_temp": 0.5}):
        one, again = (model.diffusion_generate(IDS, max_new_tokens=8, steps=4, seed=1, **ways) for _ in range(2))
        assert one.tolist() == again.tolist()
        assert (one[:, :5] == IDS).all()


def test_what_cannot_be_written_is_refused(llada, dream):
    model = AutoModelForCausalLM.from_pretrained(llada[1])
    with pytest.raises(InvalidInput, match="must divide"):
        model.diffusion_generate(IDS, gen_length=8, block_length=3)
    with pytest.raises(InvalidInput, match="on their left"):
        model.diffusion_generate(IDS, [[1, 1, 1, 1, 0]] * 2, gen_length=8, steps=8)
    with pytest.raises(UnsupportedConfig, match="both directions"):
        model.generate(IDS)
    with pytest.raises(InvalidInput, match="none of origin"):
        AutoModelForCausalLM.from_pretrained(dream[1]).diffusion_generate(IDS, alg="best")
