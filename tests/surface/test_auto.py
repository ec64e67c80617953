"""The Auto classes give the reference's class for every family that it maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.models.auto import modeling_auto

import multihead
from multihead.modeling.auto_classes import head_suffix
from multihead.models.common.registry import FAMILIES, find_class
from tests.parity.case import reference
from tests.parity.cases import CASES

MAPPINGS = {
    "AutoModel": "MODEL_MAPPING_NAMES",
    "AutoModelForPreTraining": "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForMultimodalLM": "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "AutoModelForImageTextToText": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForTokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForQuestionAnswering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "AutoModelForMultipleChoice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "AutoModelForNextSentencePrediction": "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES",
    "AutoModelForTextEncoding": "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES",
}


LLAMAS = ("internlm3", "iquestcoder")  # whose classes the reference names as Llama's


def found(auto: str, kind: str) -> str | None:
    """The name of the class that an Auto class means for a family; None where it has none."""
    suffix = head_suffix(auto, kind)
    return None if suffix is None else FAMILIES[kind].class_name(suffix)


@pytest.mark.parametrize("auto", MAPPINGS)
def test_the_class_is_the_references(auto):
    wanted = getattr(modeling_auto, MAPPINGS[auto])
    wrong = {}
    for kind in FAMILIES:
        names = wanted.get(kind)
        known = names if isinstance(names, (list, tuple)) else (names,)
        borrowed = {find_class(name) for name in known if name} & {("llama", head_suffix(auto, kind))}
        if names is not None and found(auto, kind) not in known and not (kind in LLAMAS and borrowed):
            wrong[kind] = (names, found(auto, kind))
    assert not wrong


def test_only_barts_kin_fill_gaps_as_encoder_decoders():
    fill = [
        kind for kind in FAMILIES if (found("AutoModelForMaskedLM", kind) or "").endswith("ForConditionalGeneration")
    ]
    assert sorted(fill) == ["bart", "mbart", "mvp"]


def test_bart_fills_a_gap_as_the_reference_does(tmp_path: Path):
    case = next(case for case in CASES if case.name == "bart")
    theirs = reference(case, "ForConditionalGeneration")
    theirs.save_pretrained(tmp_path)
    ours = multihead.AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(ours).__name__ == "BartForConditionalGeneration"
    ids = torch.tensor([[0, 9, 14, 3, 2]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)
