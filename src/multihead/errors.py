"""Every error that a user can meet, in one tree under `MultiheadError`.

A message says what was asked, what was found and what to do. Where the field has a habit (`OSError` for a model that
is not there, `ValueError` for an argument that cannot be), the class also is one of those, so existing `except`
clauses keep working.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise

from .terminal import shown


class MultiheadError(Exception):
    """The root of all errors raised on purpose by this library.

    Messages quote files, servers and URLs: they are made visible, and passwords in them are left out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown(arg) if isinstance(arg, str) else arg for arg in args))


class ModelNotFound(MultiheadError, OSError):
    """No folder, repository, wheel or file of that name, or nothing usable in it."""


class NetworkUnavailable(MultiheadError, OSError):
    """A file is not in the local cache and cannot be fetched: offline mode, or no connection."""


class CacheUnusable(MultiheadError, OSError):
    """The folder for fetched files cannot be written: permissions, or a full disk."""


class AccessDenied(MultiheadError, OSError):
    """Something is there and must not be read: a gated or private repository, a wrong token, a file without rights."""


class CorruptFile(MultiheadError, ValueError):
    """A file is not what its format promises: truncated, overlapping, a wrong hash."""


class UnsafeFile(CorruptFile):
    """A file asks for something a data file must not do: run code, or reach outside its folder."""


class UnknownModel(MultiheadError, ValueError):
    """A `model_type`, class or architecture that no family here implements."""


class UnsupportedConfig(MultiheadError, ValueError):
    """A config entry is missing, has the wrong type, or has a value that is not computed here."""


class UnsupportedTokenizer(MultiheadError, ValueError):
    """Tokenizer files that are absent, contradictory, or of a kind not built here."""


class UnsupportedOption(MultiheadError, ValueError):
    """An argument that has no meaning here, refused by name instead of ignored."""


class InvalidInput(MultiheadError, ValueError):
    """Inputs that do not fit the model or each other: shapes, dtypes, ids out of range."""


class TextTooLong(InvalidInput):
    """More tokens than the model has positions for."""


class NoContinuation(InvalidInput):
    """No text goes on from a prompt as it was asked to: every token is banned, or too few texts are found."""


class MemoryFull(MultiheadError, MemoryError):
    """What texts remember does not fit the memory that was given for it."""


class MissingHead(MultiheadError, AttributeError):
    """A number was asked for that only a model with another head gives."""


class UnknownPart(MultiheadError, AttributeError):
    """A model or tokenizer has no part or attribute of that name."""


class ChatTemplateError(MultiheadError, ValueError):
    """A chat template is absent, does not parse, breaks the sandbox, or refuses the conversation."""


class CheckpointNotWritten(MultiheadError, OSError):
    """A training run's state cannot be saved: a full disk, or a folder that cannot be written."""


class CheckpointBroken(MultiheadError, ValueError):
    """A training run's checkpoint is not whole, or does not fit the run that is to go on from it."""


class TrainingDiverged(MultiheadError, ArithmeticError):
    """A loss or gradient is no finite number."""


class ScoresNotFinite(MultiheadError, ArithmeticError):
    """A model computed scores that are no finite numbers, of which no answer can be made."""


class CheckpointMismatch(MultiheadError, ValueError):
    """A checkpoint and a model do not fit; lists every tensor that fails, in a line for all layers that fail alike.

    Args:
        source: what was loaded, for the message.
        missing: parameters for which the checkpoint has no tensor, as `ours (theirs)`.
        unexpected: stored tensors that are no parameter of this model.
        misshapen: `ours (theirs)` to `(wanted shape, found shape)`.
        mistyped: `ours (theirs)` to `(wanted dtype, found dtype)`.
        advice: a last line that says what to do.
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
        lines += [f"  missing     {name}" for name in folded(self.missing)]
        lines += [f"  unexpected  {name}" for name in folded(self.unexpected)]
        lines += folded(
            f"  misshapen   {name}: the model needs {list(wanted)}, the checkpoint has {list(found)}"
            for name, (wanted, found) in self.misshapen.items()
        )
        lines += folded(
            f"  mistyped    {name}: the model needs {wants}, the checkpoint has {has}"
            for name, (wants, has) in self.mistyped.items()
        )
        super().__init__("\n".join(lines + ([advice] if advice else [])))


def folded(names: Iterable[str]) -> list[str]:
    """Names that differ in a layer's number only, as one: `layer.*.weight  (* = 0 to 11)`."""
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
    source: object, kind: type[MultiheadError] = CorruptFile, advice: str = "Get it again."
) -> Iterator[None]:
    """Turns whatever Python and libraries raise while `source` is read into one error of this tree, with its cause.

    The net below a reader's own checks: those say more, so they come first.

    Args:
        source: a file's path or a model's name, which begins the message. advice: its last sentence.

    Raises:
        kind: in place of any error that is none of this tree; KeyboardInterrupt, SystemExit and warnings that a user
            has turned into errors pass.
    """
    try:
        yield
    except (MultiheadError, Warning):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Rust's, of pyo3
            raise
        raise kind(f"{source} cannot be read: {told(error)}. {advice}".rstrip()) from error


def told(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters, with its kind where the words alone say little."""
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
    """Warns where the user's own code called into this library."""
    level, frame = 1, sys._getframe(1)
    own = __name__.partition(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == own:
        level, frame = level + 1, frame.f_back
    warnings.warn(shown(message), category, stacklevel=level + 1)


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known names most like `name`."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"Known: {', '.join(names)}."
