"""Words that must come do come, and nothing better is left out."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead import AutoModelForCausalLM, DisjunctiveConstraint, GenerationConfig, LlamaConfig, PhrasalConstraint
from multihead.errors import InvalidInput
from multihead.generation.logits.constraints import ConstraintProgress

from .drawn import MODELS

WORDS, NEW = 6, 4  # a vocabulary and a length that all texts of can be tried


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.4)
    return model.eval()


def holds(text, words):
    return any(tuple(text[i : i + len(word)]) == tuple(word) for word in words for i in range(len(text)))


def best_of_all(model, prompt, required, new, end=1):
    """The best mean log-probability of all texts that hold the words, by trying each one."""
    texts = [*product(range(WORDS), repeat=new)]
    with torch.no_grad():
        rows = model(torch.tensor([[*prompt, *text] for text in texts])).logits.log_softmax(-1)
    found = {}
    for text, row in zip(texts, rows, strict=True):
        length = text.index(end) + 1 if end in text else new
        own = text[:length]
        if all(holds(own, words) for words in required):
            chances = [row[len(prompt) + i - 1, token] for i, token in enumerate(own)]
            found[own] = float(sum(chances)) / length
    return max(found.items(), key=lambda item: item[1])


@pytest.mark.parametrize(
    "words", [[[2]], [[2, 3]], [[4], [5]], [[3, 3], [2]], [[[2, 2], [5]]], [[[2, 4], [4, 2]], [3]], [[2, 3, 4, 5]]]
)
def test_wide_search_finds_the_best_text_that_holds_the_words(small, words):
    prompt = [2, 3, 4]
    required = [word if isinstance(word[0], list) else [word] for word in words]
    text, score = best_of_all(small, prompt, required, NEW)
    out = small.generate(
        torch.tensor([prompt]), max_new_tokens=NEW, num_beams=WORDS**3, force_words_ids=words, early_stopping=False,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert tuple(out.sequences[0, 3:].tolist())[: len(text)] == text
    assert abs(float(out.sequences_scores[0]) - score) < 1e-5


@given(
    words=st.lists(
        st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=3), min_size=1, max_size=2), min_size=1, max_size=3
    ),
    beams=st.integers(2, 5),
    spare=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_words_always_come(small, words, beams, spare):
    required = tuple(tuple(map(tuple, word)) for word in words)
    new = ConstraintProgress(required).needed + spare
    out = small.generate(torch.tensor([[3, 2]]), max_new_tokens=new, num_beams=beams, force_words_ids=words)
    assert all(holds(out[0, 2:].tolist(), word) for word in words)


@given(
    tokens=st.lists(st.integers(0, 3), max_size=12),
    words=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=3),
)
@settings(deadline=None)
def test_progress_is_that_of_the_whole_text(tokens, words):
    required = tuple((tuple(word),) for word in words)
    progress = ConstraintProgress(required)
    for token in tokens:
        before = progress.needed
        progress = progress.advance(token)
        assert progress.needed <= sum(map(len, words))
        if before and not progress.left:
            assert progress.needed == 0
    assert [words[0] for words in progress.left] == [w for (w,) in required if not holds(tokens, [w])]
    while progress.left:  # the promise: so many tokens suffice
        steps = {token: progress.advance(token) for token in progress.next_tokens}
        assert min(after.needed for after in steps.values()) < progress.needed
        progress = min(steps.values(), key=lambda after: after.needed)


@pytest.mark.parametrize("way", ["forced", "either"])
def test_texts_are_on_the_whole_likelier_than_those_the_reference_found(models, way):
    gains = []
    for name, model in models.items():
        case, both = MODELS[name]["ways"][way], model.config.is_encoder_decoder
        words = [word if isinstance(word[0], list) else [word] for word in case["options"]["force_words_ids"]]
        for prompt, expected in zip(MODELS[name]["prompts"], case["tokens"], strict=True):
            begin = 1 if both else len(prompt)
            out = model.generate(torch.tensor([prompt]), max_new_tokens=12, **case["options"])[0].tolist()
            assert all(holds(out[begin:], word) for word in words)
            if all(holds(expected[begin:], word) for word in words):  # the reference gives up at the length's end
                gains.append(mean(model, prompt, out, both) - mean(model, prompt, expected, both))
    assert sum(gains) >= 0, gains


def mean(model, prompt, text, both):
    """Log-probability of the new tokens, over their number."""
    begin = 1 if both else len(prompt)
    while text[-1] == 2:
        text = text[:-1]
    given_ = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([text])}
    with torch.no_grad():
        rows = (model(**given_) if both else model(torch.tensor([text]))).logits[0].log_softmax(-1)
    return float(rows[range(begin - 1, len(text) - 1), text[begin:]].mean())


def test_the_same_words_as_objects(small):
    ids = torch.tensor([[3, 2]])
    plain = small.generate(ids, max_new_tokens=6, num_beams=3, force_words_ids=[[4, 4], [[5], [2, 2]]])
    objects = [PhrasalConstraint([4, 4]), DisjunctiveConstraint([[5], [2, 2]])]
    assert torch.equal(plain, small.generate(ids, max_new_tokens=6, num_beams=3, constraints=objects))
    saved = GenerationConfig(num_beams=3, constraints=objects).to_dict()
    assert saved["force_words_ids"] == [[[4, 4]], [[5], [2, 2]]]
    assert "constraints" not in saved


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"force_words_ids": [[2]]}, "num_beams above 1"),
        ({"force_words_ids": [[2]], "num_beams": 3, "do_sample": True}, "do_sample=False"),
        ({"force_words_ids": [[2]], "num_beams": 4, "num_beam_groups": 2}, "one group"),
        ({"force_words_ids": [[2, 3, 4, 5, 2]], "num_beams": 3}, "need 5 tokens and only 4"),
        ({"force_words_ids": [[99]], "num_beams": 3}, "vocabulary of 6"),
        ({"force_words_ids": [[1]], "num_beams": 3}, "ends the text"),
        ({"force_words_ids": [[2]], "num_beams": 3, "suppress_tokens": [2]}, "banned"),
        ({"force_words_ids": [[]], "num_beams": 3}, "at least one token"),
        ({"force_words_ids": "word", "num_beams": 3}, "list of words"),
        ({"force_words_ids": [["word"]], "num_beams": 3}, "lists of token ids"),
        ({"constraints": [[2]], "num_beams": 3}, "PhrasalConstraint"),
        ({"force_words_ids": [[3]], "num_beams": 3, "bad_words_ids": [[3]]}, "banned"),
        ({"force_words_ids": [[2, 3, 4]], "num_beams": 3, "bad_words_ids": [[3, 4]]}, "banned"),
        ({"force_words_ids": [[3]], "num_beams": 3, "prefix_allowed_tokens_fn": lambda n, ids: [2]}, "0 of 1 texts"),
        ({"force_words_ids": [[2, 3, 4, 5]], "num_beams": 3, "num_return_sequences": 2}, "1 of 2 texts"),
    ],
)
def test_words_that_cannot_come_are_refused(small, options, said):
    with pytest.raises(InvalidInput, match=said):
        small.generate(torch.tensor([[3, 2]]), max_new_tokens=NEW, **options)
