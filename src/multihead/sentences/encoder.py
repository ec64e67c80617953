"""Sentences to vectors (Sentence-BERT, Reimers and Gurevych, 2019, arXiv:1908.10084)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption, nearest
from ..hub import Want
from ..hub.options import DownloadOptions
from ..kernels.ragged import SequenceLayout
from ..modeling.auto import AutoModelForTextEncoding
from ..modeling.pretrained import PreTrainedModel
from ..modeling.seq2seq import SequenceToSequence
from ..nn.modes import in_evaluation
from ..token_batches import TOKENS, check_room, texts_of
from ..tokenizers.encodings import Encodings
from ..tokenizers.tokenizer import Tokenizer
from .folder import Folder, read_step, write
from .reading import Encoder, given, load, passes, read
from .similarity import similarity, vectors_of
from .steps import Pooling, Step

OUTPUTS = ("sentence_embedding", "token_embeddings")
PROMPTS = {"query": "", "document": ""}


class SentenceEncoder(Encoder):
    """Gives each text a vector.

    Args:
        model: the transformer. tokenizer: its own; texts are cut to its `model_max_length`.
        steps: a `Pooling` and what follows it; the mean of all states when left out.
        prompts: name -> text before every sentence. default_prompt_name: of the one used when none is named.
        similarity_fn_name: cosine, dot, euclidean or manhattan. truncate_dim: numbers of a vector that are kept.

    Raises:
        UnsupportedConfig: steps that do not begin with a pooling, a similarity or default prompt that does not exist.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        steps: Sequence[Step] | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer)
        steps = [Pooling(model.config.hidden_size)] if steps is None else list(steps)
        kinds = [type(step).__name__ for step in steps]
        if kinds[:1] != ["Pooling"] or "Pooling" in kinds[1:]:
            raise UnsupportedConfig(
                f"After the transformer comes one Pooling, then steps; not {', '.join(kinds) or 'none'}."
            )
        self.steps, self.width = nn.ModuleList(steps), steps[-1].width
        self.steps.to(model.device, model.dtype)
        self.prompts = {**PROMPTS, **(prompts or {})}
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            raise UnsupportedConfig(
                f"default_prompt_name {default_prompt_name!r}: {nearest(default_prompt_name, self.prompts)}"
            )
        self.default_prompt_name, self.truncate_dim = default_prompt_name, truncate_dim
        self.similarity_fn_name = similarity_fn_name or "cosine"
        similarity(self.similarity_fn_name)
        self.lowercases = False
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> SentenceEncoder:
        """The encoder of a folder with modules.json; of any other checkpoint, the mean of its states.

        A checkpoint of a causal language model without modules.json gives the state of the last token.

        Args:
            name: as for every `from_pretrained`, and so are `options` (dtype, device, precision, revision, ...).
            prompts: beside the folder's own; and the other arguments, instead of the folder's.

        Raises:
            UnsupportedConfig: modules, or entries of their configs, that are not computed here.
            ModelNotFound, CorruptFile, UnsafeFile, CheckpointMismatch: the files. Others as `load_model` does.
        """
        root = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS, Want.MODULES)
        folder = Folder.read(root)
        told = folder.settings
        if told.model_type not in (None, "SentenceTransformer"):
            raise UnsupportedConfig(f"{name} is saved as a {told.model_type}, which gives no vectors of sentences.")
        model, tokenizer = load(folder, str(name), _reader, **options)
        width = model.config.hidden_size
        steps: list[Step] = [] if folder.steps is not None else [Pooling(width, _usual(model.config))]
        for kind, place in folder.steps or ():
            steps.append(read_step(kind, place, steps[-1].width if steps else width))
        encoder = cls(
            model,
            tokenizer,
            steps,
            prompts={**{k: v or "" for k, v in told.prompts.items()}, **(prompts or {})},
            default_prompt_name=default_prompt_name if default_prompt_name is not None else told.default_prompt_name,
            similarity_fn_name=similarity_fn_name or told.similarity_fn_name,
            truncate_dim=truncate_dim if truncate_dim is not None else told.truncate_dim,
        )
        encoder.lowercases = bool(folder.reader.get("do_lower_case"))
        return encoder

    def get_sentence_embedding_dimension(self) -> int:
        """Numbers of a vector."""
        return self.width if self.truncate_dim is None else min(self.width, self.truncate_dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def tokenize(self, texts: str | Iterable[str]) -> Encodings:
        """Padded tensors (texts, tokens) of texts, without a prompt."""
        limit = self.max_seq_length
        return self.tokenizer(
            texts_of(texts)[0], padding=True, truncation=limit is not None, max_length=limit, return_tensors="pt"
        )

    @in_evaluation
    @torch.inference_mode()
    def encode(
        self,
        sentences: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        output_value: str = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        truncation: bool = True,
        token_budget: int = TOKENS,
    ) -> Any:
        """A vector a sentence, in their order; no padding is computed, so that company changes nothing.

        Args:
            sentences: one gives one vector (width,), several give (sentences, width).
            prompt_name: of the prompt that comes before each. prompt: the prompt itself.
            batch_size: sentences of a batch at most. token_budget: tokens of a batch at most.
            output_value: "token_embeddings" gives a list of the transformer's own states, (tokens, width) each.
            convert_to_numpy, convert_to_tensor: an array, or one tensor on the model's device; with neither, a list of
                tensors. normalize_embeddings: to length 1, after truncate_dim has cut them.
            truncation: False refuses texts longer than max_seq_length instead of cutting them.

        Raises:
            InvalidInput: no strings, a prompt's name that does not exist. UnsupportedOption: outputs not given here.
            TextTooLong: with truncation=False.
        """
        if output_value not in OUTPUTS:
            raise UnsupportedOption(f"output_value {output_value!r} is none of {', '.join(OUTPUTS)}.")
        if precision != "float32":
            raise UnsupportedOption(f"precision {precision!r}: vectors are given as the model computes them.")
        texts, single = texts_of(sentences, "sentence")
        before = self._prompt(prompt_name, prompt)
        ids = read(self.model, self.tokenizer, [before + text for text in texts], truncation=truncation)
        check_room(ids.lengths, self.max_seq_length)
        length = self._length(before) if before and not self.steps[0].include_prompt else 0
        runs = passes(self.model, ids, budget=token_budget, most=batch_size, show=show_progress_bar)
        if output_value == "token_embeddings":
            states: list[Tensor] = [torch.empty(0)] * len(texts)
            for numbers, found in runs:
                for number, rows in zip(numbers, found.hidden.split(found.runs.lengths), strict=True):
                    states[number] = rows
            return states[0] if single else states
        width = truncate_dim if truncate_dim is not None else self.truncate_dim
        place = self.device if convert_to_tensor or not convert_to_numpy else torch.device("cpu")
        rows = torch.zeros(len(texts), self.width, dtype=self.dtype, device=place)[:, :width]
        for numbers, found in runs:
            vectors = self.vectors(found.hidden, found.runs, length)[:, :width]
            rows[numbers] = (F.normalize(vectors, dim=-1) if normalize_embeddings else vectors).to(place)
        answers = given(rows.contiguous(), numpy=convert_to_numpy, tensor=convert_to_tensor)
        return answers[0] if single else answers

    def vectors(self, hidden: Tensor, runs: SequenceLayout, prompt: int = 0) -> Tensor:
        """(texts, width) of the transformer's states (tokens, width), where each text begins with `prompt` tokens."""
        pooled = self.steps[0](hidden, runs, prompt)
        for step in self.steps[1:]:
            pooled = step(pooled)
        return pooled

    def encode_query(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` with the prompt named "query"."""
        return self._encode_as(["query"], sentences, prompt_name, options)

    def encode_document(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` with the prompt named "document"."""
        return self._encode_as(["document", "passage", "corpus"], sentences, prompt_name, options)

    def similarity(self, a: Any, b: Any) -> Tensor:
        """How alike each vector of `a` is to each of `b`, by `similarity_fn_name`: (a, b); distances count negative."""
        return similarity(self.similarity_fn_name).every(*vectors_of(a, b))

    def similarity_pairwise(self, a: Any, b: Any) -> Tensor:
        """How alike the vectors of `a` and `b` are, row by row: (rows,)."""
        return similarity(self.similarity_fn_name).pairwise(*vectors_of(a, b))

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Writes the folder as the reference reads it; `options` are those of a model's `save_pretrained`."""
        root = Path(folder)
        self.model.save_pretrained(root, **options)
        self.tokenizer.save_pretrained(root)
        settings: dict[str, Any] = {
            "model_type": "SentenceTransformer",
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
        }
        if self.truncate_dim is not None:
            settings["truncate_dim"] = self.truncate_dim
        reader = {"max_seq_length": self.max_seq_length, "do_lower_case": self.lowercases}
        write(root, self.steps, reader, settings)  # type: ignore[arg-type]

    def _encode_as(self, names: Sequence[str], sentences: Any, prompt_name: str | None, options: dict[str, Any]) -> Any:
        if prompt_name is None and options.get("prompt") is None:
            prompt_name = next((name for name in names if name in self.prompts), None)
        return self.encode(sentences, prompt_name, **options)

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        """What comes before each sentence. Raises InvalidInput."""
        if prompt is not None:
            if name is not None:
                raise InvalidInput("Give either prompt or prompt_name, not both.")
            if not isinstance(prompt, str):
                raise InvalidInput(f"A prompt is a string, not {type(prompt).__name__}.")
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is not None and name not in self.prompts:
            raise InvalidInput(f"There is no prompt named {name!r}. {nearest(str(name), self.prompts)}")
        return "" if name is None else self.prompts[name]

    def _length(self, prompt: str) -> int:
        """Tokens of a prompt as a text begins with it: without the special token that ends a text."""
        ids = read(self.model, self.tokenizer, [prompt]).ids[0]
        return len(ids) - (bool(ids) and ids[-1] in self.tokenizer.all_special_ids)


def _reader(config: Config) -> type[PreTrainedModel]:
    """The class that gives a checkpoint's states. Raises UnsupportedConfig for one that reads and writes."""
    found = AutoModelForTextEncoding.class_for(config)
    if issubclass(found, SequenceToSequence):
        raise UnsupportedConfig(
            f"{found.__name__} reads a text and writes another; vectors of its encoder are not given here."
        )
    return found


def _usual(config: Config) -> tuple[str]:
    """The pooling of a checkpoint that says nothing of it."""
    written = str((config.architectures or [""])[0]).endswith("ForCausalLM")
    return ("lasttoken" if written and getattr(config, "is_causal", True) else "mean",)
