"""The reference's model of the same weights and prompts, by way of a folder that both libraries read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from typing import Any

from multihead import AutoModelForCausalLM, AutoTokenizer
from multihead.pipelines.answers import WithNotices
from multihead.pipelines.defaults import SMOLLM2


@cache
def smollm2() -> Any:
    """Return the reference's SmolLM2 in float32."""
    import transformers

    folder = tempfile.mkdtemp()
    AutoModelForCausalLM.from_pretrained(SMOLLM2.name, dtype="float32").save_pretrained(folder)
    AutoTokenizer.from_pretrained(SMOLLM2.name).save_pretrained(folder)
    transformers.utils.logging.set_verbosity_error()
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def generated(model: Any, pipe: Any, items: Sequence[Any], **options: Any) -> list[Any]:
    """Return the answers that a pipeline of ours makes of what the reference's `generate` writes to its prompts."""
    import torch

    o, answers = pipe.resolve_options(**options), []
    config = pipe.full_config(o)
    for item in items:
        valid = pipe.validate(item, o)
        inputs = pipe.preprocess([valid], o)[0]
        sequences = []
        for each in inputs:
            ids = torch.tensor([list(each.ids)])
            with torch.no_grad():
                out = model.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                    eos_token_id=list(config.ends), max_new_tokens=config.max_new_tokens,
                )  # fmt: skip
            sequences.append([out[0, ids.shape[1] :].tolist()])
        answer = pipe.postprocess(valid, inputs, sequences, o)
        answers.append(answer.answer if isinstance(answer, WithNotices) else answer)
    return answers


def scored(model: Any, pipe: Any, texts: Sequence[str], **options: Any) -> list[Any]:
    """Return the log-probabilities (words,) that the reference gives to the label words of a prompt pipeline."""
    import torch

    o, found = pipe.resolve_options(**options), []
    for inputs in pipe.preprocess(list(texts), o):
        rows = []
        for each in inputs:
            with torch.no_grad():
                logits = model(torch.tensor([list(each.ids)])).logits[0].log_softmax(-1)
            own = logits[list(each.note.positions), list(each.note.tokens)]
            rows.append(own.mean()[None] if each.note.single_word else own)
        found.append(torch.cat(rows))
    return found
