"""Check that every setting of a GGUF file is read by its family, has no effect, or is refused.

llama.cpp writes settings as `{architecture}.{name}` (ggml-org/llama.cpp, src/llama-arch.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from ...config import Config
from ...errors import CorruptFile, UnsupportedConfig
from .patterns import FULL, SLIDING

INERT = frozenset(  # provenance, and sizes that the tensors have too, where they are compared
    """vocab_size context_length tensor_data_layout pooling_type rope.scaling.finetuned attention.layer_norm_epsilon
    attention.layer_norm_rms_epsilon classifier.output_labels features_length attention.head_count_kv
    feed_forward_length expert_feed_forward_length expert_shared_feed_forward_length""".split()
)
ELSEWHERE = ("mm.", "vision.")  # of what reads pictures, whose tensors no family here has
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")  # of a text, of a turn, of a message to a tool
FLOATS = (  # ends of the names whose values llama.cpp reads as floating-point numbers, and no others
    "_epsilon", ".freq_base", ".freq_base_swa", ".scale", "_scale", ".scaling.factor", "_softcapping", ".attn_factor",
    ".clamp_kqv", ".max_alibi_bias", ".yarn_beta_fast", ".yarn_beta_slow",
)  # fmt: skip
DENSE_FIRST = ("modern-bert",)  # architectures whose pattern of windows begins with a layer without one
FACTORS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"


class Settings(Mapping[str, Any]):
    """A file's metadata that records which settings were read.

    Args:
        tensors: names of the file's tensors, for what no setting tells (`gguf.has`).

    Raises:
        CorruptFile: a whole number where the format has a floating-point one.
    """

    def __init__(self, metadata: Mapping[str, Any], tensors: Collection[str] = ()) -> None:
        self._metadata, self.tensors = metadata, frozenset(tensors)
        self.read_names: set[str] = set()
        for name in metadata:  # only these values are read: a vocabulary takes long
            if name.endswith(FLOATS) and isinstance(value := metadata[name], int):
                raise CorruptFile(f"{name} is the whole number {value}, not a floating-point one. Get the file again.")

    def __getitem__(self, name: str) -> Any:
        self.read_names.add(name)
        return self._metadata[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata)

    def __len__(self) -> int:
        return len(self._metadata)

    def __contains__(self, name: object) -> bool:
        return name in self._metadata

    def own(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the architecture's settings: (full name, name without the architecture, value)."""
        stem = f"{self._metadata['general.architecture']}."
        for name in self._metadata:
            if name.startswith(stem):
                yield name, name.removeprefix(stem), self._metadata[name]


def end_tokens(metadata: Mapping[str, Any]) -> int | list[int] | None:
    """Return the end tokens: one id, or a list where turns of a chat end with a token of their own."""
    known = [metadata.get(f"tokenizer.ggml.{name}") for name in ENDS]
    found = list(dict.fromkeys(token for token in known if token is not None))
    return found if len(found) > 1 else found[0] if found else None


def read_rotary_factors(
    settings: Settings, tensors: Mapping[str, Tensor], entries: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the `rope_scaling` of a file that has a tensor of factors of rotary channels (Llama 3.1, Phi-3).

    Raises:
        UnsupportedConfig: factors together with another scaling, or only one of two sets.
    """
    kind = settings["general.architecture"]
    found = [name for name in (SHORT, LONG, FACTORS) if name in tensors]
    scaling = entries.get("rope_scaling") or {}
    longrope = scaling.get("rope_type") == "longrope"
    if not found and not longrope:
        return {}
    if found not in ([SHORT, LONG], [FACTORS]) or (scaling and not longrope) or (longrope and found == [FACTORS]):
        raise UnsupportedConfig(
            f"The file keeps {', '.join(found) or 'no rotary factors'} beside rope.scaling.type "
            f"{scaling.get('rope_type', 'none')!r}, which is not computed."
        )
    short, long = (tensors[found[place]].float().flatten().tolist() for place in (0, -1))
    trained = settings.get(f"{kind}.rope.scaling.original_context_length") or settings.get(f"{kind}.context_length")
    scale = settings.get(f"{kind}.rope.scaling.attn_factor") or 1.0
    scaling_entries = {"rope_type": "longrope", "short_factor": short, "long_factor": long, "attention_factor": scale}
    return {"rope_scaling": {**scaling_entries, "original_max_position_embeddings": trained},
            **({"original_max_position_embeddings": trained} if longrope else {})}  # fmt: skip


def read_windows(settings: Settings, config: type[Config], layers: Any) -> dict[str, Any]:
    """Return the `layer_types` of a file with sliding windows: all but every nth layer, or a flag for each.

    Raises:
        UnsupportedConfig: the family has no windows by layer.
    """
    name = f"{settings['general.architecture']}.attention.sliding_window_pattern"
    said = settings.get(name)
    if said is None:
        return {}
    if "layer_types" not in config.__dataclass_fields__ or not isinstance(layers, int):
        raise UnsupportedConfig(f"{name} is {said!r}; {config.model_type} has no layers of several kinds.")
    if isinstance(said, (list, tuple)):
        slides = [bool(sign) for sign in said]
    else:
        full = 0 if settings["general.architecture"] in DENSE_FIRST else said - 1  # its place in each `said` layers
        slides = [said == 0 or i % said != full for i in range(layers)]
    return {"layer_types": [SLIDING if one else FULL for one in slides]}


def refuse_unread(settings: Settings, config: Any) -> None:
    """Raise UnsupportedConfig for settings that the family did not read and that may change numbers."""
    kind, wrong = settings["general.architecture"], []
    # a converter of hybrid models writes these of models without such layers, too (Granite 4)
    absent = (*ELSEWHERE, *(() if any(".ssm_" in name for name in settings.tensors) else ("ssm.",)))
    for whole, name, value in settings.own():
        if whole in settings.read_names or name in INERT or name.startswith(absent):
            continue
        usual = USUAL.get(name, _nothing)
        if not usual(config, value, settings):
            wrong.append(f"{whole} = {value!r}")
    if wrong:
        raise UnsupportedConfig(
            f"The GGUF file has settings that are not computed for {config.model_type} here ({kind} there): "
            f"{', '.join(wrong)}."
        )


Usual = Callable[[Any, Any, Settings], bool]  # (config, value, settings) -> whether the value changes nothing


def _nothing(config: Any, value: Any, settings: Settings) -> bool:
    return not (any(value) if isinstance(value, (list, tuple)) else value)


def _of_experts(config: Any, value: Any, settings: Settings) -> bool:
    return not settings.get(f"{settings['general.architecture']}.expert_count") or _nothing(config, value, settings)


def _width(config: Any) -> int:
    """Return the width of a head."""
    width = getattr(config, "head_width", None) or getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def _of_head(config: Any, value: Any, settings: Settings) -> bool:
    latent = f"{settings['general.architecture']}.attention.key_length_mla" in settings
    return latent or value == _width(config)


def _one(config: Any, value: Any, settings: Settings) -> bool:
    return value in (0, 1, None)


def _plain_scale(config: Any, value: Any, settings: Settings) -> bool:
    return not value or abs(value - _width(config) ** -0.5) < 1e-6


def _sees(config: Any, value: Any, settings: Settings) -> bool:
    both = config.model_type in ("bert", "modernbert", "nomic_bert") or bool(
        getattr(config, "use_bidirectional_attention", False)
    )
    return config.is_encoder_decoder or bool(value) is not both


def _wide(config: Any, value: Any, settings: Settings) -> bool:
    context = settings.get(f"{settings['general.architecture']}.context_length")
    return not value or (context is not None and value >= context)


def _same_base(config: Any, value: Any, settings: Settings) -> bool:
    return value == settings.get(f"{settings['general.architecture']}.rope.freq_base", 10000.0)


USUAL: Mapping[str, Usual] = {
    "attention.key_length": _of_head,
    "attention.value_length": _of_head,
    "rope.dimension_count": _of_head,
    "attention.key_length_swa": _of_head,
    "attention.value_length_swa": _of_head,
    "rope.dimension_count_swa": _of_head,
    "embedding_length_out": lambda config, value, settings: value == config.hidden_size,
    "expert_gating_func": _of_experts,
    "expert_weights_norm": _of_experts,
    "attention.causal": _sees,
    "attention.scale": _plain_scale,
    "attention.sliding_window": _wide,
    "rope.freq_base_swa": _same_base,
    "use_parallel_residual": lambda config, value, settings: not value or config.model_type == "falcon",
    **dict.fromkeys(
        ("logit_scale", "embedding_scale", "residual_scale", "attention.output_scale", "expert_weights_scale",
         "expert_group_count", "expert_group_used_count", "rope.scale_linear", "rope.scaling.factor",
         "rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.alpha"), _one,
    ),
    "rope.scaling.yarn_ext_factor": lambda config, value, settings: value in (-1, 0, 1, None),
    "rope.scaling.original_context_length": lambda config, value, settings: True,  # of a scaling that is not there
}  # fmt: skip
