"""Names and submodules of the reference resolve here, and what has no meaning says so when it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import transformers

import multihead
from multihead.errors import InvalidInput, MissingName, MissingPackage, UnsupportedOption
from multihead.kernels.quantization.registry import TRAINING
from multihead.modeling.load_request import LoadRequest

LIGHT = """
import sys
import multihead, multihead.utils, multihead.trainer_utils, multihead.models.xlm_roberta
from multihead import HfArgumentParser, BitsAndBytesConfig, TrainingArguments, CONFIG_MAPPING, SchedulerType
from multihead import is_torch_available, TFBertModel, AutoFeatureExtractor, WhisperProcessor
from multihead.utils import logging, check_min_version
from multihead.trainer_utils import IntervalStrategy, get_last_checkpoint
assert len(CONFIG_MAPPING) > 100 and is_torch_available()
assert not {"torch", "numpy"} & set(sys.modules), set(sys.modules) & {"torch", "numpy"}
"""
SUBMODULES = [
    ("utils", "check_min_version send_example_telemetry PaddingStrategy is_torch_available ModelOutput logging"),
    ("utils.logging", "get_logger set_verbosity_error tqdm WARNING enable_explicit_format"),
    ("utils.versions", "require_version"),
    ("utils.import_utils", "is_peft_available is_torch_xla_available requires_backends"),
    ("trainer_utils", "get_last_checkpoint is_main_process set_seed EvalPrediction PredictionOutput IntervalStrategy"),
    ("trainer_callback", "TrainerCallback TrainerState TrainerControl ProgressCallback PrinterCallback"),
    ("trainer_pt_utils", "nested_concat get_parameter_names"),
    ("training_args", "TrainingArguments ParallelMode"),
    ("optimization", "get_linear_schedule_with_warmup get_scheduler"),
    ("trainer", "Trainer logger"),
    ("pytorch_utils", "Conv1D prune_linear_layer ALL_LAYERNORM_LAYERS apply_chunking_to_forward"),
    ("generation", "GenerationConfig LogitsProcessorList StoppingCriteria TextStreamer GenerationMixin"),
    ("generation.logits_process", "LogitsProcessor TopKLogitsWarper"),
    ("generation.stopping_criteria", "StoppingCriteriaList MaxLengthCriteria"),
    ("generation.streamers", "TextIteratorStreamer BaseStreamer"),
    ("cache_utils", "DynamicCache StaticCache Cache"),
    ("modeling_utils", "PreTrainedModel"),
    ("modeling_outputs", "SequenceClassifierOutput BaseModelOutputWithPoolingAndCrossAttentions Seq2SeqLMOutput"),
    ("configuration_utils", "PretrainedConfig PreTrainedConfig"),
    ("tokenization_utils", "PreTrainedTokenizer"),
    ("tokenization_utils_base", "BatchEncoding PreTrainedTokenizerBase TruncationStrategy AddedToken"),
    ("tokenization_utils_fast", "PreTrainedTokenizerFast"),
    ("models.auto", "AutoModel AutoConfig CONFIG_MAPPING"),
    ("models.auto.modeling_auto", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES MODEL_MAPPING"),
    ("models.bert", "BertModel BertConfig BertTokenizer"),
    ("models.bert.modeling_bert", "BertForMaskedLM BertPreTrainedModel"),
    ("models.xlm_roberta", "XLMRobertaTokenizer XLMRobertaForSequenceClassification"),
    ("models.qwen2_moe.configuration_qwen2_moe", "Qwen2MoeConfig"),
    ("models.whisper", "WhisperForConditionalGeneration"),
    ("pipelines", "pipeline Pipeline TextGenerationPipeline"),
    ("data.data_collator", "DataCollatorWithPadding default_data_collator"),
    ("pipelines.pt_utils", "KeyDataset"),
    ("utils", "PushToHubMixin EntryNotFoundError is_offline_mode add_start_docstrings"),
    ("hf_argparser", "HfArgumentParser HfArg"),
    ("testing_utils", "require_torch slow torch_device CaptureStdout CaptureLogger TestCasePlus"),
]


REMOVED = ("send_example_telemetry", "is_offline_mode")  # names of version 4


def test_the_tables_load_no_torch():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


@pytest.mark.parametrize(("module", "names"), SUBMODULES)
def test_submodules_have_the_references_names(module, names):
    here, there = (import_module(f"{root}.{module}") for root in ("multihead", "transformers"))
    for name in names.split():
        assert getattr(here, name) is not None
        assert hasattr(there, name) or name in REMOVED, "the reference has no such name"


def test_other_names_are_errors():
    with pytest.raises(ImportError, match="nothing_like_it"):
        from multihead.utils import nothing_like_it  # noqa: F401
    with pytest.raises(ImportError, match="BertForCoffee"):
        from multihead.models.bert import BertForCoffee  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import_module("multihead.models.no_family")
    with pytest.raises(ModuleNotFoundError):
        import_module("multihead.no_room")


def test_names_without_a_meaning_say_so_when_they_are_used():
    from multihead import AutoImageProcessor, FlaxBertModel, WhisperForConditionalGeneration

    for absent in (AutoImageProcessor, FlaxBertModel, WhisperForConditionalGeneration):
        assert not isinstance(1, absent)
        with pytest.raises(MissingName, match=absent.__name__):
            absent.from_pretrained("x")
        with pytest.raises(ImportError, match=absent.__name__):
            absent()


def test_mappings_are_the_references_on_our_families():
    from multihead.models.auto import modeling_auto as ours
    from transformers.models.auto import modeling_auto as theirs

    for auto in ("MASKED_LM", "SEQUENCE_CLASSIFICATION", "TOKEN_CLASSIFICATION", "MULTIPLE_CHOICE"):
        names, known = (getattr(module, f"MODEL_FOR_{auto}_MAPPING_NAMES") for module in (ours, theirs))
        both = set(names) & set(known)
        assert len(both) > 10
        assert {kind: names[kind] for kind in both} == {kind: known[kind] for kind in both}
    table = multihead.MODEL_FOR_CAUSAL_LM_MAPPING
    assert table[multihead.GPT2Config] is multihead.GPT2LMHeadModel
    assert multihead.T5Config not in table
    assert multihead.CONFIG_MAPPING["bert"] is multihead.BertConfig
    assert "no family" not in multihead.CONFIG_MAPPING
    assert multihead.GPT2Config.model_type in [config.model_type for config in table]


def test_availability_is_the_references():
    for name in ("is_torch_available", "is_peft_available", "is_vision_available", "is_torch_xla_available"):
        assert getattr(multihead, name)() == getattr(transformers.utils, name)()
    assert not multihead.is_tf_available()
    assert multihead.utils.is_torch_greater_or_equal("2.0")
    with pytest.raises(MissingPackage, match="no_such_package"):
        multihead.requires_backends(multihead.Trainer, ["torch", "no_such_package"])


def test_versions():
    from multihead.pytorch_utils import is_torch_greater_or_equal_than_1_13, is_torch_greater_or_equal_than_99_0
    from multihead.utils import check_min_version
    from multihead.utils.versions import require_version

    assert (is_torch_greater_or_equal_than_1_13, is_torch_greater_or_equal_than_99_0) == (True, False)
    check_min_version("4.21.0")
    require_version("torch>=2.0", "To fix: pip install torch")
    for wrong in ("torch<1", "nope>1"):
        with pytest.raises(ImportError, match="is needed"):
            require_version(wrong)
    with pytest.raises(ImportError, match="99"):
        check_min_version("99.0")


def test_a_family_base_is_the_class_of_its_models():
    model = multihead.BertModel(multihead.BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1,
                                                     intermediate_size=8, vocab_size=10))  # fmt: skip
    assert isinstance(model, multihead.BertPreTrainedModel)
    assert isinstance(model, multihead.PreTrainedModel)
    assert not isinstance(model, multihead.LlamaPreTrainedModel)
    assert not isinstance(model, multihead.GenerationMixin)


def test_a_log_says_a_thing_once(capsys):
    logger = multihead.utils.logging.get_logger("multihead.compat.test")
    before = multihead.logging.get_verbosity()
    for level in (multihead.logging.WARNING, multihead.logging.ERROR):
        multihead.logging.set_verbosity(level)
        for _ in range(2):
            logger.warning_once("said once")
            logger.warning("said")
    multihead.logging.set_verbosity(before)
    assert capsys.readouterr().err.split("\n") == ["[multihead] said once", "[multihead] said", "[multihead] said", ""]


def test_quantization_configs_are_options_of_loading():
    config = multihead.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    assert config.loading_options() == {"load_in_4bit": True}
    request = LoadRequest.parse("a name", multihead.AutoModel.class_for, {"quantization_config": config})
    assert request.bits == TRAINING["load_in_4bit"]
    with pytest.raises(UnsupportedOption, match="BitsAndBytesConfig"):
        LoadRequest.parse("a name", multihead.AutoModel.class_for, {"quantization_config": {"load_in_4bit": True}})
    assert (
        config.quantization_method()
        == transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4").quantization_method()
    )
    with pytest.raises(InvalidInput, match="exclude"):
        multihead.BitsAndBytesConfig(load_in_4bit=True, load_in_8bit=True)
    with pytest.raises(UnsupportedOption, match="GPTQConfig"):
        multihead.GPTQConfig(bits=4, dataset="c4").loading_options()


PROGRAM = """
import sys
import transformers
from transformers import AutoConfig, set_seed, TrainingArguments, BertTokenizer
from transformers.models.bert.modeling_bert import BertForMaskedLM
from transformers.utils import logging
import transformers.trainer_utils as trainer_utils
import multihead
assert transformers.AutoConfig is multihead.AutoConfig and BertForMaskedLM is multihead.BertForMaskedLM
assert transformers.__version__ == "5.23.0" and trainer_utils.set_seed is multihead.set_seed
for wrong in ("transformers.no_such_module", "transformers.models.no_family"):
    try:
        __import__(wrong)
    except ModuleNotFoundError as error:
        assert "not imported in its place" in str(error), error
    else:
        raise AssertionError(wrong)
try:
    from transformers import no_such_name
except ImportError as error:
    assert "no_such_name" in str(error)
files = [str(getattr(one, "__file__", "")) for one in sys.modules.values()]
assert not [file for file in files if "site-packages/transformers" in file]
print(__name__, sys.argv[1:])
"""


def test_a_program_runs_with_the_references_name_and_never_imports_it(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "multihead.alias", str(program), "--a", "b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "__main__ ['--a', 'b']\n"), done.stderr
    late = "import transformers; import multihead.alias"
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert "imported already" in done.stderr
