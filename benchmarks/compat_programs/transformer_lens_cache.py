"""TransformerLens: a model converted from a loaded one, with its cache of activations."""

import sys

from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoTokenizer, GPT2LMHeadModel

models, work = sys.argv[1:3]
loaded = GPT2LMHeadModel.from_pretrained(f"{models}/gpt2")

c = loaded.config
config = HookedTransformerConfig(
    n_layers=c.n_layer,
    d_model=c.n_embd,
    n_ctx=c.n_positions,
    d_head=c.n_embd // c.n_head,
    n_heads=c.n_head,
    d_vocab=c.vocab_size,
    act_fn="gelu_new",
    eps=c.layer_norm_epsilon,
    normalization_type="LN",
    device="cpu",
)
model = HookedTransformer(config)
model.load_and_process_state_dict(
    convert_gpt2_weights(loaded, config), fold_ln=False, center_writing_weights=False, center_unembed=False
)
ids = AutoTokenizer.from_pretrained(f"{models}/gpt2")("the film was a joy", return_tensors="pt")["input_ids"]
logits, cache = model.run_with_cache(ids)
answer = {"logits": logits[0, -1, :6].tolist(), "pattern": cache["pattern", 0][0, 0].tolist()}
