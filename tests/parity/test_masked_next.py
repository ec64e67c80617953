"""Texts of models that predict the next token at a mask behind them: XLNet, XLM and FlauBERT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput, TextTooLong, UnsupportedConfig, UnsupportedOption
from multihead.generation.engine.scheduler import Engine

from ..tokenizers import folders
from ..tokenizers.test_parity import XLNET as PIECES
from .case import WORDS

FREE = {"max_new_tokens": 9, "output_scores": True, "return_dict_in_generate": True}
WAYS = {
    "greedy": {"do_sample": False},
    "drawn": {"do_sample": True, "top_k": 20},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
}


def xlnet(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40}
    return transformers.XLNetConfig(**{**sizes, "pad_token_id": 0, **changes})


def xlm(kind: str = "XLM", **changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_langs": 3, "lang_id": 2}
    return getattr(transformers, f"{kind}Config")(
        **{**sizes, "mask_token_id": 5, "max_position_embeddings": 20, **changes}
    )


CONFIGS = {
    "xlnet": lambda: xlnet(mem_len=None),
    "xlnet-short-memory": lambda: xlnet(mem_len=6, clamp_len=4),
    "xlnet-without-memory": lambda: xlnet(use_mems_eval=False),
    "xlnet-one-way": lambda: xlnet(attn_type="uni"),
    "xlm": xlm,
    "xlm-one-way": lambda: xlm(causal=True, n_langs=1, lang_id=0, eos_token_id=None),
}


def both(config: Any, folder: Any) -> tuple[Any, Any]:
    stem = type(config).__name__.removesuffix("Config")
    name = "XLNetLMHeadModel" if stem == "XLNet" else f"{stem}WithLMHeadModel"
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.3, 0.3)
    model.save_pretrained(folder)
    return multihead.AutoModelForCausalLM.from_pretrained(folder), model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONFIGS)
def test_texts_and_scores_are_the_references(name, way, tmp_path):
    config = CONFIGS[name]()
    mine, model = both(config, tmp_path)
    assert mine.can_generate()
    for length in (1, 9):
        # the reference reads one text at a time where tokens see no later ones
        ids = torch.randint(6, WORDS, (1 if name == "xlnet-one-way" else 3, length))
        if name == "xlnet-one-way" and way == "beams":
            continue
        torch.manual_seed(3)
        expected = model.generate(ids, pad_token_id=config.pad_token_id, **FREE, **WAYS[way])
        torch.manual_seed(3)
        got = mine.generate(ids, **FREE, **WAYS[way])
        assert torch.equal(got.sequences, expected.sequences)
        for one, other in zip(got.scores, expected.scores, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_flaubert_writes_what_the_reference_predicts_at_the_mask(tmp_path):
    """The reference's own `generate` fails in its cache."""
    mine, model = both(xlm("Flaubert", n_langs=1, lang_id=0, eos_token_id=None), tmp_path)
    ids = torch.randint(6, WORDS, (2, 4))
    got = mine.generate(ids, max_new_tokens=6)
    for _ in range(6):
        masked = torch.cat([ids, torch.full((2, 1), 5)], 1)
        ids = torch.cat([ids, model(masked, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(got, ids)


@pytest.mark.parametrize("name", ["xlnet", "xlnet-short-memory", "xlm"])
def test_a_text_does_not_depend_on_those_beside_it(name, tmp_path):
    mine, _ = both(CONFIGS[name](), tmp_path)
    texts = [torch.randint(6, WORDS, (length,)).tolist() for length in (8, 3, 1)]
    alone = [mine.generate([text], max_new_tokens=7)[0, len(text) :].tolist() for text in texts]
    together = mine.generate(texts, max_new_tokens=7)
    assert together[:, 8:].tolist() == alone


@pytest.mark.parametrize("name", ["xlnet", "xlm"])
def test_a_prepared_model_writes_the_same(name, tmp_path):
    mine, _ = both(CONFIGS[name](), tmp_path)
    ids = torch.randint(6, WORDS, (3, 9))
    expected = mine.generate(ids, **FREE)
    got = mine.prepare("fp32").generate(ids, **FREE)
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(got.scores[5], expected.scores[5], rtol=1e-3, atol=1e-3)


def test_positions_are_counted_with_the_mask(tmp_path):
    mine, model = both(xlm(eos_token_id=None), tmp_path)
    ids = torch.randint(6, WORDS, (1, 8))
    assert torch.equal(mine.generate(ids, max_new_tokens=12), model.generate(ids, max_new_tokens=12, do_sample=False))
    with pytest.raises(TextTooLong, match="19 positions"):
        mine.generate(ids, max_new_tokens=13)


@pytest.mark.parametrize(
    "options", [{"prompt_lookup_num_tokens": 2}, {"penalty_alpha": 0.5, "top_k": 4}, {"output_hidden_states": True}]
)
def test_what_needs_more_than_the_next_scores_is_refused(options, tmp_path):
    mine, _ = both(xlnet(), tmp_path)
    with pytest.raises(UnsupportedOption, match=f"{next(iter(options))} needs more"):
        mine.generate(torch.tensor([[7, 8]]), **options)
    with pytest.raises(UnsupportedOption, match="assistant_model needs more"):
        mine.generate(torch.tensor([[7, 8]]), assistant_model=mine)


@pytest.mark.parametrize(
    "make", [lambda: xlnet(reuse_len=4), lambda: xlm(mask_token_id=None), lambda: xlm(mask_token_id=2)]
)
def test_configs_that_hinder_writing_are_named(make, tmp_path):
    mine, _ = both(make(), tmp_path)
    assert not mine.can_generate()
    with pytest.raises(UnsupportedConfig, match=r"reuse_len|mask_token_id"):
        mine.generate(torch.tensor([[7, 8]]))


def test_a_limited_cache_is_refused_where_texts_cannot_be_read_again(tmp_path):
    mine, _ = both(xlnet(), tmp_path)
    with pytest.raises(InvalidInput, match="limited KV cache"):
        Engine(mine, memory=1 << 20)


def test_a_short_prompt_of_xlnet_comes_after_a_long_text(tmp_path):
    both(xlnet(mem_len=None, vocab_size=400), tmp_path)
    folders.pieces(tmp_path, "spiece.model", "XLNet", train=PIECES)
    ours, theirs = (kind.pipeline("text-generation", str(tmp_path)) for kind in (multihead, transformers))
    options = {"max_new_tokens": 4, "do_sample": False}
    for given in ({}, {"prefix": "The fox. "}, {"return_full_text": False}):
        assert ours(["The dog", "A"], **options, **given) == theirs(["The dog", "A"], **options, **given)
    assert ours("A", return_tensors=True, **options)[0]["generated_token_ids"].shape[0] > 100
