"""GTE v1.5 (Zhang et al., 2024, arXiv:2407.19669) and Jina embeddings v3 (Sturua et al., 2024, arXiv:2409.10173).

Both are BERT with rotary positions. GTE gates its feed-forwards. Files that came with code of their own name their
tensors otherwise, and so do their entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from ..checkpoints.key_map import KeyMap
from ..checkpoints.task_weights import TaskWeights, has_tasks
from ..checkpoints.tensor_sources import Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.positions import Rotary, frequencies_of
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert, roberta
from .common.architecture import Architecture
from .common.patterns import rotary_of
from .common.rotary_config import RotaryConfig


@dataclass(kw_only=True)
class GteConfig(RotaryConfig):
    model_type = "gte"
    theta: ClassVar[float] = 160000.0
    inert: ClassVar[tuple[str, ...]] = (
        *("pack_qkv", "unpad_inputs", "use_memory_efficient_attention", "logn_attention_clip1"),
        "matryoshka_dimensions",
    )

    vocab_size: Size = 250048
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float | None = None
    max_position_embeddings: Size = 8192
    type_vocab_size: Count = 1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    layer_norm_type: Literal["layer_norm"] = "layer_norm"
    logn_attention_scale: Literal[False] = False
    position_embedding_type: Literal["rope", "rotary"] = "rope"
    pad_token_id: int | None = 1


@dataclass(kw_only=True)
class JinaEmbeddingsV3Config(GteConfig):
    model_type = "jina_embeddings_v3"
    theta: ClassVar[float] = 20000.0
    inert: ClassVar[tuple[str, ...]] = (
        *("matryoshka_dimensions", "truncate_dim", "emb_pooler", "task_instructions"),
        *("lora_dropout_p", "lora_main_params_trainable", "load_trained_adapters"),
    )

    vocab_size: Size = 250002
    hidden_size: Size = 1024
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 16
    intermediate_size: Size = 4096
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: Size = 8194
    type_vocab_size: Size = 1
    layer_norm_eps: float = 1e-5
    use_reg_tokens: Literal[False] = False
    lora_adaptations: list[str] | None = None  # the tasks that a file has changes of weights for
    lora_rank: Size = 4
    lora_alpha: float = 1.0
    task: str | None = None  # whose changes are added on loading
    merged_task: str | None = None  # whose changes a file's weights have already
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Rename the rotary base of this family's first files."""
        old = {"rope_theta": entries["rotary_emb_base"]} if "rotary_emb_base" in entries else {}
        return super().normalized({**old, **{k: v for k, v in entries.items() if k != "rotary_emb_base"}})

    def check(self) -> None:
        if self.task is not None and self.task not in (self.lora_adaptations or ()):
            raise UnsupportedConfig(f"task is {self.task!r}; the model's tasks are {self.lora_adaptations or 'none'}.")


def resolve_task(config: JinaEmbeddingsV3Config, stored: Mapping[str, Tensor]) -> JinaEmbeddingsV3Config:
    """Note the task whose weights are loaded. Raises UnsupportedConfig where a file's weights are another task's."""
    if has_tasks(stored):
        return config.changed(merged_task=config.task)
    if config.task != config.merged_task:
        raise UnsupportedConfig(
            f"The file has no changes of weights for a task; its weights are those of {config.merged_task!r}. Load "
            f"the model that it was made of with task={config.task!r}."
        )
    return config


def view_tensors(config: JinaEmbeddingsV3Config, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Show a file's tensors as the weights of the config's task."""
    if not has_tasks(stored):
        return stored
    task = None if config.task is None else (config.lora_adaptations or []).index(config.task)
    return TaskWeights(stored, task, config.lora_alpha / config.lora_rank)


def positions(config: GteConfig) -> Rotary:
    """Build rotary positions; `ntk` raises the base by its factor (https://kexue.fm/archives/9706).

    Raises:
        UnsupportedConfig: numbers that are not computed here.
    """
    rope, width = config.rope_parameters, config.hidden_size // config.num_attention_heads
    if rope.get("rope_type") != "ntk":
        return rotary_of(config, width)
    factor = rope.get("factor")
    if rope.get("mixed_b") is not None or not isinstance(factor, (int, float)) or not factor > 0:
        raise UnsupportedConfig(f"rope_scaling of type ntk needs a factor above 0 and no mixed_b; it is {rope}.")
    return Rotary(1.0 / frequencies_of(width, rope["rope_theta"] * factor) / factor ** (2 / width))


def build(config: GteConfig) -> Stack:
    turns = positions(config)

    def ffn() -> GatedFeedForward:
        width, inner = config.hidden_size, config.intermediate_size
        down = Linear(inner, width)  # the only one with a bias
        return GatedFeedForward(width, inner, config.hidden_act, down=down, dropout=config.hidden_dropout_prob)

    embed = bert.embeddings(config, order=False, types=config.type_vocab_size > 0)
    return Stack(embed, [bert.layer(config, ffn=ffn(), positions=turns) for _ in range(config.num_hidden_layers)])


def build_jina(config: JinaEmbeddingsV3Config) -> Stack:
    turns = positions(config)

    def ffn() -> FeedForward:
        return FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)

    embed = bert.embeddings(config, order=False)
    return Stack(embed, [bert.layer(config, ffn=ffn(), positions=turns) for _ in range(config.num_hidden_layers)])


LAYER_ROWS: dict[str, str | Source] = {
    **{ours: theirs for ours, theirs in bert.EMBEDDING_ROWS.items() if ours != "embed.position.table"},
    **{f"layers.*.attention.step.{n}": f"layers.*.self_attn.{n}_proj" for n in "qkv"},
    "layers.*.attention.step.out": "layers.*.self_attn.o_proj",
    "layers.*.attention.after": "layers.*.post_attention_layernorm",
    "layers.*.ffn.after": "layers.*.post_mlp_layernorm",
}
DERIVED = (r"embeddings\.position_ids$", r"inv_freq$")
OLD_TENSORS = (
    (r"\bencoder\.layers?\.", "layers."),
    (r"\battention\.(q|k|v|o)_proj\.", r"self_attn.\1_proj."),
    (r"\battn_ln\.", "post_attention_layernorm."),
    (r"\bmlp_ln\.", "post_mlp_layernorm."),
    (r"^lm_head\.norm\.", "lm_head.layer_norm."),
)
OLD_FUSED = (
    (r"\battention\.qkv_proj\.", tuple(f"attention.{n}_proj." for n in "qkv")),
    (r"\bmlp\.up_gate_proj\.", ("mlp.up_proj.", "mlp.gate_proj.")),
)
OLD_JINA_TENSORS = (
    (r"\bencoder\.layers\.", "layers."),
    (r"\bemb_ln\.", "embeddings.LayerNorm."),
    (r"\bmixer\.out_proj\.", "self_attn.o_proj."),
    (r"\bnorm1\.", "post_attention_layernorm."),
    (r"\bnorm2\.", "post_mlp_layernorm."),
)
OLD_JINA_FUSED = ((r"\bmixer\.Wqkv\.", tuple(f"self_attn.{n}_proj." for n in "qkv")),)


def keys(config: GteConfig) -> KeyMap:
    rows = {**LAYER_ROWS, **{f"layers.*.ffn.step.{n}": f"layers.*.mlp.{n}_proj" for n in ("gate", "up", "down")}}
    copies = (r"^lm_head\.decoder\.weight$",) if config.tie_word_embeddings else ()
    ignored = (*DERIVED, *copies)
    return KeyMap(rows, "gte.", ("new.",), ignored=ignored, renamed=OLD_TENSORS, split_fused=OLD_FUSED)


def jina_keys(config: JinaEmbeddingsV3Config) -> KeyMap:
    rows = {**LAYER_ROWS, "layers.*.ffn.step.up": "layers.*.mlp.fc1", "layers.*.ffn.step.down": "layers.*.mlp.fc2"}
    old = {"renamed": OLD_JINA_TENSORS, "split_fused": OLD_JINA_FUSED}
    ignored = (*DERIVED, *bert.copies(config, "lm_head"))
    return KeyMap(rows, "roberta.", ignored=ignored, aliases=bert.aliases(config, "lm_head"), **old)  # type: ignore[arg-type]


def word_head(config: GteConfig, backbone: Stack) -> Head:
    head = roberta.word_head(config, backbone)
    return Head(head.module, {**head.rows, "bias": "/lm_head.decoder.bias"})


ARCHITECTURE = Architecture(
    "Gte",
    GteConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": bert.ARCHITECTURE.heads["ForSequenceClassification"],
        "ForTokenClassification": bert.token_classifier,
    },
)
JINA_V3 = Architecture(
    "JinaEmbeddingsV3",
    JinaEmbeddingsV3Config,
    build_jina,
    jina_keys,
    resolve_config=resolve_task,
    view_tensors=view_tensors,
    heads={
        **{end: roberta.HEADS[end] for end in ("Model", "ForMaskedLM", "ForSequenceClassification")},
        **{end: roberta.HEADS[end] for end in ("ForTokenClassification", "ForQuestionAnswering")},
    },
)
