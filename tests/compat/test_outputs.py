"""Outputs as programs for the reference handle them: the same lines run over both libraries."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from importlib import import_module

import pytest
import torch
from torch.utils import _pytree

TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 10}
IDS = torch.tensor([[1, 2, 3]])


@pytest.fixture(scope="module", params=["multihead", "transformers"])
def library(request):
    return import_module(request.param)


@pytest.fixture(scope="module")
def outputs(library):
    torch.manual_seed(0)
    model = library.BertForSequenceClassification(library.BertConfig(**TINY)).eval()
    return model(IDS, labels=torch.tensor([1]), output_hidden_states=True)


def test_outputs_are_dicts_and_index_as_tuples(library, outputs):
    base = import_module(f"{library.__name__}.utils").ModelOutput
    assert isinstance(outputs, base)
    assert isinstance(outputs, dict)
    assert list(outputs) == list(outputs.keys()) == list(dict(**outputs)) == ["loss", "logits", "hidden_states"]
    assert ("loss" in outputs, "attentions" in outputs, len(outputs)) == (True, False, 3)
    assert outputs["logits"] is outputs.logits is outputs[1] is outputs.to_tuple()[1] is outputs[1:][0]
    assert outputs.get("attentions", 5) == 5
    assert outputs.attentions is None
    assert [name for name, _ in outputs.items()] == list(outputs)
    assert outputs.values() is not None
    with pytest.raises(KeyError):
        outputs["attentions"]
    for change in (lambda: outputs.pop("loss"), lambda: outputs.update(loss=1), lambda: outputs.__delitem__("loss")):
        with pytest.raises(Exception, match=r"SequenceClassifierOutput|ScoresOutput"):
            change()


def test_outputs_are_copied_pickled_and_taken_apart(outputs):
    leaves, tree = _pytree.tree_flatten(outputs)
    assert len(leaves) == 4  # loss, logits, and hidden states of the embeddings and the layer
    made = [
        pickle.loads(pickle.dumps(outputs)), copy.copy(outputs), _pytree.tree_unflatten(leaves, tree),
        type(outputs)((name, value) for name, value in outputs.items()),  # as torch gathers replicas
        type(outputs)(dict(outputs.items())),  # as accelerate moves batches
    ]  # fmt: skip
    for one in made:
        assert type(one) is type(outputs)
        assert list(one) == list(outputs)
        assert torch.equal(one.logits, outputs.logits)
        assert one.attentions is None


def test_a_program_sets_fields_and_makes_outputs_of_its_own(library):
    base = import_module(f"{library.__name__}.utils").ModelOutput

    @dataclass
    class Mine(base):
        loss: torch.Tensor | None = None
        scores: torch.Tensor | None = None

    one = Mine(scores=IDS)
    assert (list(one), one.to_tuple()) == (["scores"], (IDS,))
    one.loss = 2
    assert (one["loss"], dict(one)) == (2, {"scores": IDS, "loss": 2})
    one["loss"] = 3
    assert one.loss == 3
    assert len(Mine()) == 0
    assert Mine(loss={"other": 1}) is not None
    assert base(last_hidden_state=IDS).last_hidden_state is IDS
    assert _pytree.tree_map(lambda x: x + 1, Mine(scores=IDS)).scores.tolist() == [[2, 3, 4]]

    class Undecorated(base):
        loss: torch.Tensor | None = None

    with pytest.raises(TypeError, match="dataclass"):
        Undecorated(loss=1)


def test_a_tuple_is_returned_where_it_is_asked_for(library):
    config = library.BertConfig(**TINY)
    model = library.BertModel(config).eval()
    states, pooled = model(IDS, return_dict=False)
    assert torch.equal(model(IDS)[0], states)
    assert torch.equal(model(IDS)[1], pooled)
    config.return_dict = False
    assert isinstance(library.BertModel(config).eval()(IDS), tuple)
