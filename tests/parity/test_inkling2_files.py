"""Inkling 2's files as its authors name tensors, with experts in MXFP8 that config.json does not mention."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

import multihead

from .cases.profiles import INKLING2

AUTHORS = (  # the reference's names -> the authors', in turn
    (r"^lm_head\.", "model.llm.unembed."),
    (r"^model\.(?!llm)", "model.llm."),
    (r"embed_tokens\.embed_norm\.", "embed_norm."),
    (r"embed_tokens\.", "embed."),
    (r"experts\.gate_up_proj", "experts.w13_weight"),
    (r"experts\.down_proj", "experts.w2_weight"),
    (r"mlp\.gate\.e_score_correction_bias", "mlp.gate.bias"),
    (r"self_attn\.q_proj", "attn.wq_du"),
    (r"self_attn\.k_proj", "attn.wk_dv"),
    (r"self_attn\.v_proj", "attn.wv_dv"),
    (r"self_attn\.r_proj", "attn.wr_du"),
    (r"self_attn\.o_proj", "attn.wo_ud"),
    (r"self_attn\.gate_proj", "attn.gate_attn"),
    (r"self_attn\.sink_proj", "attn.attn_sink_proj"),
    (r"self_attn\.", "attn."),
    (r"post_attention_convolution\.", "attn_sconv."),
    (r"post_mlp_convolution\.", "mlp_sconv."),
    (r"conv1d\.weight", "weight"),
    (r"static_weight", "static_w"),
    (r"sconv\.weight_proj\.weight", "sconv.weight_proj"),
    (r"post_attention_layernorm", "mlp_norm"),
    (r"([qkv])_input_layernorm", r"\1_input_norm"),
    (r"input_layernorm", "attn_norm"),
    (r"layers\.(\d+)\.mlp_input\.query", r"attn_res.mlp_queries.\1"),
    (r"final_input\.query", "attn_res.output_query"),
)


def name_of(name: str) -> str:
    for pattern, new in AUTHORS:
        name = re.sub(pattern, new, name)
    first = r"layers\.(\d+)\.attention_input\.query"  # the first layer has none, and the authors count from 0
    return re.sub(first, lambda found: f"attn_res.attn_queries.{int(found[1]) - 1}", name)


def woven(stack: torch.Tensor) -> torch.Tensor:
    """Gates and ups (experts, 2 inner, width), row by row in turns."""
    return stack.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def mxfp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, 8-bit exponents of 32 numbers of a row each, and the numbers that they stand for."""
    width = weight.shape[-1]
    blocks = torch.nn.functional.pad(weight, (0, -width % 32)).unflatten(-1, (-1, 32))
    exponents = blocks.abs().amax(-1).clamp_min(1e-20).log2().floor().int() - 8
    scales = torch.ldexp(torch.ones(()), exponents)[..., None]
    codes = (blocks / scales).clamp(-448, 448).to(torch.float8_e4m3fn)
    numbers = (codes.float() * scales).flatten(-2)[..., :width]
    return codes.flatten(-2)[..., :width].contiguous(), (exponents + 127).to(torch.uint8), numbers


@pytest.fixture
def written(tmp_path: Path):
    """A folder of the authors' form, and the reference's model with the numbers that it stands for."""
    torch.manual_seed(0)
    text = {**INKLING2, "model_type": "inkling2_text"}
    model = transformers.Inkling2ForCausalLM(transformers.Inkling2TextConfig(**INKLING2)).eval()
    tensors = {}
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(torch.randn_like(value) * 0.15)
            stored = name_of(name)
            if not stored.endswith(("w13_weight", "w2_weight")):
                tensors[stored] = value.clone()
                continue
            codes, exponents, numbers = mxfp8(value)
            value.copy_(numbers)
            turn = woven if stored.endswith("w13_weight") else lambda stack: stack
            tensors[stored], tensors[f"{stored}_scale"] = turn(codes).contiguous(), turn(exponents).contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "inkling2", "text_config": text}))
    return tmp_path, model


@pytest.mark.parametrize("options", [{}, {"dtype": torch.float32}])
def test_the_authors_files_give_the_reference_s_scores(written, options):
    folder, model = written
    with pytest.warns(UserWarning, match="multimodal"):
        mine = multihead.AutoModelForCausalLM.from_pretrained(folder, **options)
    ids = torch.randint(3, 90, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(mine(ids).logits, model(ids).logits, atol=2e-5, rtol=1e-5)


def test_scales_without_codes_are_refused_by_name(written):
    folder, _ = written
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("w2_weight"))
    save_file({k: v for k, v in tensors.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(multihead.errors.MultiheadError, match="w2_weight"):
        multihead.AutoModelForCausalLM.from_pretrained(folder)
