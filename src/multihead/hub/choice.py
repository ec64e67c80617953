"""Which files of a listing a caller needs. Everything here works on names alone, whoever lists them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ..errors import ModelNotFound
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
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm")
TEKKEN = "tekken.json"  # Mistral's, which lies beside one of those, too
# What a sentence encoder does after its transformer. It comes with every config, so that a cached copy that lacks
# modules.json is one of a repository that has none.
MODULES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "[0-9]*_*/config.json",
    "[0-9]*_*/sentence_*_config.json",
)
# Where older sentence encoders keep their transformer, all others have it right in their folder.
HOME = "0_Transformer/"
# These change what the files above mean, so they are fetched before them.
COMPANIONS = {
    Want.CONFIG: ("generation_config.json", *MODULES),
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
    Want.TOKENIZER: "a tokenizer file (tokenizer.json, vocab.txt, vocab.json, *.model, *.spm, tekken.json)",
    Want.WEIGHTS: "weights (model.safetensors, pytorch_model.bin, their index, or *.gguf)",
}


@dataclass(frozen=True)
class Choice:
    """The files to fetch.

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


def choose(names: Collection[str], want: Collection[Want], gguf_file: str | None, source: str) -> Choice:
    """The files of `names` (relative, with slashes) that `want` needs.

    Raises:
        ModelNotFound: a kind of files is not there at all, or several GGUF files are and none was named.
    """
    if gguf_file is not None:
        if gguf_file not in names:
            raise ModelNotFound(f"{source} has no file {gguf_file!r}. {alike(gguf_file, matching(names, GGUF))}")
        return Choice(cores=(gguf_file,), single=gguf_file)
    if adapts(names):
        return adapter(names, want, source)
    cores: list[str] = []
    companions: list[str] = []
    single: str | None = None
    home = HOME if Want.MODULES in want and CONFIG not in names and HOME + CONFIG in names else ""
    inner = [name.removeprefix(home) for name in names if name.startswith(home)]
    for kind in sorted(want, key=list(Want).index):
        if kind is Want.MODULES:
            cores += core_files(names, kind)
            companions += matching(names, *COMPANIONS[kind])
            continue
        found = core_files(inner, kind)
        if not found:
            single = only_gguf(names, source)
            found = [single] if single else list(matching(names, MARIAN))
        if not found:
            raise ModelNotFound(f"{source} has no {NEEDS[kind]}. {listed(names)}")
        cores += [home + name for name in found]
        companions += [home + name for name in matching(inner, *COMPANIONS[kind])]
    index = next((name for name in cores if name.endswith(INDEX)), None)
    return Choice(tuple(dict.fromkeys(cores)), tuple(dict.fromkeys(companions)), index, single)


def core_files(names: Collection[str], kind: Want) -> list[str]:
    """The files that make a kind usable, GGUF and Marian left aside; empty if there are none."""
    if kind is Want.CONFIG:
        return [CONFIG] if CONFIG in names else []
    if kind is Want.TOKENIZER:
        return list(matching(names, *TOKENIZERS) or matching(names, TEKKEN))
    if kind is Want.MODULES:
        safe, other = (matching(names, "[0-9]*_*/" + name) for name in ("model.safetensors", "pytorch_model.bin"))
        have = {HOME, *(name.removesuffix("model.safetensors") for name in safe)}
        found = [*safe, *(name for name in other if name.removesuffix("pytorch_model.bin") not in have)]
        return [name for name in found if not name.startswith(HOME)]
    return [name for name in WEIGHTS if name in names][:1]


def adapts(names: Collection[str]) -> bool:
    """Whether a listing is an adapter, without a model of its own."""
    return ADAPTER_CONFIG in names and not core_files(names, Want.WEIGHTS) and not matching(names, GGUF, MARIAN)


def adapter(names: Collection[str], want: Collection[Want], source: str) -> Choice:
    """The files of an adapter; a tokenizer comes with them, so that a copy that lacks one is of an adapter without.

    Raises:
        ModelNotFound: weights are wanted and are not there.
    """
    weights = [name for name in ADAPTER_WEIGHTS if name in names][:1] if Want.WEIGHTS in want else []
    if Want.WEIGHTS in want and not weights:
        raise ModelNotFound(f"{source} has no weights of an adapter ({' or '.join(ADAPTER_WEIGHTS)}). {listed(names)}")
    companions = matching(names, ADAPTER_LABELS, *TOKENIZERS, *COMPANIONS[Want.TOKENIZER])
    return Choice((*weights, ADAPTER_CONFIG), tuple(companions))


def only_gguf(names: Collection[str], source: str) -> str | None:
    """The single GGUF file of a listing, None if it has none. Raises ModelNotFound if it has several."""
    found = list(matching(names, GGUF))
    if len(found) > 1:
        raise ModelNotFound(f"{source} has {len(found)} GGUF files; name one with gguf_file=: {', '.join(found)}.")
    return found[0] if found else None


def usable(names: Collection[str]) -> bool:
    """Whether a folder with these files is a model, or a part of one, at all."""
    return any(matching(names, CONFIG, "modules.json", *TOKENIZERS, TEKKEN, "*.safetensors", "*.bin", GGUF, *WEIGHTS))


def matching(names: Iterable[str], *patterns: str) -> list[str]:
    """The names that fit one of the patterns; a star does not cross a slash, nor stand for a hidden file's dot."""
    return sorted(
        name
        for name in names
        if not PurePosixPath(name).name.startswith(".")
        and any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
    )


def listed(names: Collection[str], most: int = 12) -> str:
    """A sentence that lists files."""
    if not names:
        return "It has no files there."
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"It has: {', '.join(sorted(names)[:most])}{rest}."


def alike(name: str, names: Collection[str]) -> str:
    """A sentence that suggests the names most like one that is not there."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else listed(names)
