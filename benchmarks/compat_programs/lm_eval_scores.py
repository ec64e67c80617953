"""lm-eval: log-likelihoods and generate_until of HFLM."""

import sys

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

models, work = sys.argv[1:3]
model = HFLM(pretrained=f"{models}/llama", device="cpu", batch_size=2, dtype="float32")
pairs = [("the film was", " a joy"), ("where does the river", " begin?"), ("a dull", " plot")]
scores = model.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)])
rolling = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("Anna lives in Berlin.",), 0)])
asked = [
    ("the film was", {"until": ["."], "max_gen_toks": 12, "do_sample": False}),
    ("where does the river begin? It", {"until": ["a", "\n"], "max_gen_toks": 12, "do_sample": False}),
    ("to bake bread", {"until": ["and"], "max_gen_toks": 6, "do_sample": False}),
]
texts = model.generate_until([Instance("generate_until", {}, one, i) for i, one in enumerate(asked)])
answer = {"scores": scores, "rolling": rolling, "texts": texts}
