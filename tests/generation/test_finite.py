"""Scores that are not numbers are said, by every way of choosing tokens, and no text is made of them."""

from __future__ import annotations

import copy

import pytest
import torch

from multihead import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, pipeline
from multihead.errors import NoContinuation, ScoresNotFinite
from multihead.nn.own_names import own_parameters
from multihead.pipelines.answers import Failure

IDS = torch.tensor([[5, 6, 7]])
WAYS = {
    "greedy": {},
    "ruled": {"repetition_penalty": 1.2},
    "shown": {"output_scores": True, "return_dict_in_generate": True},
    "drawn": {"do_sample": True, "top_k": 5},
    "drawn from all": {"do_sample": True, "top_k": 0},
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
    "beams": {"num_beams": 3},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "drawn beams": {"num_beams": 3, "do_sample": True},
    "contrastive": {"penalty_alpha": 0.5, "top_k": 4},
    "lookups": {"prompt_lookup_num_tokens": 3},
    "guided": {"guidance_scale": 1.5},
    "layers": {"dola_layers": "low"},
}


def poisoned(model, keep):
    """Makes the vectors of all words NaN but for some."""
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        gone = torch.ones(len(table), dtype=torch.bool)
        gone[keep] = False
        table[gone] = torch.nan
    return model


@pytest.mark.parametrize("precision", [None, "fp32", "bf16"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_no_text_is_made_of_scores_that_are_no_numbers(llama, way, late, precision):
    model = AutoModelForCausalLM.from_pretrained(llama, dtype="float32")
    poisoned(model, IDS[0].tolist() if late else [])  # late: what the first step chooses has no vector
    torch.manual_seed(0)
    if precision is not None:
        model.prepare(precision)
    with pytest.raises(ScoresNotFinite, match="no finite numbers"):
        model.generate(IDS, max_new_tokens=12, **WAYS[way])


def test_a_draft_or_a_rule_of_ones_own_without_numbers_is_said_and_infinity_still_forces_a_token(llama):
    model = AutoModelForCausalLM.from_pretrained(llama, dtype="float32")
    draft = poisoned(AutoModelForCausalLM.from_pretrained(llama, dtype="float32"), [])
    with pytest.raises(ScoresNotFinite):
        model.generate(IDS, max_new_tokens=4, assistant_model=draft)
    with pytest.raises(ScoresNotFinite):
        model.generate(IDS, max_new_tokens=4, logits_processor=[lambda ids, scores: scores * torch.nan])

    def forced(ids, scores):
        scores[:, 9] = torch.inf
        return scores

    for way in ({}, {"do_sample": True}):
        assert model.generate(IDS, max_new_tokens=2, logits_processor=[forced], **way)[0, 3:].tolist() == [9, 9]


def test_one_prompt_that_has_no_answer_does_not_take_the_others_with_it(llama):
    pipe = pipeline("text-generation", str(llama), dtype="float32", max_new_tokens=2)
    (bad,) = pipe.tokenizer("~", add_special_tokens=False)["input_ids"]
    keep = [n for n in range(len(pipe.tokenizer)) if n != bad]
    expected = pipe(["the fox", "a dog"])
    poisoned(pipe.model, keep)
    found = list(pipe.stream(["the fox", "the ~", "a dog"], strict=False))
    assert [found[0], found[2]] == expected
    assert isinstance(found[1], Failure)
    assert isinstance(found[1].error, ScoresNotFinite)
    assert str(found[1].error).startswith("Input 1: ")
    with pytest.raises(ScoresNotFinite, match="Input 1"):
        pipe(["the fox", "the ~", "a dog"])
    none = list(pipe.stream(["the fox", "a dog"], strict=False, suppress_tokens=list(range(len(pipe.tokenizer)))))
    assert [type(failure.error) for failure in none] == [NoContinuation] * 2


SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
FAMILIES = {
    "llama": (AutoModelForCausalLM, {**SIZES, "num_key_value_heads": 1}),
    "qwen3": (AutoModelForCausalLM, {**SIZES, "num_key_value_heads": 1, "head_dim": 16}),
    "bert": (AutoModelForMaskedLM, SIZES),
    "t5": (AutoModelForSeq2SeqLM, {**T5, "decoder_start_token_id": 0}),  # its feed-forward steps have ReLU
}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("precision", [None, "bf16", "gradients"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_weight_anywhere_in_a_layer_reaches_the_scores(family, precision, value):
    """Attention that leaves out scores which are no numbers, or a ReLU that makes zeros of them, answers in silence."""
    torch.manual_seed(0)
    kind, sizes = FAMILIES[family]
    whole = kind.from_config(AutoConfig.for_model(family, **sizes)).eval()
    ids = torch.arange(5, 14)[None]
    words = {"decoder_input_ids": ids[:, :4]} if family == "t5" else {}
    names = [name for name, x in own_parameters(whole) if "layers.1." in name and not name.endswith("bias")]
    assert len(names) > 5
    for name in names:
        model = copy.deepcopy(whole)
        model.get_parameter(name).data.view(-1)[:] = value
        if precision == "bf16":
            model.prepare("bf16")
        with torch.set_grad_enabled(precision == "gradients"):
            assert not model(ids, **words).logits.isfinite().any(), name
        if kind is AutoModelForCausalLM and precision != "gradients":
            with torch.no_grad():
                begun = model(ids[:, :5], use_cache=True).past_key_values
                assert not model(ids[:, 5:6], past_key_values=begun).logits.isfinite().any(), name


def test_a_damaged_key_of_one_word_is_said_by_all_strategies():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES)).eval()
    model.get_parameter("backbone.layers.1.attention.step.k.weight").data[0, 0] = torch.nan
    for way in WAYS.values():
        with pytest.raises(ScoresNotFinite):
            model.generate(IDS, max_new_tokens=4, pad_token_id=0, **way)
