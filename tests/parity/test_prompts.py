"""Texts with learned vectors before them, which are read in both directions (CPM-Ant)."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput, UnsupportedConfig, UnsupportedOption
from multihead.generation.engine.scheduler import Engine
from multihead.generation.generate import submit_job
from multihead.generation.strategies.base import GenerationJob

from .case import batch
from .cases import CASES
from .cases.prompts import cpmant

CASE = next(case for case in CASES if case.name == "cpmant")
END = "ForCausalLM"
GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture
def models(folders, loaded):
    """The reference's model and ours."""
    return folders(CASE, END)[0], loaded(CASE, END)


@pytest.fixture
def padded():
    return batch(CASE, END, side="left", lengths=(11, 7, 4))


@pytest.mark.parametrize("end", CASE.ends)
def test_padding_on_the_left_and_losses_equal_the_reference(folders, loaded, padded, end):
    theirs, mine = folders(CASE, end)[0], loaded(CASE, end)
    real = padded["attention_mask"].bool()
    known = {"labels": padded["input_ids"].masked_fill(~real, -100)} if end == END else {}
    shown = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        expected, got = theirs(**padded, **known, **shown), mine(**padded, **known, **shown)
    if known:
        torch.testing.assert_close(got.loss, expected.loss)
    for one, other in zip((got[1 if known else 0], *got.hidden_states),
                          (expected[1 if known else 0], *expected.hidden_states), strict=True):  # fmt: skip
        torch.testing.assert_close(one[real], other[real], atol=2e-5, rtol=2e-5)
    seen = (real[:, None, :, None] & real[:, None, None, :]).expand_as(got.attentions[0])
    for one, other in zip(got.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(one[seen], other[seen], atol=2e-5, rtol=2e-5)


def test_passes_after_a_cached_one_equal_the_reference(models, padded):
    """The reference takes the whole text in each pass, and computes what it has not cached."""
    theirs, mine = models
    ids, mask = padded["input_ids"], padded["attention_mask"]
    ids, mask = torch.cat([ids, ids.flip(1)[:, :4].clamp(min=1)], 1), torch.cat([mask, torch.ones(3, 4).long()], 1)
    past = memory = None
    begin = 0
    with torch.no_grad():
        for end in (11, 12, 15):
            expected = theirs(ids[:, :end], past_key_values=past, use_cache=True)
            piece = {"input_ids": ids[:, begin:end], "attention_mask": mask[:, :end]}
            got = mine(**piece, past_key_values=memory, use_cache=True)
            past, memory, real = expected.past_key_values, got.past_key_values, mask[:, begin:end].bool()
            # the reference shows states of the new tokens alone, after the first pass
            torch.testing.assert_close(got.logits[real], expected.logits[:, -real.shape[1] :][real])
            begin = end


def test_every_gradient_equals_the_reference(folders):
    theirs, path = folders(CASE, END)
    mine = multihead.AutoModelForCausalLM.from_pretrained(path)
    inputs = batch(CASE, END, side="left", lengths=(11, 7, 4))
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    theirs.zero_grad()
    theirs(**inputs, labels=labels).loss.backward()
    mine(**inputs, labels=labels, use_cache=False).loss.backward()
    with torch.no_grad():
        for parameter in mine.parameters():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
        found = mine.stored_tensors()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=2e-5, rtol=1e-3, msg=name)
    theirs.zero_grad()


@pytest.mark.parametrize(
    "way", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"repetition_penalty": 1.3, "eos_token_id": [3, 17, 40]}]
)
def test_texts_equal_the_reference(models, padded, way):
    theirs, mine = models
    options = {**GREEDY, "pad_token_id": 0, "suppress_tokens": [0], **way}
    assert torch.equal(mine.generate(**padded, **options), theirs.generate(**padded, **options))


def test_padding_on_the_right_changes_nothing(models, padded):
    mask = padded["attention_mask"]
    right = {name: torch.stack([row.roll(int(real.sum())) for row, real in zip(x, mask, strict=True)])
             for name, x in padded.items()}  # fmt: skip
    assert right["attention_mask"][:, 0].all()
    with torch.no_grad():
        one, other = models[1](**padded).logits, models[1](**right).logits
    torch.testing.assert_close(one[mask.bool()], other[right["attention_mask"].bool()])


def test_texts_that_begin_beside_others_equal_the_reference_and_padding_ends_its_own_alone(models):
    theirs, mine = models
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    settings = multihead.GenerationConfig(**options, suppress_tokens=[0])
    texts = [[5, 6, 7] * 15, [9, 8], [11] * 40]  # over the ends of blocks of 32
    jobs = [GenerationJob(text, settings, len(text) + 6) for text in texts]
    padding = GenerationJob([5], multihead.GenerationConfig(**options, forced_bos_token_id=0), 7)
    engine = Engine(mine)
    for job in (jobs[0], padding, *jobs[1:]):
        submit_job(engine, job)
        engine.step()
    engine.run()
    assert isinstance(padding.request.error, InvalidInput)
    for text, job in zip(texts, jobs, strict=True):
        expected = theirs.generate(torch.tensor([text]), **options, suppress_tokens=[0], pad_token_id=0)
        assert job.results[0] == expected[0, len(text) :].tolist()


def test_padding_inside_a_text_is_refused(models, padded):
    mine = models[1]
    with pytest.raises(InvalidInput, match="The id 0 is padding"):
        mine(padded["input_ids"])
    with pytest.raises(InvalidInput, match="The id 0 is padding"):
        mine.generate(torch.tensor([[5, 0, 7]]), attention_mask=torch.ones(1, 3), **GREEDY)
    forced = {"forced_bos_token_id": 0}  # after a prompt of one token
    with pytest.raises(InvalidInput, match="suppress_tokens"):
        mine.generate(torch.tensor([[5]]), **GREEDY, **forced)


def test_positions_of_the_callers_own_are_refused(models):
    with pytest.raises(InvalidInput, match="position_ids"):
        models[1](torch.tensor([[5, 6]]), position_ids=torch.tensor([[4, 5]]))


@pytest.mark.parametrize("option", [{"prompt_lookup_num_tokens": 2}, {"penalty_alpha": 0.5, "top_k": 3}])
def test_what_reads_several_tokens_ahead_is_refused(models, option):
    with pytest.raises(UnsupportedOption, match=f"in both directions.*{next(iter(option))}"):
        models[1].generate(torch.tensor([[5, 6]]), **GREEDY, **option)


def test_an_assistant_and_another_vocabulary_are_refused(models):
    with pytest.raises(UnsupportedOption, match="assistant_model"):
        models[1].generate(torch.tensor([[5, 6]]), assistant_model=models[1], **GREEDY)
    with pytest.raises(UnsupportedOption, match="more rows than words"):
        models[1].resize_token_embeddings(120)


def test_perplexity_and_training_on_texts_are_refused(models, tmp_path):
    pytest.importorskip("rjieba")
    words = ["<pad>", "<unk>", "<s>", "</s>", "</_>", "</n>", "<d>", "</d>", *map(chr, range(0x4E00, 0x4E40))]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "cpmant"}')
    tokenizer, rows = multihead.AutoTokenizer.from_pretrained(tmp_path), [{"text": "一丁七万"}] * 2
    pipe = multihead.pipeline("text-generation", model=models[1], tokenizer=tokenizer)
    with pytest.raises(UnsupportedOption, match="perplexity"):
        multihead.evaluate(pipe, rows)
    settings = multihead.TrainingArguments(tmp_path / "run", max_steps=1, save_strategy="no")
    given = {"train_dataset": rows, "task": "text-generation", "processing_class": tokenizer}
    with pytest.raises(UnsupportedOption, match="each token sees the next one"):
        multihead.Trainer(copy.deepcopy(models[1]), settings, **given).train()


@pytest.mark.parametrize(
    ("change", "why"),
    [({"prompt_types": 2}, "prompt_types"), ({"segment_types": 2}, "segment_types"),
     ({"position_bias_max_distance": 3}, "buckets")],
)  # fmt: skip
def test_configs_that_the_reference_cannot_compute_are_refused(tmp_path, change, why):
    cpmant(**change)().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedConfig, match=why):
        multihead.AutoModel.from_config(multihead.AutoConfig.from_pretrained(tmp_path))


def test_the_default_config_is_the_references():
    mine, theirs = multihead.CpmAntConfig().to_dict(), transformers.CpmAntConfig().to_dict()
    shared = {*mine} & {*theirs}
    assert {"prompt_types", "position_bias_max_distance"} < shared
    assert [name for name in shared if mine[name] != theirs[name]] == []
