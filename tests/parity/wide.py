"""Wide twins of the parity cases: the same configs with heads of 16 or 32, which the C++ kernels compute.

The cases' own heads are 6 to 12 wide and the fast paths need multiples of 16, so the cases themselves run layer by
layer. This module is the only place of the parity suite that touches the internals of the fast paths.

`python -m tests.parity.wide` writes `paths/`, the path that each twin takes, anew: a table for each module of cases.
Modules that are named (`python -m tests.parity.wide llama gpt`) are written alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers

import multihead
from multihead import GenerationConfig
from multihead.generation.engine.scheduler import Engine
from multihead.generation.generate import submit_job
from multihead.generation.strategies.base import GenerationJob
from multihead.kernels.cpu import native
from multihead.runtime.cpu_decode import CpuDecodeStep
from multihead.runtime.cpu_stack import NativeStack

from .case import WORDS, Case, batch, reference, writes
from .cases import CASES, MODULES

TABLES = Path(__file__).with_name("paths")
COMMAND = "python -m tests.parity.wide"
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"precision": "bf16", "dtype": torch.bfloat16},
    "int8": {"precision": "int8", "dtype": torch.float32},
    "int4": {"precision": "int4", "dtype": torch.bfloat16},
}
PREPARED = tuple(name for name in PRECISIONS if name != "float32")
NEW = 6  # tokens that a greedy search adds
BEAMS = 3
PIECES = (5, 1, 1)  # tokens of the passes over one cache

# Widths -----------------------------------------------------------------------------------------------------------

HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads", "attention_heads")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "emb_dim")
HEAD_WIDTHS = ("head_dim", "d_kv", "d_head")
SIZES = {  # entries that are equal in all twins whose config has them
    "intermediate_size": 80, "ffn_dim": 80, "d_ff": 80, "d_inner": 80, "encoder_ffn_dim": 80, "decoder_ffn_dim": 112,
    "n_inner": 80, "dff": 80, "hidden_dim": 80, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 48,
    "embedding_size": 32, "input_embedding_size": 32, "output_embedding_size": 48, "word_embed_proj_dim": 32,
    "rotary_dim": 8, "state_size": 16,
}  # fmt: skip
DERIVED = ("pooler_hidden_size", "qk_head_dim", "true_hidden_size", "time_step_rank")  # from other entries, or None
LATENT = {"kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "head_dim": 16}
SIDES = {"encoder_attention_heads": 2, "decoder_attention_heads": 4, "d_model": 64}  # heads of 32 and of 16
DELTA = {"linear_key_head_dim": 16, "linear_value_head_dim": 32}
SSM = {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16}
MAMBA = {"mamba_n_heads": 12, "mamba_d_head": 16, "mamba_d_state": 16, "shared_intermediate_size": 64}
OWN: dict[str, dict[str, Any]] = {  # by model_type, what does not follow from the number of heads
    "bailing_hybrid": {**LATENT, "linear_head_dim": 16},
    "bamba": MAMBA,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    **dict.fromkeys(("axk1", "axk2", "deepseek_v32", "glm_moe_dsa", "hy_v4", "mistral_large4_text"), LATENT),
    **dict.fromkeys(("longcat_flash", "minicpm3", "youtu"), LATENT),
    "falcon": {"ffn_hidden_size": 256},
    "falcon_h1": SSM,
    "granitemoehybrid": MAMBA,
    "lilt": {"num_attention_heads": 6, "hidden_size": 96, "channel_shrink_ratio": 4},
    "roc_bert": {"shape_embed_dim": 64, "pronunciation_embed_dim": 64},
    "falcon_mamba": {"hidden_size": 48, "intermediate_size": 96},
    "recurrent_gemma": {"lru_width": 96, "head_dim": 16},
    "mamba": {"hidden_size": 48, "intermediate_size": 96},
    "mamba2": {"hidden_size": 64, "num_heads": 8, "head_dim": 16, "intermediate_size": 128},
    "mobilebert": {"hidden_size": 96, "intra_bottleneck_size": 64},
    "glm5_next_text": {**LATENT, "qk_rope_head_dim": 0, "head_dim": 0, "linear_head_dim": 16},
    "kimi_linear": {**LATENT, "linear_head_dim": 16},
    **dict.fromkeys(("olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), DELTA),
    "nemotron_h": {
        "mamba_num_heads": 12,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "moe_latent_size": 32,
        "moe_shared_expert_intermediate_size": 64,
    },
    "prophetnet": {"num_encoder_attention_heads": 2, "num_decoder_attention_heads": 4, "hidden_size": 64},
    "reformer": {"axial_pos_embds_dim": [32, 64], "attention_head_size": 16},
    "rwkv": {"hidden_size": 48, "attention_hidden_size": 48, "intermediate_size": 96},
    "zamba": {"hidden_size": 96, "attention_hidden_size": 192, "attention_head_dim": 32, "mamba_d_state": 16},
    "zamba2": {
        "hidden_size": 96,
        "attention_hidden_size": 192,
        "attention_head_dim": 32,
        "mamba_d_state": 16,
        "n_mamba_heads": 12,
        "mamba_headdim": 16,
    },
    "squeezebert": {"num_attention_heads": 3, "hidden_size": 48, "embedding_size": 48, "intermediate_size": 96},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    **dict.fromkeys(
        (
            *("bart", "bigbird_pegasus", "mbart", "mvp", "plbart", "pegasus", "pegasus_x"),
            *("m2m_100", "blenderbot", "blenderbot-small", "led", "marian", "nllb-moe"),
        ),
        SIDES,
    ),
}
NOT_PREPARED = ("squeezebert",)  # no linear layers to pack
# Cases whose numbers depend on how many tokens one pass reads: teacher forcing gives other ones than decode steps.
# An expert's places are counted in each pass; tokens that are sorted by hashes have other neighbours in each.
BY_PASS = ("switch-all-layers-overflowing", "reformer-decoder")


def entry(config: Any, names: tuple[str, ...]) -> str:
    """Return the first of the names that a config's file has with a whole number; empty for none."""
    entries = config.to_dict()  # attributes would answer to other families' names too
    return next((name for name in names if isinstance(entries.get(name), int)), "")


def hidden_size(config: Any) -> int:
    return config.to_dict()[entry(config, HIDDEN)]


def widen(config: Any) -> Any:
    """Build a config like another, with heads of 16 or 32 and all widths multiples of 16.

    Widths that were unlike each other stay unlike, and heads whose joint width was not the model's keep that too.
    """
    kind, own = config.model_type, OWN.get(config.model_type, {})
    if kind == "encoder-decoder":
        return pair(config)
    if kind == "t5gemma":
        return t5gemma(config)
    if kind == "t5gemma2":
        return t5gemma2(config)
    if kind == "blt":
        return blt(config)
    old = config.to_dict()
    heads, hidden = entry(config, HEADS), entry(config, HIDDEN)
    count, width = own.get(heads, old.get(heads)), old[hidden]
    new = own.get(hidden, count * 16 if count else 0)
    entries = {name: value for name, value in SIZES.items() if isinstance(old.get(name), int)}
    entries |= {name: new for name in ("embedding_size", "word_embed_proj_dim") if old.get(name) == width}
    for name in HEAD_WIDTHS:
        if isinstance(old.get(name), int):
            entries[name] = 16 if old[name] * count == width else 32
    entries |= {hidden: new, **own}
    if "q_lora_rank" in old and old["q_lora_rank"] is not None:
        entries["q_lora_rank"] = 48
    entries["rope_parameters"] = rope(old.get("rope_parameters"))
    derived = (*DERIVED, "model_type", "transformers_version")
    if config.model_type == "mistral4":  # whose reference works these out from the widths of a head's parts
        entries["rope_parameters"].pop("partial_rotary_factor", None)
        entries, derived = {k: v for k, v in entries.items() if k != "head_dim"}, (*derived, "head_dim")
    kept = {name: value for name, value in old.items() if name not in derived}
    known = {name: value for name, value in entries.items() if name in old}
    return type(config)(**{**kept, **known})


def rope(parameters: Any) -> Any:
    """Lengthen factors by channel, of which there is one for each pair of a head's channels."""
    if not isinstance(parameters, dict):
        return parameters
    longer = {name: (value * 8)[:8] for name, value in parameters.items() if isinstance(value, list)}
    return {**parameters, **longer}


def doubled(config: Any) -> Any:
    """Build a config like another, twice as wide, heads included."""
    entries = config.to_dict()
    hidden = entry(config, HIDDEN)
    entries = {name: value for name, value in entries.items() if name not in ("model_type", "transformers_version")}
    return type(config)(**{**entries, hidden: 2 * entries[hidden]})


def unlike(config: Any) -> tuple[Any, Any]:
    """Widen an encoder and a decoder; widths that were unlike stay unlike."""
    parts = config.encoder, config.decoder
    one, other = map(widen, parts)
    if len(set(map(hidden_size, parts))) == 2 and hidden_size(one) == hidden_size(other):
        other = doubled(other)
    return one, other


def pair(config: Any) -> Any:
    made = type(config).from_encoder_decoder_configs(*unlike(config))
    for name in ("pad_token_id", "decoder_start_token_id", "eos_token_id"):
        setattr(made, name, getattr(config, name))
    return made


def t5gemma(config: Any) -> Any:
    encoder, decoder = unlike(config)
    own = {name: getattr(config, name) for name in ("is_encoder_decoder", "tie_word_embeddings")}
    return type(config)(encoder=encoder, decoder=decoder, vocab_size=WORDS, num_labels=3, **own)


def t5gemma2(config: Any) -> Any:
    """Build a config of a pair whose sides have heads of 16, with the same windows, layers and tower."""
    entries = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "transformers_version")}
    new = {"hidden_size": 64, "intermediate_size": 80, "head_dim": 16}
    entries["encoder"]["text_config"] |= new
    return type(config)(**{**entries, "decoder": entries["decoder"] | new})


def blt(config: Any) -> Any:
    """Build a config whose four stacks have heads of 16, with the same rows of words and groups."""
    entries = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "transformers_version")}
    names = ("patcher_config", "encoder_config", "decoder_config", "global_config")
    same = config.global_config.hidden_size == config.cross_attn_k * config.encoder_config.hidden_size
    deep = 128 if same else 64
    for name in names:
        width = deep if name == "global_config" else 64
        new = {"hidden_size": width, "intermediate_size": 80, "hidden_size_global": deep}
        old = entries[name]
        entries[name] = {k: new.get(k, v) for k, v in old.items() if k not in ("head_dim", "model_type")}
    return type(config)(**entries)


def growth(old: Any, new: Any) -> float:
    """Return how many times wider a config is than another."""
    sides = (getattr(config, "encoder", config) for config in (old, new))
    one, other = (getattr(side, "text_config", getattr(side, "encoder_config", side)) for side in sides)
    return hidden_size(other) / hidden_size(one)


@cache
def wide(case: Case) -> Case:
    """Return a case's twin; sums are longer: weights are smaller, and tolerance larger, by the root of the growth."""
    factor = growth(case.made, widen(case.made)) ** -0.5
    scaled = {"std": case.std * factor, "tolerance": case.tolerance / factor}

    def altered(model: Any, end: str) -> None:
        case.altered(model, end)
        for name, parameter in model.named_parameters():  # with biases of one sign a model writes one token for ever
            if name.endswith("bias") and parameter.ndim == 1 and not any(part in name for part in case.fixed):
                parameter.sub_(parameter.mean())
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.mul_(0.1)

    return dataclasses.replace(case, make=lambda: widen(case.made), altered=altered, **scaled)


def continues(case: Case, end: str) -> bool:
    """Return whether a class continues texts, as the reference does too."""
    return writes(case, end) and case.greedy


TWINS = [
    (wide(case), end) for case in CASES for end in ([end for end in case.ends if continues(case, end)] or case.ends[:1])
]
NAMES = [f"{case.name}/{end}" for case, end in TWINS]

# Paths ------------------------------------------------------------------------------------------------------------


def kernels() -> bool:
    """Return whether the library of kernels is there."""
    return native.library() is not None


def no_table() -> str:
    """Return why this machine's paths are not those of the table; empty where they are."""
    if not kernels():
        return f"no C++ kernels: {native.why_not()}"
    if not str(native.level()).startswith(("avx512", "amx")):
        return f"at the level {native.level()!r} torch multiplies batches with weights as they are loaded"
    return ""


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the decode steps that one call of the kernels makes, and the passes of the native stack."""
    calls: Counter[str] = Counter()
    walk, steps = CpuDecodeStep.run, NativeStack.run

    def decode(self: Any, *args: Any, **options: Any) -> Any:
        made = walk(self, *args, **options)
        calls["decode"] += len(made[2])
        return made

    def stack(self: Any, *args: Any, **options: Any) -> Any:
        calls["stack"] += 1
        return steps(self, *args, **options)

    with mock.patch.object(CpuDecodeStep, "run", decode), mock.patch.object(NativeStack, "run", stack):
        yield calls


@contextmanager
def by_layers() -> Iterator[None]:
    """Run every model layer by layer, one Python call for each layer."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, MULTIHEAD_RUNNER="eager"))
        stack.enter_context(mock.patch.object(NativeStack, "serves", return_value=False))
        yield


# Runs -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """Results of one model on one path, and how many times a fast path computed each of them."""

    precision: str
    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    calls: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)


class Twin:
    """A wide twin with the checkpoint that the reference has saved: one for all precisions.

    Args:
        folder: to save in.
    """

    def __init__(self, case: Case, end: str, folder: Path) -> None:
        self.case, self.end, self.folder = case, end, folder
        self.name = f"{case.name}/{end}"
        self.writes = continues(case, end)
        self.prepared = () if case.made.model_type in NOT_PREPARED else PREPARED
        self.reference = reference(case, end)
        self.reference.save_pretrained(folder)
        self._models: dict[str, Any] = {}
        self._fast: dict[str, Run] = {}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        return batch(self.case, self.end)

    @cached_property
    def prompts(self) -> dict[str, Any]:
        """Prompts of unlike lengths for `generate`, padded on the left for a decoder."""
        both = self.case.reads_a_source(self.end)
        found = self.inputs if both else batch(self.case, self.end, side="left")
        return {name: value for name, value in found.items() if name not in ("decoder_input_ids", "token_type_ids")}

    @property
    def kind(self) -> str:
        return self.case.made.model_type

    @torch.no_grad()
    def reference_scores(self, sequences: torch.Tensor) -> torch.Tensor:
        """Return the reference's scores of each new token, (texts, NEW, vocabulary), from one pass over whole texts.

        Args:
            sequences: what `generate` gave for `prompts`: texts padded on the left, or targets.
        """
        if self.case.reads_a_source(self.end):
            return self.reference(**self.prompts, decoder_input_ids=sequences[:, :-1]).logits[:, -NEW:]
        mask, ids = self.prompts["attention_mask"], sequences[:, :-1]
        scores = []
        for row, length in zip(ids, mask.sum(1).tolist(), strict=True):  # one by one: pads count as places for some
            text = row[len(row) - length - NEW + 1 :][None]
            scores.append(self.reference(input_ids=text).logits[0, -NEW:])
        return torch.stack(scores)

    def model(self, precision: str) -> Any:
        """Return the model in a precision, loaded once."""
        if precision not in self._models:
            kind = getattr(multihead, self.case.family + self.end)
            self._models[precision] = kind.from_pretrained(self.folder, **PRECISIONS[precision])
        return self._models[precision]

    def fast(self, precision: str) -> Run:
        """Run on the path that the library chooses; computed once."""
        if precision not in self._fast:
            self._fast[precision] = self._run(precision, self.model(precision))
        return self._fast[precision]

    def layers(self, precision: str) -> Run:
        """Run the same model layer by layer."""
        with by_layers():
            return self._run(precision, self.model(precision))

    def begun(self, run: Run) -> torch.Tensor:
        """Return the texts that the fast path has written in a run's precision."""
        return self._fast.get(run.precision, run).results["greedy"]["sequences"]

    @torch.inference_mode()
    def _run(self, precision: str, model: Any) -> Run:
        run = Run(precision)
        for name, task in self._tasks(precision).items():
            with counted() as calls:
                run.results[name] = task(self, model, run)
            run.calls[name] = calls
        return run

    def _tasks(self, precision: str) -> dict[str, Any]:
        """Return what is computed in a precision, by name; nothing twice that has no fast path."""
        row, prepared = table().get(self.name, {}), precision != "float32"
        tasks: dict[str, Any] = {"forward": forward}
        if precision == "bf16" and row.get("stack") == "native":
            tasks["padded left"] = padded_left
        if self.writes:
            tasks |= {"greedy": greedy, "continued": continued, "beams": beams}
            if prepared and self.case.chunks:  # as loaded, passes over a cache have no fast path
                tasks["pieces"] = pieces
            if precision in ("float32", "bf16") and row.get("loaded greedy") == "cpu":
                tasks["shared blocks"] = shared_blocks
        return tasks

    def paths(self) -> dict[str, str]:
        """Return which path each kind of work takes, as its table has it."""
        half = [part for part in self.prepared if PRECISIONS[part]["dtype"] is torch.bfloat16]
        paths = {"stack": named("stack", {part: self.fast(part).calls["forward"]["stack"] for part in half}, 1)}
        if self.writes:
            for kind, precisions in (("loaded", ("float32",)), ("prepared", self.prepared)):
                for name in ("greedy", "beams"):
                    steps = {part: self.fast(part).calls[name]["decode"] for part in precisions}
                    paths[f"{kind} {name}"] = named("decode", steps, NEW - 1)
        return paths


def named(kind: str, steps: dict[str, int], all_steps: int) -> str:
    """Name the path of precisions that made so many of all steps on a fast one."""
    fast = {"stack": "native", "decode": "cpu"}[kind]
    if not steps:
        return "none"
    names = [
        "layers" if not made else fast if made >= all_steps else f"{fast} for {made} of {all_steps} steps"
        for made in steps.values()
    ]
    return names[0] if len(set(names)) == 1 else ", ".join(f"{a}: {b}" for a, b in zip(steps, names, strict=True))


def forward(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    """Compute all outputs of a batch of unlike lengths."""
    return tensors(model(**twin.inputs))


def padded_left(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    return tensors(model(**batch(twin.case, twin.end, side="left")))


def tensors(outputs: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in outputs.items() if isinstance(v, torch.Tensor) and k != "loss"}


FREE: dict[str, Any] = {
    "do_sample": False, "return_dict_in_generate": True, "eos_token_id": None, "forced_eos_token_id": None,
    "encoder_no_repeat_ngram_size": 0,  # Blenderbot's would count what a first call has written
}  # fmt: skip


def searched(out: Any) -> dict[str, Any]:
    """Return what a search found, its scores as one tensor (steps, texts, vocabulary)."""
    more = {} if out.get("sequences_scores") is None else {"sequences_scores": out.sequences_scores}
    return {"sequences": out.sequences, "scores": torch.stack(tuple(out.scores)), **more}


def greedy(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    """Continue texts of unlike lengths by NEW tokens."""
    return searched(model.generate(**twin.prompts, **FREE, max_new_tokens=NEW, num_beams=1, output_scores=True))


def continued(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    """Continue what a first call has written on the fast path, its last three tokens left out."""
    begun = twin.begun(run)[:, :-3]
    given = dict(twin.prompts)
    if twin.case.reads_a_source(twin.end):
        given["decoder_input_ids"] = begun
    else:
        mask = given["attention_mask"]
        given |= {"input_ids": begun, "attention_mask": torch.cat([mask, mask.new_ones(len(mask), NEW - 3)], 1)}
    return searched(model.generate(**given, **FREE, max_new_tokens=3, num_beams=1, output_scores=True))


def beams(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    """Continue two texts with three beams each."""
    given = {name: value[:2] for name, value in twin.prompts.items()}
    return searched(model.generate(**given, **FREE, max_new_tokens=NEW, num_beams=BEAMS, output_scores=True))


def pieces(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    """Read texts in several passes over one cache."""
    ids = torch.arange(5, 5 + 3 * sum(PIECES)).view(3, -1)
    given = {k: v for k, v in twin.prompts.items() if k != "input_ids" or twin.case.reads_a_source(twin.end)}
    name = "decoder_input_ids" if twin.case.reads_a_source(twin.end) else "input_ids"
    cache, parts = None, []
    for piece in ids.split(list(PIECES), 1):
        rest = given if name == "decoder_input_ids" else {}
        out = model(**{name: piece}, **rest, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        parts.append(out.logits)
    return {"logits": torch.cat(parts, 1)}


def shared_blocks(twin: Twin, model: Any, run: Run) -> dict[str, Any]:
    """Continue texts of 34, 34 and 30 tokens by four, several steps in one call, over the ends of blocks of 32.

    The second text of a decoder comes later than the first one and shares the block in which both are alike.
    """
    shared = [5 + n % 90 for n in range(0, 33 * 7, 7)]
    texts = [[*shared, 11], [*shared, 12], [6 + n % 90 for n in range(0, 30 * 11, 11)]]
    config = GenerationConfig(max_new_tokens=4, min_new_tokens=4, do_sample=False)
    if twin.case.reads_a_source(twin.end):
        mask = torch.tensor([[0] * (34 - len(text)) + [1] * len(text) for text in texts])
        ids = torch.tensor([[0] * (34 - len(text)) + text for text in texts])
        given = {"decoder_input_ids": ids, "decoder_attention_mask": mask}
        return {"tokens": model.generate(**twin.prompts, **given, **FREE, max_new_tokens=4).sequences[:, -4:]}
    engine, jobs = Engine(model), [GenerationJob(text, config, len(text) + 4) for text in texts]
    submit_job(engine, jobs[0])
    engine.step()
    for job in jobs[1:]:
        submit_job(engine, job)
    engine.run()
    return {"tokens": torch.tensor([job.results[0] for job in jobs])}


# The table --------------------------------------------------------------------------------------------------------


@cache
def table() -> dict[str, dict[str, str]]:
    """Return the path of each twin, by its name, in the order of the cases."""
    files = [TABLES / f"{name}.json" for name in MODULES]
    return {name: row for file in files if file.exists() for name, row in json.loads(file.read_text("utf-8")).items()}


def write_table(module: str) -> None:
    """Write the table of one module of cases anew."""
    cases, rows = MODULES[module], {}
    for (case, end), name in zip(TWINS, NAMES, strict=True):
        if case.name in {other.name for other in cases}:
            with tempfile.TemporaryDirectory() as folder:
                rows[name] = Twin(case, end, Path(folder)).paths()
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (TABLES / f"{module}.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{module}: {len(rows)} twins")


def main() -> None:
    """Write the tables of the named modules, by default of all."""
    if no_table():
        sys.exit(f"The tables are for AVX-512 kernels. Here: {no_table()}.")
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for module in sys.argv[1:] or MODULES:
        write_table(module)


if __name__ == "__main__":
    main()
