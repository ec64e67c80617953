"""Guesses read ahead change nothing but the time: the same tokens without draws, the same distribution with them."""

from __future__ import annotations

import shutil

import pytest
import torch
from scipy.stats import chisquare

import multihead
from multihead import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from multihead.errors import InvalidInput
from multihead.generation.strategies.speculative import lookup_tokens

from ..parity.case import reference
from ..parity.cases import CASES

ROWS = {case.name: case for case in CASES}
END = {"eos_token_id": [3], "pad_token_id": 1, "max_new_tokens": 24}


def built(name, folder, end="ForCausalLM", seed=0):
    reference(ROWS[name], end, seed).save_pretrained(folder)
    kind = AutoModelForSeq2SeqLM if end == "ForConditionalGeneration" else AutoModelForCausalLM
    return kind.from_pretrained(folder)


FAMILIES = ["llama", "mistral", "mixtral", "bloom", "mamba", "minimax", "t5", "bart-untied"]


@pytest.fixture(scope="module", params=FAMILIES)
def models(request, tmp_path_factory):
    """A model, one with nearly its weights, and a stranger."""
    end = "ForConditionalGeneration" if request.param in ("t5", "bart-untied") else "ForCausalLM"
    folder = tmp_path_factory.mktemp("guesses")
    model, other = built(request.param, folder / "a", end), built(request.param, folder / "b", end, seed=1)
    near = built(request.param, folder / "a", end)
    with torch.no_grad():
        for mine, its in zip(near.parameters(), other.parameters(), strict=True):
            mine.add_(its, alpha=0.02)
    return model, near, other


@pytest.fixture(scope="module")
def without_draft(models):
    """Returns the tokens of the model alone for some settings, computed once."""
    known = {}

    def tokens(settings):
        if repr(settings) not in known:
            known[repr(settings)] = models[0].generate(**texts(), **settings).tolist()
        return known[repr(settings)]

    return tokens


def texts(lengths=(9, 4, 12)):
    torch.manual_seed(3)
    ids = torch.randint(4, 90, (len(lengths), max(lengths)))
    mask = torch.stack([(torch.arange(max(lengths)) >= max(lengths) - n).long() for n in lengths])
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "num_assistant_tokens": 3,
            "num_assistant_tokens_schedule": "heuristic",
            "assistant_confidence_threshold": 0.0,
        },
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 20},
        {"guidance_scale": 1.4},
    ],
    ids=["plain", "heuristic", "ruled", "guided"],
)
@pytest.mark.parametrize("draft", [0, 1, 2], ids=["itself", "near", "stranger"])
def test_a_draft_changes_no_token(models, without_draft, draft, options):
    settings = {**END, **options}
    expected = without_draft({name: value for name, value in settings.items() if "assistant" not in name})
    got = models[0].generate(**texts(), assistant_model=models[draft], **settings)
    assert got.tolist() == expected


@pytest.mark.parametrize("count", [1, 5, 40])
def test_a_lookup_changes_no_token(models, count):
    inputs = texts()
    inputs["input_ids"] = inputs["input_ids"] % 5 + 4 * inputs["attention_mask"]  # runs that come again
    expected = models[0].generate(**inputs, **END)
    got = models[0].generate(**inputs, **END, prompt_lookup_num_tokens=count, max_matching_ngram_size=3)
    assert got.tolist() == expected.tolist()


def test_a_draft_that_is_right_saves_passes(models):
    model = models[0]
    passes, read = [0], model.read

    def counted(*args, **options):
        passes[0] += 1
        return read(*args, **options)

    draft = models[1]
    with torch.no_grad():
        for mine, its in zip(draft.parameters(), model.parameters(), strict=True):
            mine.copy_(its)
    model.read = counted
    try:
        settings = {"max_new_tokens": 24, "eos_token_id": None, "assistant_confidence_threshold": 0.0}
        model.generate(texts()["input_ids"][:1], assistant_model=draft, num_assistant_tokens=7, **settings)
    finally:
        del model.read
    assert passes[0] <= 5


def frequencies(draws, count=96):
    return torch.tensor([(draws == token).sum().item() for token in range(count)], dtype=torch.double)


@pytest.mark.parametrize("way", ["near", "stranger", "lookup"])
def test_draws_with_guesses_follow_the_models_own_distribution(tmp_path, way):
    model, draft = built("llama", tmp_path / "a"), built("llama", tmp_path / "b", seed=1 if way == "stranger" else 0)
    if way == "near":
        with torch.no_grad():
            for parameter in draft.parameters():
                parameter.mul_(1.05)
    ids = torch.tensor([[5, 9, 14, 5, 9, 14, 5, 9]])
    settings = {"do_sample": True, "top_k": 5, "temperature": 1.3, "max_new_tokens": 2, "eos_token_id": None}
    guess = {"prompt_lookup_num_tokens": 2} if way == "lookup" else {
        "assistant_model": draft, "num_assistant_tokens": 2, "assistant_confidence_threshold": 0.0}  # fmt: skip
    drawn = torch.cat([model.generate(ids.repeat(500, 1), seed=500 * i, **settings, **guess) for i in range(6)])
    first = model(ids).logits[0, -1].detach() / 1.3
    best = first.topk(5)
    chance = torch.zeros(96, dtype=torch.double).index_put((best.indices,), best.values.double().softmax(-1))
    counts = frequencies(drawn[:, -2])
    assert counts[chance == 0].sum() == 0
    assert chisquare(counts[chance > 0], chance[chance > 0] * len(drawn)).pvalue > 1e-3
    token = int(counts.argmax())  # the second token, after the likeliest first
    after = drawn[drawn[:, -2] == token][:, -1]
    second = model(torch.cat([ids, torch.tensor([[token]])], 1)).logits[0, -1].detach() / 1.3
    best = second.topk(5)
    counts = frequencies(after)[best.indices]
    assert counts.sum() == len(after)
    assert chisquare(counts, best.values.double().softmax(-1) * len(after)).pvalue > 1e-3


def test_a_draft_with_another_tokenizer_changes_no_token(llama, marian, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    folder = shutil.copytree(llama, tmp_path / "other")
    other = AutoTokenizer.from_pretrained(marian)
    config = multihead.AutoConfig.from_pretrained(folder).changed(vocab_size=max(len(other), 8))
    draft = AutoModelForCausalLM.from_config(config)
    ids = tokenizer("The quick brown fox jumps", return_tensors="pt")["input_ids"]
    expected = model.generate(ids, max_new_tokens=12)
    got = model.generate(ids, max_new_tokens=12, assistant_model=draft, tokenizer=tokenizer, assistant_tokenizer=other)
    assert got.tolist() == expected.tolist()


def test_what_is_looked_up_follows_the_longest_earlier_run():
    assert lookup_tokens([1, 2, 3, 9, 2, 3], 2, 2) == [9, 2]
    assert lookup_tokens([7, 3, 4, 2, 3, 5, 2, 3], 1, 2) == [5]
    assert lookup_tokens([7, 3, 4, 2, 3, 5, 2, 3], 1, 1) == [4]
    assert lookup_tokens([1, 2, 3], 4, 2) == []
    assert lookup_tokens([1], 4, 2) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 2, "prompt_lookup_num_tokens": 3}, "num_beams"),
        ({"penalty_alpha": 0.6, "prompt_lookup_num_tokens": 3}, "penalty_alpha"),
        ({"prompt_lookup_num_tokens": 3, "num_return_sequences": 2, "do_sample": True}, "num_return_sequences"),
        ({"prompt_lookup_num_tokens": 3, "output_attentions": True}, "scores and logits"),
        ({"penalty_alpha": 0.6, "top_k": 4, "do_sample": True}, "do_sample"),
        ({"prompt_lookup_num_tokens": 0}, "prompt_lookup_num_tokens"),
    ],
    ids=str,
)
def test_ways_that_do_not_go_together_are_refused(models, options, said):
    with pytest.raises(InvalidInput, match=said):
        models[0].generate(texts()["input_ids"], **END, **options)


def test_a_draft_with_another_vocabulary_needs_both_tokenizers(models, llama):
    stranger = AutoModelForCausalLM.from_pretrained(llama)
    with pytest.raises(InvalidInput, match="assistant_tokenizer"):
        models[0].generate(texts()["input_ids"], assistant_model=stranger, **END)
