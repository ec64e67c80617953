"""Base classes of pipelines: options, inputs of every kind, and pipelines of a single forward pass."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from itertools import accumulate
from operator import length_hint
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data_files import arrow_rows, row_or_raise
from ..errors import InvalidInput, ScoresNotFinite, TextTooLong, UnsupportedOption, nearest
from ..kernels.ragged import SequenceLayout
from ..modeling import auto
from ..modeling.pretrained import PreTrainedModel
from ..nn.embeddings import learned_positions
from ..nn.inner_model import inner_model
from ..runtime.turns import turn
from ..token_batches import batches, budget
from ..tokenizers.tokenizer import Tokenizer
from .answers import AnswerStream, Metadata, with_metadata
from .batch_inference.job import Recipe
from .batch_inference.run import Batch, BatchOptions, check_recipe, record_of
from .batch_inference.sources import PART_ROWS, Inputs, Source
from .catalog import get_task
from .progress import with_progress
from .streaming_batcher import ModelInput, Preprocessed, stream_answers
from .text_checks import NamedText, check_known, check_not_empty

WINDOW = 1024  # items of a window at most


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """Options of a call. A pipeline may be made with other defaults.

    Args:
        batch_size: sequences of a batch at most. token_budget: tokens of a batch at most. Neither changes an answer.
        progress: draws a bar on the terminal. None draws one only for long calls on a terminal.
    """

    batch_size: int | None = None
    token_budget: int | None = None
    progress: bool | None = None

    def check(self) -> None:
        """Raise InvalidInput for values that are not possible."""
        for name in ("batch_size", "token_budget"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInput(f"{name} is a whole number from 1, or None; not {value!r}.")


class Pipeline:
    """Model, tokenizer and options that answer a task.

    Called with one input, a pipeline returns one answer. A list, a tuple, an array or a column in memory returns a
    list. Any other iterable, such as a generator or a data set, returns an `AnswerStream`, which holds at most two
    windows of inputs.

    A subclass implements four steps: `validate` an item, `preprocess` items into model inputs, `forward` model inputs,
    `postprocess` outputs into an answer.

    Args:
        model: with a head for the task. name: of the task. note: how the model was chosen, for the metadata.
        defaults: options of calls.
    """

    auto: ClassVar[str] = "AutoModel"
    Options: ClassVar[type[PipelineOptions]] = PipelineOptions
    input_name: ClassVar[str] = "inputs"  # other name of the argument `inputs`
    window: int = WINDOW
    recipe: Recipe | None = None  # by which another process loads the same pipeline
    numbers_inputs: bool = False  # model inputs know the number of their item

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, *, note: str = "", **defaults: Any):
        self.model, self.tokenizer, self.task, self.note = model, tokenizer, name, note
        self.defaults = defaults
        self.resolve_options()

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> Any:
        """Load a model with the Auto class of the pipeline."""
        return getattr(auto, cls.auto).from_pretrained(name, **options)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def precision(self) -> str:
        """Precision that the model was prepared in, such as "int8", else the dtype it computes in: "bfloat16"."""
        prepared: str | None = inner_model(self.model).prepared
        return prepared or str(self.model.dtype).removeprefix("torch.")

    def __repr__(self) -> str:
        return f"<{self.task} with {type(self.model).__name__} from {self.model.name_or_path}, {self.precision}>"

    def __call__(self, inputs: Any = MISSING, **options: Any) -> Any:
        """Answer one input or several, which may be given as `input_name`. `options`: those of the class's `Options`.

        Raises:
            InvalidInput: the first input that is not valid. TextTooLong: an input longer than the model reads.
            UnsupportedOption: an unknown option.
        """
        if inputs is MISSING:
            if self.input_name not in options:
                raise InvalidInput(f"{self.task} was called without inputs.")
            inputs = options.pop(self.input_name)
        o, metadata = self.resolve_options(**options), self.start_metadata()
        if self.is_single(inputs, o):
            answer = next(stream_answers(self, iter([inputs]), o, metadata, strict=True, live=False))
            return with_metadata(self.format_single(answer, inputs, o), metadata)
        items, total, streamed = iterate_inputs(inputs)
        every = stream_answers(self, items, o, metadata, strict=True, live=total is None, in_memory=not streamed)
        answers = with_progress(every, total, o.progress, self.task)
        return AnswerStream(answers, metadata) if streamed else with_metadata(self.format_list([*answers], o), metadata)

    def stream(
        self, inputs: Any, *, strict: bool = True, live: bool | None = None, first: int = 0, **options: Any
    ) -> AnswerStream:
        """Return the answers as a stream; with strict=False a `Failure` for an input that cannot be answered.

        Args:
            live: inputs may make the reader wait, so the first are answered a few at a time. Default: True unless the
                number of inputs is known.
            first: number of the first input, by which errors name it and a `seed` draws for it.
        """
        o, metadata = self.resolve_options(**options), self.start_metadata()
        items, total, streamed = iterate_inputs(inputs)
        live = total is None if live is None else live
        answers = stream_answers(
            self, items, o, metadata, strict=strict, live=live, in_memory=not streamed, first=first
        )
        return AnswerStream(answers, metadata)

    def map(
        self,
        source: Source,
        output: str | os.PathLike[str],
        *,
        columns: str | Sequence[str] = (),
        keep: str | Sequence[str] = (),
        shared: Mapping[str, str] | None = None,
        workers: int | None = None,
        format: str | None = None,
        part_rows: int = PART_ROWS,
        overwrite: bool = False,
        strict: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Answer all rows of some files into a folder of parts. After any stop, the same call goes on.

        Args:
            source: a file, a pattern such as "data/*.parquet", a folder, or a list of them.
            columns: the column of texts, or `key=column` for each key of an input; guessed when empty.
            keep: columns that go into the output, or "all". shared: values of keys that all inputs have.
            workers, format, part_rows, overwrite, strict: as in `BatchOptions`. options: those of a call.

        Returns:
            The manifest: number of rows, of rows that failed, and the parts with their rows and hashes.

        Raises:
            InvalidInput: files that cannot be read, a folder of other answers, a full disk. UnsupportedOption: options
                that are not possible.
        """
        own = BatchOptions(workers=workers, format=format, part_rows=part_rows, overwrite=overwrite, strict=strict)
        check_recipe(self.recipe, own)
        name = str(self.model.name_or_path)
        recipe = self.recipe or Recipe(self.task, name, self.defaults)
        as_list = [[value] if isinstance(value, str) else list(value) for value in (columns, keep)]
        inputs = Inputs(self.task, as_list[0], shared or {}, as_list[1])
        self.resolve_options(**options)
        batch = Batch(
            source=source, output=Path(output), inputs=inputs, recipe=recipe, options=own, call=options,
            varied=get_task(self.task).varied, record=record_of(recipe, inputs, options), pipe=lambda: self,
        )  # fmt: skip
        return batch.run()

    def start_metadata(self) -> Metadata:
        """Return the metadata of a new call."""
        adapter = ", ".join(self.model.adapter_sources)
        return Metadata(self.task, str(self.model.name_or_path), self.precision, str(self.device), self.note, adapter)

    def resolve_options(self, **options: Any) -> Any:
        """Return the options of a call over the pipeline's defaults. Raises UnsupportedOption, InvalidInput."""
        names = {f.name for f in fields(self.Options)}
        given = {**self.defaults, **options}
        if unknown := [name for name in given if name not in names]:
            raise UnsupportedOption(f"{self.task} has no option {unknown[0]!r}. {nearest(unknown[0], names)}")
        resolved = self.Options(**given)
        resolved.check()
        return resolved

    def is_single(self, inputs: Any, o: Any) -> bool:
        """Return whether `inputs` is one input."""
        return isinstance(inputs, (str, Mapping)) or not (isinstance(inputs, Iterable) or is_indexable(inputs))

    def validate(self, item: Any, o: Any) -> Any:
        """Return the item in the form that `preprocess` takes.

        Raises:
            InvalidInput: the message continues "Input 7".
        """
        return text_of(item)

    def texts(self, item: Any, o: Any) -> Sequence[NamedText]:
        """Return the texts of a valid item that must say something to the model; none by default."""
        return ()

    def check_empty(self, item: Any, o: Any) -> None:
        """Raise InvalidInput if one of the `texts` of a valid item is empty."""
        check_not_empty(self.texts(item, o))

    def check_unknown(self, item: Any, inputs: Sequence[ModelInput], o: Any) -> Sequence[str]:
        """Return notices of words that the vocabulary lacks. Raises InvalidInput for a text of such words alone."""
        return check_known(self.texts(item, o), (each.ids for each in inputs), self.tokenizer)

    def preprocess(self, items: Sequence[Any], o: Any) -> Sequence[Preprocessed]:
        """Return the model inputs of each valid item, or its error."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Any]:
        """Return the model's output, or an error, for each model input."""
        raise NotImplementedError

    def postprocess(self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Any:
        """Return the answer to an item from the outputs of its model inputs; `WithNotices` if a user must know more."""
        raise NotImplementedError

    def format_single(self, answer: Any, inputs: Any, o: Any) -> Any:
        """Return the answer to a single input in its final shape."""
        return answer

    def format_list(self, answers: list[Any], o: Any) -> Any:
        """Return the answers to a list in their final shape."""
        return answers


class ForwardPipeline(Pipeline):
    """Pipeline that needs one forward pass a model input."""

    per_token: ClassVar[bool] = False  # the head scores each token, not each sequence

    def truncation_options(self, strategy: str = "longest_first", stride: int = 0) -> dict[str, Any] | None:
        """Return options of `Tokenizer.run` that cut long texts; None if there is no limit."""
        if self.limit is None:
            return None
        side = self.tokenizer.truncation_side
        return {"max_length": self.limit, "stride": stride, "strategy": strategy, "direction": side}

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> list[Any]:
        outputs: list[Any] = [None] * len(inputs)
        for numbers in self.batches(inputs, o):
            batch = [inputs[number] for number in numbers]
            with torch.inference_mode(), turn():
                found = self.forward_batch(batch, o)
            finite = all_finite(found)
            for number, output in zip(numbers, found, strict=True):
                outputs[number] = output if finite or all_finite([output]) else self.not_finite_error()
        return outputs

    def batches(self, inputs: Sequence[ModelInput], o: Any) -> Iterator[list[int]]:
        """Yield the numbers of the model inputs of each batch."""
        return batches([len(each.ids) for each in inputs], o.token_budget or budget(self.device), o.batch_size)

    def not_finite_error(self) -> ScoresNotFinite:
        """Return the error for scores that are not finite numbers."""
        small = f", or {self.precision} is too small for them: load it with dtype='float32'"
        return ScoresNotFinite(
            f"has no answer: {self.model.name_or_path} computed scores that are not a number, or infinite. Its weights "
            f"are damaged{'' if self.precision in ('float32', 'fp32') else small}. Check the checkpoint."
        )

    def forward_batch(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Any]:
        """Return the head's scores of each model input: (labels,), or (tokens, labels) if `per_token`; float32."""
        result = self.model.run([each.ids for each in inputs], token_types_of(inputs))
        scores = result.scores.float().cpu()
        return scores if scores.shape[0] == len(inputs) and not self.per_token else scores.split(result.runs.lengths)

    def encode(self, texts: Sequence[Any], truncation: bool) -> list[Preprocessed]:
        """Return one model input for each text or pair, or TextTooLong."""
        limits = self.truncation_options() if truncation else None
        if limits is None and not self.reads_token_types:
            pairs = bool(texts) and not isinstance(texts[0], str)
            sides = ([t[0] for t in texts], [t[1] for t in texts]) if pairs else (texts, None)
            inputs = [ModelInput(ids) for ids in self.tokenizer.encode_ids(*sides)]
        else:
            encodings = self.tokenizer.run(texts, words=False, special=True, limits=limits)
            inputs = [self.to_input(encoding) for encoding in encodings]
        return [too_long(len(each.ids), self.max_positions) or [each] for each in inputs]

    def to_input(self, encoding: Any, note: Any = None) -> ModelInput:
        """Return the model input of an encoding of the tokenizers library."""
        types = encoding.type_ids if self.reads_token_types else None
        return ModelInput(encoding.ids, types if types and any(types) else None, note)

    @property
    def reads_token_types(self) -> bool:
        """True if the tokenizer gives token types and the model reads them."""
        return "token_type_ids" in self.tokenizer.model_input_names and self.model.backbone.typed

    @cached_property
    def max_positions(self) -> int | None:
        """Number of tokens that the model can read; None if its positions are computed, not learned."""
        return learned_positions(self.model)

    @property
    def limit(self) -> int | None:
        """Number of tokens where texts are cut: the smaller of the tokenizer's limit and `max_positions`."""
        return min((n for n in (self.tokenizer.limit, self.max_positions) if n is not None), default=None)


def all_finite(outputs: Sequence[Any]) -> bool:
    """Return whether outputs, tensors or tuples of tensors, are finite numbers."""
    tensors = [x for output in outputs for x in (output if isinstance(output, tuple) else (output,))]
    numbers = [x.flatten() for x in tensors if isinstance(x, Tensor) and x.is_floating_point()]
    return not numbers or bool(torch.cat(numbers).isfinite().all())


def token_types_of(inputs: Sequence[ModelInput]) -> list[Sequence[int]] | None:
    """Return the token types of a batch; None if all are 0."""
    if all(each.token_types is None for each in inputs):
        return None
    return [each.token_types or [0] * len(each.ids) for each in inputs]


def packed_positions(inputs: Sequence[ModelInput], positions: Sequence[Sequence[int]]) -> list[int]:
    """Return the indices in the packed batch of positions in each of its sequences."""
    begins = SequenceLayout.packed(tuple(len(each.ids) for each in inputs)).begins
    return [begin + position for begin, own in zip(begins, positions, strict=True) for position in own]


def is_indexable(inputs: Any) -> bool:
    """Return whether inputs are a data set with a length and numbered items, as torch's, which need not iterate."""
    return hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")


def iterate_inputs(inputs: Any) -> tuple[Iterator[Any], int | None, bool]:
    """Return the items, their number if it is known, and whether answers are streamed.

    Columns of pandas and arrays of numpy and Arrow are in memory already, so they return lists, as lists do.
    """
    hint = length_hint(inputs, -1)
    total = hint if hint >= 0 else None
    if hasattr(inputs, "to_pylist"):  # Arrow: chunk by chunk, not all at once
        chunks = list(inputs.iterchunks()) if hasattr(inputs, "iterchunks") else [inputs]
        begins = accumulate(map(len, chunks), initial=0)
        rows = (arrow_rows(chunk, "Item {}".format, begin) for chunk, begin in zip(chunks, begins, strict=False))
        return (row_or_raise(item) for chunk in rows for item in chunk), total, False
    if hasattr(inputs, "tolist"):
        return iter(inputs.tolist()), total, False
    if not isinstance(inputs, Iterable):  # indexing may have no end of its own
        return (inputs[number] for number in range(len(inputs))), total, True
    return iter(inputs), total, not isinstance(inputs, (list, tuple))


def text_of(item: Any, what: str = "text") -> str:
    """Return a string. Raises InvalidInput for anything else."""
    if not isinstance(item, str):
        raise InvalidInput(f"must be a {what} (a string), not {type(item).__name__}.")
    return str(item)


def too_long(length: int, most: int | None) -> TextTooLong | None:
    """Return the error for a text of more tokens than the model reads, or None."""
    if most is None or length <= most:
        return None
    return TextTooLong(
        f"has {length} tokens, and this model takes at most {most}. Shorten it, split it, or pass truncation=True to "
        "read its beginning only."
    )


def top_scores(scores: Tensor, most: int | None) -> list[tuple[int, float]]:
    """Return (label number, score) of the best scores (labels,), best first; all if `most` is None."""
    values, order = scores.sort(descending=True, stable=True)
    return list(zip(order.tolist()[:most], values.tolist()[:most], strict=True))
