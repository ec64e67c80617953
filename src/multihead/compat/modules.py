"""The reference's submodules by name: `multihead.trainer_utils`, `multihead.models.bert.modeling_bert`.

A facade is a module without code. Its names are those of `names.py`, looked up on first use. `finders.py` finds them.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from ..models.common.registry import FAMILIES
from . import logging
from .absent_families import FOLDERS
from .names import ROOT, inner_name
from .testing import testing_name

SUBMODULES = frozenset(
    """
    activations audio_utils cache_utils cli configuration_utils conversion_mapping convert_slow_tokenizer
    core_model_loading data data.data_collator data.metrics data.metrics.squad_metrics data.processors debug_utils
    deepspeed dynamic_module_utils feature_extraction_utils file_utils generation generation.beam_search
    generation.candidate_generator generation.configuration_utils generation.logits_process
    generation.stopping_criteria generation.streamers generation.utils generation.watermarking hf_argparser
    image_processing_utils image_utils integrations integrations.bitsandbytes integrations.deepspeed
    integrations.integration_utils integrations.peft loss loss.loss_utils masking_utils modelcard
    modeling_attn_mask_utils modeling_flash_attention_utils modeling_layers modeling_outputs modeling_rope_utils
    modeling_utils models models.auto models.auto.auto_factory models.auto.configuration_auto
    models.auto.feature_extraction_auto models.auto.image_processing_auto models.auto.modeling_auto
    models.auto.processing_auto models.auto.tokenization_auto optimization pipelines pipelines.base
    pipelines.feature_extraction pipelines.fill_mask pipelines.pt_utils pipelines.question_answering
    pipelines.table_question_answering pipelines.text_classification pipelines.text_generation
    pipelines.token_classification pipelines.zero_shot_classification processing_utils pytorch_utils quantizers
    quantizers.auto quantizers.quantizers_utils testing_utils time_series_utils tokenization_python
    tokenization_utils tokenization_utils_base tokenization_utils_fast tokenization_utils_tokenizers trainer
    trainer_callback trainer_pt_utils trainer_seq2seq trainer_utils training_args training_args_seq2seq utils
    utils.chat_template_utils utils.constants utils.doc utils.dummy_pt_objects utils.fx utils.generic utils.hub
    utils.import_utils utils.logging utils.notebook utils.peft_utils utils.quantization_config utils.versions
    video_utils
    """.split()
)
FAMILY_PART = re.compile(
    r"models\.(?P<folder>\w+)(\.(modeling|configuration|tokenization|processing|modular|feature_extraction|"
    r"image_processing|video_processing|generation|modeling_tf|modeling_flax)_\w+)?"
)


class Facade(ModuleType):
    """A module whose names are looked up on first use."""

    def __getattr__(self, name: str) -> Any:
        value = look_up(self.__name__, name)
        vars(self)[name] = value
        return value


def look_up(module: str, name: str) -> Any:
    """Return what a module of the reference calls by a name. Raises AttributeError."""
    inner = module.partition(".")[2]
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    if is_known(f"{inner}.{name}".lstrip(".")):
        return import_module(f"{module}.{name}")
    try:
        if inner == "utils.logging":
            return getattr(logging, name)
        if inner == "testing_utils" and (found := testing_name(name)) is not None:
            return found
        if name == "logger" and inner:
            return logging.get_logger(f"{ROOT}.{inner}")
        return inner_name(name) if inner else getattr(import_module(ROOT), name)
    except AttributeError as error:
        raise AttributeError(f"module {module!r} has no {name!r} in multihead.") from error


@cache
def folders() -> frozenset[str]:
    """Return the folders of families that the reference has, and the files of those that are here."""
    own = {*(entry.file for entry in FAMILIES.values()), *(kind.replace("-", "_") for kind in FAMILIES)}
    return frozenset({*own, *FOLDERS} - {"common"})


def is_known(inner: str) -> bool:
    """Return whether the reference has a submodule of this name, such as `trainer_utils`."""
    if inner in SUBMODULES:
        return True
    part = FAMILY_PART.fullmatch(inner)
    return part is not None and part["folder"] in folders()
