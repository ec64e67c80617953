"""Which files a model consists of, and local folders."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from ..errors import ModelNotFound

Progress = Callable[[str, int, "int | None"], None]  # (what, bytes done, bytes in all)


class Want(enum.Enum):
    """Kinds of files that a caller needs."""

    CONFIG = "config"
    TOKENIZER = "tokenizer"
    WEIGHTS = "weights"


CONFIG = ("config.json", "generation_config.json", "modules.json", "config_sentence_transformers.json",
          "sentence_bert_config.json", "1_Pooling/config.json")  # fmt: skip
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
             "vocab.json", "merges.txt", "*.model", "*.spm", "chat_template.jinja", "chat_template.json",
             "additional_chat_templates/*.jinja")  # fmt: skip
WEIGHTS = (("model.safetensors",), ("model.safetensors.index.json", "model-*.safetensors"), ("pytorch_model.bin",),
           ("pytorch_model.bin.index.json", "pytorch_model-*.bin"))  # fmt: skip
ANY_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.gguf")


def is_path(text: str, name: object) -> bool:
    """Whether a name means a place on this machine rather than on the hub."""
    if not isinstance(name, str) or Path(text).expanduser().exists():
        return True
    looks = text.startswith((".", "/", "~", "\\")) or text.count("/") > 1 or "\\" in text
    return looks or text.endswith((".gguf", ".safetensors", ".bin")) or not text


def local(path: Path, inside: str, want: Collection[Want]) -> Path:
    """A folder or file that is there and holds what is wanted.

    Raises:
        ModelNotFound: it is not there, or there is nothing usable in it.
    """
    path = path / inside if inside else path
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelNotFound(f"{path} does not exist.{_siblings(path)}")
    names = [p.relative_to(path).as_posix() for p in path.iterdir()]
    if not names:
        raise ModelNotFound(f"{path} is empty; a model has a config.json, tokenizer files and weights.")
    usable = [*CONFIG, *TOKENIZER, *ANY_WEIGHTS]
    if not any(fnmatch(name, pattern) for name in names for pattern in usable):
        raise ModelNotFound(
            f"{path} holds no model: neither config.json nor tokenizer files nor weights (*.safetensors, *.bin, *.gguf)."
        )
    return _alone(path, names, want)


def _alone(path: Path, names: Iterable[str], want: Collection[Want]) -> Path:
    """The one GGUF file of a folder that has nothing else, else the folder."""
    ggufs = [name for name in names if name.endswith(".gguf")]
    others = [name for name in names if any(fnmatch(name, p) for p in (*CONFIG, *TOKENIZER))]
    return path / ggufs[0] if len(ggufs) == 1 and not others else path


def _siblings(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" Nor does {parent}."
    close = get_close_matches(path.name, sorted(os.listdir(parent)), n=3, cutoff=0.5)
    return f" In {parent} there is {', '.join(close)}." if close else ""


def chosen(listed: Collection[str], want: Collection[Want], gguf_file: str | None, source: str) -> list[str]:
    """The files to fetch of those that a repository lists.

    Raises:
        ModelNotFound: what is wanted is not there, or it is not clear which of several GGUF files is meant.
    """
    if gguf_file is not None:
        if gguf_file not in listed:
            raise ModelNotFound(f"{source} has no {gguf_file}.{_ggufs(listed)}")
        return [gguf_file]
    ggufs = sorted(name for name in listed if name.endswith(".gguf"))
    patterns: list[str] = []
    if Want.CONFIG in want:
        patterns += CONFIG
    if Want.TOKENIZER in want:
        patterns += TOKENIZER
    if Want.WEIGHTS in want:
        patterns += next((group for group in WEIGHTS if group[0] in listed), ())
    found = [name for name in sorted(listed) if any(fnmatch(name, pattern) for pattern in patterns)]
    bare = not any(group[0] in listed for group in WEIGHTS)
    if ggufs and bare and (Want.WEIGHTS in want or "config.json" not in listed):
        if len(ggufs) > 1:
            raise ModelNotFound(f"{source} has several GGUF files; name one with gguf_file=...{_ggufs(listed)}")
        return ggufs
    if Want.WEIGHTS in want and bare:
        raise ModelNotFound(
            f"{source} has no weights: no model.safetensors, pytorch_model.bin, index of either, *.gguf."
        )
    if not found:
        raise ModelNotFound(f"{source} has none of the files wanted: {', '.join(w.value for w in want)}.")
    return found


def _ggufs(listed: Collection[str]) -> str:
    names = sorted(name for name in listed if name.endswith(".gguf"))
    return f" It has {', '.join(names)}." if names else ""
