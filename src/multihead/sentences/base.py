"""Base of sentence encoders and rerankers: loading, tokenization and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import InvalidInput
from ..hub.push import PushToHub
from ..modeling.loading import load_model
from ..modeling.pretrained import PreTrainedModel
from ..token_batches import batches
from ..tokenizers.core import NO_LIMIT
from ..tokenizers.load import load_tokenizer
from ..tokenizers.tokenizer import Tokenizer
from .folder import Folder

TOKENIZE_TEXTS = 4096  # texts that are tokenized at once


class TextEncoder(PushToHub, nn.Module):
    """Transformer and tokenizer. Texts are cut to the tokenizer's `model_max_length`."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def name_or_path(self) -> str:
        return self.model.name_or_path

    @property
    def adapter_sources(self) -> tuple[str, ...]:
        """Sources of the adapters that change the model."""
        return self.model.adapter_sources

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a text at most; the rest is cut. None for no limit. Setting None restores the model's own limit."""
        return limit_of(self.model, self.tokenizer)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidInput(f"max_seq_length is a number of tokens or None, not {value!r}.")
        self.tokenizer.model_max_length = NO_LIMIT if value is None else value


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of texts, and token types if the model reads them and they are not all 0."""

    ids: list[list[int]]
    token_types: list[list[int]] | None

    @property
    def lengths(self) -> list[int]:
        return list(map(len, self.ids))

    def select(self, numbers: Sequence[int]) -> TokenizedTexts:
        """Return the texts of these numbers."""
        types = self.token_types
        return TokenizedTexts([self.ids[n] for n in numbers], None if types is None else [types[n] for n in numbers])


def load_transformer(
    folder: Folder, name: str, choose: Callable[[Config], type[PreTrainedModel]], **options: Any
) -> tuple[PreTrainedModel, Tokenizer]:
    """Load the transformer of a folder and its tokenizer, with the folder's max_seq_length and do_lower_case."""
    arguments = folder.arguments("model_args", "model_kwargs")
    dtype = arguments.get("dtype", arguments.get("torch_dtype"))
    if dtype is not None and options.get("dtype", "auto") == "auto" and options.get("precision") is None:
        options["dtype"] = dtype
    model = load_model(folder.transformer, choose, **options)
    tokenizer = load_tokenizer(folder.transformer, name_or_path=name)
    model.name_or_path = name
    most = config_positions(model)
    if folder.text_settings.get("max_seq_length") is not None:
        tokenizer.model_max_length = folder.text_settings["max_seq_length"]
    elif most is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    if folder.text_settings.get("do_lower_case"):
        add_lowercase(tokenizer)
    return model, tokenizer


def add_lowercase(tokenizer: Tokenizer) -> None:
    """Make a tokenizer lowercase every text, in place."""
    from tokenizers import normalizers

    known = tokenizer.backend.normalizer
    parts: list[Any] = [known] if known is not None else []
    if isinstance(known, normalizers.Sequence):
        parts = [*known]  # type: ignore[misc]
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        tokenizer.backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])


def limit_of(model: PreTrainedModel, tokenizer: Tokenizer) -> int | None:
    """Return the tokens of a text at most: the tokenizer's limit, else the model's positions; None for no limit."""
    return config_positions(model) if tokenizer.limit is None else tokenizer.limit


def config_positions(model: PreTrainedModel) -> int | None:
    """Return the positions that a config names; None for no limit, which XLNet writes as -1."""
    most = getattr(model.config, "max_position_embeddings", None)
    return most if most is not None and most > 0 else None


def tokenize(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    inputs: Sequence[Any],
    *,
    truncation: bool = True,
    most: int | None = None,
) -> TokenizedTexts:
    """Tokenize texts or pairs of texts, cut to the tokenizer's limit or to `most`.

    Raises:
        InvalidInput: no token fits.
    """
    limit = (limit_of(model, tokenizer) if most is None else most) if truncation else None
    limits = None if limit is None else {
        "max_length": limit, "stride": 0, "strategy": "longest_first", "direction": tokenizer.truncation_side
    }  # fmt: skip
    if limit is not None and limit < tokenizer.num_special_tokens_to_add(
        bool(inputs) and not isinstance(inputs[0], str)
    ):
        raise InvalidInput(f"max_seq_length = {limit} leaves no room for a text in addition to the special tokens.")
    ids, token_types = [], []
    for begin in range(0, len(inputs), TOKENIZE_TEXTS):
        for encoding in tokenizer.run(inputs[begin : begin + TOKENIZE_TEXTS], words=False, special=True, limits=limits):
            ids.append(encoding.ids)
            token_types.append(encoding.type_ids)
    typed = "token_type_ids" in tokenizer.model_input_names and model.backbone.typed
    return TokenizedTexts(ids, token_types if typed and any(map(any, token_types)) else None)


def forward_batches(
    model: PreTrainedModel,
    texts: TokenizedTexts,
    *,
    budget: int,
    most: int | None,
    show: bool,
    run: Callable[..., Any] | None = None,
) -> Iterator[tuple[list[int], Any]]:
    """Yield (numbers of texts, result of `run`) of each batch.

    Args:
        run: (numbers of texts, lists of ids, token types or None) -> result; by default `model.run` of the last two.
    """
    if budget < 1 or (most is not None and most < 1):
        raise InvalidInput("batch_size and token_budget are whole numbers from 1.")
    plan: Iterable[list[int]] = list(batches(texts.lengths, budget, most))
    if show:
        from rich.progress import track

        plan = track(plan, "Batches")
    for numbers in plan:
        types = None if texts.token_types is None else [texts.token_types[n] for n in numbers]
        ids = [texts.ids[n] for n in numbers]
        yield numbers, model.run(ids, types) if run is None else run(numbers, ids, types)


def convert_rows(x: Tensor, *, numpy: bool, tensor: bool) -> Any:
    """Return rows as one tensor, as an array, or as a list of tensors."""
    if tensor:
        return x
    if numpy:
        return (x.float() if x.dtype is torch.bfloat16 else x).cpu().numpy()
    return list(x)
