"""CodeGen (Nijkamp et al., 2022, arXiv:2203.13474): GPT-J with queries, values and keys in blocks of one matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Chained, Interleaved, PerHead
from ..errors import UnsupportedConfig
from . import gptj

BLOCKS = 4  # of the matrix, which the authors trained on as many processors


@dataclass(kw_only=True)
class CodeGenConfig(gptj.GPTJConfig):
    model_type = "codegen"

    def check(self) -> None:
        super().check()
        if self.n_head % BLOCKS:
            raise UnsupportedConfig(f"n_head is {self.n_head}; heads lie in {BLOCKS} blocks of equal size.")


def keys(config: CodeGenConfig) -> KeyMap:
    table = gptj.keys(config)
    fused = {name: PerHead("h.*.attn.qkv_proj", BLOCKS, (1, 1, 1), i) for i, name in enumerate(("q", "v", "k"))}
    turned = Interleaved("h.*.attn.qkv_proj", config.n_head, config.rotary_dim)
    own = {
        "layers.*.attention.q": Chained(fused["q"].key, fused["q"], turned),
        "layers.*.attention.k": Chained(fused["k"].key, fused["k"], turned),
        "layers.*.attention.v": fused["v"],
    }
    return replace(table, rows={**table.rows, **own}, ignored=(*table.ignored, r"attn\.causal_mask$"))


HEADS = {"Model": None, "ForCausalLM": gptj.generate}
ARCHITECTURE = replace(gptj.ARCHITECTURE, name="CodeGen", config=CodeGenConfig, keys=keys, heads=HEADS)
