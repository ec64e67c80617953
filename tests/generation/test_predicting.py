"""Layers of a checkpoint that predict further tokens (`use_mtp`): drafts that change nothing but the time."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformers
from scipy.stats import chisquare
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel

from multihead import AutoModelForCausalLM, GenerationConfig
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.generation.draft_heads import own_heads
from multihead.generation.engine import Engine
from multihead.generation.generate import submit_job
from multihead.generation.session import GenerationSession
from multihead.generation.strategies.base import GenerationJob
from multihead.kernels.ragged import SequenceLayout
from multihead.nn.cache.store import BatchCache
from multihead.nn.own_names import own_parameters

from .predicting import FORMS, write

END = {"max_new_tokens": 16, "eos_token_id": None, "pad_token_id": 0}
IDS = torch.tensor([[0, 0, 17, 5, 60, 33, 9], [31, 8, 8, 41, 90, 2, 77], [0, 0, 0, 0, 0, 0, 55]])
MASK = (IDS > 0).long()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """DeepSeek-V3 with two predictors."""
    folder = tmp_path_factory.mktemp("predicting")
    write("deepseek-v3", folder, 2)
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore:.*num_nextn_predict_layers")
def test_predictors_are_read_and_change_no_token(name, tmp_path):
    write(name, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = model.generate(IDS, attention_mask=MASK, **END)
    got = model.generate(IDS, attention_mask=MASK, use_mtp=True, num_assistant_tokens=3, **END)
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize(("name", "count"), [("deepseek-v3", 2), ("glm4-moe", 1), ("mellum", 1)])
def test_predictors_score_as_the_references(name, count, tmp_path):
    write(name, tmp_path, count)
    model, peer = (auto.from_pretrained(tmp_path) for auto in (AutoModelForCausalLM, transformers.AutoModelForCausalLM))
    first = peer.config.num_hidden_layers
    if name != "mellum":  # the reference knows the numbers of published models alone
        peer._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{first + i}\." for i in range(count)]
    ids, places = IDS[1:2], torch.arange(1, 8)[None]
    with torch.no_grad():
        out = peer.eval()(ids, output_hidden_states=True)
        states, after = out.hidden_states[-1], torch.cat([ids[:, 1:], out.logits[:, -1:].argmax(-1)], 1)
        cache = MtpCache(config=peer.config.get_mtp_config())
        drafted, expected, _ = MtpModel.from_pretrained(peer)(after, states, None, places, cache)
    tokens, states = after[0], states[0]
    for depth, head in enumerate(own_heads(model)):
        memory = BatchCache.of(head.memories(), 1)
        states = head.read(tokens, SequenceLayout.packed((7,)), memory, features=states)
        torch.testing.assert_close(head.score_states(states[-1:]), expected[:, depth], atol=1e-5, rtol=1e-5)
        tokens = torch.cat([tokens[1:], drafted[0, depth : depth + 1]])


def test_a_predictor_that_is_right_saves_passes(tmp_path):
    write("deepseek-v3", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    (head,) = own_heads(model)
    with torch.no_grad():  # each token alone decides the next one
        for part in (model, head):
            for name, parameter in own_parameters(part):
                if name.endswith(("step.out.weight", "down.weight")):
                    parameter.zero_()
                elif "norm" in name or name.endswith("out.weight"):
                    parameter.fill_(1.0)
        width = model.config.hidden_size
        head.predictor.join.weight.copy_(torch.cat([torch.eye(width), torch.zeros(width, width)], 1))
    read, lengths = model.read, []
    model.read = lambda ids, *more, **options: (lengths.append(len(ids)), read(ids, *more, **options))[1]
    got = model.generate(IDS[1:2], use_mtp=True, num_assistant_tokens=4, **END)
    assert lengths == [7, 5, 5, 5]
    del model.read
    assert got.tolist() == model.generate(IDS[1:2], **END).tolist()


def test_drawn_tokens_follow_the_models_own_distribution(model):
    ids, settings = IDS[1:2], {"do_sample": True, "top_k": 4, "temperature": 1.4, **END, "max_new_tokens": 3}
    drawn = torch.cat([model.generate(ids.repeat(300, 1), seed=300 * i, use_mtp=True, **settings) for i in range(2)])
    for place in (-2, -1):  # the tokens that were drafted
        begins, counts = drawn[:, :place].unique(dim=0, return_counts=True)
        begin = begins[counts.argmax()]
        after = drawn[(drawn[:, :place] == begin).all(1)][:, place]
        best = (model(begin[None]).logits[0, -1].detach() / 1.4).topk(4)
        seen = torch.tensor([int((after == token).sum()) for token in best.indices], dtype=torch.double)
        assert seen.sum() == len(after)
        assert chisquare(seen, best.values.double().softmax(-1) * len(after)).pvalue > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 12, "eos_token_id": [3, 4, 5, 6]},
        {"guidance_scale": 1.4},
        {"assistant_confidence_threshold": 0.3, "num_assistant_tokens": 6},
    ],
    ids=["ruled", "guided", "confident"],
)
def test_rules_are_kept(model, options):
    settings = {**END, **options}
    plain = {name: value for name, value in settings.items() if "assistant" not in name}
    expected = model.generate(IDS, attention_mask=MASK, **plain)
    assert model.generate(IDS, attention_mask=MASK, use_mtp=True, **settings).tolist() == expected.tolist()


@pytest.mark.filterwarnings("ignore:.*num_nextn_predict_layers")
@pytest.mark.parametrize(
    ("name", "memory", "preempted"), [("deepseek-v3", 100_000, True), ("qwen3-next", 400_000, False)]
)
def test_the_engine_serves_drafts_in_little_memory(name, memory, preempted, tmp_path):
    """Requests that lose their cache, read prompts in parts, and end beside others."""
    write(name, tmp_path)
    model, texts = AutoModelForCausalLM.from_pretrained(tmp_path), [[5 + i, 9, 33, 7] * (3 + 12 * i) for i in range(4)]
    expected = [model.generate([text], **END)[0, len(text) :].tolist() for text in texts]
    config = GenerationConfig(use_mtp=True, num_assistant_tokens=3, **END)
    engine = Engine(model, memory=memory, max_tokens=48)
    jobs = [GenerationJob(text, config, len(text) + 16) for text in texts]
    requests = [submit_job(engine, job) for job in jobs]
    engine.run()
    assert [request.error for request in requests] == [None] * 4
    assert [[*job.results[0]] for job in jobs] == expected
    assert (engine.statistics.preemptions > 0) == preempted
    assert not engine.store.num_used


def test_copies_of_a_model_draft_for_themselves(tmp_path):
    write("deepseek-v3", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = model.generate(IDS[1:2], use_mtp=True, **END).tolist()
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    del model
    for one in copies:
        assert one.generate(IDS[1:2], use_mtp=True, **END).tolist() == expected
        assert all(head.owner is one for head in own_heads(one))


def test_a_conversation_may_be_drafted(model):
    session, config = GenerationSession(model), GenerationConfig(use_mtp=True, **END)
    prompt = IDS[1].tolist()
    for _ in range(2):
        expected = model.generate([prompt], **END)[0, len(prompt) :].tolist()
        assert [*session.generate(prompt, config).continuation] == expected
        prompt = [*prompt, *expected, 44]


def test_what_cannot_be_drafted_is_refused(model, llama):
    with pytest.raises(InvalidInput, match="num_beams and use_mtp"):
        model.generate(IDS, use_mtp=True, num_beams=2)
    with pytest.raises(UnsupportedOption, match="known of llama"):
        AutoModelForCausalLM.from_pretrained(llama).generate(IDS, use_mtp=True)
    with pytest.raises(UnsupportedOption, match="comes from none"):
        AutoModelForCausalLM.from_config(model.config).generate(IDS, use_mtp=True)
    with pytest.raises(UnsupportedOption, match="num_assistant_tokens has no effect"):
        model.generate(IDS, num_assistant_tokens=2)


def test_a_checkpoint_without_predictors_says_so(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedOption, match="holds no layers that predict"):
        AutoModelForCausalLM.from_pretrained(tmp_path).generate(IDS, use_mtp=True)
