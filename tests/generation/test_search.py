"""Every strategy gives the reference's tokens, whatever the family, in a batch and alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput

from ..parity.case import batch, reference
from ..parity.cases import CASES

ROWS = {case.name: case for case in CASES}
DECODERS = ("llama", "gpt2", "mistral", "mixtral", "bloom", "falcon", "gemma2", "opt", "gpt-neox")
BOTH = ("t5", "bart-untied", "marian")
ENDS = {"gpt2": "LMHeadModel", "marian": "MTModel", **dict.fromkeys(BOTH[:2], "ForConditionalGeneration")}
END = {"eos_token_id": [3, 17], "pad_token_id": 1, "max_new_tokens": 14}

MODES = {
    "beams": {"num_beams": 4},
    "beams-early": {"num_beams": 4, "early_stopping": True, "num_return_sequences": 3},
    "beams-never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0, "num_return_sequences": 2},
    "beams-short": {"num_beams": 3, "length_penalty": -1.0, "num_return_sequences": 3},
    "beams-ruled": {
        "num_beams": 3, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 5, "sequence_bias":
        [[[8], 1.0], [[9, 4], 2.0]],
    },
    "biased": {"sequence_bias": [[[8], 1.0], [[9, 4], 2.0]], "exponential_decay_length_penalty": (3, 1.3)},
    "watermarked": {"watermarking_config": {"bias": 2.5, "greenlist_ratio": 0.4}},
}  # fmt: skip


@pytest.fixture(scope="module", params=DECODERS + BOTH)
def pair(request, tmp_path_factory):
    """The reference's model and ours, of one family, and the inputs of a batch."""
    case = ROWS[request.param]
    end = ENDS.get(case.name, "ForCausalLM")
    folder = tmp_path_factory.mktemp(case.name)
    model = reference(case, end)
    model.save_pretrained(folder)
    kind = multihead.AutoModelForSeq2SeqLM if case.name in BOTH else multihead.AutoModelForCausalLM
    inputs = batch(case, end, side="right" if case.name in BOTH else "left", lengths=(9, 9, 9))
    return model, kind.from_pretrained(folder), {name: inputs[name] for name in ("input_ids", "attention_mask")}


def fields(output: Any) -> dict[str, Any]:
    return {name: value for name, value in output.items() if value is not None}


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_tokens_scores_and_beams_equal_the_reference(pair, options):
    model, mine, inputs = pair
    settings = {**END, **options, "return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    if "watermarking_config" in settings:
        theirs = {**settings, "watermarking_config": transformers.WatermarkingConfig(**settings["watermarking_config"])}
    else:
        theirs = settings
    expected = fields(model.generate(**inputs, **theirs))
    got = fields(mine.generate(**inputs, **settings))
    assert got["sequences"].tolist() == expected["sequences"].tolist()
    if "num_beams" in options:
        assert got["beam_indices"].tolist() == expected["beam_indices"].tolist()
        torch.testing.assert_close(got["sequences_scores"], expected["sequences_scores"], rtol=1e-4, atol=1e-5)
    else:
        for mine_, theirs_ in zip(got["scores"], expected["scores"], strict=True):
            going = mine_.any(-1)
            torch.testing.assert_close(mine_[going], theirs_[going], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_scores_of_chosen_tokens_equal_the_reference(pair, options, normalize):
    model, mine, inputs = pair
    settings = {**END, **options, "return_dict_in_generate": True, "output_scores": True}
    out, expected = mine.generate(**inputs, **settings), model.generate(**inputs, **settings)
    got, known = (
        owner.compute_transition_scores(
            each.sequences, each.scores, each.get("beam_indices"), normalize_logits=normalize and not options
        )
        for owner, each in ((mine, out), (model, expected))
    )
    going = out.sequences[:, -known.shape[1] :] != END["pad_token_id"]
    assert got.shape == known.shape
    torch.testing.assert_close(got[going], known[going], rtol=1e-4, atol=1e-4)
    with pytest.raises(InvalidInput, match="output_scores"):
        mine.compute_transition_scores(out.sequences, ())


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_beams": 2}, {"do_sample": True}],
                         ids=["greedy", "beams", "drawn-beams", "drawn"])  # fmt: skip
def test_one_text_alone_and_among_others_gives_the_same_tokens(pair, options):
    _, mine, inputs = pair
    alone = [mine.generate(inputs["input_ids"][i : i + 1], **END, **options, **seeded(options, i)) for i in range(3)]
    together = mine.generate(inputs["input_ids"], **END, **options, **seeded(options, 0))
    for one, among in zip(alone, together, strict=True):
        assert one[0].tolist() == among[: one.shape[1]].tolist()


def seeded(options: dict[str, Any], number: int) -> dict[str, Any]:
    """Text i of a call draws from seed + i."""
    return {"seed": 5 + number} if "do_sample" in options else {}


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"top_k": 9, "temperature": 1.5}], ids=str)
def test_draws_follow_the_reference_where_both_draw_from_torch(pair, options):
    model, mine, inputs = pair
    settings = {**END, "do_sample": True, **options}
    torch.manual_seed(4)
    expected = model.generate(inputs["input_ids"][:1], **settings)
    torch.manual_seed(4)
    assert mine.generate(inputs["input_ids"][:1], **settings).tolist() == expected.tolist()


def test_guidance_equals_the_reference(pair):
    model, mine, inputs = pair
    if mine.config.is_encoder_decoder:
        pytest.skip("the reference gives its twin no source")
    settings = {**END, "guidance_scale": 1.7}
    for one in inputs["input_ids"]:
        expected = model.generate(one[None], **settings)
        assert mine.generate(one[None], **settings).tolist() == expected.tolist()
        negative = one[None, 2:5]
        expected = model.generate(one[None], negative_prompt_ids=negative, **settings)
        assert mine.generate(one[None], negative_prompt_ids=negative, **settings).tolist() == expected.tolist()


def test_states_and_attentions_of_every_step_equal_the_reference(pair):
    model, mine, inputs = pair
    settings = {"max_new_tokens": 4, "return_dict_in_generate": True, "output_attentions": True,
                "output_hidden_states": True, "eos_token_id": None, "pad_token_id": 0}  # fmt: skip
    expected, got = fields(model.generate(**inputs, **settings)), fields(mine.generate(**inputs, **settings))
    names = [name for name in got if name != "sequences"]
    assert any("attentions" in name for name in names)
    assert any("hidden" in name for name in names)
    for name in names:
        for step, (ours, theirs) in enumerate(zip(got[name], expected[name], strict=True)):
            for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                largest, past = b.abs().max(), a.shape[-1] - b.shape[-1]
                assert not a[..., :past].any()  # what a window hides and the reference leaves out
                a = a[..., past:]
                assert a.shape == b.shape, f"{name} of step {step}, layer {layer}"
                assert (a - b).abs().max() <= 1e-4 * largest, f"{name} of step {step}, layer {layer}"


def test_groups_of_beams_find_different_texts(pair):
    _, mine, inputs = pair
    settings = {**END, "num_beams": 4, "num_return_sequences": 4}
    plain = mine.generate(inputs["input_ids"][:1], **settings, num_beam_groups=4, diversity_penalty=0.0)
    assert len({tuple(text) for text in plain.tolist()}) == 1  # each group alone is greedy
    apart = mine.generate(inputs["input_ids"][:1], **settings, num_beam_groups=4, diversity_penalty=50.0)
    length = inputs["input_ids"].shape[1] if not mine.config.is_encoder_decoder else 1
    assert len(set(apart[:, length].tolist())) == 4  # no first token twice


def test_a_callers_own_processors_criteria_and_prefixes_are_used(pair):
    model, mine, inputs = pair

    def processor(ids, scores):
        return scores + torch.arange(scores.shape[1]) * (ids.shape[1] % 2)

    class Long(transformers.StoppingCriteria):
        def __call__(self, ids, scores, **more):
            return (ids[:, -1] % 5) == 0

    def allowed(number, ids):
        return [int(ids[-1]) // 2 + 1, 30 + number, 41]

    one = {name: x[:2] for name, x in inputs.items()}
    settings = {**END, "num_beams": 2, "prefix_allowed_tokens_fn": allowed}
    assert mine.generate(**one, **settings).tolist() == model.generate(**one, **settings).tolist()
    settings = {**END, "logits_processor": [processor], "stopping_criteria": [Long()]}
    theirs = {**settings, "logits_processor": transformers.LogitsProcessorList([processor]),
              "stopping_criteria": transformers.StoppingCriteriaList([Long()])}  # fmt: skip
    assert mine.generate(**one, **settings).tolist() == model.generate(**one, **theirs).tolist()
