"""Match regular expressions of adapter files in bounded time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from ..errors import InvalidInput

SECONDS = 5.0
LONGEST = 10_000  # characters of a pattern
REPEATS = 3  # of a pattern that is tried here: with names of a hundred characters, three nested loops are no time
CODE = (
    "import json, re, sys; pattern, names = json.load(sys.stdin); "
    "print(json.dumps([name for name in names if re.fullmatch(pattern, name)]))"
)


def matches(pattern: str, names: Sequence[str]) -> set[str]:
    """Return the names that a pattern matches from beginning to end.

    Python needs exponential time for some patterns and cannot be stopped. Patterns with nested repeats, references or
    many repeats are therefore matched in a process of their own, with a time limit.

    Raises:
        InvalidInput: not a regular expression, or one that takes more than five seconds.
    """
    if len(pattern) > LONGEST:
        raise InvalidInput(f"A regular expression of {len(pattern):,} characters is too long; {LONGEST:,} are read.")
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInput(f"{pattern!r:.200} is no regular expression: {error}.") from error
    if is_quick(pattern):
        return {name for name in names if compiled.fullmatch(name)}
    return _match_in_process(pattern, names)


def is_quick(pattern: str) -> bool:
    """True for a pattern that cannot take long: few repeats, none of a group, no references."""
    return (
        len(re.findall(r"[*+{]", pattern)) <= REPEATS
        and not re.search(r"\)[*+{]", pattern)
        and not re.search(r"\\[1-9]|\(\?P=|\(\?\(", pattern)
    )


def _match_in_process(pattern: str, names: Sequence[str]) -> set[str]:
    """Match in another process. Raises InvalidInput."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", CODE], input=json.dumps([pattern, list(names)]), capture_output=True,
            text=True, timeout=SECONDS, check=True,
        )  # fmt: skip
        return set(json.loads(done.stdout))
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(
            f"The regular expression {pattern!r:.200} takes more than {SECONDS:g} seconds to match. Write it without "
            "repeats of repeats, or give a list of names."
        ) from error
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise InvalidInput(f"The regular expression {pattern!r:.200} cannot be tried in a process: {error}.") from error
