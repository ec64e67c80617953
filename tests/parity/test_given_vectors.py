"""Word vectors in place of ids: the reference's give its numbers, and a model's own give what its ids give."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch

import multihead
from multihead.errors import InvalidInput

from .case import Case, batch
from .cases import PAIRS
from .test_families import close

GIVEN = {"input_ids": "inputs_embeds", "decoder_input_ids": "decoder_inputs_embeds"}


def scaled(case: Case) -> Case | None:
    """The case with word vectors scaled, where its config may say so and does not."""
    name = next((n for n in ("scale_embedding", "rescale_embeddings") if hasattr(case.made, n)), None)
    name = "scale_embedding" if case.family == "LED" else name  # which scales nothing there
    if name is None or getattr(case.made, name, False):
        return None

    def make() -> Any:
        config = case.make()
        setattr(config, name, True)
        return config

    return replace(case, name=f"{case.name}-scaled", make=make)


def takers() -> list[tuple[Case, str, str]]:
    """(case, end, name of ids) of every class of the reference that takes vectors in their place."""
    found = []
    more = [(scaled(case), end) for case, end in PAIRS if end in ("Model", "ForCausalLM")]
    for case, end in (*PAIRS, *((case, end) for case, end in more if case is not None)):
        taken = inspect.signature(case.peer(end).forward).parameters
        names = [name for name in GIVEN if GIVEN[name] in taken and name in batch(case, end)]
        if case.family == "FSMT":  # the reference's decoder sees later words where the source is given as vectors
            names = names[1:]
        if case.name != "longformer-questions":  # it finds separators in ids; without them we ask for a mask
            found += [(case, end, name) for name in names]
    return found


TAKERS = takers()


@pytest.mark.parametrize(
    ("case", "end", "name"), TAKERS, ids=[f"{case.name}/{end}-{GIVEN[name]}" for case, end, name in TAKERS]
)
def test_given_vectors_are_read_as_the_reference_reads_them(folders, loaded, case, end, name):
    theirs, mine = folders(case, end)[0], loaded(case, end)
    inputs = batch(case, end, lengths=(9, 9, 9))
    ids = inputs.pop(name)

    def scores(model: Any, **read: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(**{**inputs, **read})[0]

    def table(model: Any) -> Any:
        side = model.get_decoder() if name.startswith("decoder") and hasattr(model, "get_decoder") else model
        return side.get_input_embeddings() if hasattr(side, "get_input_embeddings") else side.embed.token

    try:
        with torch.no_grad():
            vectors, own = table(theirs)(ids), table(mine)(ids)
        expected = scores(theirs, **{GIVEN[name]: vectors.clone()})
    except (ValueError, AttributeError, TypeError, NotImplementedError) as error:
        pytest.skip(f"the reference needs ids here: {error}")
    close(scores(mine, **{GIVEN[name]: vectors}), expected, "scores of the reference's vectors", case.tolerance)
    plain = scores(theirs, **{name: ids})
    if torch.allclose(expected, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max())):
        close(own, vectors, "a model's own vectors", case.tolerance)
        close(scores(mine, **{GIVEN[name]: own}), plain, "scores of a model's own vectors", case.tolerance)


SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("family", "sizes"),
    [("bert", SIZES), ("gpt2", GPT2), ("qwen3", {**SIZES, "num_key_value_heads": 1, "head_dim": 16}), ("t5", T5),
     ("granite", {**SIZES, "num_key_value_heads": 1, "embedding_multiplier": 3.0})],
)  # fmt: skip
@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_vectors_of_another_precision_are_brought_to_the_models(family, sizes, own):
    torch.manual_seed(0)
    model = multihead.AutoModel.from_config(multihead.AutoConfig.for_model(family, **sizes)).eval().to(own)
    end = {"decoder_input_ids": torch.arange(4)[None]} if family == "t5" else {}
    vectors = torch.randn(1, 5, 32)
    with torch.no_grad():
        for given in (vectors, vectors.double(), vectors.bfloat16(), vectors.half()):
            want = model(inputs_embeds=given.to(own), **end).last_hidden_state
            assert torch.equal(model(inputs_embeds=given, **end).last_hidden_state, want)
        with pytest.raises(InvalidInput, match=r"are floating-point numbers, not torch\.int64"):
            model(inputs_embeds=torch.ones(1, 5, 32, dtype=torch.long), **end)
