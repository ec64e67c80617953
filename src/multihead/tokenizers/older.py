"""Vocabularies in older files, each built by the recipe of its class."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import read_json
from ..errors import CorruptFile, ModelNotFound, UnsupportedTokenizer, nearest, read_errors
from .settings import ids

if TYPE_CHECKING:
    from .parts import BuiltTokenizer

PLAIN = frozenset(("", "PreTrained", "Auto", "TokenizersBackend", "PythonBackend", "SentencePieceBackend"))
PROPHETNET = "prophetnet.tokenizer"  # a vocab.txt by another name
MODELS = (  # names of SentencePiece models, where a folder has several
    "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model", "sentencepiece.model",
)  # fmt: skip


def optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def read_text(path: Path) -> str:
    """Read a file as UTF-8 text. Raises CorruptFile."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path} is no UTF-8 text: {error}.") from error


def class_stem(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the stem of the tokenizer class (`Bert`), empty where no file names it."""
    name = settings.get("tokenizer_class") or optional(folder / "config.json").get("tokenizer_class")
    return re.sub(r"Tokenizer(Fast)?$", "", name) if isinstance(name, str) else stem_of_model_type(folder)


def stem_of_model_type(folder: Path) -> str:
    """Return the class stem for a model_type, empty for an unknown one."""
    from .recipes import FAMILIES

    kind = optional(folder / "config.json").get("model_type")
    return FAMILIES.get(kind, "") if isinstance(kind, str) else ""


def from_parts(folder: Path, stem: str, settings: Mapping[str, Any]) -> BuiltTokenizer:
    """Build a tokenizer from older files by the recipe of its class.

    Raises:
        ModelNotFound: no such files. CorruptFile: files that cannot be read.
        UnsupportedTokenizer: a class that has no recipe for these files.
    """
    from . import ranks, recipes, spm

    model = piece_model(folder)
    ranked = [model] if model is not None and ranks.is_tiktoken(model) else [*folder.glob("[!.]*.tiktoken")]
    if len(ranked) == 1:
        if stem not in {*ranks.TIKTOKEN, *recipes.FAMILIES.values(), *PLAIN}:
            raise no_recipe(stem, ranks.TIKTOKEN, ranked[0].name)
        return ranks.tiktoken(ranked[0], settings, stem)
    kinds: list[tuple[str, Mapping[str, Any], Callable[[Any], BuiltTokenizer]]] = []
    if (folder / "vocab.txt").is_file():
        kinds.append(("vocab.txt", recipes.LINES, lambda build: read_vocab_txt(folder / "vocab.txt", build, settings)))
    if (folder / PROPHETNET).is_file():
        kinds.append(
            (PROPHETNET, recipes.PROPHETNET, lambda build: read_vocab_txt(folder / PROPHETNET, build, settings))
        )
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        kinds.append(("vocab.json and merges.txt", recipes.BPES, lambda build: read_bpe_files(folder, build, settings)))
        kinds.append(("vocab.json and merges.txt", recipes.MOSES, lambda build: read_moses(folder, build, settings)))
    if model is not None and (folder / "vocab.json").is_file():
        joint = {"M2M100": recipes.m2m100}
        kinds.append(
            (f"vocab.json and {model.name}", joint, lambda build: read_piece_ids(folder, model, build, settings))
        )
    if model is not None:
        table = recipes.SPM if stem or not model.name.startswith("vocab.") else {"": recipes.marian_small}
        kinds.append((model.name, table, lambda build: build(spm.read(model), settings)))
    if stem == "ByT5":  # whose vocabulary is the bytes
        return recipes.byt5(settings)
    if stem == "Canine":  # whose vocabulary is Unicode
        return recipes.canine(settings)
    for _, table, build in kinds:
        if stem in table:
            return build(table[stem])
    if kinds:
        raise no_recipe(stem, kinds[0][1], kinds[0][0])
    if (folder / ranks.TEKKEN).is_file():
        return ranks.tekken(folder / ranks.TEKKEN, settings)
    raise ModelNotFound(
        f"{folder} has no tokenizer: no tokenizer.json, vocab.txt, vocab.json with merges.txt, SentencePiece model, "
        "tekken.json or GGUF file."
    )


def piece_model(folder: Path) -> Path | None:
    """Return the folder's SentencePiece model: the only one, or the one with a usual name."""
    models = sorted([*folder.glob("[!.]*.model"), *folder.glob("[!.]*.spm")])
    named = [folder / name for name in MODELS if folder / name in models]
    return models[0] if len(models) == 1 else next(iter(named), None)


def no_recipe(stem: str, known: Mapping[str, Any], files: str) -> UnsupportedTokenizer:
    """Build the error for a class that has no recipe for the files in the folder."""
    if not stem:
        return UnsupportedTokenizer(
            f"Nothing says which kind of tokenizer {files} are for: there is no tokenizer_class and no known "
            "model_type. Say it in tokenizer_config.json, or where the tokenizer is loaded: "
            f"tokenizer_class='{next(iter(known))}Tokenizer', for example."
        )
    return UnsupportedTokenizer(
        f"{stem}Tokenizer is not built from {files} here; another class's rules would give other ids. "
        f"{nearest(stem, known)} Save the tokenizer as tokenizer.json where its class is known."
    )


def read_vocab_txt(path: Path, build: Any, settings: Mapping[str, Any]) -> BuiltTokenizer:
    """Read vocab.txt: one token a line, its id is the line number."""
    rows = read_text(path).split("\n")
    tokens = [row.rstrip("\r") for row in (rows[:-1] if rows and not rows[-1] else rows)]
    vocab = {token: number for number, token in enumerate(tokens)}
    if not vocab or ("" in vocab and len(tokens) == 1):
        raise CorruptFile(f"{path} is empty; it holds a token a line.")
    return keep_files(build(vocab, settings), folder=path.parent, names=["vocab.txt"])


def read_bpe_files(folder: Path, build: Any, settings: Mapping[str, Any]) -> BuiltTokenizer:
    """Read vocab.json and merges.txt: one merge a line, after an optional version line."""
    vocab = read_vocab_json(folder)
    rows = read_text(folder / "merges.txt").split("\n")
    merges = [tuple(row.split()) for row in rows if row.strip() and not row.startswith("#version")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong is not None:
        raise CorruptFile(f"{folder / 'merges.txt'} has the line {' '.join(wrong)!r}, which is no pair of tokens.")
    with read_errors(f"{folder}: vocab.json with merges.txt"):
        built = build(vocab, merges, settings)
    return keep_files(built, folder=folder, names=["vocab.json", "merges.txt"])


def read_moses(folder: Path, build: Any, settings: Mapping[str, Any]) -> BuiltTokenizer:
    """Read vocab.json and merges.txt of Moses' words."""
    vocab, merges = read_vocab_json(folder), read_counted_merges(folder)
    with read_errors(f"{folder}: vocab.json with merges.txt"):
        built = build(vocab, merges, settings)
    return keep_files(built, folder=folder, names=["vocab.json", "merges.txt"])


def read_counted_merges(folder: Path) -> list[tuple[str, ...]]:
    """Read merges.txt whose lines may end with a count. Raises CorruptFile."""
    rows = [tuple(row.split()[:2]) for row in read_text(folder / "merges.txt").split("\n") if row.strip()]
    wrong = next((row for row in rows if len(row) != 2), None)
    if wrong is not None:
        raise CorruptFile(f"{folder / 'merges.txt'} has the line {' '.join(wrong)!r}, which is no pair of tokens.")
    return rows


def read_piece_ids(folder: Path, model: Path, build: Any, settings: Mapping[str, Any]) -> BuiltTokenizer:
    """Read vocab.json, which gives the ids of the pieces of a SentencePiece model."""
    from . import spm

    built: BuiltTokenizer = build(read_vocab_json(folder), spm.read(model), settings)
    return built


def read_vocab_json(folder: Path, name: str = "vocab.json") -> dict[str, int]:
    """Read a vocabulary: token -> id. Raises CorruptFile for ids that are no numbers."""
    vocab = read_json(folder / name)
    ids(vocab, folder / name)
    return vocab


def keep_files(built: BuiltTokenizer, folder: Path, names: list[str]) -> BuiltTokenizer:
    """Attach the original files where no tokenizer.json can hold the tokenizer."""
    return (
        built
        if built.words is None or built.words.in_json
        else replace(built, files={n: (folder / n).read_bytes() for n in names})
    )
