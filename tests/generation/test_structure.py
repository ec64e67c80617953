"""Texts of a given form have it, whatever the model would rather say."""

from __future__ import annotations

import json
import re

import pytest
import torch

import tokenizers
from multihead import AutoModelForCausalLM, GenerationConfig, LlamaConfig
from multihead.errors import InvalidInput, UnsupportedTokenizer
from multihead.tokenizers.tokenizer import Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "likes": {"type": "array", "items": {"enum": ["tea", "käse", "日本"]}, "maxItems": 3},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
TEXTS = ['{"name": "Anna", "age": 42, "likes": ["tea", "käse"]}', "yes, no and maybe; 12 + 34 = 46", "日本 tea"] * 3


def byte_level():
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>"})


def byte_fallback():
    """As Llama 2 and other SentencePiece models cut texts."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<s>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps)
    rows = ["<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *'▁{}[]":,abcdefghijklmnopqrstuvwxyz0123456789']
    merges = [("t", "e"), ("te", "a"), ("y", "e"), ('"', ",")]
    rows += ["".join(pair) for pair in merges]
    vocabulary = {row: i for i, row in enumerate(rows)}
    backend.model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<s>")
    backend.add_special_tokens(["<s>", "</s>"])
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.fixture(scope="module", params=[byte_level, byte_fallback])
def pair(request):
    """A tokenizer and a model that says anything; it scores some tokens more than there are."""
    tokenizer = request.param()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.backend.get_vocab_size() + 7, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2)
    return model, tokenizer


def said(pair, **options):
    model, tokenizer = pair
    out = model.generate(torch.tensor([[0, 5, 9]]), **{"tokenizer": tokenizer, "max_new_tokens": 400, **options})
    return [tokenizer.decode(row[3:], skip_special_tokens=True) for row in out]


def choice(count):
    return "start: " + " | ".join(f'"{number}"' for number in range(count))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "seed": 1, "num_return_sequences": 4},
        {"do_sample": True, "seed": 2, "temperature": 3.0, "top_p": 0.9, "num_return_sequences": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"prompt_lookup_num_tokens": 4},
        {"repetition_penalty": 1.5},
        {"penalty_alpha": 0.5, "top_k": 3},
    ],
)
def test_every_text_fits_the_schema(pair, options):
    for text in said(pair, json_schema=PERSON, **options):
        found = json.loads(text)
        assert set(found) == {"name", "age", "likes"}
        assert isinstance(found["name"], str)
        assert len(found["name"]) <= 8
        assert isinstance(found["age"], int)
        assert 0 <= found["age"] <= 130
        assert len(found["likes"]) <= 3
        assert set(found["likes"]) <= {"tea", "käse", "日本"}


@pytest.mark.parametrize("pattern", [r"(yes|no), [0-9]{3}", r"[a-f]{4,9}!", r"\{[日本]{2}\}", r"x"])
def test_every_text_matches_the_pattern(pair, pattern):
    texts = said(pair, regex=pattern) + said(pair, regex=pattern, do_sample=True, seed=4, num_return_sequences=5)
    assert all(re.fullmatch(pattern, text) for text in texts), texts


def test_every_text_follows_the_grammar(pair):
    grammar = """
        start: sum " = " NUMBER
        sum: NUMBER (" + " NUMBER)+
        NUMBER: /[1-9][0-9]?/
    """
    for text in said(pair, grammar=grammar, do_sample=True, seed=4, num_return_sequences=5, top_k=0):
        assert re.fullmatch(r"[1-9]\d?( \+ [1-9]\d?)+ = [1-9]\d?", text) or len(text) > 60  # cut at its limit


def test_every_text_follows_a_grammar_in_gbnf(pair):
    grammar = """
        root ::= number (" + " number)+ " = " number  # as llama.cpp's clients send it
        number ::= [1-9] [0-9]?
    """
    for text in said(pair, grammar=grammar, do_sample=True, seed=4, num_return_sequences=5, top_k=0):
        assert re.fullmatch(r"[1-9]\d?( \+ [1-9]\d?)+ = [1-9]\d?", text) or len(text) > 60  # cut at its limit


def test_one_of_many_texts(pair):
    (text,) = said(pair, grammar=choice(3000))
    assert text in map(str, range(3000))


def test_texts_of_a_batch_keep_to_their_own(pair):
    model, tokenizer = pair
    ids = torch.tensor([[0, 5, 9], [0, 7, 30], [0, 60, 61]])
    options = {"tokenizer": tokenizer, "json_schema": PERSON, "max_new_tokens": 160}
    together = model.generate(ids, **options).tolist()
    for row, text in zip(ids, together, strict=True):
        alone = model.generate(row[None], **options)[0].tolist()
        assert text[: len(alone)] == alone


def test_a_draft_changes_nothing(pair):
    model, _ = pair
    plain = said(pair, json_schema=PERSON)
    assert said(pair, json_schema=PERSON, assistant_model=model) == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, "describes no text: Unsatisfiable"),
        ({"json_schema": {"type": "nonsense"}}, "Invalid type"),
        ({"json_schema": {"$ref": "#"}}, "nothing can begin it"),
        ({"grammar": 'start: start "a"'}, "nothing can begin it"),
        ({"grammar": choice(21_000)}, "is too large: .*max is 20000"),
        ({"json_schema": "{"}, "not JSON"),
        ({"json_schema": 5}, "must be a JSON schema"),
        ({"regex": "("}, "unclosed group"),
        ({"grammar": "start: missing"}, "missing"),
        ({"grammar": "root ::= missing"}, "MISSING|missing"),
        ({"grammar": "root ::= (" * 2}, "grammar"),
        ({"grammar": "root ::= " + "(" * 30_000}, "grammar"),
        ({"regex": "a", "grammar": 'start: "a"'}, "two forms"),
        ({"regex": "a", "tokenizer": None}, "tokenizer"),
        ({"regex": "a", "eos_token_id": []}, "eos_token_id"),
        ({"regex": "aaaa", "suppress_tokens": [*range(2, 300)]}, "ban every one"),
    ],
)
def test_forms_that_cannot_be_are_refused(pair, options, message):
    with pytest.raises(InvalidInput, match=message):
        said(pair, **options)


def test_a_tokenizer_whose_tokens_are_no_text_is_refused(pair):
    class Strange:
        class backend:
            @staticmethod
            def to_str():
                return "{}"

    with pytest.raises(UnsupportedTokenizer, match="piece by piece"):
        pair[0].generate(torch.tensor([[0, 5]]), tokenizer=Strange(), regex="a", max_new_tokens=3)


def test_forms_are_kept_in_the_file(tmp_path):
    GenerationConfig(json_schema=PERSON).save_pretrained(tmp_path)
    found = json.loads((tmp_path / "generation_config.json").read_text())
    assert GenerationConfig.read(found).json_schema == PERSON
