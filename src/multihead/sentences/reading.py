"""What both encoders share: from a folder to a model with its tokenizer, from texts to ids, and answers in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import InvalidInput
from ..modeling.loading import load_model
from ..modeling.pretrained import PreTrainedModel
from ..token_batches import batches
from ..tokenizers.core import NO_LIMIT
from ..tokenizers.load import load_tokenizer
from ..tokenizers.tokenizer import Tokenizer
from .folder import Folder

AT_ONCE = 4096  # texts that are tokenized at once


class Encoder(nn.Module):
    """A transformer and its tokenizer, whose `model_max_length` is where texts are cut."""

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
        """Where the adapters came from that change the model."""
        return self.model.adapter_sources

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a text at most, the rest is cut off; None for no limit. Setting None gives the model's own."""
        return limit_of(self.model, self.tokenizer)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidInput(f"max_seq_length is a number of tokens or None, not {value!r}.")
        self.tokenizer.model_max_length = NO_LIMIT if value is None else value


@dataclass(frozen=True)
class Ids:
    """Tokenized texts: ids, and token types where the model reads any."""

    ids: list[list[int]]
    segments: list[list[int]] | None

    @property
    def lengths(self) -> list[int]:
        return list(map(len, self.ids))


def load(
    folder: Folder, name: str, choose: Callable[[Config], type[PreTrainedModel]], **options: Any
) -> tuple[PreTrainedModel, Tokenizer]:
    """The transformer of a folder and its tokenizer, whose `model_max_length` is where texts are cut."""
    asked = folder.arguments("model_args", "model_kwargs")
    kind = asked.get("dtype", asked.get("torch_dtype"))
    if kind is not None and options.get("dtype", "auto") == "auto" and options.get("precision") is None:
        options["dtype"] = kind
    model = load_model(folder.transformer, choose, **options)
    tokenizer = load_tokenizer(folder.transformer, name_or_path=name)
    model.name_or_path = name
    most = positions(model)
    if folder.reader.get("max_seq_length") is not None:
        tokenizer.model_max_length = folder.reader["max_seq_length"]
    elif most is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    if folder.reader.get("do_lower_case"):
        lower(tokenizer)
    return model, tokenizer


def lower(tokenizer: Tokenizer) -> None:
    """Makes a tokenizer read every text in small letters."""
    from tokenizers import normalizers

    known = tokenizer.backend.normalizer
    parts: list[Any] = [known] if known is not None else []
    if isinstance(known, normalizers.Sequence):
        parts = [*known]  # type: ignore[misc]
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        tokenizer.backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])


def limit_of(model: PreTrainedModel, tokenizer: Tokenizer) -> int | None:
    """Tokens of a text at most: the tokenizer's limit, or else the model's positions; None for no limit."""
    return positions(model) if tokenizer.limit is None else tokenizer.limit


def positions(model: PreTrainedModel) -> int | None:
    """Positions that a model's config names; XLNet's -1 stands for any number."""
    most = getattr(model.config, "max_position_embeddings", None)
    return most if most is not None and most > 0 else None


def read(model: PreTrainedModel, tokenizer: Tokenizer, inputs: Sequence[Any], *, truncation: bool = True) -> Ids:
    """Tokenizes texts or pairs of them, cut to the tokenizer's limit."""
    limit = limit_of(model, tokenizer) if truncation else None
    limits = None if limit is None else {
        "max_length": limit, "stride": 0, "strategy": "longest_first", "direction": tokenizer.truncation_side
    }  # fmt: skip
    if limit is not None and limit < tokenizer.num_special_tokens_to_add(
        bool(inputs) and not isinstance(inputs[0], str)
    ):
        raise InvalidInput(f"max_seq_length = {limit} leaves no room for a text beside the special tokens.")
    ids, segments = [], []
    for begin in range(0, len(inputs), AT_ONCE):
        for found in tokenizer.run(inputs[begin : begin + AT_ONCE], words=False, special=True, limits=limits):
            ids.append(found.ids)
            segments.append(found.type_ids)
    typed = "token_type_ids" in tokenizer.model_input_names and model.backbone.typed
    return Ids(ids, segments if typed and any(map(any, segments)) else None)


def passes(
    model: PreTrainedModel, texts: Ids, *, budget: int, most: int | None, show: bool
) -> Iterator[tuple[list[int], Any]]:
    """(numbers of texts, what `model.run` gives for them) of each batch."""
    if budget < 1 or (most is not None and most < 1):
        raise InvalidInput("batch_size and token_budget are whole numbers from 1.")
    planned: Iterable[list[int]] = list(batches(texts.lengths, budget, most))
    if show:
        from rich.progress import track

        planned = track(planned, "Batches")
    for numbers in planned:
        kinds = None if texts.segments is None else [texts.segments[n] for n in numbers]
        yield numbers, model.run([texts.ids[n] for n in numbers], kinds)


def given(x: Tensor, *, numpy: bool, tensor: bool) -> Any:
    """Rows as a caller wants them: a tensor, an array, or a list of tensors."""
    if tensor:
        return x
    if numpy:
        return (x.float() if x.dtype is torch.bfloat16 else x).cpu().numpy()
    return list(x)
