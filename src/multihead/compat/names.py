"""Tables of the reference's names and their places here. They import no torch; a name is resolved on first use.

`PUBLIC` are names that the reference has at its root, `INNER` those of its submodules alone. A home is the path of a
module of this package, which begins with a dot, or of another package; `:` precedes a name that differs there, and
ends the home of a module itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from . import absent


def rows(home: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), home)


PUBLIC: Mapping[str, str] = {
    **rows(".compat.seeds", "set_seed enable_full_determinism"),
    **rows(
        ".compat.schedules",
        """get_constant_schedule get_constant_schedule_with_warmup get_cosine_schedule_with_warmup get_scheduler
        get_cosine_with_hard_restarts_schedule_with_warmup get_cosine_with_min_lr_schedule_with_warmup
        get_cosine_with_min_lr_schedule_with_warmup_lr_rate get_inverse_sqrt_schedule get_linear_schedule_with_warmup
        get_polynomial_decay_schedule_with_warmup get_reduce_on_plateau_schedule get_wsd_schedule""",
    ),
    **rows(".compat.enums", "SchedulerType IntervalStrategy TensorType"),
    **rows(".compat.argument_parser", "HfArgumentParser"),
    **rows(
        ".compat.stopping",
        """StoppingCriteria StoppingCriteriaList MaxLengthCriteria MaxTimeCriteria EosTokenCriteria
        StopStringCriteria""",
    ),
    **rows(
        ".compat.logits",
        """LogitsProcessor LogitsProcessorList LogitsWarper TemperatureLogitsWarper TopKLogitsWarper TopPLogitsWarper
        MinPLogitsWarper TopHLogitsWarper TypicalLogitsWarper EpsilonLogitsWarper EtaLogitsWarper LogitNormalization
        InfNanRemoveLogitsProcessor RepetitionPenaltyLogitsProcessor EncoderRepetitionPenaltyLogitsProcessor
        NoRepeatNGramLogitsProcessor MinLengthLogitsProcessor MinNewTokensLengthLogitsProcessor
        SuppressTokensLogitsProcessor SuppressTokensAtBeginLogitsProcessor ForcedBOSTokenLogitsProcessor
        ForcedEOSTokenLogitsProcessor SequenceBiasLogitsProcessor NoBadWordsLogitsProcessor
        PrefixConstrainedLogitsProcessor ExponentialDecayLengthPenalty""",
    ),
    **rows(".compat.tokenizer_classes", "PreTrainedTokenizerBase PreTrainedTokenizer AutoProcessor"),
    **rows(".compat.quantization", "BitsAndBytesConfig"),
    **rows(".compat.mappings", "get_values"),
    **rows(".compat.training_names", "PrinterCallback"),
    **rows(
        ".compat.caches",
        """Cache DynamicCache StaticCache QuantizedCache HybridCache SlidingWindowCache EncoderDecoderCache
        GenerationMixin""",
    ),
    "logging": ".compat.logging:",
    **rows(".training.callbacks", "DefaultFlowCallback"),
    **rows(".training.reporting.progress_bar", "ProgressCallback"),
    "BatchEncoding": ".tokenizers.encodings:Encodings",
    "AddedToken": "tokenizers:AddedToken",
    "PretrainedConfig": ".config:Config",
    "PreTrainedConfig": ".config:Config",
    "TokenizersBackend": ".modeling.auto:PreTrainedTokenizerFast",
    "AutoModelWithLMHead": ".modeling.auto:AutoModelForPreTraining",
    "CharSpan": ".compat.spans",
    "TokenSpan": ".compat.spans",
    "DataCollator": ".compat.spans",
    "Pipeline": ".pipelines.base",
    "FeatureExtractionPipeline": ".pipelines.feature_extraction:FeatureExtraction",
    "FillMaskPipeline": ".pipelines.fill_mask:FillMask",
    "TextClassificationPipeline": ".pipelines.text_classification:TextClassification",
    "TokenClassificationPipeline": ".pipelines.token_classification:TokenClassification",
    "NerPipeline": ".pipelines.token_classification:TokenClassification",
    "TextGenerationPipeline": ".pipelines.text_generation:TextGeneration",
    "Text2TextGenerationPipeline": ".pipelines.text2text:Text2TextGeneration",
    "SummarizationPipeline": ".pipelines.summarization.pipeline:Summarization",
    "TranslationPipeline": ".pipelines.translation.pipeline:Translation",
    "QuestionAnsweringPipeline": ".pipelines.question_answering.pipeline:QuestionAnswering",
    "TableQuestionAnsweringPipeline": ".pipelines.tables.pipeline:TableQuestionAnswering",
    "ZeroShotClassificationPipeline": ".pipelines.zero_shot:ZeroShotClassification",
    "DecisionPipeline": ".pipelines.decision.pipeline:DecisionPipeline",
    **rows(
        ".compat.older",
        "AdamW DataCollatorForWholeWordMask top_k_top_p_filtering LineByLineTextDataset",
    ),
    **rows(".compat.documents", "add_start_docstrings add_end_docstrings"),
    **rows(".compat.loops", "InputExample InputFeatures"),
    **rows(".compat.tensors", "Conv1D apply_chunking_to_forward"),
    **rows(
        ".compat.availability",
        """is_torch_xpu_available is_torch_cuda_available is_torch_mps_available is_torch_bf16_gpu_available
        is_torch_tf32_available is_in_notebook is_torch_greater_or_equal is_peft_greater_or_equal requires_backends""",
    ),
    "CONFIG_NAME": ".compat.constants",
    "WEIGHTS_NAME": ".compat.constants",
    "MODEL_CARD_NAME": ".compat.constants",
    "SPIECE_UNDERLINE": ".compat.constants",
}

INNER: Mapping[str, str] = {
    **rows(".compat.enums", "ExplicitEnum SaveStrategy HubStrategy HPSearchBackend PaddingStrategy TruncationStrategy"),
    **rows(".compat.enums", "ParallelMode"),
    "EvaluationStrategy": ".compat.enums:IntervalStrategy",
    **rows(".compat.argument_parser", "HfArg string_to_bool"),
    **rows(
        ".compat.versions",
        "check_min_version send_example_telemetry require_version require_version_core get_torch_version",
    ),
    **rows(".compat.stopping", "validate_stopping_criteria"),
    **rows(".compat.quantization", "QuantizationConfig"),
    "QuantizationConfigMixin": ".compat.quantization:QuantizationConfig",
    **rows(
        ".compat.training_names",
        """EvalLoopOutput BestRun PREFIX_CHECKPOINT_DIR get_last_checkpoint default_compute_objective speed_metrics
        number_of_arguments has_length denumpify_detensorize is_main_process get_parameter_names""",
    ),
    "PredictionOutput": ".training.evaluation.loop",
    "TrainOutput": ".training.run",
    "ExportableState": ".training.state",
    "PushToHubMixin": ".hub.push:PushToHub",
    "CallbackHandler": ".training.callbacks:Callbacks",
    "ModelOutput": ".heads.outputs:Output",
    **rows(
        ".heads.outputs:HiddenOutput",
        """BaseModelOutput BaseModelOutputWithPooling BaseModelOutputWithPast BaseModelOutputWithCrossAttentions
        BaseModelOutputWithPoolingAndCrossAttentions BaseModelOutputWithPastAndCrossAttentions MoeModelOutputWithPast
        MoEModelOutput BaseModelOutputWithNoAttention""",
    ),
    "Seq2SeqModelOutput": ".heads.outputs:Seq2SeqHiddenOutput",
    **rows(
        ".heads.outputs:ScoresOutput",
        """CausalLMOutput CausalLMOutputWithPast CausalLMOutputWithCrossAttentions MaskedLMOutput
        MoeCausalLMOutputWithPast MultipleChoiceModelOutput NextSentencePredictorOutput SequenceClassifierOutput
        SequenceClassifierOutputWithPast TokenClassifierOutput""",
    ),
    "QuestionAnsweringModelOutput": ".heads.outputs:SpanOutput",
    **rows(".heads.outputs:Seq2SeqScoresOutput", "Seq2SeqLMOutput Seq2SeqSequenceClassifierOutput"),
    "Seq2SeqQuestionAnsweringModelOutput": ".heads.outputs:Seq2SeqSpanOutput",
    **rows(
        ".generation.outputs",
        """GenerateDecoderOnlyOutput GenerateEncoderDecoderOutput GenerateBeamDecoderOnlyOutput
        GenerateBeamEncoderDecoderOutput""",
    ),
    **rows(
        ".compat.constants",
        """WEIGHTS_INDEX_NAME SAFE_WEIGHTS_NAME SAFE_WEIGHTS_INDEX_NAME GENERATION_CONFIG_NAME ADAPTER_CONFIG_NAME
        ADAPTER_WEIGHTS_NAME ADAPTER_SAFE_WEIGHTS_NAME SENTENCEPIECE_UNDERLINE TOKENIZER_CONFIG_FILE
        SPECIAL_TOKENS_MAP_FILE ADDED_TOKENS_FILE FULL_TOKENIZER_FILE VERY_LARGE_INTEGER LARGE_INTEGER
        CHAT_TEMPLATE_FILE OPTIMIZER_NAME OPTIMIZER_NAME_BIN SCHEDULER_NAME SCALER_NAME
        NLTK_IMPORT_ERROR ENV_VARS_TRUE_VALUES TRAINING_ARGS_NAME TRAINER_STATE_NAME ALL_LAYERNORM_LAYERS""",
    ),
    **rows(
        ".compat.tensors",
        """prune_linear_layer find_pruneable_heads_and_indices meshgrid
        nested_concat nested_detach nested_numpify find_batch_size is_tensor is_torch_tensor is_numpy_array to_numpy
        to_py_obj find_labels can_return_loss strtobool flatten_dict ContextManagers shift_tokens_right
        is_torch_device is_torch_dtype""",
    ),
    "ACT2FN": ".compat.tensors",
    "_BaseAutoModelClass": ".modeling.auto:_AutoModel",
    "AcceleratorConfig": ".compat.training_arguments",
    **rows(
        ".compat.documents",
        """add_start_docstrings_to_model_forward add_code_sample_docstrings replace_return_docstrings auto_docstring""",
    ),
    **rows(
        ".compat.loops",
        """LabelSmoother LengthGroupedSampler get_length_grouped_indices unwrap_model rotate_half apply_rotary_pos_emb
        repeat_kv is_deepspeed_zero3_enabled DataCollatorMixin""",
    ),
    **rows(".compat.availability", "is_flash_attn_greater_or_equal is_flash_attn_greater_or_equal_2_10"),
    **rows(
        ".compat.library_names",
        """http_user_agent GradientCheckpointingLayer PeftAdapterMixin is_torchdynamo_compiling
        GenericForSequenceClassification
        is_flash_attention_requested lazy_import_flash_attention get_class_from_dynamic_module load_image
        get_relative_import_files cached_file get_checkpoint_shard_files find_adapter_config_file
        _get_template_variables make_markdown_table
        nested_gather _MODEL_TO_CONVERSION_PATTERN get_checkpoint_conversion_mapping get_model_conversion_mapping
        deepspeed_config unset_hf_deepspeed_config HfDeepSpeedConfig copy_func extract_commit_hash default_logdir
        get_available_reporting_integrations is_sagemaker_mp_enabled is_torch_fx_proxy seed_worker
        custom_object_save""",
    ),
    **rows(".training.reporting.loggers", "TensorBoardCallback WandbCallback"),
    **rows(".compat.pipeline_names", "SUPPORTED_TASKS TASK_ALIASES"),
    **rows(".compat.squad", "compute_exact compute_f1 normalize_answer get_tokens"),
    **rows(".compat.pipeline_names", "KeyDataset KeyPairDataset PipelineException check_task get_supported_tasks"),
    **rows("huggingface_hub.errors", "EntryNotFoundError RepositoryNotFoundError RevisionNotFoundError"),
    "is_offline_mode": "huggingface_hub",
    "TextStreamer": ".generation.streaming",
    "BaseStreamer": ".generation.streaming:TextStreamer",
}

ROOT = "multihead"
MODULES = frozenset(  # of the reference's root, which a program may use without an import of their own
    """
    activations audio_utils cache_utils cli configuration_utils conversion_mapping convert_slow_tokenizer
    core_model_loading data debug_utils deepspeed dynamic_module_utils feature_extraction_utils file_utils
    generation hf_argparser image_processing_utils image_utils integrations loss masking_utils modelcard
    modeling_attn_mask_utils modeling_flash_attention_utils modeling_layers modeling_outputs modeling_rope_utils
    modeling_utils models optimization pipelines processing_utils pytorch_utils quantizers testing_utils
    time_series_utils tokenization_python tokenization_utils tokenization_utils_base tokenization_utils_fast
    tokenization_utils_tokenizers trainer trainer_callback trainer_pt_utils trainer_seq2seq trainer_utils
    training_args training_args_seq2seq utils video_utils
    """.split()
)
AT_LEAST_TORCH = re.compile(r"is_torch_greater_or_equal_than_(\d+)_(\d+)")
AVAILABILITY = re.compile(r"is_\w+_available")
MAPPING = re.compile(r"(CONFIG|TOKENIZER|((IMAGE|VIDEO)_)?PROCESSOR|FEATURE_EXTRACTOR|MODEL(_\w+)?)_MAPPING(_NAMES)?")


def public_name(name: str, family_class: Callable[[str], Any]) -> Any:
    """Return what the root of the reference calls by a name.

    Args:
        family_class: returns the class of a family by its name, or raises AttributeError.

    Raises:
        AttributeError: a name that the reference does not have, or whose family has no such class.
    """
    if name in PUBLIC:
        return at_home(PUBLIC[name], name)
    if name in MODULES:
        return import_module(f"{ROOT}.{name}")
    for find in (_available, _mapping, _tokenizer, _quantization, _family_base):
        found = find(name)
        if found is not None:
            return found
    try:
        return family_class(name)
    except AttributeError:
        found = absent.absent(name)
        if found is None:
            raise
        return found


def inner_name(name: str) -> Any:
    """Return what a submodule of the reference calls by a name. Raises AttributeError."""
    if name in INNER:
        return at_home(INNER[name], name)
    if (least := AT_LEAST_TORCH.fullmatch(name)) is not None:  # a constant of the reference
        from .availability import is_torch_greater_or_equal

        return is_torch_greater_or_equal(".".join(least.groups()))
    return getattr(import_module(ROOT), name)


def at_home(home: str, name: str) -> Any:
    """Return a name from its home."""
    place, _, other = home.partition(":")
    module = import_module(f"{ROOT}{place}" if place.startswith(".") else place)
    return module if home.endswith(":") else getattr(module, other or name)


def _available(name: str) -> Any:
    from .availability import availability

    return availability(name) if AVAILABILITY.fullmatch(name) else None


def _mapping(name: str) -> Any:
    if MAPPING.fullmatch(name) is None:
        return None
    from .mappings import AUTO_OF, table

    plain = name.removesuffix("_NAMES")
    if plain in AUTO_OF or plain in ("CONFIG_MAPPING", "TOKENIZER_MAPPING", "MODEL_NAMES_MAPPING"):
        return table(name)
    return {}  # of images, sound and others, of which there are none


def _tokenizer(name: str) -> Any:
    match = re.fullmatch(r"([A-Z]\w*?)Tokenizer(Fast)?", name)
    if match is None or match[1] == "Auto":
        return None
    from ..models.common.registry import FAMILIES
    from ..tokenizers import recipes

    stems = {*recipes.FAMILIES.values(), *(entry.name for entry in FAMILIES.values()), *OTHER_TOKENIZERS}
    if match[1] not in stems:
        return None
    from .tokenizer_classes import tokenizer_class

    return tokenizer_class(name)


OTHER_TOKENIZERS = frozenset(  # stems of classes that are no family's
    """MBart50 Nllb CodeLlama Herbert Barthez Bertweet BertJapanese ByT5 Cpm DPRContextEncoder DPRQuestionEncoder
    DPRReader MyT5 Phobert Reformer XLMRoberta XLNet XLM T5 Qwen2 Llama Gemma Cohere Nllb Rag Bartpho MLuke GPTSw3
    Retribert Xmod""".split()
)


def _quantization(name: str) -> Any:
    from .quantization import FORMATS, format_class

    return format_class(name) if name in FORMATS else None


def _family_base(name: str) -> Any:
    if re.fullmatch(r"\w+Pre[Tt]rainedModel", name) is None:
        return None
    from .family_bases import family_base

    return family_base(name)
