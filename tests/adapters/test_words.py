"""Adapters of the peft library that bring whole modules: word tables of another size, parts by ends of their names."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers

import multihead
from multihead.errors import CheckpointMismatch, UnsupportedOption

IDS = torch.tensor([[5, 6, 7, 8]])
SIZES = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "num_key_value_heads": 1, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["apart", "tied"])
def base(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(**SIZES, tie_word_embeddings=request.param)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def theirs(base, folder, words=None, **options):
    """What a model of the peft library with an adapter scores, whose files are in `folder`."""
    model = transformers.LlamaForCausalLM.from_pretrained(base)
    if words:
        model.resize_token_embeddings(words)
    given = peft.LoraConfig(**{"target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options})
    model = peft.get_peft_model(model, given).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        scores = model(IDS).logits
    model.save_pretrained(folder)
    return scores


@pytest.mark.parametrize("words", [46, 34])
def test_a_resized_vocabulary_comes_with_its_adapter(base, tmp_path, words):
    wanted = theirs(base, tmp_path / "a", words)
    with pytest.warns(UserWarning, match=f"vocabulary of {words} words; the base had 40"):
        model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    torch.testing.assert_close(model(IDS).logits, wanted, rtol=1e-5, atol=1e-5)
    resized = multihead.AutoModelForCausalLM.from_pretrained(base)
    resized.resize_token_embeddings(words)
    resized.load_adapter(tmp_path / "a")
    torch.testing.assert_close(resized(IDS).logits, wanted, rtol=1e-5, atol=1e-5)
    model.save_adapter(tmp_path / "b")
    with pytest.warns(UserWarning, match="vocabulary"):
        again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    torch.testing.assert_close(again(IDS).logits, wanted, rtol=1e-5, atol=1e-5)


def test_new_words_are_written_with_an_adapter_of_our_own(base, tmp_path):
    torch.manual_seed(2)
    model = multihead.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(45)
    model.add_adapter(multihead.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.eval().save_adapter(tmp_path)
    again = multihead.AutoModelForCausalLM.from_pretrained(base)
    again.resize_token_embeddings(45)
    again.load_adapter(tmp_path)
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits)
    other = transformers.LlamaForCausalLM.from_pretrained(base)
    other.resize_token_embeddings(45)
    scores = peft.PeftModel.from_pretrained(other, tmp_path).eval()(IDS).logits
    torch.testing.assert_close(scores, model(IDS).logits, rtol=1e-5, atol=1e-5)


def test_a_file_that_does_not_fit_leaves_the_vocabulary_as_it_was(base, tmp_path):
    theirs(base, tmp_path, 46, rank_pattern={"q_proj": 4})
    text = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(text.replace('"q_proj": 4', '"q_proj": 3'))
    model = multihead.AutoModelForCausalLM.from_pretrained(base)
    before = model(IDS).logits
    with pytest.warns(UserWarning, match="vocabulary"), pytest.raises(CheckpointMismatch):
        model.load_adapter(tmp_path)
    assert torch.equal(model(IDS).logits, before)


@pytest.mark.parametrize("names", [["norm"], ["layernorm"], ["head"], ["embed_tokens", "norm"], ["self_attn.o_proj"]])
def test_parts_are_named_by_the_ends_of_their_paths(base, tmp_path, names):
    tied = transformers.AutoConfig.from_pretrained(base).tie_word_embeddings
    wanted = theirs(base, tmp_path, modules_to_save=names)
    if tied and {"head", "embed_tokens"} & {*names}:
        with pytest.raises((UnsupportedOption, CheckpointMismatch)):
            multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        return
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(model(IDS).logits, wanted, rtol=1e-5, atol=1e-5)
    own = multihead.AutoModelForCausalLM.from_pretrained(base)
    own.add_adapter(multihead.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=names))
    assert {*own.adapters.copies["default"]} == {*model.adapters.copies["default"]}


@pytest.mark.parametrize("words", [None, 46], ids=["same", "resized"])
@pytest.mark.parametrize("parts", [["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"], "lora"])
def test_tables_of_their_own_come_with_the_bases_beside_them(base, tmp_path, words, parts):
    tied = transformers.AutoConfig.from_pretrained(base).tie_word_embeddings
    options = {"target_modules": ["q_proj", "lm_head"]} if parts == "lora" else {"modules_to_save": parts}
    wanted = theirs(base, tmp_path / "a", words, **options)
    if tied:
        with pytest.raises((UnsupportedOption, CheckpointMismatch), match="tie_word_embeddings=False"):
            multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    apart = {"tie_word_embeddings": False}
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "a", **apart)
    torch.testing.assert_close(model(IDS).logits, wanted, rtol=1e-5, atol=1e-6)
    model.save_adapter(tmp_path / "b")
    again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "b", **apart)
    torch.testing.assert_close(again(IDS).logits, wanted, rtol=1e-5, atol=1e-6)
    sized = multihead.AutoModelForCausalLM.from_pretrained(base, **apart)
    other = transformers.LlamaForCausalLM.from_pretrained(base)
    if words:
        sized.resize_token_embeddings(words)
        torch.nn.init.normal_(sized.get_output_embeddings().weight)
        sized.load_adapter(tmp_path / "b")
        torch.testing.assert_close(sized(IDS).logits, wanted, rtol=1e-5, atol=1e-6)
        other.resize_token_embeddings(words)
    if tied:
        return
    scores = peft.PeftModel.from_pretrained(other, tmp_path / "b").eval()(IDS).logits
    torch.testing.assert_close(scores, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("words", [None, 46])
@pytest.mark.parametrize("names", [["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_one_side_of_a_shared_table_is_refused_with_advice_that_works(tmp_path, names, words):
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, tie_word_embeddings=True)).save_pretrained(tmp_path)
    wanted = theirs(tmp_path, tmp_path / "a", words, modules_to_save=names)
    with pytest.raises(UnsupportedOption, match="merge_and_unload"):
        multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    if words:
        base.resize_token_embeddings(words)
    peft.PeftModel.from_pretrained(base, tmp_path / "a").merge_and_unload().save_pretrained(tmp_path / "merged")
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(model(IDS).logits, wanted, rtol=1e-5, atol=1e-5)


def test_a_table_that_several_sides_read_is_not_trained_by_an_adapter(tmp_path):
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0))
    model.save_pretrained(tmp_path / "base")
    given = peft.LoraConfig(target_modules=["q"], modules_to_save=["shared"])
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "base")
    peft.get_peft_model(model, given).save_pretrained(tmp_path / "a")
    for apart in ({}, {"tie_word_embeddings": False}):  # peft's own model does not read such a copy
        with pytest.raises(UnsupportedOption, match=r"read in . places"):
            multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "a", **apart)
