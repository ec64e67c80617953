"""token-classification: a label for each token or, with an aggregation strategy, for each entity of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

from ..errors import InvalidInput, UnsupportedOption
from .base import ForwardPipeline, PipelineOptions, too_long
from .entities import WindowTokens, find_entities, resolve_overlaps
from .streaming_batcher import ModelInput, Preprocessed
from .text_checks import NamedText, is_empty

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True, kw_only=True)
class TokenClassificationOptions(PipelineOptions):
    """Options of token-classification.

    Args:
        aggregation_strategy: "none" returns tokens; "simple" joins neighbours with one tag; "first", "average" and
            "max" label whole words first, by their first token, by the mean, by the surest token.
        ignore_labels: labels that are left out. None for those named "O".
        stride: tokens that windows share, for texts of any length; needs an aggregation strategy.
        is_split_into_words: inputs are lists of words; in the text they are joined by `delimiter`.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
    """

    aggregation_strategy: str = "none"
    ignore_labels: Sequence[str] | None = None
    stride: int | None = None
    is_split_into_words: bool = False
    delimiter: str | None = None
    truncation: bool = False

    def check(self) -> None:
        super().check()
        if str(self.aggregation_strategy).lower() not in STRATEGIES:
            raise UnsupportedOption(
                f"aggregation_strategy is one of {', '.join(STRATEGIES)}, not {self.aggregation_strategy!r}."
            )
        if self.stride is not None and self.strategy == "none":
            raise InvalidInput("stride joins windows by their entities: it needs an aggregation_strategy.")
        if self.stride is not None and (not isinstance(self.stride, int) or self.stride < 0):
            raise InvalidInput(f"stride is a number of tokens, not {self.stride!r}.")

    @property
    def strategy(self) -> str:
        return str(self.aggregation_strategy).lower()


class TokenClassification(ForwardPipeline):
    """Finds entities with a token classifier.

    Returns a list for each text: `{"entity", "score", "index", "word", "start", "end"}` a token, or with an aggregation
    strategy `{"entity_group", "score", "word", "start", "end"}` an entity. `start` and `end` are characters.
    """

    auto = "AutoModelForTokenClassification"
    Options: ClassVar[type[PipelineOptions]] = TokenClassificationOptions
    per_token = True

    def is_single(self, inputs: Any, o: TokenClassificationOptions) -> bool:
        if o.is_split_into_words and isinstance(inputs, (list, tuple)) and inputs:
            return all(isinstance(word, str) for word in inputs)
        return super().is_single(inputs, o)

    def validate(self, item: Any, o: TokenClassificationOptions) -> Any:
        if not o.is_split_into_words:
            return super().validate(item, o)
        if not isinstance(item, (list, tuple)) or not all(isinstance(word, str) for word in item):
            raise InvalidInput(f"must be a list of words, not {str(item)[:80]!r}.")
        return list(item)

    def texts(self, item: Any, o: Any) -> Sequence[NamedText]:
        """Return a text that is not empty: no entity is the right answer to an empty one."""
        text = " ".join(item) if o.is_split_into_words else item
        return [] if is_empty(text) else [NamedText("", text)]

    def preprocess(self, items: Sequence[Any], o: TokenClassificationOptions) -> list[Preprocessed]:
        limits = None
        if (o.stride is not None or o.truncation) and self.limit is not None:
            room = self.limit - self.tokenizer.num_special_tokens_to_add(False)
            if (o.stride or 0) >= room:
                raise InvalidInput(f"stride = {o.stride} leaves no new token in windows of {room} tokens.")
            limits = self.truncation_options(stride=o.stride or 0)
        result: list[Preprocessed] = []
        for encoding in self.tokenizer.run(items, words=o.is_split_into_words, special=True, limits=limits):
            windows = [encoding, *(encoding.overflowing if o.stride is not None else [])]
            error = too_long(max(map(len, windows)), self.max_positions)
            result.append(error or [self.to_input(window, window) for window in windows])
        return result

    def postprocess(
        self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TokenClassificationOptions
    ) -> list[dict[str, Any]]:
        text, begins = item, None
        if o.is_split_into_words:
            delimiter = " " if o.delimiter is None else o.delimiter
            text = delimiter.join(item)
            begins = [0, *accumulate(len(word) + len(delimiter) for word in item)]
        ignored = {"O"} if o.ignore_labels is None else set(o.ignore_labels)
        entities: list[dict[str, Any]] = []
        for each, scores in zip(inputs, outputs, strict=True):
            tokens = WindowTokens.of(each.note, scores.softmax(-1).numpy(), text, begins, self.tokenizer)
            names = self.model.config.id2label or {}
            rows = find_entities(tokens, names, self.tokenizer, o.strategy, skip=ignored)
            entities += [row for row in rows if row.get("entity", row.get("entity_group")) not in ignored]
        return resolve_overlaps(entities) if len(inputs) > 1 else entities
