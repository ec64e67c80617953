"""What programs written for the reference ask of a model besides a pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import multihead
from multihead import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from multihead.errors import InvalidInput, UnsupportedConfig, UnsupportedOption
from tests.parity.case import WORDS, Case, batch, reference
from tests.parity.cases import CASES

ROWS = {case.name: case for case in CASES}


def scoring() -> list[tuple[Case, str]]:
    """The first class of each family that scores words."""
    found: dict[str, tuple[Case, str]] = {}
    for case in (each for each in CASES if each.reloads):
        for end in case.ends:
            if end.endswith(("LM", "LMHeadModel", "ForConditionalGeneration", "MTModel")):
                found.setdefault(case.family, (case, end))
    return list(found.values())


SCORING = scoring()
REFUSED = {
    **dict.fromkeys(
        ("FSMT", "T5Gemma", "T5Gemma2", "EncoderDecoder", "Blt", "Inkling", "Inkling2", "CpmAnt"),
        "a vocabulary a side, or more rows than words",
    ),
    **dict.fromkeys(("DeepseekV4", "Qwen4Exp", "NeoMME"), "belongs to one vocabulary"),
}


def pair(name: str, end: str, folder: Path) -> tuple[Any, Any]:
    model = reference(ROWS[name], end)
    model.save_pretrained(folder)
    return model, getattr(multihead, ROWS[name].family + end).from_pretrained(folder)


@pytest.mark.parametrize(("case", "end"), SCORING, ids=[f"{c.family}{end}" for c, end in SCORING])
def test_resized_tables_keep_their_words_and_are_saved(case, end, tmp_path):
    reference(case, end).save_pretrained(tmp_path / "old")
    model = getattr(multihead, case.family + end).from_pretrained(tmp_path / "old")
    inputs = batch(case, end)
    with torch.no_grad():
        before = model(**inputs)[0]
        if case.family in REFUSED:
            with pytest.raises(UnsupportedOption, match=REFUSED[case.family]):
                model.resize_token_embeddings(WORDS + 5)
            return
        table = model.resize_token_embeddings(WORDS + 5)
        after = model(**inputs)[0]
    assert table is model.get_input_embeddings()
    assert (table.num_embeddings, model.config.vocab_size, after.shape[-1]) == (WORDS + 5,) * 3
    torch.testing.assert_close(after[..., :WORDS], before, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path / "new")
    theirs = case.peer(end).from_pretrained(tmp_path / "new", attn_implementation=case.backend)
    assert theirs.get_input_embeddings().weight.shape[0] == theirs.config.vocab_size == WORDS + 5
    real = torch.ones(after.shape[:2], dtype=torch.bool)
    if not case.reads_a_source(end):
        real = inputs["attention_mask"].bool()
    with torch.no_grad():
        again, expected = getattr(multihead, case.family + end).from_pretrained(tmp_path / "new"), theirs.eval()
        torch.testing.assert_close(again(**inputs)[0], after)
        torch.testing.assert_close(after[real], expected(**inputs)[0][real], rtol=1e-3, atol=1e-3)


def test_new_rows_are_the_mean_and_fewer_rows_are_the_first(tmp_path):
    _, model = pair("bert", "ForMaskedLM", tmp_path)
    old, bias = model.get_input_embeddings().weight.detach().clone(), model.head.bias.detach().clone()
    model.resize_token_embeddings(pad_to_multiple_of=64)
    table = model.get_input_embeddings()
    assert table.weight.shape == (128, 36)
    torch.testing.assert_close(table.weight[:WORDS], old)
    torch.testing.assert_close(table.weight[WORDS:], old.mean(0).expand(128 - WORDS, -1))
    torch.testing.assert_close(model.head.bias[WORDS:], bias.mean().expand(128 - WORDS))
    assert model.get_output_embeddings() is table
    model.resize_token_embeddings(40)
    assert torch.equal(table.weight, old[:40])
    assert model.resize_token_embeddings(40) is table
    assert model(torch.tensor([[39, 2]]), labels=torch.tensor([[39, 2]])).logits.shape == (1, 2, 40)
    with pytest.raises(InvalidInput, match="40 rows"):
        model(torch.tensor([[40, 2]]))


def test_resized_words_are_trained_and_written(tmp_path):
    _, model = pair("bart", "ForConditionalGeneration", tmp_path)
    model.resize_token_embeddings(WORDS + 3)
    assert model.backbone.encoder.embed.token is model.backbone.decoder.embed.token is model.get_output_embeddings()
    ids = torch.tensor([[WORDS + 2, 4, 5, 2]])
    model(ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad[WORDS + 2].abs().sum() > 0
    assert not model.head.bias.requires_grad
    assert model.generate(ids, max_new_tokens=4, forced_bos_token_id=WORDS + 1)[0, 1] == WORDS + 1


@pytest.mark.parametrize("words", [0, -3, 2.5, "9", True])
def test_other_numbers_of_words_are_refused(words, bert):
    with pytest.raises(InvalidInput, match="whole number"):
        AutoModelForMaskedLM.from_pretrained(bert).resize_token_embeddings(words)


def test_models_that_cannot_be_resized_say_so(bert, llama):
    prepared = AutoModelForCausalLM.from_pretrained(llama, precision="fp32")
    with pytest.raises(InvalidInput, match="prepared"):
        prepared.resize_token_embeddings(300)
    adapted = AutoModelForMaskedLM.from_pretrained(bert)
    adapted.add_adapter(multihead.LoraConfig(r=2))
    with pytest.raises(InvalidInput, match="before add_adapter"):
        adapted.resize_token_embeddings(300)
    two = multihead.AutoConfig.for_model(
        "marian", vocab_size=20, decoder_vocab_size=20, share_encoder_decoder_embeddings=False, d_model=8,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1, pad_token_id=0,
        encoder_ffn_dim=8, decoder_ffn_dim=8,
    )  # fmt: skip
    with pytest.raises(UnsupportedOption, match="a vocabulary a side"):
        AutoModelForSeq2SeqLM.from_config(two).resize_token_embeddings(30)


def test_another_table_is_read_and_scored_with(tmp_path):
    theirs, ours = pair("gpt2", "LMHeadModel", tmp_path)
    table = torch.nn.Embedding(WORDS, 36)
    for model in (theirs, ours):
        model.set_input_embeddings(table)
    theirs.tie_weights()
    assert ours.get_input_embeddings() is ours.get_output_embeddings() is table
    ids = torch.tensor([[4, 7, 9]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(InvalidInput, match=r"\[99, 36\]"):
        ours.set_input_embeddings(torch.nn.Embedding(WORDS + 1, 36))
    assert multihead.AutoModel.from_pretrained(tmp_path).get_output_embeddings() is None


def test_layers_are_computed_again_for_gradients_when_asked(tmp_path):
    _, model = pair("llama", "ForCausalLM", tmp_path)
    ids, runs = torch.tensor([[4, 7, 9, 3]]), []
    model.backbone.layers[0].register_forward_pre_hook(lambda *_: runs.append(1))
    plain = model.train()(ids, labels=ids)
    plain.loss.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    assert (len(runs), plain.past_key_values is None, model.is_gradient_checkpointing) == (1, False, False)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = model(ids, labels=ids)
    again.loss.backward()
    assert (len(runs), again.past_key_values) == (3, None)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(UnsupportedOption, match="determinism"):
        model.gradient_checkpointing_enable({"determinism": "none"})


def test_the_encoder_alone_gives_what_a_pass_takes(tmp_path):
    theirs, ours = pair("bart", "ForConditionalGeneration", tmp_path)
    inputs = batch(ROWS["bart"], "ForConditionalGeneration")
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    real = source["attention_mask"].bool()
    with torch.no_grad():
        read, expected = ours.get_encoder()(**source, output_hidden_states=True), theirs.get_encoder()(**source)
        torch.testing.assert_close(read[0][real], expected[0][real], rtol=1e-4, atol=1e-4)
        assert len(read.hidden_states) == 4
        target = {"attention_mask": source["attention_mask"], "decoder_input_ids": inputs["decoder_input_ids"]}
        whole = ours(**inputs).logits
        torch.testing.assert_close(ours(encoder_outputs=read, **target).logits, whole, rtol=1e-4, atol=1e-5)
    for parameter in ours.get_encoder().parameters():
        parameter.requires_grad = False
    assert not any(p.requires_grad for n, p in ours.named_parameters() if n.startswith("model.encoder."))
    assert all(p.requires_grad for p in ours.get_decoder().layers.parameters())
    with pytest.raises(TypeError, match="takes no labels"):
        ours.get_encoder()(**source, labels=source["input_ids"])


def test_models_know_whether_they_write(bert, llama, marian):
    assert AutoModelForCausalLM.from_pretrained(llama).can_generate()
    assert AutoModelForSeq2SeqLM.from_pretrained(marian).can_generate()
    assert not AutoModelForMaskedLM.from_pretrained(bert).can_generate()


def test_saving_as_pickles_is_refused(bert, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(bert)
    model.save_pretrained(tmp_path, safe_serialization=True)
    with pytest.raises(UnsupportedOption, match="safetensors alone"):
        model.save_pretrained(tmp_path, safe_serialization=False)


# The config of a model


def test_entries_that_are_read_in_a_call_can_be_set(llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.config.pad_token_id = 3
    model.config.use_cache = False
    ids = torch.tensor([[4, 7, 9]])
    assert model(ids).past_key_values is None
    assert model(ids, use_cache=True).past_key_values is not None
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).config
    assert (again.pad_token_id, again.use_cache) == (3, False)


def test_a_pad_that_is_set_is_what_a_classifier_passes_over(tmp_path):
    theirs, ours = pair("gpt2", "ForSequenceClassification", tmp_path)
    ids = torch.tensor([[4, 7, 9, 3, 3], [5, 6, 7, 8, 3]])
    for model in (theirs, ours):
        model.config.pad_token_id = 3
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_labels_can_be_named_but_not_counted_anew(classifier):
    config = multihead.AutoModelForSequenceClassification.from_pretrained(classifier).config
    config.id2label = {"0": "A", "1": "B", "2": "C"}
    assert config.id2label == {0: "A", 1: "B", 2: "C"}
    with pytest.raises(UnsupportedOption, match=r"from_pretrained\(\.\.\., num_labels=2\)"):
        config.id2label = {0: "A", 1: "B"}
    with pytest.raises(UnsupportedConfig, match="problem_type"):
        config.problem_type = "guessing"
    with pytest.raises(UnsupportedConfig, match="pad_token_id"):
        config.pad_token_id = "0"


@pytest.mark.parametrize(
    "name", ["hidden_size", "num_labels", "num_attention_heads", "hidden_dropout_prob", "nonsense"]
)
def test_what_layers_were_built_from_is_not_set(bert, name):
    config = multihead.AutoConfig.from_pretrained(bert)
    before = config.to_dict()
    with pytest.raises(UnsupportedOption, match=rf"from_pretrained\(\.\.\., {name}=7\)"):
        setattr(config, name, 7)
    assert config.to_dict() == before


# What a config says of passes


def test_a_pass_shows_what_the_config_asks_for(bert, marian):
    ids = torch.tensor([[2, 9, 14, 3]])
    model = AutoModelForMaskedLM.from_pretrained(bert, output_hidden_states=True, output_attentions=True)
    shown = model(ids)
    assert (len(shown.hidden_states), len(shown.attentions)) == (3, 2)
    assert model(ids, output_hidden_states=False).hidden_states is None
    assert AutoModelForMaskedLM.from_pretrained(bert)(ids).hidden_states is None
    pair = AutoModelForSeq2SeqLM.from_pretrained(marian, output_hidden_states=True)
    assert len(pair(ids, decoder_input_ids=ids).encoder_hidden_states) == 3
    assert isinstance(AutoModelForMaskedLM.from_pretrained(bert, return_dict=False)(ids), tuple)
    assert pair.config.to_dict()["output_hidden_states"] is True
