"""Models as programs of the reference inspect and call them."""

from __future__ import annotations

import inspect

import pytest
import torch
import transformers
from transformers.utils import find_labels as their_labels

import multihead
from multihead.compat.tensors import find_labels
from multihead.errors import MissingName
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


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    return multihead.GPT2LMHeadModel(multihead.GPT2Config(n_embd=8, n_head=2, n_layer=2, vocab_size=20)).eval()


IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def test_a_programs_own_cache_is_filled_by_passes(decoder):
    cache = multihead.DynamicCache()
    assert cache.get_seq_length() == 0
    first = decoder(IDS[:, :3], past_key_values=cache)
    assert cache.get_seq_length() == 3
    assert isinstance(first.past_key_values, multihead.DynamicCache)
    assert not isinstance(first.past_key_values, multihead.StaticCache)
    expected = decoder(IDS).logits
    last = decoder(IDS[:, 3:], past_key_values=cache).logits
    torch.testing.assert_close(last[:, 0], expected[:, 3])
    cache.crop(-1)
    again = decoder(IDS[:, 3:], past_key_values=cache).logits
    torch.testing.assert_close(again, last)
    cache.crop(3)
    cache.reorder_cache(torch.tensor([1, 1]))
    torch.testing.assert_close(decoder(IDS[:, 3:], past_key_values=cache).logits[1], last[1])
    with pytest.raises(multihead.MultiheadError, match="tuple"):
        decoder(IDS, past_key_values=((torch.zeros(1), torch.zeros(1)),))
    with pytest.raises(MissingName, match="StaticCache"):
        multihead.StaticCache()


def test_a_cache_of_both_sides():
    torch.manual_seed(0)
    config = multihead.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    model = multihead.T5ForConditionalGeneration(config).eval()
    cache = multihead.EncoderDecoderCache(multihead.DynamicCache(), multihead.DynamicCache())
    words = {"input_ids": IDS, "decoder_input_ids": IDS[:, :3]}
    expected = model(input_ids=IDS, decoder_input_ids=IDS).logits
    found = model(**words, past_key_values=cache)
    torch.testing.assert_close(found.logits, expected[:, :3])
    assert isinstance(found.past_key_values, multihead.EncoderDecoderCache)
    last = model(input_ids=IDS, decoder_input_ids=IDS[:, 3:], past_key_values=cache)
    torch.testing.assert_close(last.logits, expected[:, 3:])


def test_what_programs_ask_a_model(decoder):
    assert decoder.base_model_prefix == "transformer"
    assert getattr(decoder, decoder.base_model_prefix) is decoder.base_model
    assert type(decoder).config_class is multihead.GPT2Config
    held = {one.data_ptr(): one.nbytes for one in [*decoder.parameters(), *decoder.buffers()]}
    assert decoder.get_memory_footprint() == sum(held.values())
    decoder.add_model_tags(["a", "b"])
    decoder.add_model_tags("a")
    assert decoder.model_tags == ["a", "b"]
    decoder.warnings_issued["estimate_tokens"] = True
    assert decoder.warnings_issued == {"estimate_tokens": True}
    before = decoder(IDS).logits
    decoder.post_init()
    decoder.tie_weights()
    decoder.set_attn_implementation("eager")
    torch.testing.assert_close(decoder(IDS).logits, before)
    decoder.set_attn_implementation("sdpa")
    assert decoder.config.get_text_config() is decoder.config


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForMaskedLM"])
def test_a_count_of_labels_divides_the_sum_of_losses(name, tmp_path):
    torch.manual_seed(0)
    config = getattr(transformers, name.partition("For")[0] + "Config")(**TINY)
    theirs = getattr(transformers, name)(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = getattr(multihead, name).from_pretrained(tmp_path)
    labels = IDS.masked_fill(IDS == 6, -100)
    means = [model(IDS, labels=labels).loss for model in (ours, theirs)]
    torch.testing.assert_close(*means)
    assert ours.accepts_loss_kwargs
    assert "num_items_in_batch" in inspect.signature(ours.forward).parameters
    counted = 7 if name.startswith("Bert") else 5  # labels that a token before them predicts
    for count in (20, torch.tensor(20)):
        found = ours(IDS, labels=labels, num_items_in_batch=count).loss
        torch.testing.assert_close(found, means[0] * counted / 20)
        if name.startswith("Llama"):
            torch.testing.assert_close(found, theirs(IDS, labels=labels, num_items_in_batch=count).loss)
    classifier = multihead.BertForSequenceClassification(multihead.BertConfig(**TINY))
    with pytest.raises(TypeError, match="takes no num_items_in_batch"):
        classifier(IDS, labels=torch.tensor([0, 1]), num_items_in_batch=2)


def test_the_backbone_named_model_is_no_model_inside_another(llama):
    model, tokenizer = (
        kind.from_pretrained(llama) for kind in (multihead.AutoModelForCausalLM, multihead.AutoTokenizer)
    )
    found = multihead.pipeline("text-generation", model=model, tokenizer=tokenizer)("a", max_new_tokens=1)
    assert found[0]["generated_text"]
    assert isinstance(model.model, torch.nn.Module)
    arguments = multihead.TrainingArguments("unused", max_steps=1, save_strategy="no", use_cpu=True, report_to="none")
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}]
    assert multihead.Trainer(model, arguments, train_dataset=rows).train().global_step == 1
