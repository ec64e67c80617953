"""Text halves of multimodal checkpoints: where a checkpoint of images, sound and text keeps its language model.

`wrappers.py` has a row for each multimodal family, `text_types.py` the language models that are other families on text
alone. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import InvalidInput, UnsupportedConfig, UnsupportedOption
from .text_types import TEXT_TYPES, Entries, Read, TextType
from .wrappers import WRAPPERS, Wrapper

if TYPE_CHECKING:
    from ...config import Config

OF_BOTH = (  # entries of the outer config that hold for the text half, where its own config does not say them
    *("dtype", "torch_dtype", "pad_token_id", "bos_token_id", "num_labels", "id2label", "label2id", "problem_type"),
    *("quantization_config", "transformers_version"),
)
PLACEHOLDERS = re.compile(
    r"(?:(image|video|audio)_token_(id|index)|im(age)?_patch_id)$"
)  # entries with ids that stand for other inputs
MEDIA = re.compile(  # inputs of images, video and sound, as processors name them
    r"(high_res_)?pixel_(values|attention_mask)|(image|video)_(grid|sizes|hidden|metadata|num|position|soft)|images?$|"
    r"videos?$|audios?$|(input|audio)_(features|values)|input_audio|feature_attention_mask|aspect_ratio|"
    r"cross_attention_mask$|second_per_grid|num_(crops|patches|tiles)|spatial_shapes$|vision_feature|mm_token_type_ids$"
)
OTHERS = frozenset(
    (
        *("vision_start_token_id", "vision_end_token_id", "vision_token_id", "num_image_tokens"),
        *("image_size", "patch_size", "num_channels"),
        *("embd_layer", "img_processor", "audio_processor", "speech_lora", "vision_lora", "interpolate_factor"),
        "full_attn_mod",
    )
)
SUFFIXES = {"ForConditionalGeneration": "AutoModelForImageTextToText", "Model": "AutoModel"}


@dataclass(frozen=True)
class TextHalf:
    """The language model of a multimodal checkpoint.

    Args:
        outer: model_type of the whole. wrapper: its row. kind: model_type of the text config. given: its entries.
    """

    outer: str
    wrapper: Wrapper
    kind: str
    given: Entries

    @property
    def text_type(self) -> TextType:
        return TEXT_TYPES.get(self.kind, TextType(self.kind)).variant(self.given)

    @property
    def entries(self) -> Entries:
        """Entries of the language model's own config.json."""
        return {**self.text_type.convert(self.text_type.complete(self.given)), "model_type": self.text_type.family}

    def parts(self, names: Iterable[str]) -> Iterator[tuple[str, str, Read | None]]:
        """Yield (name for the language model, stored name, how to read it) of each tensor that it needs.

        A name that is not known stays as it is, so that loading reports it.
        """
        kind, given = self.text_type, self.text_type.complete(self.given)
        for stored in names:
            if not self.wrapper.skips(stored):
                for name, read in kind.parts(given, self.wrapper.text_name(stored)):
                    yield name, stored, read


def text_half(config: Mapping[str, Any]) -> TextHalf | None:
    """Return the text half that the entries of a multimodal config.json describe; None for other families.

    Raises:
        UnsupportedConfig: an entry that should be an object is none.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in WRAPPERS:
        return None
    wrapper, outer = WRAPPERS[kind], dict(config)
    for step in wrapper.inside:
        outer = {**outer, **_object(outer, step)}
    if wrapper.older and outer.get("text_config") is None:
        outer["text_config"] = outer.get(wrapper.older)
    beside = wrapper.flat and outer.get("text_config") is None
    text = {k: v for k, v in (outer if beside else _object(outer, "text_config")).items() if not _is_outer(k)}
    text_kind = wrapper.text if beside else text.get("model_type") or wrapper.text
    text = {k: v for k, v in text.items() if k not in ("model_type", "architectures")}
    for name in OF_BOTH:
        if text.get(name) is None and outer.get(name) is not None:
            text[name] = outer[name]
    if outer.get("eos_token_id") is not None:  # the ends of an answer are more than the text config's
        text["eos_token_id"] = outer["eos_token_id"]
    text |= {name: outer[name] for name in wrapper.heads if name in outer}
    tied = outer.get("tie_word_embeddings")
    tied = wrapper.tied if tied is None else tied
    if wrapper.tied is not None or tied:
        text["tie_word_embeddings"] = tied
    ids = {**wrapper.tokens, **_tower_ids(outer, wrapper), **outer}
    found = {k: v for k, v in ids.items() if PLACEHOLDERS.match(k) and isinstance(v, int)}
    text = {k: v for k, v in text.items() if k not in found}
    return TextHalf(
        kind, wrapper, text_kind, {**wrapper.usual, **text, **wrapper.fixed, "placeholder_token_ids": found}
    )


def _tower_ids(outer: Mapping[str, Any], wrapper: Wrapper) -> Entries:
    """Return the ids of placeholders that the configs of towers name, as Phi-4's do."""
    towers = [outer.get(name) for name in ("vision_config", "audio_config")]
    return {k: v for tower in towers if isinstance(tower, Mapping) for k, v in tower.items() if k in wrapper.tokens}


def _is_outer(entry: str) -> bool:
    """Return whether an entry is about other inputs than text."""
    own = ("quantization_config", "per_layer_config", "sparse_attention_config")
    return (entry.endswith("_config") and entry not in own) or entry in OTHERS


def _object(entries: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entries.get(name)
    if not isinstance(found, Mapping):
        raise UnsupportedConfig(
            f"{entries.get('model_type')}: {name} must be an object of named entries, not {found!r:.80}."
        )
    return found


def find_wrapper_class(name: str) -> tuple[str, str] | None:
    """Return (model_type, Auto class) of a multimodal family's class name, or None."""
    for kind, wrapper in WRAPPERS.items():
        names = {f"{wrapper.name}{suffix}": auto for suffix, auto in SUFFIXES.items()} | dict(wrapper.classes)
        if name in names:
            return kind, names[name]
    return None


def without_media(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return named inputs without those of images and sound, which may be None.

    Raises:
        UnsupportedOption: one of them has a value.
    """
    asked = [name for name, value in given.items() if MEDIA.match(name) and value is not None]
    if asked:
        raise UnsupportedOption(
            f"{', '.join(asked)}: this library computes the text half of multimodal models, and no images, video or "
            "sound. Give text alone."
        )
    return {name: value for name, value in given.items() if not MEDIA.match(name)}


def refuse_placeholders(config: Config, ids: Iterable[int]) -> None:
    """Raise InvalidInput for a token that stands for an image or sound, where a model has such tokens."""
    if not config.placeholder_token_ids:
        return
    found = set(ids).intersection(config.placeholder_token_ids.values())
    if found:
        names = [f"{name} = {number}" for name, number in config.placeholder_token_ids.items() if number in found]
        raise InvalidInput(
            f"The input has {', '.join(names)}, which stands for an image or sound. This library computes the text "
            "half of multimodal models: leave it out."
        )
