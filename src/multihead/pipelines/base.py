"""What all pipelines share: a model, a tokenizer, options, and how inputs come in and answers go out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate
from operator import length_hint
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data_files import arrow_rows, sound
from ..errors import InvalidInput, MultiheadError, ScoresNotFinite, TextTooLong, UnsupportedOption, nearest
from ..kernels.ragged import Runs
from ..modeling import auto
from ..modeling.pretrained import PreTrainedModel
from ..nn.embeddings import learned_positions
from ..token_batches import batches, budget
from ..tokenizers.tokenizer import Tokenizer
from .answers import Metadata, Stream, described
from .progress import shown
from .streaming_batcher import Piece, answers

AHEAD = 1024  # inputs of a window at most


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a call; a pipeline may be made with other defaults.

    Args:
        batch_size: texts of a batch at most. token_budget: tokens of a batch at most; neither changes an answer.
        progress: a bar on the terminal; None draws one only when the work lasts and somebody is looking.
    """

    batch_size: int | None = None
    token_budget: int | None = None
    progress: bool | None = None

    def check(self) -> None:
        """Raises InvalidInput for values that cannot be."""
        for name in ("batch_size", "token_budget"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInput(f"{name} is a whole number from 1, or None; not {value!r}.")


class Pipeline:
    """A pipeline: called with an input it gives an answer, with several their answers in order.

    A list, a tuple, an array or a column in memory gives a list. Anything else that can be iterated, such as a
    generator or a data set, gives answers as they come, while no more than two windows of inputs are held.

    Args:
        model: with the head that the task needs. name: the task's. note: how the model was chosen, for the metadata.
        defaults: options of calls.
    """

    auto: ClassVar[str] = "AutoModel"
    Options: ClassVar[type[Options]] = Options
    window: ClassVar[int] = AHEAD

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, *, note: str = "", **defaults: Any):
        self.model, self.tokenizer, self.task, self.note = model, tokenizer, name, note
        self.defaults = defaults
        self.given()

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> Any:
        """The model of a name, by the task's Auto class."""
        return getattr(auto, cls.auto).from_pretrained(name, **options)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def precision(self) -> str:
        """What the model was prepared in, such as "int8", or else the dtype that it computes in, such as "bfloat16"."""
        prepared: str | None = getattr(self.model, "model", self.model).prepared
        return prepared or str(self.model.dtype).removeprefix("torch.")

    def __repr__(self) -> str:
        return f"<{self.task} with {type(self.model).__name__} from {self.model.name_or_path}, {self.precision}>"

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """The answer or answers; `options` are those of the class's `Options`.

        Raises:
            InvalidInput: an input that is none; the first in order. TextTooLong: one that the model cannot read whole.
            UnsupportedOption: an option that is not known.
        """
        o, metadata = self.given(**options), self.metadata()
        if self.is_single(inputs, o):
            answer = next(answers(self, iter([inputs]), o, metadata, strict=True, live=False))
            return described(self.alone(answer, inputs, o), metadata)
        items, total, streamed = opened(inputs)
        every = answers(self, items, o, metadata, strict=True, live=total is None)
        found = shown(every, total, o.progress, self.task)
        return Stream(found, metadata) if streamed else described(self.together(list(found), o), metadata)

    def stream(self, inputs: Any, *, strict: bool = True, live: bool | None = None, **options: Any) -> Stream:
        """The answers as they come; with strict=False a `Failure` in the place of one that cannot be given.

        Args:
            live: whether inputs may keep one waiting, so that the first are answered a few at a time; all but those
                whose number is known, when left out.
        """
        o, metadata = self.given(**options), self.metadata()
        items, total, _ = opened(inputs)
        live = total is None if live is None else live
        return Stream(answers(self, items, o, metadata, strict=strict, live=live), metadata)

    def metadata(self) -> Metadata:
        """What is known of every answer."""
        adapter = ", ".join(self.model.adapter_sources)
        return Metadata(self.task, str(self.model.name_or_path), self.precision, str(self.device), self.note, adapter)

    def given(self, **options: Any) -> Any:
        """The options of a call, checked. Raises UnsupportedOption, InvalidInput."""
        names = {f.name for f in fields(self.Options)}
        known = {**self.defaults, **options}
        if wrong := [name for name in known if name not in names]:
            raise UnsupportedOption(f"{self.task} has no option {wrong[0]!r}. {nearest(wrong[0], names)}")
        made = self.Options(**known)
        made.check()
        return made

    # what a task does, step by step

    def is_single(self, inputs: Any, o: Any) -> bool:
        """Whether this is one input and not several."""
        return isinstance(inputs, (str, Mapping)) or not (isinstance(inputs, Iterable) or numbered(inputs))

    def accept(self, item: Any, o: Any) -> Any:
        """One input, checked. Raises InvalidInput, whose message goes on after "Input 7"."""
        return text_of(item)

    def pieces(self, items: Sequence[Any], o: Any) -> list[list[Piece] | MultiheadError]:
        """What the model reads for each accepted input; an error where it cannot."""
        raise NotImplementedError

    def compute(self, pieces: Sequence[Piece], o: Any) -> Sequence[Any]:
        """What the model says of each piece."""
        raise NotImplementedError

    def finish(self, item: Any, pieces: Sequence[Piece], found: Sequence[Any], o: Any) -> Any:
        """The answer to an input, from what the model said of its pieces."""
        raise NotImplementedError

    def alone(self, answer: Any, inputs: Any, o: Any) -> Any:
        """The answer to a single input, in its shape."""
        return answer

    def together(self, found: list[Any], o: Any) -> Any:
        """The answers to a list, in their shape."""
        return found


class Reader(Pipeline):
    """A task that the model answers in one pass over each piece."""

    def cuts(self, strategy: str = "longest_first", stride: int = 0) -> dict[str, Any] | None:
        """How texts that the model cannot read whole are cut, as `Tokenizer.run` takes it; None without a limit."""
        if self.limit is None:
            return None
        side = self.tokenizer.truncation_side
        return {"max_length": self.limit, "stride": stride, "strategy": strategy, "direction": side}

    def compute(self, pieces: Sequence[Piece], o: Any) -> list[Any]:
        found: list[Any] = [None] * len(pieces)
        most = o.token_budget or budget(self.device)
        for numbers in batches([len(piece.ids) for piece in pieces], most, o.batch_size):
            chosen = [pieces[number] for number in numbers]
            with torch.inference_mode():
                parts = self.read(chosen, o)
            sound = all_finite(parts)
            for number, part in zip(numbers, parts, strict=True):
                found[number] = part if sound or all_finite([part]) else self.not_finite()
        return found

    def not_finite(self) -> ScoresNotFinite:
        """The error for a piece of which the model's scores are no numbers."""
        small = f", or {self.precision} is too small for them: load it with dtype='float32'"
        return ScoresNotFinite(
            f"has no answer: {self.model.name_or_path} computed scores that are not a number, or infinite. Its weights "
            f"are damaged{'' if self.precision in ('float32', 'fp32') else small}. Check the checkpoint."
        )

    def read(self, pieces: Sequence[Piece], o: Any) -> Sequence[Any]:
        """What one batch's pieces give: the head's scores of each, (labels,) or (its tokens, labels), float32."""
        result = self.model.run([piece.ids for piece in pieces], segments_of(pieces))
        scores = result.scores.float().cpu()
        return scores if scores.shape[0] == len(pieces) and not self.by_token else scores.split(result.runs.lengths)

    by_token: ClassVar[bool] = False

    def encoded(self, texts: Sequence[Any], truncation: bool) -> list[list[Piece] | Any]:
        """A piece for each text or pair; TextTooLong in the place of one that the model cannot read whole."""
        limits = self.cuts() if truncation else None
        if limits is None and not self.typed:
            pairs = bool(texts) and not isinstance(texts[0], str)
            sides = ([t[0] for t in texts], [t[1] for t in texts]) if pairs else (texts, None)
            made = [Piece(ids) for ids in self.tokenizer.encode_ids(*sides)]
        else:
            made = [self.piece(e) for e in self.tokenizer.run(texts, words=False, special=True, limits=limits)]
        return [too_long(len(piece.ids), self.room) or [piece] for piece in made]

    def piece(self, encoding: Any, note: Any = None) -> Piece:
        """The piece of an encoding of the tokenizers library."""
        kinds = encoding.type_ids if self.typed else None
        return Piece(encoding.ids, kinds if kinds and any(kinds) else None, note)

    @property
    def typed(self) -> bool:
        """Whether the model reads token types that the tokenizer gives."""
        return "token_type_ids" in self.tokenizer.model_input_names and self.model.backbone.typed

    @cached_property
    def room(self) -> int | None:
        """Tokens of a text that the model can read; None where positions are computed, not learned."""
        return learned_positions(self.model)

    @property
    def limit(self) -> int | None:
        """Tokens where a text is cut, when it may be: the tokenizer's own limit, within the model's room."""
        return min((n for n in (self.tokenizer.limit, self.room) if n is not None), default=None)


def all_finite(parts: Sequence[Any]) -> bool:
    """Whether what a model said of some pieces are finite numbers: tensors, or tuples of them."""
    tensors = [x for part in parts for x in (part if isinstance(part, tuple) else (part,))]
    numbers = [x.flatten() for x in tensors if isinstance(x, Tensor) and x.is_floating_point()]
    return not numbers or bool(torch.cat(numbers).isfinite().all())


def segments_of(pieces: Sequence[Piece]) -> list[Sequence[int]] | None:
    """Token types of a batch, None where all are 0."""
    if all(piece.segments is None for piece in pieces):
        return None
    return [piece.segments or [0] * len(piece.ids) for piece in pieces]


def rows_of(pieces: Sequence[Piece], places: Sequence[Sequence[int]]) -> list[int]:
    """Rows in a batch's run of tokens, of places in each of its pieces."""
    begins = Runs.of(tuple(len(piece.ids) for piece in pieces)).begins
    return [begin + place for begin, own in zip(begins, places, strict=True) for place in own]


def numbered(inputs: Any) -> bool:
    """Whether it is a data set that gives its items by their numbers, as torch's do, and need not be iterable."""
    return hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")


def opened(inputs: Any) -> tuple[Iterator[Any], int | None, bool]:
    """The items, their number where it is known, and whether answers are to be streamed.

    Columns of pandas and arrays of numpy and Arrow are held in memory already: they give lists, as lists do.
    """
    hint = length_hint(inputs, -1)
    total = hint if hint >= 0 else None
    if hasattr(inputs, "to_pylist"):  # Arrow: chunk by chunk, not all at once
        chunks = list(inputs.iterchunks()) if hasattr(inputs, "iterchunks") else [inputs]
        begins = accumulate(map(len, chunks), initial=0)
        rows = (arrow_rows(chunk, "Item {}".format, begin) for chunk, begin in zip(chunks, begins, strict=False))
        return (sound(item) for found in rows for item in found), total, False
    if hasattr(inputs, "tolist"):
        return iter(inputs.tolist()), total, False
    if not isinstance(inputs, Iterable):  # whose numbers may have no end of their own
        return (inputs[number] for number in range(len(inputs))), total, True
    return iter(inputs), total, not isinstance(inputs, (list, tuple))


def text_of(item: Any, what: str = "text") -> str:
    """A string. Raises InvalidInput for anything else."""
    if not isinstance(item, str):
        raise InvalidInput(f"must be a {what} (a string), not {type(item).__name__}.")
    return str(item)


def too_long(length: int, room: int | None) -> TextTooLong | None:
    """The error for a text of more tokens than the model reads."""
    if room is None or length <= room:
        return None
    return TextTooLong(
        f"has {length} tokens, and this model takes at most {room}. Shorten it, split it, or pass truncation=True to "
        "read its beginning only."
    )


def ranked(scores: Tensor, most: int | None) -> list[tuple[int, float]]:
    """(number, score) of the best scores (labels,), best first."""
    values, order = scores.sort(descending=True, stable=True)
    return list(zip(order.tolist()[:most], values.tolist()[:most], strict=True))
