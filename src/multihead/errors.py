"""Errors of the package, all subclasses of `MultiheadError`.

A message has what was asked for, what was found and what to do. Where there is a convention (`OSError` for a missing
model, `ValueError` for a wrong argument), the class is also a subclass of that error, so existing `except` clauses keep
working.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise

from .terminal import safe_message


class MultiheadError(Exception):
    """Base class of all errors that this library raises on purpose.

    Messages quote files, servers and URLs: control characters are made visible, and passwords are left out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(safe_message(arg) if isinstance(arg, str) else arg for arg in args))


class ModelNotFound(MultiheadError, OSError):
    """No folder, repository, wheel or file has that name, or there is nothing usable in it."""


class NetworkUnavailable(MultiheadError, OSError):
    """A file is not in the local cache and cannot be fetched: offline mode, or no connection."""


class CacheUnusable(MultiheadError, OSError):
    """The folder for fetched files cannot be written: permissions, or a full disk."""


class AccessDenied(MultiheadError, OSError):
    """A model or file exists but must not be read: a gated or private repository, a wrong token, no permission."""


class CorruptFile(MultiheadError, ValueError):
    """A file breaks its format: it is truncated, parts overlap, or a hash is wrong."""


class UnsafeFile(CorruptFile):
    """A file would do something that a data file must not do: run code, or leave its folder."""


class UnknownModel(MultiheadError, ValueError):
    """A `model_type`, class or architecture that no family here implements."""


class UnsupportedConfig(MultiheadError, ValueError):
    """A config entry is missing, has the wrong type, or has a value that is not computed here."""


class UnsupportedTokenizer(MultiheadError, ValueError):
    """Tokenizer files that are absent, contradictory, or of a kind not built here."""


class UnsupportedOption(MultiheadError, ValueError):
    """An argument that has no meaning here, refused by name instead of ignored."""


class MissingPackage(MultiheadError, ImportError):
    """A package that is not installed, or not of the version that a program needs."""


class MissingName(MultiheadError, ImportError):
    """A name of the reference that can be imported and has no meaning here: other frameworks, images, sound."""


class InvalidInput(MultiheadError, ValueError):
    """Inputs that do not fit the model or each other: shapes, dtypes, ids out of range."""


class TextTooLong(InvalidInput):
    """More tokens than the model has positions for."""


class InvalidForm(InvalidInput):
    """A schema, pattern or grammar that is none, or that no text has.

    Args:
        name: the option. given: its value, in short. reason: what is wrong with it.
    """

    def __init__(self, name: str, given: str, reason: str) -> None:
        super().__init__(f"{name} = {given} {reason}")
        self.reason = reason


class NoContinuation(InvalidInput):
    """No text can follow a prompt as asked: every token is banned, or too few sequences are found."""


class MemoryFull(MultiheadError, MemoryError):
    """The KV cache of the sequences does not fit the memory that was set for it."""


class MissingHead(MultiheadError, AttributeError):
    """An output was asked for that only a model with another head computes."""


class UnknownPart(MultiheadError, AttributeError):
    """A model or tokenizer has no part or attribute of that name."""


class ChatTemplateError(MultiheadError, ValueError):
    """A chat template is absent, does not parse, breaks the sandbox, or refuses the conversation."""


class CheckpointNotWritten(MultiheadError, OSError):
    """A training run's state cannot be saved: a full disk, or a folder that cannot be written."""


class CheckpointBroken(MultiheadError, ValueError):
    """A training checkpoint is not whole, or does not fit the run that should resume from it."""


class TrainingDiverged(MultiheadError, ArithmeticError):
    """A loss or gradient is not finite."""


class ScoresNotFinite(MultiheadError, ArithmeticError):
    """A model computed logits that are not finite, so there is no answer."""


class CheckpointMismatch(MultiheadError, ValueError):
    """A checkpoint does not fit a model. The message lists every wrong tensor, one line for all layers that fail alike.

    Args:
        source: the file or folder, for the message.
        missing: parameters for which the checkpoint has no tensor, as `ours (theirs)`.
        unexpected: stored tensors without a parameter in this model.
        misshapen: `ours (theirs)` to `(wanted shape, found shape)`.
        mistyped: `ours (theirs)` to `(wanted dtype, found dtype)`.
        advice: a last line with what to do.
    """

    def __init__(
        self,
        source: str,
        *,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
        misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
        mistyped: Mapping[str, tuple[str, str]] | None = None,
        advice: str = "",
    ) -> None:
        self.source = source
        self.missing, self.unexpected = tuple(missing), tuple(unexpected)
        self.misshapen, self.mistyped = dict(misshapen or {}), dict(mistyped or {})
        lines = [f"{source} does not fit the model:"]
        lines += [f"  missing     {name}" for name in fold_layers(self.missing)]
        lines += [f"  unexpected  {name}" for name in fold_layers(self.unexpected)]
        lines += fold_layers(
            f"  misshapen   {name}: the model needs {list(wanted)}, the checkpoint has {list(found)}"
            for name, (wanted, found) in self.misshapen.items()
        )
        lines += fold_layers(
            f"  mistyped    {name}: the model needs {wants}, the checkpoint has {has}"
            for name, (wants, has) in self.mistyped.items()
        )
        super().__init__("\n".join(lines + ([advice] if advice else [])))


def fold_layers(names: Iterable[str]) -> list[str]:
    """Join names that differ only in a layer's number: `layer.*.weight  (* = 0 to 11)`."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append(name)
    lines = []
    for pattern, group in alike.items():
        numbers = [tuple(dict.fromkeys(re.findall(r"(?<=\.)\d+(?=\.)", name))) for name in group]
        if len(group) < 2 or any(len(number) != 1 for number in numbers):
            lines += group
            continue
        layers = sorted(int(number[0]) for number in numbers)
        even = all(b - a == 1 for a, b in pairwise(layers))
        lines.append(f"{pattern}  (* = {f'{layers[0]} to {layers[-1]}' if even else ', '.join(map(str, layers))})")
    return lines


@contextmanager
def read_errors(
    source: object, kind: Callable[[str], MultiheadError] = CorruptFile, advice: str = "Get it again."
) -> Iterator[None]:
    """Turn any error of Python and libraries while `source` is read into an error of this module, with its cause.

    A reader's own checks come first, since their messages say more.

    Args:
        source: a file's path or a model's name, the beginning of the message. advice: the last sentence.

    Raises:
        kind: in place of any error that is no MultiheadError. KeyboardInterrupt, SystemExit and warnings that a user
            turned into errors pass.
    """
    try:
        yield
    except (MultiheadError, Warning):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Rust's, of pyo3
            raise
        raise kind(f"{source} cannot be read: {describe_error(error)}. {advice}".rstrip()) from error


def describe_error(error: BaseException) -> str:
    """Return an error's message in one line of at most 300 characters, with its class where the message is short."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError) and error.args:
        return f"it has no {str(error.args[0])[:200]!r}"
    words = " ".join(str(error).split()).rstrip(".")
    line = words if len(words) <= 300 else f"{words[:297]}..."
    short = isinstance(error, (IndexError, AttributeError, AssertionError, StopIteration)) or not line
    return f"{type(error).__name__}: {line}".rstrip(": ") if short else line


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the line of the user's code that called this library."""
    level, frame = 1, sys._getframe(1)
    own = __name__.partition(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == own:
        level, frame = level + 1, frame.f_back
    warnings.warn(safe_message(message), category, stacklevel=level + 1)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the known names most like `name`."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"Known: {', '.join(names)}."
