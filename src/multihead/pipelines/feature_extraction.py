"""feature-extraction: the hidden states of a text, one vector a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput
from ..sentences.encoder import SentenceEncoder
from ..tokenizers.tokenizer import Tokenizer
from .base import ForwardPipeline, PipelineOptions, token_types_of
from .streaming_batcher import ModelInput, Preprocessed
from .text_checks import NamedText


@dataclass(frozen=True, kw_only=True)
class FeatureExtractionOptions(PipelineOptions):
    """Options of feature-extraction.

    Args:
        return_tensors: returns tensors instead of lists.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
        padding: has no effect: no padding is computed here.
        tokenize_kwargs: the reference's form of `{"truncation": True}`.
    """

    return_tensors: bool | str = False
    truncation: bool = False
    padding: bool | str = False
    tokenize_kwargs: Mapping[str, Any] | None = None

    def check(self) -> None:
        super().check()
        if set(self.tokenize_kwargs or {}) - {"truncation", "padding"}:
            raise InvalidInput("tokenize_kwargs takes truncation and padding only.")


class FeatureExtraction(ForwardPipeline):
    """Returns the last hidden states of each text: nested lists [1][tokens][width], or tensors (1, tokens, width)."""

    Options: ClassVar[type[PipelineOptions]] = FeatureExtractionOptions

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        super().__init__(model.model if isinstance(model, SentenceEncoder) else model, tokenizer, name, **options)

    def texts(self, item: str, o: Any) -> Sequence[NamedText]:
        return [NamedText("", item)]

    def preprocess(self, items: Sequence[str], o: FeatureExtractionOptions) -> list[Preprocessed]:
        return self.encode(items, o.truncation or bool((o.tokenize_kwargs or {}).get("truncation")))

    def forward_batch(self, inputs: Sequence[ModelInput], o: FeatureExtractionOptions) -> Sequence[Tensor]:
        result = self.model.run([each.ids for each in inputs], token_types_of(inputs), at=())
        return result.hidden.float().cpu().split(result.runs.lengths)

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Tensor], o: FeatureExtractionOptions
    ) -> Any:
        return outputs[0][None].clone() if o.return_tensors else [outputs[0].tolist()]
