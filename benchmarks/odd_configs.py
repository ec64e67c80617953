"""Draws legal, unusual configs for every family, and compares each model's numbers with the reference's in float32.

    python benchmarks/odd_configs.py [--seeds 3] [--changes 3] [--only llama,bert]

Each draw changes a few entries of a tiny config to values that its files could hold. The reference makes a random
model of it and saves it; it is loaded here and both read the same batch. A line tells each draw that differs silently,
or fails with an error that is no `MultiheadError`; the last lines count equal, refused and different draws a family.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # noqa: E402
import transformers  # noqa: E402
from tests.parity.case import Case, batch  # noqa: E402
from tests.parity.cases import PAIRS  # noqa: E402

import multihead  # noqa: E402
from multihead.errors import MultiheadError  # noqa: E402

ACTIVATIONS = (
    "gelu",
    "relu",
    "silu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "tanh",
    "quick_gelu",
    "relu2",
    "mish",
    "gelu_fast",
)
KEPT = (  # what names tokens and labels, what generation reads, and the sizes of the tiny models
    """token_id vocab_size label problem dtype architectures max_length use_cache return_dict output_ chunk_size
    hidden_size num_hidden_layers num_attention_heads d_model n_embd n_head n_layer encoder_layers decoder_layers
    num_heads is_encoder_decoder is_decoder cross_attention name_or_path attn_implementation initializer init_std
    torchscript max_position n_positions transformers_version model_type pruned task_specific encoder decoder
    rescale_prenorm_residual"""
).split()


def drawn(name: str, value: Any, rng: random.Random) -> Any:
    """Another value for an entry; the same where none comes to mind."""
    if "act" in name and isinstance(value, str) and value in ACTIVATIONS:
        return rng.choice(ACTIVATIONS)
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        low = 1e-12 if "eps" in name else 0.1
        return rng.choice((low, value * 2 or 0.5, value / 3 or 0.25, 1.0, 3.0 if "prob" not in name else 0.3))
    if isinstance(value, int):
        return rng.choice((1, 2, 3, 4, value + 1, max(value - 1, 1), value * 2))
    if value is None:
        return rng.choice((None, 1, 2, 0.5, True))
    if isinstance(value, dict) and "rope_theta" in value:
        return rng.choice(
            (
                {"rope_type": "default", "rope_theta": 123.0},
                {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0},
                {"rope_type": "dynamic", "rope_theta": 50.0, "factor": 2.0},
                {"rope_type": "yarn", "rope_theta": 50.0, "factor": 2.0, "original_max_position_embeddings": 8,
                 "beta_fast": 4.0, "beta_slow": 1.0, "attention_factor": 0.7},
                {"rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0,
                 "high_freq_factor": 3.0, "original_max_position_embeddings": 8},
            )
        )  # fmt: skip
    return value


def changes(config: Any, count: int, rng: random.Random) -> dict[str, Any]:
    """Entries of a config with new values."""
    entries = config.to_dict()
    names = [n for n in entries if not n.startswith("_") and not any(part in n for part in KEPT)]
    chosen = rng.sample(names, min(count, len(names)))
    found = {name: drawn(name, entries[name], rng) for name in chosen}
    return {name: value for name, value in found.items() if value != entries[name]}


def compare(case: Case, end: str, told: dict[str, Any]) -> str:
    """The outcome of a draw: equal, refused, or the fault; empty where the reference has no such model."""
    kind = case.family + end
    try:
        config = type(case.config(end))(**{**case.config(end).to_dict(), **told})
        torch.manual_seed(0)
        theirs = getattr(transformers, kind)._from_config(config, attn_implementation=case.backend)
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                if not any(part in name for part in case.fixed):
                    parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
        inputs = batch(case, end, lengths=(11, 11, 11))
        with torch.no_grad():
            expected = theirs.eval()(**inputs)[0]
        if not torch.isfinite(expected).all():
            return ""
    except Exception:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        try:
            with torch.no_grad():
                expected = type(theirs).from_pretrained(folder, attn_implementation=case.backend).eval()(**inputs)[0]
        except Exception:
            return ""
        try:
            with torch.no_grad():
                got = getattr(multihead, kind).from_pretrained(folder)(**inputs)[0]
        except MultiheadError as error:
            return f"refused: {type(error).__name__} {str(error).splitlines()[0][:140]}"
        except Exception as error:
            return f"RAW {type(error).__name__}: {str(error)[:140]}"
    if got.shape != expected.shape:
        return f"SHAPE {tuple(got.shape)} but {tuple(expected.shape)}"
    worst = float((got - expected).abs().max() / expected.abs().max())
    return "equal" if worst < 2e-4 else f"DIFFERENT by {worst:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="draws a class")
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--changes", type=int, default=3, help="entries changed in a draw")
    parser.add_argument("--only", default="", help="beginnings of rows' names, with commas")
    parser.add_argument("--refused", action="store_true", help="also print what was refused")
    asked = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    counts: Counter[tuple[str, str]] = Counter()
    for case, end in PAIRS:
        if asked.only and not case.name.startswith(tuple(asked.only.split(","))):
            continue
        for seed in range(asked.first, asked.first + asked.seeds):
            rng = random.Random(f"{case.name} {end} {seed}")
            told = changes(case.config(end), asked.changes, rng)
            result = compare(case, end, told) if told else ""
            if not result:
                continue
            counts[case.make().model_type, result.split(":")[0].split(" ")[0]] += 1
            if result != "equal" and (asked.refused or not result.startswith("refused")):
                print(case.name, end, told, "->", result, flush=True)
    for (family, result), count in sorted(counts.items()):
        print(f"{family:24} {result:10} {count}")


if __name__ == "__main__":
    main()
