"""multihead: pretrained Transformers for language.

The names users import are resolved on first use, so that `import multihead` loads no torch. Beside those listed here,
every family's classes resolve by name: `BertForMaskedLM`, `LlamaConfig`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .compat.finders import install as _install_finders
from .modeling.reference_names import register as _register_names

if TYPE_CHECKING:
    from .adapters.config import LoraConfig
    from .attribution.explain import explain
    from .compat.hook_trainer.trainer import Seq2SeqTrainer, Trainer
    from .compat.training_arguments import Seq2SeqTrainingArguments, TrainingArguments
    from .config import Config
    from .errors import MultiheadError
    from .evaluation.calibrate import calibrate
    from .evaluation.evaluate import evaluate
    from .generation.config import GenerationConfig
    from .generation.draft_heads import DraftHead
    from .generation.logits.constraints import DisjunctiveConstraint, PhrasalConstraint
    from .generation.streaming import (
        AsyncTextIteratorStreamer,
        TextCallbackStreamer,
        TextIteratorStreamer,
        TextStreamer,
    )
    from .modeling.auto import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForMaskedLM,
        AutoModelForMultimodalLM,
        AutoModelForMultipleChoice,
        AutoModelForNextSentencePrediction,
        AutoModelForPreTraining,
        AutoModelForQuestionAnswering,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoModelForTableQuestionAnswering,
        AutoModelForTextEncoding,
        AutoModelForTokenClassification,
        AutoTokenizer,
        PreTrainedTokenizerFast,
    )
    from .modeling.own_model import PreTrainedModel
    from .pipelines.pipeline import pipeline
    from .quantization.quantize import quantize
    from .quantization.report import QuantizationReport
    from .retrieval.clusters import cluster_texts
    from .retrieval.duplicates import deduplicate
    from .retrieval.index import Index
    from .sentences.cross import CrossEncoder
    from .sentences.encoder import SentenceEncoder
    from .sentences.m3 import M3Encoder
    from .sentences.multi_vector import MultiVectorEncoder
    from .sentences.quantization import quantize_embeddings
    from .sentences.sparse import SparseEncoder
    from .tokenizers.tokenizer import Tokenizer
    from .training.callbacks import EarlyStoppingCallback, TrainerCallback
    from .training.data.collators import (
        DataCollatorForLanguageModeling,
        DataCollatorForMultipleChoice,
        DataCollatorForSeq2Seq,
        DataCollatorForTokenClassification,
        DataCollatorWithFlattening,
        DataCollatorWithPadding,
        DefaultDataCollator,
        default_data_collator,
    )
    from .training.evaluation.metrics import EvalPrediction
    from .training.state import TrainerControl, TrainerState

_HOMES = {
    "AsyncTextIteratorStreamer": "generation.streaming",
    "AutoConfig": "modeling.auto",
    "AutoModel": "modeling.auto",
    "AutoModelForCausalLM": "modeling.auto",
    "AutoModelForImageTextToText": "modeling.auto",
    "AutoModelForMaskedLM": "modeling.auto",
    "AutoModelForMultimodalLM": "modeling.auto",
    "AutoModelForMultipleChoice": "modeling.auto",
    "AutoModelForNextSentencePrediction": "modeling.auto",
    "AutoModelForPreTraining": "modeling.auto",
    "AutoModelForQuestionAnswering": "modeling.auto",
    "AutoModelForTableQuestionAnswering": "modeling.auto",
    "AutoModelForSeq2SeqLM": "modeling.auto",
    "AutoModelForSequenceClassification": "modeling.auto",
    "AutoModelForTextEncoding": "modeling.auto",
    "AutoModelForTokenClassification": "modeling.auto",
    "AutoTokenizer": "modeling.auto",
    "Config": "config",
    "CrossEncoder": "sentences.cross",
    "DataCollatorForLanguageModeling": "training.data.collators",
    "DataCollatorForMultipleChoice": "training.data.collators",
    "DataCollatorWithFlattening": "training.data.collators",
    "DataCollatorForSeq2Seq": "training.data.collators",
    "DataCollatorForTokenClassification": "training.data.collators",
    "DataCollatorWithPadding": "training.data.collators",
    "DefaultDataCollator": "training.data.collators",
    "DisjunctiveConstraint": "generation.logits.constraints",
    "EarlyStoppingCallback": "training.callbacks",
    "EvalPrediction": "training.evaluation.metrics",
    "DraftHead": "generation.draft_heads",
    "GenerationConfig": "generation.config",
    "Index": "retrieval.index",
    "LoraConfig": "adapters.config",
    "M3Encoder": "sentences.m3",
    "MultiVectorEncoder": "sentences.multi_vector",
    "MultiheadError": "errors",
    "PhrasalConstraint": "generation.logits.constraints",
    "PreTrainedModel": "modeling.own_model",
    "PreTrainedTokenizerFast": "modeling.auto",
    "SentenceEncoder": "sentences.encoder",
    "Seq2SeqTrainer": "compat.hook_trainer.trainer",
    "Seq2SeqTrainingArguments": "compat.training_arguments",
    "SparseEncoder": "sentences.sparse",
    "TextCallbackStreamer": "generation.streaming",
    "TextIteratorStreamer": "generation.streaming",
    "TextStreamer": "generation.streaming",
    "Tokenizer": "tokenizers.tokenizer",
    "Trainer": "compat.hook_trainer.trainer",
    "TrainerCallback": "training.callbacks",
    "TrainerControl": "training.state",
    "TrainerState": "training.state",
    "TrainingArguments": "compat.training_arguments",
    "calibrate": "evaluation.calibrate",
    "cluster_texts": "retrieval.clusters",
    "deduplicate": "retrieval.duplicates",
    "default_data_collator": "training.data.collators",
    "evaluate": "evaluation.evaluate",
    "explain": "attribution.explain",
    "pipeline": "pipelines.pipeline",
    "quantize": "quantization.quantize",
    "QuantizationReport": "quantization.report",
    "quantize_embeddings": "sentences.quantization",
    "use_reference_names": "modeling.reference_names",
}

__all__ = ["__version__", *_HOMES]


_install_finders()
_register_names(lambda: import_module(".compat.part_names", __name__))


def __getattr__(name: str) -> Any:
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name) if name in _HOMES else _other_name(name)
    globals()[name] = value
    return value


def _other_name(name: str) -> Any:
    """A name of the reference that `compat/` has, or a class of a family."""
    if name.startswith("_"):
        raise AttributeError(f"multihead has no {name!r}.")
    from .compat.names import public_name

    return public_name(name, _family_class)


def _family_class(name: str) -> Any:
    """`BertConfig` or `BertForMaskedLM`, from the registry of families, or a class that loads a text half."""
    from .models.common.multimodal import find_wrapper_class
    from .models.common.registry import architecture, find_class

    wrapper = find_wrapper_class(name)
    if wrapper is not None:
        from .modeling.auto import wrapper_class

        return wrapper_class(name, wrapper[1])
    found = find_class(name)
    if found is None or name.startswith("_"):
        raise AttributeError(f"multihead has no {name!r}.")
    if found[1] == "Config":
        return architecture(found[0]).config
    from .errors import UnknownModel
    from .modeling.class_factory import model_class

    try:
        return model_class(*found)
    except UnknownModel as error:
        raise AttributeError(str(error)) from error


def __dir__() -> list[str]:
    return sorted(__all__)
