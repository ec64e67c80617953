"""FSMT beyond its parity rows: files with one of two tables, and translations."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multihead
from tests.tokenizers.test_moses import fsmt as tokenizer_folder

from .case import reference
from .cases.older_pairs import CASES


@pytest.mark.parametrize("lost", ["output_projection", "embed_tokens"])
def test_a_file_that_keeps_the_targets_words_once_reads_them_twice(tmp_path, lost):
    reference(CASES[0], "ForConditionalGeneration").save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    stored = {name: tensor for name, tensor in stored.items() if name != f"model.decoder.{lost}.weight"}
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    model = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert torch.equal(model.head.table.weight, model.backbone.decoder.embed.token.weight)
    assert not torch.equal(model.head.table.weight[:99], model.backbone.encoder.embed.token.weight)


def test_translations_are_what_the_reference_generates(tmp_path):
    folder = tokenizer_folder(tmp_path, ("en", "de"))
    sizes = {f"{s}_vocab_size": len(json.loads((folder / f"vocab-{s}.json").read_text())) for s in ("src", "tgt")}
    shape = dict.fromkeys(("encoder_layers", "decoder_layers"), 2)
    shape |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4)
    config = transformers.FSMTConfig(**sizes, **shape, d_model=32, encoder_ffn_dim=48, decoder_ffn_dim=48)
    torch.manual_seed(1)
    theirs = transformers.FSMTForConditionalGeneration(config).eval()
    for name, parameter in theirs.named_parameters():
        if "embed_positions" not in name:
            parameter.data.normal_(0.0, 0.6)
    theirs.save_pretrained(folder)
    read = transformers.AutoTokenizer.from_pretrained(folder)
    translate = multihead.pipeline("translation", model=str(folder))
    texts = ["The quick brown fox jumps over the lazy dog.", "In 1969, 21.5 kilograms of rock came back"]
    for text in texts:
        ids = theirs.generate(**read(text, return_tensors="pt"), max_length=24)[0]  # five beams, as the class says
        expected = read.decode(ids, skip_special_tokens=True)
        assert translate(text, max_length=24, protect_words=False)[0]["translation_text"] == expected
        assert len(set(expected)) > 2
