"""Rotary scaling by length: what is written equals the forward pass over the text so far, however it is read."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput
from multihead.kernels.quantization.registry import PRECISIONS

FACTORS = {"short_factor": [1.0] * 4 + [1.5] * 4, "long_factor": [1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0, 16.0]}
TRAINED = 24
ROPES = {
    "default": {},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED},
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": TRAINED, "factor": 4.0, **FACTORS},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": TRAINED,
    },
}  # fmt: skip
BY_LENGTH = ("dynamic", "longrope")
SHOWN = {"output_logits": True, "return_dict_in_generate": True, "do_sample": False}
SIZES = {
    "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None, "initializer_range": 0.3,
}  # fmt: skip


def theirs(rope, trained=TRAINED, seed=0):
    torch.manual_seed(seed)
    rope = {"rope_theta": 1000.0, **ROPES[rope]}
    if "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = trained
    config = transformers.LlamaConfig(**SIZES, max_position_embeddings=trained, rope_parameters=rope)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    known = {}

    def make(rope, trained=TRAINED, seed=0, **options):
        key = rope, trained, seed, *options.items()
        if key not in known:
            folder = tmp_path_factory.mktemp("lengths")
            theirs(rope, trained, seed).save_pretrained(folder)
            known[key] = multihead.AutoModelForCausalLM.from_pretrained(folder, **options)
        return known[key]

    return make


def tokens(length, seed=0):
    return torch.randint(3, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def after(model, text):
    """Scores of what follows a text, by a pass over all of it."""
    return model(torch.tensor([text]), use_cache=False).logits[0, -1]


def check_steps(model, prompts, result, tolerance=1e-4):
    """Every step's scores against those of a pass over the text so far."""
    new = len(result.logits)
    for row, prompt in enumerate(prompts):
        text = [*prompt, *result.sequences[row, -new:].tolist()]
        for step, scores in enumerate(result.logits):
            expected = after(model, text[: len(prompt) + step])
            assert (scores[row] - expected).abs().max() <= tolerance * expected.abs().max(), (row, step)


@pytest.mark.parametrize("rope", ROPES)
def test_scores_equal_the_forward_pass_on_both_sides_of_the_trained_length(made, rope):
    model, prompts = made(rope), [tokens(TRAINED - 4), tokens(7), tokens(TRAINED), tokens(TRAINED + 9)]
    check_steps(model, prompts, model.generate(prompts, max_new_tokens=8, **SHOWN))


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_texts_that_share_a_beginning_share_it_only_where_it_is_turned_alike(made, rope):
    model, long = made(rope, 80), tokens(120)
    prompts = [long[:n] for n in (70, 79, 80, 81, 100, 120)]
    check_steps(model, prompts, model.generate(prompts, max_new_tokens=3, **SHOWN))
    for _ in range(2):
        check_steps(model, prompts[::-1], model.generate(prompts[::-1], max_new_tokens=2, **SHOWN))


@pytest.mark.parametrize("rope", ROPES)
def test_a_prompt_that_is_read_in_pieces_is_turned_by_all_of_it(made, rope):
    model, long = made(rope, 2100), tokens(4200)
    prompts = [long, long[:2099], long[:60]]
    check_steps(model, prompts, model.generate(prompts, max_new_tokens=2, **SHOWN))


@pytest.mark.parametrize("rope", BY_LENGTH)
@pytest.mark.parametrize(
    "options",
    [
        {"prompt_lookup_num_tokens": 6},
        {"prompt_lookup_num_tokens": 6, "guidance_scale": 1.5},
        {"dola_layers": "low"},
        {"guidance_scale": 1.5},
        {"num_return_sequences": 3, "do_sample": True, "seed": 1},
    ],
    ids=str,
)
def test_ways_to_go_on_give_what_they_give_without_anything_remembered(made, rope, options):
    """Against the same call for one token at a time."""
    model = made(rope)
    text = (tokens(5) * 6)[: TRAINED - 4]
    copies = options.get("num_return_sequences", 1)
    result = model.generate([text], max_new_tokens=9, **{**SHOWN, **options})
    alone = {k: v for k, v in options.items() if k not in ("prompt_lookup_num_tokens", "num_return_sequences", "seed")}
    if "guidance_scale" in options:
        alone["negative_prompt_ids"] = None
    for row in range(copies):
        whole = result.sequences[row].tolist()
        for step, scores in enumerate(result.logits):
            before = whole[: len(text) + step]
            if "guidance_scale" in options:  # its opposite began with the prompt's last token
                alone["negative_prompt_ids"] = [before[len(text) - 1 :]]
            one = model.generate([before], max_new_tokens=1, **{**SHOWN, **alone})
            torch.testing.assert_close(scores[row], one.logits[0][0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_beams_are_as_likely_as_passes_over_them_say(made, rope):
    model, prompts = made(rope), [tokens(TRAINED - 3), tokens(TRAINED + 2)]
    result = model.generate(
        prompts, max_new_tokens=6, num_beams=3, num_return_sequences=3, return_dict_in_generate=True, output_scores=True
    )
    for number, score in enumerate(result.sequences_scores):
        text = [*prompts[number // 3], *result.sequences[number, -6:].tolist()]
        begin = len(text) - 6
        said = [after(model, text[:end]).log_softmax(-1)[text[end]] for end in range(begin, len(text))]
        torch.testing.assert_close(score, torch.stack(said).mean(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_a_draft_changes_nothing(made, rope):
    model, draft = made(rope), made(rope, TRAINED + 3, 1)
    prompt = tokens(TRAINED - 5)
    options = {"max_new_tokens": 14, "num_assistant_tokens": 5, "assistant_confidence_threshold": 0.0}
    result = model.generate([prompt], assistant_model=draft, **options, **SHOWN)
    check_steps(model, [prompt], result)
    own = model.generate([prompt], assistant_model=model, **options, **SHOWN)  # which is always right
    assert torch.equal(own.sequences, result.sequences)


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_contrastive_search_compares_states_of_one_turning(made, rope):
    model, prompt, alpha, count = made(rope), tokens(TRAINED - 3), 0.6, 4
    result = model.generate([prompt], penalty_alpha=alpha, top_k=count, max_new_tokens=7)[0].tolist()
    text = list(prompt)
    for _ in range(7):
        chances, following = after(model, text).softmax(-1).topk(count)
        worth = []
        for chance, token in zip(chances.tolist(), following.tolist(), strict=True):
            with torch.no_grad():
                states = model(
                    torch.tensor([[*text, token]]), use_cache=False, output_hidden_states=True
                ).hidden_states[-1][0]
            states = torch.nn.functional.normalize(states, dim=-1)
            worth.append((1 - alpha) * chance - alpha * float((states[:-1] @ states[-1]).max()))
        text.append(int(following[int(torch.tensor(worth).argmax())]))
    assert result == text


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize(
    "precision", [name for name, row in PRECISIONS.items() if row.weights is not None and not row.needs_file]
)
def test_a_prepared_model_writes_what_its_own_passes_say(made, rope, precision):
    model = made(rope, precision=precision)
    prompts = [tokens(TRAINED - 3), tokens(9), tokens(TRAINED + 4)]
    result = model.generate(prompts, max_new_tokens=6, **SHOWN)
    check_steps(model, prompts, result, 0.03 if precision == "bf16" else 0.15)


def test_phi_3_crosses_its_trained_length_as_the_reference_does(tmp_path):
    torch.manual_seed(0)
    rope = {"rope_type": "longrope", "rope_theta": 1000.0, **FACTORS}
    config = transformers.Phi3Config(
        **SIZES, max_position_embeddings=4 * TRAINED, original_max_position_embeddings=TRAINED, rope_parameters=rope
    )
    reference = transformers.Phi3ForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)
    model, ids = multihead.AutoModelForCausalLM.from_pretrained(tmp_path), torch.tensor([tokens(TRAINED - 6)])
    ours, known = (each.generate(ids, max_new_tokens=14, **SHOWN) for each in (model, reference))
    assert torch.equal(ours.sequences, known.sequences)
    for got, expected in zip(ours.logits, known.logits, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_cache_in_a_callers_hands_gives_the_pass_over_the_whole_text(made, rope, precision):
    model, long = made(rope, precision=precision) if precision else made(rope), tokens(40)
    cuts = [0, 10, TRAINED - 1, TRAINED, TRAINED + 1, 33, 40]
    memory, tolerance = None, 0.05 if precision else 1e-4
    for begin, end in pairwise(cuts):
        part = torch.tensor([long[begin:end]])
        with torch.no_grad():
            result = model(
                part, past_key_values=memory, use_cache=True, output_hidden_states=True, output_attentions=not precision
            )
            whole = model(torch.tensor([long[:end]]), use_cache=False, output_hidden_states=True)
        memory = result.past_key_values
        assert memory.get_seq_length() == end
        expected = whole.logits[:, begin:]
        assert (result.logits - expected).abs().max() <= tolerance * expected.abs().max()
        for mine, all_ in zip(result.hidden_states, whole.hidden_states, strict=True):
            assert mine.shape[1] == end - begin
            assert (mine - all_[:, begin:]).abs().max() <= tolerance * all_.abs().max()
        if not precision:
            assert all(x.shape[2:] == (end - begin, end) for x in result.attentions)


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_texts_of_a_callers_cache_cross_one_by_one_and_may_be_reordered_or_cut_back(made, rope):
    model, short, long = made(rope), tokens(12, 1), tokens(TRAINED + 6)
    ids = torch.zeros(2, TRAINED, dtype=torch.long)
    ids[0, -12:], ids[1] = torch.tensor(short), torch.tensor(long[:TRAINED])
    mask = (ids != 0).long()
    with torch.no_grad():
        memory = model(ids, mask, use_cache=True).past_key_values
        memory.select(torch.tensor([1, 0, 1]))
        step = torch.tensor([[long[TRAINED]], [5], [7]])
        got = model(step, past_key_values=memory).logits[:, -1]
        for scores, text in zip(got, ([*long[: TRAINED + 1]], [*short, 5], [*long[:TRAINED], 7]), strict=True):
            torch.testing.assert_close(scores, after(model, text), rtol=1e-3, atol=1e-3)
        memory.crop(10)
        got = model(torch.tensor([[9]] * 3), past_key_values=memory).logits[:, -1]
        torch.testing.assert_close(got[0], after(model, [*long[:10], 9]), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(got[1], after(model, [*short[:10], 9]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_a_cache_of_vectors_that_would_have_to_be_read_again_says_so(made, rope):
    model, long = made(rope), torch.tensor([tokens(TRAINED + 1)])
    vectors = model.get_input_embeddings()(long)
    with torch.no_grad():
        memory = model(inputs_embeds=vectors[:, :-1], use_cache=True).past_key_values
        with pytest.raises(InvalidInput, match="whole text"):
            model(long[:, -1:], past_key_values=memory)
        assert memory.get_seq_length() == TRAINED


@pytest.mark.parametrize("rope", BY_LENGTH)
def test_positions_that_are_given_say_how_long_a_text_is(rope, tmp_path):
    reference = theirs(rope)
    reference.save_pretrained(tmp_path)
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([tokens(10)])
    for first in (0, TRAINED - 10, TRAINED - 9, 60):
        places = torch.arange(first, first + 10)[None]
        with torch.no_grad():
            got, expected = (each(ids, position_ids=places, use_cache=False).logits for each in (model, reference))
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
