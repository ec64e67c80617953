"""Files as they were before the reference renamed entries, and what only a few families do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multihead
from multihead.modeling.fill_weights import NewWeights

from .case import batch, reference
from .cases import CASES

ROWS = {case.name: case for case in CASES}


def saved(name: str, end: str, folder: Path) -> Any:
    model = reference(ROWS[name], end)
    model.save_pretrained(folder)
    return model


def rewritten(folder: Path, entries: Any) -> None:
    """Changes a folder's config.json."""
    config = folder / "config.json"
    config.write_text(json.dumps(entries(json.loads(config.read_text()))))


def test_nomic_bert_with_the_entries_of_its_first_files(tmp_path):
    model = saved("nomic-bert-first-token", "Model", tmp_path)

    def entries(now: dict[str, Any]) -> dict[str, Any]:
        old = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
               "n_inner": "intermediate_size", "layer_norm_epsilon": "layer_norm_eps"}  # fmt: skip
        kept = {k: now[k] for k in ("model_type", "vocab_size", "type_vocab_size", "pad_token_id")}
        said = {"activation_function": "swiglu", "prenorm": False, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0}
        return {**kept, **{name: now[today] for name, today in old.items()}, **said}

    rewritten(tmp_path, entries)
    inputs = batch(ROWS["nomic-bert"], "Model")
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        got, expected = multihead.AutoModel.from_pretrained(tmp_path)(**inputs)[0], model(**inputs)[0]
    torch.testing.assert_close(got[real], expected[real])


def test_nomic_bert_refuses_what_its_first_files_may_say_and_nobody_computes(tmp_path):
    with pytest.raises(multihead.errors.UnsupportedConfig, match="activation_function 'geglu'"):
        multihead.NomicBertConfig.read({"n_embd": 36, "activation_function": "geglu"})


def test_falcon_40b_with_the_entries_of_its_first_files(tmp_path):
    model = saved("falcon-new", "ForCausalLM", tmp_path)

    def entries(now: dict[str, Any]) -> dict[str, Any]:
        old = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_head_kv": "num_kv_heads"}
        kept = {k: now[k] for k in ("vocab_size", "hidden_size", "bias", "bos_token_id", "eos_token_id", "alibi")}
        said = {"model_type": "RefinedWeb", "architectures": ["RWForCausalLM"], "parallel_attn": True}
        return {**kept, **{name: now[today] for name, today in old.items()}, **said}

    rewritten(tmp_path, entries)
    inputs = batch(ROWS["falcon-new"], "ForCausalLM")
    real = inputs["attention_mask"].bool()
    again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path / "again")
    for folder in (tmp_path, tmp_path / "again"):
        with torch.no_grad():
            got = multihead.AutoModelForCausalLM.from_pretrained(folder)(**inputs).logits
            torch.testing.assert_close(got[real], model(**inputs).logits[real])


@pytest.mark.parametrize("name", ["esm-1b", "esm-2"])
def test_contacts_of_residues_equal_the_reference(name, tmp_path):
    model = saved(name, "ForMaskedLM", tmp_path)
    inputs = batch(ROWS[name], "ForMaskedLM")
    inputs["input_ids"][:, 5] = 2  # an end token within
    with torch.no_grad():
        expected = model.predict_contacts(inputs["input_ids"], inputs["attention_mask"])
        got = multihead.EsmForMaskedLM.from_pretrained(tmp_path).predict_contacts(
            inputs["input_ids"], inputs["attention_mask"]
        )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_splinter_answers_at_the_positions_it_is_given(tmp_path):
    case = ROWS["splinter-pretraining"]
    model = saved(case.name, "ForPreTraining", tmp_path)
    inputs = batch(case, "ForPreTraining", lengths=(9, 6, 4))
    where = torch.tensor([[2, 8], [5, 1], [0, 3]])
    labels = {
        "start_positions": torch.tensor([[2, 0], [3, 3], [1, 2]]),
        "end_positions": torch.tensor([[4, 0], [3, 5], [1, 3]]),
    }
    mine = multihead.SplinterForPreTraining.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**inputs, question_positions=where, **{k: v.clone() for k, v in labels.items()})
        got = mine(**inputs, question_positions=where, **labels)
    for name in ("start_logits", "end_logits"):
        seen = got[name] > torch.finfo(torch.float32).min
        torch.testing.assert_close(got[name][seen], expected[name][seen], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-4, atol=1e-4)
    with pytest.raises(multihead.errors.InvalidInput, match="0 to 8"):
        mine(**inputs, question_positions=where + 1)


def test_deberta_reads_the_word_head_that_is_stored(tmp_path):
    """Microsoft's files keep it under a name of their own, and a detector's head beside it, and do not say so."""
    model = saved("deberta-own-word-head", "ForMaskedLM", tmp_path)
    rewritten(tmp_path, lambda now: {k: v for k, v in now.items() if k != "legacy"})
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "mask_predictions.dense.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    inputs = batch(ROWS["deberta-own-word-head"], "ForMaskedLM", lengths=(9, 9, 9))
    with torch.no_grad():
        got, expected = multihead.AutoModelForMaskedLM.from_pretrained(tmp_path)(**inputs), model(**inputs)
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert multihead.AutoModel.from_pretrained(tmp_path)(**inputs).last_hidden_state.shape == (3, 9, 36)


def test_a_pair_of_two_checkpoints_reads_and_writes_as_the_references(tmp_path):
    """The decoder's attention to the source is new: given the same values, the numbers are the same."""
    bert, gpt2 = (reference(ROWS[name], end) for name, end in (("bert", "Model"), ("gpt2", "LMHeadModel")))
    bert.save_pretrained(tmp_path / "source")
    gpt2.save_pretrained(tmp_path / "target")
    sides = (tmp_path / "source", tmp_path / "target")
    with pytest.warns(NewWeights, match="crossattention"):
        ours = multihead.EncoderDecoderModel.from_encoder_decoder_pretrained(*map(str, sides))
    ours.save_pretrained(tmp_path / "pair")
    theirs = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "pair").eval()
    ids, target = torch.randint(1, 98, (2, 7)), torch.randint(1, 98, (2, 5))
    with torch.no_grad():
        got, expected = (model(input_ids=ids, decoder_input_ids=target).logits for model in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(multihead.errors.UnsupportedOption, match="EncoderDecoderModel"):
        multihead.T5ForConditionalGeneration.from_encoder_decoder_pretrained(*map(str, sides))


@pytest.mark.parametrize(("name", "family"), [("gpt2", "GPT2"), ("gpt", "OpenAIGPT")])
def test_two_heads_at_once_equal_the_reference(name, family, tmp_path):
    model = saved(name, "DoubleHeadsModel", tmp_path)
    mine = getattr(multihead, f"{family}DoubleHeadsModel").from_pretrained(tmp_path)
    ids = torch.randint(1, 98, (2, 3, 7))
    inputs = {"input_ids": ids, "mc_token_ids": torch.tensor([[6, 2, 3], [0, 5, 6]])}
    labels = {"labels": ids, "mc_labels": torch.tensor([2, 0])}
    with torch.no_grad():
        got, expected = mine(**inputs, **labels), model(**inputs, **labels)
    for one in ("logits", "mc_logits", "loss", "mc_loss"):
        torch.testing.assert_close(got[one], expected[one], rtol=1e-4, atol=1e-5)
    mine.save_pretrained(tmp_path / "again")
    again = type(model).from_pretrained(tmp_path / "again").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).mc_logits, model(**inputs).mc_logits)


def test_a_t5_with_another_table_for_a_side_reads_both_whatever_it_says_of_scores(tmp_path):
    saved("t5-own-scores", "ForConditionalGeneration", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    copy = tensors["shared.weight"].clone()
    save_file({**tensors, "encoder.embed_tokens.weight": copy}, tmp_path / "model.safetensors")
    same = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert not same.config.tie_word_embeddings
    assert len(same.word_tables()) == 1
    save_file({**tensors, "encoder.embed_tokens.weight": copy + 1}, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match=r"encoder\.embed_tokens\.weight.* not tied"):
        source, target = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).word_tables()
    assert torch.equal(source.weight, copy + 1)
    assert torch.equal(target.weight, copy)
