"""Tokenizers made from an object or file of the `tokenizers` library."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from ..config import write_json
from ..errors import CorruptFile, InvalidInput, ModelNotFound
from .load import load_tokenizer
from .settings import check
from .tokenizer import Tokenizer as Ours


def wrap(backend: Any, file: Any, settings: Mapping[str, Any]) -> Ours:
    """Build a tokenizer from an object or file with entries of tokenizer_config.json; the object is not changed.

    Raises:
        InvalidInput: neither or both, or an object that no file holds. ModelNotFound: no such file.
    """
    if (backend is None) == (file is None):
        raise InvalidInput(
            "Pass tokenizer_object=, a tokenizer of the tokenizers library, or tokenizer_file=, its file."
        )
    if file is not None and not Path(file).is_file():
        raise ModelNotFound(f"tokenizer_file = {str(file)!r} is no file.")
    given = {name: to_plain(value) for name, value in settings.items() if value is not None}
    check(given, "PreTrainedTokenizerFast")
    data = serialize(backend if file is None else read_backend(file))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_bytes(data)
        write_json(Path(folder) / "tokenizer_config.json", given)
        made = load_tokenizer(Path(folder), name_or_path=str(given.get("name_or_path", "")))
    made.name_or_path = str(given.get("name_or_path", ""))
    return made


def read_backend(file: Any) -> Tokenizer:
    """Read a tokenizer file of the library. Raises CorruptFile."""
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises a bare Exception
        raise CorruptFile(f"{file} is no tokenizer of the tokenizers library: {error}.") from error


def serialize(backend: Any) -> bytes:
    """Serialize an object of the library. Raises InvalidInput for another object."""
    inner = getattr(backend, "_tokenizer", backend)  # of the library's ready-made ones, such as ByteLevelBPETokenizer
    if not isinstance(inner, Tokenizer):
        raise InvalidInput(f"tokenizer_object is a tokenizer of the tokenizers library, not {type(backend).__name__}.")
    try:
        return inner.to_str().encode()
    except Exception as error:  # the library raises a bare Exception for parts written in Python
        raise InvalidInput(f"tokenizer_object has a part that no file holds: {error}.") from error


def to_plain(value: Any) -> Any:
    """Convert a setting to the form that files hold."""
    if isinstance(value, AddedToken):
        flags = ("content", "lstrip", "rstrip", "single_word", "normalized", "special")
        return {flag: getattr(value, flag) for flag in flags}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return {name: to_plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value
