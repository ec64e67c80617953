"""Body of Hugging Face's inference requests, and the task that it asks for."""

from __future__ import annotations

from typing import Any, ClassVar

from ....pipelines.catalog import canonical_name
from ...body import Body
from ...errors import ApiError

BY_KEYS = (  # keys of `inputs` -> task, the first whose keys are all there
    (("question", "documents"), "retrieval-augmented-generation"),
    (("question", "context"), "question-answering"),
    (("table",), "table-question-answering"),
    (("input", "questions"), "decision"),
    (("source_sentence",), "sentence-similarity"),
    (("query",), "text-ranking"),
    (("text_pair",), "text-classification"),
)
BY_PARAMETERS = {  # parameters that one task alone has
    "candidate_labels": "zero-shot-classification", "hypothesis_template": "zero-shot-classification",
    "targets": "fill-mask", "aggregation_strategy": "token-classification", "ignore_labels": "token-classification",
    "function_to_apply": "text-classification", "src_lang": "translation", "tgt_lang": "translation",
    "return_full_text": "text-generation", "decoder_input_details": "text-generation",
}  # fmt: skip
EMBEDDING_FIELDS = ("normalize", "prompt_name", "truncate", "truncation_direction", "dimensions", "encoding_format")


class InferenceBody(Body):
    """Body of an inference request. The fields of embeddings may stand beside `inputs`, as huggingface_hub sends them.

    Args:
        options: of the older hub: `wait_for_model` and `use_cache` change nothing here, whatever their value.
        stream: of text-generation.
    """

    inputs: Any
    parameters: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    stream: bool | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    HARMLESS: ClassVar = ("wait_for_model", "use_cache")

    def given(self) -> dict[str, Any]:
        """Return all parameters that are not null. Raises ApiError for one that is given twice, and for options."""
        for name in self.options or ():
            if name not in self.HARMLESS:
                raise ApiError(f"options.{name:.80} is not a field of this request.", param=f"options.{name:.80}")
        found = {name: value for name, value in (self.parameters or {}).items() if value is not None}
        for name in EMBEDDING_FIELDS:
            value = getattr(self, name)
            if value is not None and name in found:
                raise ApiError(f"{name} is given twice: beside inputs, and in parameters.", param=name)
            if value is not None:
                found[name] = value
        return found

    def task(self, own: str | None) -> str | None:
        """Return the task that the request asks for by its shape.

        Args:
            own: the task of the model that is named; None if none is.
        """
        first = self.inputs[0] if isinstance(self.inputs, list) and self.inputs else self.inputs
        keys = first.keys() if isinstance(first, dict) else ()
        for wanted, task in BY_KEYS:
            if all(key in keys for key in wanted):
                return task
        parameters = {**(self.parameters or {}), **({"return_full_text": 0} if self.stream else {})}
        by_parameter = next((task for name, task in BY_PARAMETERS.items() if parameters.get(name) is not None), None)
        embeds = any(getattr(self, name) is not None for name in EMBEDDING_FIELDS)
        if by_parameter is None and embeds:
            return "feature-extraction"
        if by_parameter is None or (own is not None and not isinstance(first, str)):
            # a sentence encoder compares only what has a source_sentence
            return "feature-extraction" if own == "sentence-similarity" else own
        return by_parameter


def checked_task(name: str) -> str:
    """Return the name of a task in a path. Raises ApiError if there is none."""
    try:
        canonical_name(name)
    except ValueError as error:
        raise ApiError(str(error), 404, code="unknown_task") from None
    return name
