"""nnsight: read and change states inside a traced pass."""

import sys

from nnsight import LanguageModel
from transformers import AutoModelForCausalLM, AutoTokenizer

models, work = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(f"{models}/gpt2")
model = LanguageModel(AutoModelForCausalLM.from_pretrained(f"{models}/gpt2").eval(), tokenizer=tokenizer)
with model.trace("the film was a joy"):
    states = model.transformer.h[0].output.save()
    logits = model.lm_head.output.save()
with model.trace("the film was a joy"):
    model.transformer.h[1].mlp.output[:] = 0
    changed = model.lm_head.output.save()
states = states[0] if isinstance(states, tuple) else states
answer = {
    "states": states.flatten()[:6].tolist(),
    "logits": logits[0, -1, :6].tolist(),
    "changed": changed[0, -1, :6].tolist(),
}
