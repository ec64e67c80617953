"""Texts of a request for embeddings: prompts, tokens and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import nearest
from ...pipelines.similarity import EmbeddingPipeline
from ...pipelines.streaming_batcher import ModelInput, check_unicode
from ...sentences.base import limit_of, tokenize
from ...sentences.encoder import SentenceEncoder
from ..errors import ApiError
from ..text_limits import beginning
from .served_model import ServedModel

Texts = Sequence[str] | Sequence[Sequence[int]]
INPUT_TYPES = {  # Cohere's input types -> names of prompts, the first that a checkpoint has
    "search_query": ("query",), "search_document": ("document", "passage", "corpus"),
    "classification": ("classification",), "clustering": ("clustering",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions:
    """Options of embeddings.

    Args:
        dimensions: first numbers of an embedding that are kept; None for all.
        normalize: to length 1, after `dimensions`. None: if the model's own embeddings have length 1.
        prompt_name: of the text that the checkpoint puts before each text.
        truncate: tokens where a longer text is cut; 0 for the model's limit; None refuses it.
        most: tokens of a text that is not cut; None for the model's limit.
        side: "left" or "right", the side that is cut. Default: the tokenizer's.
        special: adds special tokens to texts.
    """

    dimensions: int | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    truncate: int | None = None
    most: int | None = None
    side: str | None = None
    special: bool = True


def encoder_of(model: ServedModel) -> SentenceEncoder:
    """Return the sentence encoder of a model. Raises ApiError for an encoder-decoder."""
    pipe = model.pipeline("sentence-similarity")
    assert isinstance(pipe, EmbeddingPipeline)
    return pipe.encoder


def input_type_prompt(model: ServedModel, kind: str | None) -> str | None:
    """Return the name of the prompt for an input type of Cohere's; None if the checkpoint has none for it.

    Raises:
        ApiError: no input type, or "image".
    """
    if kind is None:
        return None
    prompts = encoder_of(model).prompts
    names = INPUT_TYPES.get(kind, (kind,) if kind in prompts else ())
    if kind not in INPUT_TYPES and not names:
        raise ApiError(f"input_type is {kind!r:.80}. {nearest(kind, [*INPUT_TYPES, *prompts])}", param="input_type")
    return next((name for name in names if name in prompts), None)


def check_dimensions(encoder: SentenceEncoder, dimensions: int | None) -> int:
    """Return the width of embeddings. Raises ApiError for more dimensions than the model has."""
    most = encoder.get_sentence_embedding_dimension()
    if dimensions is None:
        return most
    if not 1 <= dimensions <= most:
        raise ApiError(
            f"dimensions is a whole number from 1 to {most}, the width of this model's embeddings; not {dimensions}.",
            param="dimensions",
        )
    return dimensions


def prompt_before(encoder: SentenceEncoder, texts: Texts, options: EmbeddingOptions) -> str:
    """Return the text before each text; none before token ids. Raises ApiError for options that are of texts alone."""
    if isinstance(texts[0], str):
        return prompt_text(encoder, options.prompt_name)
    for name, given in (("prompt_name", options.prompt_name is not None), ("add_special_tokens", not options.special)):
        if given:
            raise ApiError(
                f"{name} is of texts, and token ids are read as they are. Send texts, or leave it out.", param=name,
                code="unsupported_parameter",
            )  # fmt: skip
    return ""


def prompt_text(encoder: SentenceEncoder, name: str | None) -> str:
    """Return the text before each text. Raises ApiError for a name that the checkpoint does not have."""
    if name is not None and name not in encoder.prompts:
        raise ApiError(
            f"This model has no prompt named {name!r:.80}. {nearest(name, encoder.prompts)}", param="prompt_name"
        )
    return encoder.prompt_text(name, None)


def tokenize_texts(encoder: SentenceEncoder, texts: Texts, options: EmbeddingOptions, prompt: str) -> list[ModelInput]:
    """Return the model input of each text. Raises ApiError for what is empty, too long or no id."""
    limit = smaller(limit_of(encoder.model, encoder.tokenizer), options.most)
    if texts and not isinstance(texts[0], str):
        ids: Sequence[Sequence[int]] = texts  # type: ignore[assignment]
        check_ids(ids, encoder.model.vocabulary)
        return [ModelInput(cut(own, number, limit, options)) for number, own in enumerate(ids)]
    strings: Sequence[str] = texts  # type: ignore[assignment]
    for number, text in enumerate(strings):
        check_text(number, text)
    found = encode_texts(encoder, [prompt + text for text in strings], limit, options)
    for number, each in enumerate(found):
        if not each.ids:
            raise ApiError(f"Input {number} holds no token that the model knows.", param="input")
    return found


def encode_texts(
    encoder: SentenceEncoder, texts: Sequence[str], limit: int | None, options: EmbeddingOptions
) -> list[ModelInput]:
    """Return the model input of each text, cut as the options say. Raises ApiError for texts that are too long."""
    tokenizer = encoder.tokenizer
    texts = [beginning_of(encoder, number, text, limit, options) for number, text in enumerate(texts)]
    if options.truncate == 0 and options.side is None and options.special:
        own = tokenize(encoder.model, tokenizer, texts, truncation=True)
        return with_types(own.ids, own.token_types)
    most = cut_length(limit, options)
    added = tokenizer.num_special_tokens_to_add() if options.special else 0
    if most is not None and most <= added:
        raise ApiError(
            f"A cut at {most} tokens (truncate_prompt_tokens, max_tokens, num_ctx) leaves nothing of a text: {added} "
            "are special tokens. Cut it later.", param="input", code="unsupported_value",
        )  # fmt: skip
    limits = None if most is None else {
        "max_length": most, "stride": 0, "strategy": "longest_first",
        "direction": options.side or tokenizer.truncation_side,
    }  # fmt: skip
    encodings = tokenizer.run(texts, words=False, special=options.special, limits=limits)
    for number, encoding in enumerate(encodings):
        check_length(number, len(encoding), limit)
    typed = "token_type_ids" in tokenizer.model_input_names and encoder.model.backbone.typed
    return with_types([each.ids for each in encodings], [each.type_ids for each in encodings] if typed else None)


def beginning_of(encoder: SentenceEncoder, number: int, text: str, limit: int | None, options: EmbeddingOptions) -> str:
    """Return what is read of a text that may be huge. Raises ApiError for a text that is too long and not cut."""
    most, side = cut_length(limit, options), options.side or encoder.tokenizer.truncation_side
    if most is None:
        if limit is not None and beginning(encoder.tokenizer, text, limit) is not text:
            raise too_long(number, f"more than {limit}", limit)
        return text
    return text if side == "left" else beginning(encoder.tokenizer, text, most)


def with_types(ids: Sequence[list[int]], types: Sequence[list[int]] | None) -> list[ModelInput]:
    if types is None:
        return [ModelInput(own) for own in ids]
    return [ModelInput(own, kinds if any(kinds) else None) for own, kinds in zip(ids, types, strict=True)]


def cut_length(limit: int | None, options: EmbeddingOptions) -> int | None:
    """Return the number of tokens where texts are cut; None for no cut."""
    if options.truncate is None:
        return None
    return limit if options.truncate == 0 else smaller(options.truncate, limit)


def smaller(*limits: int | None) -> int | None:
    """Return the smallest limit; None without one."""
    return min((limit for limit in limits if limit is not None), default=None)


def cut(ids: Sequence[int], number: int, limit: int | None, options: EmbeddingOptions) -> Sequence[int]:
    """Return token ids, cut as the options say. Raises ApiError for too many."""
    most = cut_length(limit, options)
    if most is not None and len(ids) > most:
        return ids[-most:] if options.side == "left" else ids[:most]
    check_length(number, len(ids), limit)
    return ids


def check_text(number: int, text: str) -> None:
    """Raise ApiError for an empty text, or for one that is no Unicode."""
    if not text:
        raise ApiError(f"Input {number} is empty.", param="input", code="empty_input")
    check_unicode(text)


def check_ids(texts: Sequence[Sequence[int]], vocabulary: int) -> None:
    """Raise ApiError for an empty list of ids, or for an id that the model does not have."""
    for number, ids in enumerate(texts):
        if not ids:
            raise ApiError(f"Input {number} is empty.", param="input", code="empty_input")
        if not 0 <= min(ids) <= max(ids) < vocabulary:
            wrong = min(ids) if min(ids) < 0 else max(ids)
            raise ApiError(
                f"Input {number} has the token id {wrong}; this model has ids from 0 to {vocabulary - 1}.",
                param="input",
            )


def check_length(number: int, length: int, limit: int | None) -> None:
    """Raise ApiError for more tokens than the model reads."""
    if limit is not None and length > limit:
        raise too_long(number, str(length), limit)


def too_long(number: int, length: str, limit: int) -> ApiError:
    """Return the error of a text with more tokens than the model reads."""
    return ApiError(
        f"Input {number} has {length} tokens, and at most {limit} are read. Shorten it, split it, or ask "
        "for its beginning only: truncate (TEI, Cohere, Ollama) or truncate_prompt_tokens (/v1/embeddings).",
        param="input", code="context_length_exceeded",
    )  # fmt: skip
