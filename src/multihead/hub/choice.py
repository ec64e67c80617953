"""Selection of the files to fetch, from the names of a listing alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ..errors import ModelNotFound
from ..gguf_names import models, parts
from .request import Want

CONFIG = "config.json"
INDEX = ".index.json"
WEIGHTS = (
    "prepared.safetensors",
    "model.safetensors",
    "model.safetensors" + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)
# An adapter of another model: what it is, its weights, and what its head's labels are called.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
ADAPTER_LABELS = "multihead_config.json"
MARIAN = "model*.bin"
GGUF = "*.gguf"
# Any one of these is enough to build a tokenizer from.
TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm", "*.tiktoken", "vocab-src.json", "vocab-tgt.json",
    "prophetnet.tokenizer",
)  # fmt: skip
TEKKEN = "tekken.json"  # Mistral's; its folders have one of those files too
# What a sentence encoder does after its transformer. It comes with every config, so that a cached copy that lacks
# modules.json is one of a repository that has none.
MODULES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "[0-9]*_*/config.json",
    "[0-9]*_*/sentence_*_config.json",
    "artifact.metadata",
    "colbert_linear.pt",
    "sparse_linear.pt",
)
# Where older sentence encoders keep their transformer, all others have it right in their folder.
HOME = "0_Transformer/"
# These change what the files above mean, so they are fetched before them.
COMPANIONS = {
    Want.CONFIG: (
        "generation_config.json",
        "hf_quant_config.json",
        "decision.json",
        "decision_template.jinja",
        *MODULES,
    ),
    Want.TOKENIZER: (
        CONFIG,
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/*.jinja",
    ),
    Want.WEIGHTS: (),
    Want.MODULES: MODULES,
}
NEEDS = {
    Want.CONFIG: CONFIG,
    Want.TOKENIZER: "a tokenizer file (tokenizer.json, vocab.txt, vocab.json, *.model, *.spm, *.tiktoken, tekken.json)",
    Want.WEIGHTS: "weights (model.safetensors, pytorch_model.bin, their index, or *.gguf)",
}


@dataclass(frozen=True)
class Choice:
    """Files to fetch.

    Args:
        cores: files without which a folder is not usable; fetched last, so that a folder that has them is complete.
        companions: files that change what the cores mean.
        index: the name of a table of shards, which are cores too, or None.
        single: the one file that is the whole model (a GGUF), or None.
    """

    cores: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    index: str | None = None
    single: str | None = None


def with_variant(name: str, variant: str | None) -> str:
    """Return the name of a file of weights with its variant: model.fp16.safetensors for "fp16"."""
    if variant is None:
        return name
    stem, _, end = name.rpartition(".")
    if re.search(r"-\d{5}-of-\d{5}$", stem):
        return re.sub(r"(-\d{5}-of-\d{5})$", rf".{variant}\1.{end}", stem)
    return f"{stem}.{variant}.{end}"


def choose(
    names: Collection[str], want: Collection[Want], gguf_file: str | None, source: str, variant: str | None = None
) -> Choice:
    """Select the files of `names` (relative, with slashes) that `want` needs.

    Args:
        variant: part of the names of the files of weights, instead of those without one.

    Raises:
        ModelNotFound: a kind of files is not there at all, or several GGUF files are and none was named.
    """
    if gguf_file is not None:
        if gguf_file not in names:
            raise ModelNotFound(
                f"{source} has no file {gguf_file!r}. {suggest_names(gguf_file, match_patterns(names, GGUF))}"
            )
        return Choice(cores=gguf_parts(names, gguf_file, source), single=gguf_file)
    if is_adapter_listing(names):
        return adapter_files(names, want, source)
    cores: list[str] = []
    companions: list[str] = []
    single: str | None = None
    home = HOME if Want.MODULES in want and CONFIG not in names and HOME + CONFIG in names else ""
    inner = [name.removeprefix(home) for name in names if name.startswith(home)]
    for kind in sorted(want, key=list(Want).index):
        if kind is Want.MODULES:
            cores += core_files(names, kind)
            companions += match_patterns(names, *COMPANIONS[kind])
            continue
        found = core_files(inner, kind, variant)
        if not found and kind is Want.WEIGHTS and variant is not None:
            raise ModelNotFound(f"{source} has no weights of the variant {variant!r}. {format_names(names)}")
        if not found:
            single = single_gguf(names, source)
            found = [*gguf_parts(names, single, source)] if single else list(match_patterns(names, MARIAN))
        if not found:
            raise ModelNotFound(f"{source} has no {NEEDS[kind]}. {format_names(names)}")
        cores += [home + name for name in found]
        companions += [home + name for name in match_patterns(inner, *COMPANIONS[kind])]
    indexes = {with_variant(name, variant) for name in WEIGHTS if name.endswith(INDEX)}
    index = next((name for name in cores if name.rpartition("/")[2] in indexes), None)
    return Choice(tuple(dict.fromkeys(cores)), tuple(dict.fromkeys(companions)), index, single)


def core_files(names: Collection[str], kind: Want, variant: str | None = None) -> list[str]:
    """Return the weight files of a kind, except GGUF and Marian; empty if there are none."""
    if kind is Want.CONFIG:
        return [CONFIG] if CONFIG in names else []
    if kind is Want.TOKENIZER:
        return list(match_patterns(names, *TOKENIZERS) or match_patterns(names, TEKKEN))
    if kind is Want.MODULES:
        safe, other = (match_patterns(names, "[0-9]*_*/" + name) for name in ("model.safetensors", "pytorch_model.bin"))
        have = {HOME, *(name.removesuffix("model.safetensors") for name in safe)}
        found = [*safe, *(name for name in other if name.removesuffix("pytorch_model.bin") not in have)]
        return [name for name in found if not name.startswith(HOME)]
    return [name for name in (with_variant(each, variant) for each in WEIGHTS) if name in names][:1]


def is_adapter_listing(names: Collection[str]) -> bool:
    """Return True if a listing is an adapter without a model of its own."""
    return ADAPTER_CONFIG in names and not core_files(names, Want.WEIGHTS) and not match_patterns(names, GGUF, MARIAN)


def adapter_files(names: Collection[str], want: Collection[Want], source: str) -> Choice:
    """Return the files of an adapter, its tokenizer included, so that a copy without one had none.

    Raises:
        ModelNotFound: weights are wanted and are not there.
    """
    weights = [name for name in ADAPTER_WEIGHTS if name in names][:1] if Want.WEIGHTS in want else []
    if Want.WEIGHTS in want and not weights:
        raise ModelNotFound(
            f"{source} has no weights of an adapter ({' or '.join(ADAPTER_WEIGHTS)}). {format_names(names)}"
        )
    companions = match_patterns(names, ADAPTER_LABELS, *TOKENIZERS, *COMPANIONS[Want.TOKENIZER])
    return Choice((*weights, ADAPTER_CONFIG), tuple(companions))


def single_gguf(names: Collection[str], source: str) -> str | None:
    """Return the single GGUF model of a listing, or None: its file, or its first part.

    Raises:
        ModelNotFound: there are several.
    """
    found = models(match_patterns(names, GGUF))
    if len(found) > 1:
        raise ModelNotFound(f"{source} has {len(found)} GGUF files; name one with gguf_file=: {', '.join(found)}.")
    return found[0] if found else None


def gguf_parts(names: Collection[str], name: str, source: str) -> tuple[str, ...]:
    """Return the files of the GGUF model to which a file belongs. Raises ModelNotFound if parts are missing."""
    found = parts(name)
    if missing := [part for part in found if part not in names]:
        raise ModelNotFound(f"{source} has {name!r}, a part of a split model, but not {', '.join(missing)}.")
    return tuple(found)


def is_usable(names: Collection[str]) -> bool:
    """Return True if a folder with these files is a model or a part of one."""
    return any(
        match_patterns(names, CONFIG, "modules.json", *TOKENIZERS, TEKKEN, "*.safetensors", "*.bin", GGUF, *WEIGHTS)
    )


def match_patterns(names: Iterable[str], *patterns: str) -> list[str]:
    """Return the names that match a pattern; a star matches no slash and no leading dot."""
    return sorted(
        name
        for name in names
        if not PurePosixPath(name).name.startswith(".")
        and any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
    )


def format_names(names: Collection[str], most: int = 12) -> str:
    """Format a sentence that lists files."""
    if not names:
        return "It has no files there."
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"It has: {', '.join(sorted(names)[:most])}{rest}."


def suggest_names(name: str, names: Collection[str]) -> str:
    """Format a sentence that suggests names similar to a missing one."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else format_names(names)
