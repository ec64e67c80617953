"""Models as programs of the reference inspect and call them."""

from __future__ import annotations

import inspect

import pytest
import torch
import transformers
from transformers.utils import find_labels as their_labels

import multihead
from multihead.compat.tensors import find_labels
from multihead.modeling.pretrained import PreTrainedModel
from multihead.modeling.signatures import runs_code_of
from multihead.training.objectives.padded_forward import has_own_forward

CLASSES = (
    "BertModel BertForMaskedLM BertForSequenceClassification BertForTokenClassification BertForMultipleChoice "
    "BertForQuestionAnswering BertForPreTraining GPT2LMHeadModel T5ForConditionalGeneration T5ForQuestionAnswering"
).split()
TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 10}


@pytest.mark.parametrize("name", CLASSES)
def test_a_signature_names_labels_as_the_references(name):
    ours, theirs = (getattr(library, name) for library in (multihead, transformers))
    assert set(find_labels(ours)) == set(their_labels(theirs))
    assert their_labels(ours) == find_labels(ours)
    assert "input_ids" in inspect.signature(ours.forward).parameters


def test_a_class_runs_the_forward_pass_of_all():
    model = multihead.BertForSequenceClassification(multihead.BertConfig(**TINY)).eval()
    ids = torch.tensor([[1, 2, 3]])
    inspect.signature(model.forward).bind(ids, labels=torch.tensor([0]))
    assert torch.equal(model(ids, labels=torch.tensor([0])).logits, PreTrainedModel.forward(model, ids).logits)
    with pytest.raises(TypeError, match="coffee"):
        model(ids, coffee=1)
    assert has_own_forward(model)
    assert not model.accepts_loss_kwargs

    class Mine(multihead.BertForSequenceClassification):
        def forward(self, input_ids, **more):
            return super().forward(input_ids, **more)

    assert not has_own_forward(Mine(multihead.BertConfig(**TINY)))
    assert not runs_code_of(None, (PreTrainedModel.forward,))
