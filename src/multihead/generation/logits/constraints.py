"""Words that a continuation must contain, and the progress of a sequence through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput

Words = tuple[tuple[int, ...], ...]  # token runs, one of which must occur


@dataclass(frozen=True)
class DisjunctiveConstraint:
    """Requires one of several token runs. Raises InvalidInput for anything but a list of runs."""

    nested_token_ids: Any
    words: Words = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", parse_words(self.nested_token_ids))


@dataclass(frozen=True)
class PhrasalConstraint:
    """Requires a token run. Raises InvalidInput for anything but a list of ids."""

    token_ids: Any
    words: Words = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", parse_words([self.token_ids]))


def parse_words(given: Any) -> Words:
    """Return token runs as tuples. Raises InvalidInput."""
    try:
        words = tuple(tuple(int(token) for token in word) for word in given)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"A constraint must be lists of token ids, not {given!r}.") from error
    if not words or any(not word or min(word) < 0 for word in words):
        raise InvalidInput(f"A constraint must name at least one token, none below 0: {given!r}.")
    return words


def read_constraints(constraints: Any, force_words_ids: Any) -> tuple[Words, ...]:
    """Return the token runs that must occur.

    Args:
        constraints: PhrasalConstraint or DisjunctiveConstraint objects.
        force_words_ids: a run of ids for each word, or a list of runs of which one will do.

    Raises:
        InvalidInput: anything else.
    """
    out = []
    for one in constraints or ():
        if not isinstance(one, (PhrasalConstraint, DisjunctiveConstraint)):
            raise InvalidInput(f"constraints must be PhrasalConstraint or DisjunctiveConstraint objects, not {one!r}.")
        out.append(one.words)
    if force_words_ids is not None and not isinstance(force_words_ids, (list, tuple)):
        raise InvalidInput(f"force_words_ids must be a list of words' token ids, not {force_words_ids!r}.")
    for word in force_words_ids or ():
        nested = isinstance(word, (list, tuple)) and bool(word) and isinstance(word[0], (list, tuple))
        out.append(parse_words(word if nested else [word]))
    return tuple(out)


@dataclass(frozen=True)
class ConstraintProgress:
    """Progress of one sequence.

    Args:
        left: words that have not occurred yet. tail: last tokens, as many as a partial run may need.
    """

    left: tuple[Words, ...]
    tail: tuple[int, ...] = ()

    def advance(self, token: int) -> ConstraintProgress:
        tail = (*self.tail, token)
        left = tuple(words for words in self.left if not any(ends_with(tail, word) for word in words))
        # a partial run has at most this many tokens less one, so older ones are not needed
        longest = max((len(word) for words in left for word in words), default=0)
        return ConstraintProgress(left, tail[len(tail) - min(len(tail), max(longest - 1, 0)) :])

    @property
    def next_tokens(self) -> set[int]:
        """Tokens that continue a partial run, or begin one."""
        return {word[self._begun(word)] for words in self.left for word in words}

    @property
    def needed(self) -> int:
        """Number of tokens that suffice for all words that are left."""
        total = sum(min(map(len, words)) for words in self.left)
        # tokens that a partial run saves; the next token may break the other runs, so the largest alone counts
        gains = [min(map(len, words)) - (len(word) - self._begun(word)) for words in self.left for word in words]
        return total - max([0, *gains])

    def _begun(self, word: Sequence[int]) -> int:
        """Return how many first tokens of a word the sequence ends with; fewer than all."""
        most = min(len(word) - 1, len(self.tail))
        # the longest match, since it needs the fewest further tokens
        return next((n for n in range(most, 0, -1) if ends_with(self.tail, word[:n])), 0)


def ends_with(text: Sequence[int], tail: Sequence[int]) -> bool:
    return len(tail) <= len(text) and list(text[len(text) - len(tail) :]) == list(tail)


def check_constraints(required: Sequence[Words], vocabulary: int, room: int, never: Sequence[Sequence[int]]) -> None:
    """Check that a continuation can contain all words. Raises InvalidInput.

    Args:
        room: most tokens of the continuation. never: runs that are banned or end the text.
    """
    for words in required:
        # one run of each list is enough
        possible = [word for word in words if max(word) < vocabulary and not any(contains(word, run) for run in never)]
        if not possible:
            raise InvalidInput(
                f"The words {[list(word) for word in words]} cannot come: a token is banned, ends the text, or is "
                f"outside the vocabulary of {vocabulary}."
            )
    needed = ConstraintProgress(tuple(required)).needed
    if needed > room:
        raise InvalidInput(
            f"The words that must come need {needed} tokens and only {room} may follow; raise max_new_tokens."
        )


def contains(word: Sequence[int], run: Sequence[int]) -> bool:
    return any(ends_with(word[:end], run) for end in range(len(word) + 1))
