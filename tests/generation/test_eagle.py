"""Draft heads of EAGLE and EAGLE-3 beside a computation of their papers in plain torch."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import silu

from multihead import AutoModelForCausalLM, DraftHead, pipeline
from multihead.errors import CorruptFile, InvalidInput, UnsupportedConfig
from multihead.kernels.ragged import SequenceLayout
from multihead.nn.cache.store import BatchCache

from .predicting import ROWS, reference

END = {"max_new_tokens": 18, "eos_token_id": None, "pad_token_id": 0}
IDS = torch.tensor([[0, 0, 17, 5, 60, 33, 9], [31, 8, 8, 41, 90, 2, 77], [0, 0, 0, 0, 0, 0, 55]])
MASK = (IDS > 0).long()
DRAFT = 40  # tokens of the small vocabulary
CONFIG = {
    "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_act": "silu", "intermediate_size": 24,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1, "head_dim": 8, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64, "rope_theta": 10000.0, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eagle")
    reference(ROWS["llama"], "ForCausalLM").save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def drawn(*shape):
    return torch.randn(shape) * 0.25 + (len(shape) == 1) * 0.5


def layer(width, inputs):
    """Four heads of 8 channels that share two key heads."""
    sizes, inner = {"q": 32, "k": 16, "v": 16}, CONFIG["intermediate_size"]
    tensors = {f"self_attn.{name}_proj.weight": drawn(size, inputs) for name, size in sizes.items()}
    tensors |= {"self_attn.o_proj.weight": drawn(width, 32), "post_attention_layernorm.weight": drawn(width)}
    tensors |= {f"mlp.{name}_proj.weight": drawn(inner, width) for name in ("gate", "up")}
    return {**tensors, "mlp.down_proj.weight": drawn(width, inner)}


def write(folder, model, third=True, stem="midlayer.", entries=None):
    """A head of random weights, under the names of the authors' files."""
    torch.manual_seed(5)
    width, words = model.config.hidden_size, model.config.vocab_size
    tensors = {stem + name: x for name, x in layer(width, 2 * width if third else width).items()}
    if third:
        targets = torch.randperm(words)[:DRAFT].sort().values
        known = torch.zeros(words, dtype=torch.bool)
        known[targets] = True
        tensors |= {stem + "input_layernorm.weight": drawn(width), stem + "hidden_norm.weight": drawn(width)}
        tensors |= {"fc.weight": drawn(width, 3 * width), "norm.weight": drawn(width), "t2d": known}
        tensors |= {"lm_head.weight": drawn(DRAFT, width), "d2t": targets - torch.arange(DRAFT)}
    else:
        tensors |= {
            "fc.weight": drawn(width, 2 * width),
            "fc.bias": drawn(width),
            "embed_tokens.weight": drawn(words, width),
        }
    config = {**CONFIG, "hidden_size": width, "vocab_size": words, **({"draft_vocab_size": DRAFT} if third else {})}
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config, **(entries or {})}))
    return tensors


def norm(x, gain):
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * gain


def turned(x):
    """Rotary positions of (tokens, heads, width)."""
    half = x.shape[-1] // 2
    angles = torch.arange(len(x))[:, None] * 10000.0 ** -(torch.arange(half) / half)
    cos, sin = (f(angles).repeat(1, 2)[:, None] for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def attention(w, x, stem):
    q, k, v = ((x @ w[f"{stem}self_attn.{name}_proj.weight"].T).unflatten(1, (-1, 8)) for name in "qkv")
    q, k, v = turned(q), turned(k).repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / 8**0.5
    scores = scores.masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1) @ w[f"{stem}self_attn.o_proj.weight"].T


def ffn(w, x, stem):
    x = norm(x, w[f"{stem}post_attention_layernorm.weight"])
    inner = silu(x @ w[f"{stem}mlp.gate_proj.weight"].T) * (x @ w[f"{stem}mlp.up_proj.weight"].T)
    return inner @ w[f"{stem}mlp.down_proj.weight"].T


def third_states(w, words, states, normed=False, stem="midlayer."):
    h = norm(states, w[stem + "hidden_norm.weight"])
    x = torch.cat([norm(words, w[stem + "input_layernorm.weight"]), h], -1)
    x = (h if normed else states) + attention(w, x, stem)
    return x + ffn(w, x, stem)


@pytest.mark.parametrize("normed", [False, True])
def test_the_scores_of_eagle_3_are_those_of_the_paper(model, tmp_path, normed):
    w = write(tmp_path, model, entries={"norm_before_residual": normed})
    head = DraftHead.from_pretrained(tmp_path).bind(model)
    assert head.layers == (2, len(model.backbone.layers) // 2, len(model.backbone.layers) - 3) or min(head.layers) == 0
    tokens = IDS[1]
    with torch.no_grad():
        shown = model(tokens[None], output_hidden_states=True).hidden_states
        fused = torch.cat([shown[i][0] for i in head.layers], -1)  # (tokens, 3 width)
        states, words = fused @ w["fc.weight"].T, model.get_input_embeddings()(tokens)
        after = third_states(w, words[1:], states[:-1], normed)
        expected = torch.full((6, model.config.vocab_size), -torch.inf)
        expected[:, torch.arange(DRAFT) + w["d2t"]] = norm(after, w["norm.weight"]) @ w["lm_head.weight"].T
        memory = BatchCache.of(head.memories(), 1)
        got = head.read(tokens[1:], SequenceLayout.packed((6,)), memory, features=head.project(fused[:-1]))
        torch.testing.assert_close(got, after, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(head.score_states(got), expected, atol=1e-5, rtol=1e-5)


def test_the_scores_of_eagle_are_those_of_the_paper(model, tmp_path):
    w = write(tmp_path, model, third=False, stem="layers.0.", entries={"architectures": ["EagleForCausalLM"]})
    head, tokens = DraftHead.from_pretrained(tmp_path).bind(model), IDS[1]
    with torch.no_grad():
        states = model(tokens[None], output_hidden_states=True).hidden_states[-1][0]
        x = torch.cat([w["embed_tokens.weight"][tokens[1:]], states[:-1]], -1) @ w["fc.weight"].T + w["fc.bias"]
        x = x + attention(w, x, "layers.0.")
        expected = x + ffn(w, x, "layers.0.")
        memory = BatchCache.of(head.memories(), 1)
        got = head.read(tokens[1:], SequenceLayout.packed((6,)), memory, features=states[:-1])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.score_states(got), model.score_states(expected))


FILES = {
    "authors": {},
    "first": {"third": False, "stem": "layers.0.", "entries": {"architectures": ["EagleForCausalLM"]}},
    "speculators": {
        "stem": "layers.0.",
        "entries": {"architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3",
                    "eagle_aux_hidden_state_layer_ids": [0, 1, 2], "norm_before_residual": True},
    },
    "nvidia": {"entries": {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 0, 1]}}},
}  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_a_head_changes_no_token(model, tmp_path, form):
    write(tmp_path, model, **FILES[form])
    head = DraftHead.from_pretrained(tmp_path)
    expected = model.generate(IDS, attention_mask=MASK, **END)
    for more in ({}, {"num_assistant_tokens": 2, "assistant_confidence_threshold": 0.1}):
        got = model.generate(IDS, attention_mask=MASK, assistant_model=head, **more, **END)
        assert got.tolist() == expected.tolist()
    rules = {"repetition_penalty": 1.4, "suppress_tokens": list(range(50)), **END}
    expected = model.generate(IDS, attention_mask=MASK, **rules)
    assert model.generate(IDS, attention_mask=MASK, assistant_model=head, **rules).tolist() == expected.tolist()


def test_a_drafted_chain_is_that_of_the_paper(model, tmp_path):
    """The first draft, its second token from the head's own state, beside the plain computation of both."""
    w = write(tmp_path, model)
    head, prompt, seen = DraftHead.from_pretrained(tmp_path), IDS[1].tolist(), []
    read = model.read
    model.read = lambda ids, *more, **options: (seen.append(ids.tolist()), read(ids, *more, **options))[1]
    model.generate([prompt], assistant_model=head, num_assistant_tokens=2, **{**END, "max_new_tokens": 4})
    del model.read
    with torch.no_grad():
        shown = model(torch.tensor([prompt]), output_hidden_states=True)
        tokens = torch.tensor([*prompt[1:], int(shown.logits[0, -1].argmax())])
        states = torch.cat([shown.hidden_states[i][0] for i in head.layers], -1) @ w["fc.weight"].T
        for _ in range(2):
            after = third_states(w, model.get_input_embeddings()(tokens), states)
            best = int((norm(after[-1], w["norm.weight"]) @ w["lm_head.weight"].T).argmax())
            tokens, states = (
                torch.cat([tokens, torch.tensor([best + int(w["d2t"][best])])]),
                torch.cat([states, after[-1:]]),
            )
    assert seen[0] == prompt
    assert seen[1] == tokens[-3:].tolist()


def test_a_pipeline_takes_a_head_by_name(llama, tmp_path):
    pipe = pipeline("text-generation", llama)
    write(tmp_path, pipe.model)
    plain = pipe("The quick brown", max_new_tokens=8)
    assert pipe("The quick brown", max_new_tokens=8, assistant_model=str(tmp_path)) == plain


def test_a_head_of_another_model_is_refused(model, tmp_path):
    tensors = write(tmp_path, model)
    save_file({**tensors, "d2t": tensors["d2t"] + 999}, tmp_path / "model.safetensors")
    with pytest.raises(CorruptFile, match="outside the vocabulary"):
        DraftHead.from_pretrained(tmp_path)
    save_file({name: x for name, x in tensors.items() if name != "d2t"}, tmp_path / "model.safetensors")
    with pytest.raises(CorruptFile, match="scores 40 of 99 tokens"):
        DraftHead.from_pretrained(tmp_path)
    write(tmp_path / "deep", model, entries={"eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 1, 46]}})
    with pytest.raises(InvalidInput, match="47"):
        DraftHead.from_pretrained(tmp_path / "deep").bind(model)
    write(tmp_path / "odd", model, entries={"eagle_aux_hidden_state_layer_ids": [0, 1, -2]})
    with pytest.raises(UnsupportedConfig, match="numbers of layers"):
        DraftHead.from_pretrained(tmp_path / "odd")
    write(tmp_path / "other", model, entries={"vocab_size": 5000})
    with pytest.raises(InvalidInput, match="knows 5000 tokens"):
        model.generate(IDS, assistant_model=DraftHead.from_pretrained(tmp_path / "other"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InvalidInput, match="names neither EAGLE"):
        DraftHead.from_pretrained(tmp_path)
