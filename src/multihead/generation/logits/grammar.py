"""Constrained text: a JSON schema, a regular expression or a grammar decides which tokens may follow.

The `llguidance` library parses the text (chosen of three by measurement, see docs/generation.md). This module keeps its
parser state for each sequence.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...errors import InvalidForm, InvalidInput, UnsupportedOption, UnsupportedTokenizer, describe_error, read_errors
from ..config import GenerationConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llguidance import LLMatcher, LLTokenizer

FORMS = ("json_schema", "regex", "grammar")
SPACE = r"\n? {0,16}"  # between parts of JSON: lines may be indented, but blanks are limited
MAX_STATES = 512  # parser states kept of one request
MAX_BRANCHES = 20_000  # alternatives at one place of a text, such as the texts of a choice
GBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
MAX_ITEMS = 200_000  # of the parser in one step: 10 ms

_tokenizers: WeakKeyDictionary[Any, dict[Any, LLTokenizer]] = WeakKeyDictionary()


class TextGrammar:
    """A schema, pattern or grammar, compiled for a tokenizer.

    Args:
        start: parser state before the first token. name: the option of the config.
        invalid: text of a fault -> error about the form.
    """

    def __init__(self, start: LLMatcher, name: str, invalid: Callable[[str], InvalidForm]) -> None:
        self.start, self.name, self.invalid = start, name, invalid

    def check_limits(self, text: Sequence[int]) -> None:
        """Raise InvalidForm if the parser gave up on tokens that the form allows."""
        state = self.start.deep_copy()
        for token in text:
            allowed = state.compute_logit_bias()[token]
            state.consume_token(token)
            if state.is_error():
                if allowed:
                    raise self.invalid(f"is too large: {state.get_error().strip()}")
                return

    @classmethod
    def from_config(cls, config: GenerationConfig, tokenizer: Any, vocabulary: int) -> TextGrammar | None:
        """Compile what a config asks for; None if it asks for nothing.

        Args:
            tokenizer: the model's own. vocabulary: tokens that the model scores.

        Raises:
            InvalidForm: a form that is none or that no text has.
            InvalidInput: two forms, no tokenizer, or no end token.
            UnsupportedTokenizer: tokens that are no pieces of text.
            UnsupportedOption: the library is not installed.
        """
        requested = [name for name in FORMS if getattr(config, name) is not None]
        if not requested:
            return None
        if len(requested) > 1:
            raise InvalidInput(f"{requested[0]} and {requested[1]} are two forms of one text; give one.")
        if tokenizer is None:
            raise InvalidInput(f"{requested[0]} is about text: pass the model's tokenizer too (tokenizer=...).")
        if not config.ends:
            raise InvalidInput(f"{requested[0]} needs an eos_token_id to end the text with.")
        library = llguidance()
        given = getattr(config, requested[0])
        words = llguidance_tokenizer(tokenizer, vocabulary, sorted(config.ends))

        def invalid(text: str) -> InvalidForm:
            return InvalidForm(requested[0], short(given), text.strip())

        with read_errors("", invalid, ""):
            form = compile_form(library, requested[0], given)
            limits = library.LLParserLimits(
                max_items_in_row=MAX_BRANCHES, step_max_items=MAX_ITEMS, verbose_errors=False
            )
            start = library.LLMatcher(words, form, log_level=0, limits=limits)
        if start.is_error():
            raise invalid(f"describes no text: {start.get_error()}")
        first = start.deep_copy()
        first.compute_logit_bias()
        if first.is_error():  # a schema that refers to itself alone
            raise invalid("describes no text: nothing can begin it.")
        return cls(start, requested[0], invalid)

    def processor(self, begin: int) -> GrammarProcessor:
        """Return the logits processor of one request. `begin`: tokens before the constrained text."""
        return GrammarProcessor(self, begin)


class GrammarProcessor:
    """Logits processor (histories, scores) -> scores that bans tokens against the grammar."""

    def __init__(self, grammar: TextGrammar, begin: int) -> None:
        self.grammar, self.begin = grammar, begin
        self.states: OrderedDict[tuple[int, ...], LLMatcher] = OrderedDict()

    def __call__(self, history: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
        if len(history[0]) < self.begin:  # a forced first token comes before the grammar begins
            return scores
        rows = []
        for text in history:
            state = self.state(tuple(text[self.begin :]))
            if state.is_error():  # the text breaks the grammar: a beam that will be dropped
                self.grammar.check_limits(text[self.begin :])
                rows.append(torch.ones(scores.shape[1], dtype=torch.bool))  # (vocabulary,), True for a banned token
            else:
                # (vocabulary,), 0 for a banned token; a bytearray, since torch warns of bytes
                rows.append(torch.frombuffer(bytearray(state.compute_logit_bias()), dtype=torch.uint8) == 0)
        return scores.masked_fill(torch.stack(rows).to(scores.device), -torch.inf)  # (sequences, vocabulary)

    def state(self, text: tuple[int, ...]) -> LLMatcher:
        """Return the parser state after some tokens, from that of their longest known prefix."""
        known = next((end for end in range(len(text), 0, -1) if text[:end] in self.states), 0)
        if known < len(text) or not known:
            # a copy, since other beams may go on from the same prefix
            state = (self.states[text[:known]] if known else self.grammar.start).deep_copy()
            if known < len(text):
                state.consume_tokens(list(text[known:]))
            self.states[text] = state
        self.states.move_to_end(text)
        while len(self.states) > MAX_STATES:
            self.states.popitem(last=False)  # the state that was used least recently
        return self.states[text]


def compile_form(library: Any, name: str, given: Any) -> str:
    """Return a schema, pattern or grammar in the library's format."""
    if name == "json_schema":
        form = library.LLMatcher.grammar_from_json_schema(schema_text(given), {"whitespace_pattern": SPACE})
    elif name == "regex":
        form = library.LLMatcher.grammar_from_regex(given)
    else:
        form = library.LLMatcher.grammar_from_lark(lark_text(given))
    return str(form)


def lark_text(given: str) -> str:
    """Return a grammar in Lark's notation, also from GBNF, which llama.cpp and xgrammar read."""
    if not GBNF_RULE.search(given):
        return given
    from llguidance.gbnf_to_lark import gbnf_to_lark

    return str(gbnf_to_lark(given))


def llguidance() -> Any:
    try:
        import llguidance as library
    except ImportError as error:
        raise UnsupportedOption(
            'Text of a given form needs the llguidance library: pip install "multihead[structured]".'
        ) from error
    return library


def llguidance_tokenizer(tokenizer: Any, vocabulary: int, ends: list[int]) -> LLTokenizer:
    """Return the library's tokenizer, made once for each of ours. Raises UnsupportedTokenizer."""
    side = getattr(tokenizer, "target", None) or tokenizer
    known = _tokenizers.setdefault(side, {})
    key = (vocabulary, *ends)
    if key not in known:
        try:
            known[key] = llguidance().LLTokenizer(side.backend.to_str(), vocabulary, eos_token=ends)
        except Exception as error:  # the library's own, of no common kind
            raise UnsupportedTokenizer(
                f"This tokenizer's tokens cannot be followed piece by piece: {error}."
            ) from error
    return known[key]


def schema_text(given: Any) -> str:
    """Return a schema as JSON, from a mapping, JSON, or a pydantic class (`model_json_schema`)."""
    if hasattr(given, "model_json_schema"):
        given = given.model_json_schema()
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"json_schema is not JSON: {describe_error(error)}.") from error
    if not isinstance(given, (dict, bool)):
        raise InvalidInput(f"json_schema must be a JSON schema, not {short(given)}.")
    return json.dumps(given)


def short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}..."
