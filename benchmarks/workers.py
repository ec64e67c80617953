"""Peers that generate: each one a process of its own that loads once and then runs a job whenever it is told to.

python benchmarks/workers.py PEER FOLDER PRECISION reads a job a line on standard input, JSON with `prompts` (lists of
ids), `new` (tokens for each) and `beams`, and answers with a line of JSON: seconds and tokens made.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Run = Callable[[Job], int]  # runs a job; the number of tokens made


def multihead(folder: str, precision: str) -> Run:
    from multihead import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from multihead.generation.generate import run

    both = json.loads((Path(folder) / "config.json").read_text()).get("is_encoder_decoder")
    kind = AutoModelForSeq2SeqLM if both else AutoModelForCausalLM
    how = "dtype" if precision in ("float32", "bfloat16") else "precision"  # as it was loaded, or prepared
    model = kind.from_pretrained(folder, **{how: precision})

    def work(job: Job) -> int:
        from multihead.generation.strategies.base import Extras

        prompts, encoder_output = job["prompts"], None
        config = model.generation_config.changed(num_beams=job["beams"], min_new_tokens=max(job["new"]), eos_token_id=3)
        if both:
            encoder_output = model.encode_texts(prompts)
            prompts = [[config.decoder_start_token_id]] * len(prompts)
        limits = [len(prompt) + new for prompt, new in zip(prompts, job["new"], strict=True)]
        jobs = run(model, prompts, config, limits, encoder_output=encoder_output, extras=Extras(), streamer=None)
        return sum(len(text) for each in jobs for text in each.results)

    return work


def reference(folder: str, precision: str, *, way: str) -> Run:
    """`alone`: one `generate` after another; `padded`: one batch; `continuous`: its continuous batching."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    both = json.loads((Path(folder) / "config.json").read_text()).get("is_encoder_decoder")
    kind = AutoModelForSeq2SeqLM if both else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=getattr(torch, precision)).eval()

    def padded(prompts: Sequence[Sequence[int]], new: int, beams: int) -> int:
        longest = max(map(len, prompts))
        fill = [[0] * (longest - len(p)) for p in prompts]
        sides = (lambda a, b: [*b, *a]) if both else (lambda a, b: [*a, *b])
        ids = torch.tensor([sides(f, p) for f, p in zip(fill, prompts, strict=True)])
        mask = torch.tensor([sides([0] * len(f), [1] * len(p)) for f, p in zip(fill, prompts, strict=True)])
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, num_beams=beams, do_sample=False,
            eos_token_id=3, pad_token_id=0,
        )  # fmt: skip
        return int(out.shape[0]) * new

    def work(job: Job) -> int:
        prompts, new = job["prompts"], job["new"]
        if way == "padded":
            return sum(new) if padded(prompts, max(new), job["beams"]) else 0  # what was asked for counts, no more
        if way == "alone":
            return sum(padded([p], n, job["beams"]) for p, n in zip(prompts, new, strict=True))
        config = GenerationConfig(max_new_tokens=max(new), do_sample=False, eos_token_id=-1, pad_token_id=0)
        done = model.generate_batch(inputs=[list(p) for p in prompts], generation_config=config)
        assert len(done) == len(prompts)
        return sum(new)

    return work


def ctranslate2(folder: str, precision: str) -> Run:
    import ctranslate2 as library

    names = {"float32": "float32", "int8": "int8"}
    translator = library.Translator(
        str(Path(folder) / "ctranslate2"), compute_type=names[precision], intra_threads=os.cpu_count() or 1
    )

    def work(job: Job) -> int:
        sources = [[f"t{token}" for token in prompt] for prompt in job["prompts"]]
        new = max(job["new"])
        out = translator.translate_batch(
            sources, beam_size=job["beams"], max_decoding_length=new, min_decoding_length=new, max_input_length=0
        )
        return sum(len(result.hypotheses[0]) for result in out)

    return work


def llama_cpp(file: str, precision: str) -> Run:
    import llama_cpp
    from llama_cpp import Llama

    usual = llama_cpp.llama_model_default_params

    def without_extra_buffers() -> Any:
        parameters = usual()
        parameters.use_extra_bufts = False  # its repacked weights crash with AMX
        return parameters

    llama_cpp.llama_model_default_params = without_extra_buffers
    llama_cpp.llama_cpp.llama_model_default_params = without_extra_buffers
    model = Llama(file, n_ctx=2048, n_threads=os.cpu_count(), verbose=False, logits_all=False)

    def work(job: Job) -> int:
        made = 0
        for prompt, new in zip(job["prompts"], job["new"], strict=True):
            model.reset()
            for _, _token in zip(range(new), model.generate(prompt, temp=0.0, reset=True), strict=False):
                made += 1
        return made

    return work


def peer(name: str, folder: str, precision: str) -> Run:
    if name == "multihead":
        return multihead(folder, precision)
    if name.startswith("reference-"):
        return reference(folder, precision, way=name.removeprefix("reference-"))
    return {"ctranslate2": ctranslate2, "llama.cpp": llama_cpp}[name](folder, precision)


def main() -> None:
    run = peer(*sys.argv[1:4])
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        begin = time.perf_counter()
        made = run(job)
        print(json.dumps({"seconds": time.perf_counter() - begin, "tokens": made}), flush=True)


if __name__ == "__main__":
    main()
