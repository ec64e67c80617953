"""Gemma 4's assistants beside the reference's: the same scores and states, and texts that do not change."""

from __future__ import annotations

import pytest
import torch
import transformers

from multihead import AutoModelForCausalLM, DraftHead
from multihead.errors import InvalidInput

from .predicting import ROWS, reference

END = {"max_new_tokens": 30, "eos_token_id": None, "pad_token_id": 0}
IDS = torch.tensor([[0, 0, 17, 5, 60, 33, 9], [31, 8, 8, 41, 90, 2, 77], [0, 0, 0, 0, 0, 0, 55]])
MASK = (IDS > 0).long()


def assistant(main, kind="Gemma4Assistant", **entries):
    """The reference's assistant of a reference's model, with random weights."""
    text = main.config.get_text_config().to_dict() | {
        "num_hidden_layers": 3, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "hidden_size": 16, "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0,
        "use_double_wide_mlp": False, "enable_moe_block": False,
    }  # fmt: skip
    text["per_layer_config"] = {2: next(iter(text["per_layer_config"].values()))}  # the size of full layers
    config = getattr(transformers, f"{kind}Config")(
        text_config=text,
        backbone_hidden_size=main.config.hidden_size,
        num_centroids=9,
        centroid_intermediate_top_k=4,
        **entries,
    )
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
        if entries.get("use_ordered_embeddings"):
            model.masked_embedding.token_ordering.copy_(torch.randperm(99))
    return model


@pytest.fixture(autouse=True)
def sharing(monkeypatch):
    """The reference refuses configs whose layers all share keys, which its own assistants need."""
    usual = transformers.Gemma4TextConfig.kv_sharing_modes.fget

    def modes(config):
        every = config.num_kv_shared_layers == config.num_hidden_layers
        return ["reuse"] * config.num_hidden_layers if every else usual(config)

    monkeypatch.setattr(transformers.Gemma4TextConfig, "kv_sharing_modes", property(modes))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Gemma 4 of the reference and of this library."""
    folder, peer = tmp_path_factory.mktemp("gemma4"), reference(ROWS["gemma4-shared-keys"], "ForCausalLM")
    peer.save_pretrained(folder)
    return peer, AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("ordered", [False, True])
def test_an_assistant_scores_as_the_references(both, tmp_path, ordered, monkeypatch):
    peer, model = both
    other = assistant(peer, use_ordered_embeddings=ordered)
    other.save_pretrained(tmp_path)
    head, prompt, seen = DraftHead.from_pretrained(tmp_path), IDS[1].tolist() * 3, []
    step = head.step
    monkeypatch.setattr(head, "step", lambda *given: (seen.append((given, step(*given))), seen[-1][1])[1])
    model.generate([prompt], assistant_model=head, num_assistant_tokens=2, **{**END, "max_new_tokens": 4})
    with torch.no_grad():
        out = peer(torch.tensor([prompt]), output_hidden_states=True, return_shared_kv_states=True)
        state, token, place = (
            out.hidden_states[-1][:, -1:],
            out.logits[:, -1:].argmax(-1),
            torch.tensor([[len(prompt)]]),
        )
        for given, (logits, after) in seen[:2]:
            assert given[0] == int(token)
            vectors = torch.cat([peer.get_input_embeddings()(token), state], -1)
            expected = other(inputs_embeds=vectors, position_ids=place, shared_kv_states=out.shared_kv_states)
            torch.testing.assert_close(logits, expected.logits[0], atol=2e-5, rtol=2e-5)
            torch.testing.assert_close(after, expected.last_hidden_state[0], atol=2e-5, rtol=2e-5)
            token, state = expected.logits.argmax(-1), expected.last_hidden_state


@pytest.mark.parametrize("kind", ["Gemma4Assistant", "Gemma4UnifiedAssistant"])
def test_an_assistant_changes_no_token(both, tmp_path, kind):
    peer, model = both
    assistant(peer, kind).save_pretrained(tmp_path)
    head = DraftHead.from_pretrained(tmp_path)
    expected = model.generate(IDS, attention_mask=MASK, **END)
    assert model.generate(IDS, attention_mask=MASK, assistant_model=head, **END).tolist() == expected.tolist()
    drawn = {"do_sample": True, "seed": 4, "top_k": 5, **END}
    assert model.generate(IDS, attention_mask=MASK, assistant_model=head, **drawn).shape == expected.shape


def test_another_model_is_refused(both, llama, tmp_path):
    assistant(both[0]).save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match="made for a Gemma 4"):
        AutoModelForCausalLM.from_pretrained(llama).generate(IDS, assistant_model=DraftHead.from_pretrained(tmp_path))
