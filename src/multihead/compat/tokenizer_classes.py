"""Tokenizer classes by the reference's names: `BertTokenizer.from_pretrained`, `isinstance(tokenizer, T5Tokenizer)`.

There is one class of tokenizers here. A tokenizer is an instance of the names that its files have: of `BertTokenizer`
and `BertTokenizerFast` where tokenizer_config.json, or the model_type, says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

from ..config import write_json
from ..errors import InvalidInput, MissingName, ModelNotFound
from ..modeling.auto import AutoTokenizer
from ..tokenizers.load import load_tokenizer
from ..tokenizers.older import PLAIN
from ..tokenizers.tokenizer import Tokenizer
from ..tokenizers.wrapping import to_plain

FILES = {  # argument of a constructor -> name of the file in a folder; a SentencePiece model is told by its ending
    "vocab_file": "vocab.json", "merges_file": "merges.txt", "tokenizer_file": "tokenizer.json", "vocab": "vocab.json",
    "source_spm": "source.spm", "target_spm": "target.spm", "spm_file": "sentencepiece.bpe.model",
    "monolingual_vocab_file": "dict.txt", "bpe_file": "bpe.codes",
}  # fmt: skip


def stem(name: str) -> str:
    """Return `Bert` of `BertTokenizer` and `BertTokenizerFast`."""
    return name.removesuffix("Fast").removesuffix("Tokenizer")


class _Named(type):
    """Any tokenizer whose files say this name is an instance."""

    def __instancecheck__(cls, one: Any) -> bool:
        said = one.options.get("tokenizer_class") if isinstance(one, Tokenizer) else None
        return isinstance(said, str) and stem(said) == stem(cls.__name__)


class NamedTokenizer(metaclass=_Named):
    """Makes the tokenizer of a checkpoint, or of the files that a constructor names."""

    vocab_files_names: ClassVar[dict[str, str]] = {"tokenizer_file": "tokenizer.json"}

    def __new__(cls, *files: Any, **settings: Any) -> Tokenizer:  # type: ignore[misc]
        """Return the tokenizer of some files.

        Args:
            files, settings: the paths, in the order of `FILES` or by name, and entries of tokenizer_config.json.

        Raises:
            InvalidInput: no files. ModelNotFound: a file that is not there.
        """
        names = ("vocab_file", "merges_file")
        given = {**dict(zip(names, files, strict=False)), **settings}
        places = {name: given.pop(name) for name in FILES if given.get(name) is not None}
        if not places or len(files) > len(names):
            raise InvalidInput(
                f"{cls.__name__} is made of files: vocab_file=..., or {cls.__name__}.from_pretrained(name)."
            )
        with tempfile.TemporaryDirectory() as folder:
            for name, place in places.items():
                copy_file(place, Path(folder), name)
            said = {name: to_plain(value) for name, value in given.items() if value is not None}
            write_json(Path(folder) / "tokenizer_config.json", {**said, "tokenizer_class": cls.__name__})
            made = load_tokenizer(Path(folder))
        made.name_or_path = ""
        return made

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """Return the tokenizer of a checkpoint. A folder that names no class is read as this one's.

        Raises:
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile, UnsupportedTokenizer: as AutoTokenizer.
        """
        found = AutoTokenizer.from_pretrained(name, **options)
        said = str(found.options.get("tokenizer_class") or "")
        if stem(said) in PLAIN and "tokenizer_class" not in options:
            found = AutoTokenizer.from_pretrained(name, **options, tokenizer_class=cls.__name__)
        return found


def copy_file(place: Any, folder: Path, argument: str) -> None:
    """Copy a file into a folder, or write a vocabulary there, under the name that folders have.

    Raises:
        ModelNotFound: there is no such file.
    """
    if isinstance(place, dict):
        write_json(folder / FILES[argument], place)
        return
    path = Path(place)
    if not path.is_file():
        raise ModelNotFound(f"{argument} = {str(place)!r} is no file.")
    kept = path.suffix in (".txt", ".model", ".spm", ".spiece") and argument in ("vocab_file", "vocab")
    name = {".txt": "vocab.txt"}.get(path.suffix, path.name) if kept else FILES[argument]
    shutil.copyfile(path, folder / name)


@cache
def tokenizer_class(name: str) -> type[NamedTokenizer]:
    """Return the class of a name such as `BertTokenizer`."""
    doc = f"Tokenizers whose files say {stem(name)}Tokenizer."
    made: Any = _Named(name, (NamedTokenizer,), {"__doc__": doc, "__module__": "multihead"})
    return cast("type[NamedTokenizer]", made)


class _Base(type):
    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, Tokenizer)


class PreTrainedTokenizerBase(metaclass=_Base):
    """The class of all tokenizers."""

    from_pretrained = AutoTokenizer.from_pretrained

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        raise InvalidInput("PreTrainedTokenizerBase is made by from_pretrained, or of PreTrainedTokenizerFast.")


class _Slow(type):
    def __instancecheck__(cls, one: Any) -> bool:
        return False


class PreTrainedTokenizer(metaclass=_Slow):
    """The class of tokenizers in Python, of which there are none here: all tokenizers are fast."""

    from_pretrained = AutoTokenizer.from_pretrained

    def __init__(self, *args: Any, **settings: Any) -> None:
        raise MissingName(
            "PreTrainedTokenizer: tokenizers in Python are not written here. Make one with the tokenizers library and "
            "pass it to PreTrainedTokenizerFast(tokenizer_object=...)."
        )


class AutoProcessor:
    """Reads the processor of a checkpoint, which is its tokenizer: of images and sound there is nothing here."""

    from_pretrained = AutoTokenizer.from_pretrained

    def __init__(self) -> None:
        raise InvalidInput("AutoProcessor is not built: use AutoProcessor.from_pretrained(name).")
