"""Sparse embeddings: weights of the words of a vocabulary (SPLADE, Formal et al., 2021, arXiv:2107.05720)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedConfig
from ..hub import Want
from ..hub.options import DownloadOptions
from ..hub.push import pop_upload
from ..kernels.ragged import SequenceLayout
from ..modeling.auto import AutoModelForMaskedLM
from ..modeling.pretrained import PreTrainedModel
from ..nn.modes import in_evaluation
from ..token_batches import TOKENS, texts_of
from ..tokenizers.tokenizer import Tokenizer
from .base import TextEncoder, forward_batches, load_transformer, tokenize
from .folder import Folder, read_module, write_folder
from .modules import Entries, SentenceModule, check_entries, read_entry
from .prompts import Prompts
from .similarity import similarity, to_vectors

STRATEGIES, ACTIVATIONS = ("max", "sum"), ("relu", "log1p_relu")


class SpladePooling(SentenceModule):
    """Maps word logits (tokens, vocabulary) of a text to weights (vocabulary,): log(1 + relu(x)), its maximum or sum.

    Args:
        strategy: max or sum. act: relu, or log1p_relu for a second logarithm (arXiv:2504.14839).
    """

    package = "sparse_encoder.modules.splade_pooling"
    maps_vectors = False

    def __init__(self, width: int, strategy: str = "max", act: str = "relu") -> None:
        super().__init__()
        self.width, self.strategy, self.act = width, strategy, act

    def forward(self, scores: Tensor) -> Tensor:
        weights = scores.relu().log1p()
        weights = weights.log1p() if self.act == "log1p_relu" else weights
        return weights.amax(0) if self.strategy == "max" else weights.sum(0)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> SpladePooling:
        names = ("embedding_dimension", "word_embedding_dimension")
        check_entries(entries, where, "pooling_strategy", "activation_function", "chunk_size", *names)
        strategy, act = entries.get("pooling_strategy", "max"), entries.get("activation_function", "relu")
        if strategy not in STRATEGIES or act not in ACTIVATIONS:
            raise UnsupportedConfig(f"{where}: pooling_strategy {strategy!r} of {act!r} is not computed here.")
        for name in names:
            if read_entry(entries, name, int | None, None, where) not in (None, width):
                raise UnsupportedConfig(f"{where}: {name} is {entries[name]}, but the vocabulary has {width} words.")
        return cls(width, strategy, act)

    def entries(self) -> dict[str, Any]:
        return {
            "pooling_strategy": self.strategy,
            "activation_function": self.act,
            "embedding_dimension": self.width,
        }


SPARSE_MODULES: Mapping[str, type[SentenceModule]] = {"SpladePooling": SpladePooling}


class SparseEncoder(TextEncoder, Prompts):
    """Computes a weight for each word of the vocabulary, most of them 0, for a text.

    Args:
        model: a masked language model. tokenizer: texts are cut to its `model_max_length`.
        pooling: from word logits to weights. prompts, default_prompt_name: as a `SentenceEncoder`'s.
        similarity_fn_name: by default the dot product. max_active_dims: how many weights of a text to keep.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        pooling: SpladePooling | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        max_active_dims: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer)
        self.pooling = pooling or SpladePooling(model.vocabulary)
        self.set_prompts(prompts, default_prompt_name)
        self.similarity_fn_name, self.max_active_dims = similarity_fn_name or "dot", max_active_dims
        similarity(self.similarity_fn_name)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        max_active_dims: int | None = None,
        **options: Any,
    ) -> SparseEncoder:
        """Load a folder of sentence-transformers' SparseEncoder, or a masked language model's (SPLADE's maximum).

        Args:
            name: as for every `from_pretrained`, and so are `options`. All other arguments replace the folder's.

        Raises:
            UnsupportedConfig: modules, or entries of their configs, that are not supported. Others as `load_model`.
        """
        root = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS, Want.MODULES)
        folder = Folder.read(root, "fill-mask", SPARSE_MODULES)
        saved = folder.settings
        if saved.model_type not in (None, "SparseEncoder"):
            raise UnsupportedConfig(f"{name} is saved as a {saved.model_type}, which computes no weights of words.")
        model, tokenizer = load_transformer(folder, str(name), AutoModelForMaskedLM.class_for, **options)
        steps = [read_module(*row, model.vocabulary, SPARSE_MODULES) for row in folder.steps or ()]
        if len(steps) > 1 or (folder.steps is not None and not steps):
            raise UnsupportedConfig(f"{name}: one SpladePooling follows the transformer; here are {len(steps)}.")
        return cls(
            model,
            tokenizer,
            steps[0] if steps else None,  # type: ignore[arg-type]
            **saved.chosen(prompts, default_prompt_name, similarity_fn_name),
            max_active_dims=max_active_dims if max_active_dims is not None else saved.max_active_dims,
        )

    def get_embedding_dimension(self) -> int:
        """Return the number of words of the vocabulary."""
        return self.pooling.width

    get_sentence_embedding_dimension = get_embedding_dimension

    @in_evaluation
    @torch.inference_mode()
    def encode(
        self,
        sentences: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        *,
        max_active_dims: int | None = None,
        token_budget: int = TOKENS,
    ) -> Any:
        """Return weights (sentences, vocabulary), in their order; one row for one text.

        Args:
            convert_to_tensor: one tensor, else a list of rows. convert_to_sparse_tensor: in torch's COO layout.
            save_to_cpu: on the CPU. max_active_dims: keep the greatest weights of a text alone.

        Raises:
            InvalidInput: no strings, an unknown prompt, or no positive number of weights to keep.
        """
        texts, single = texts_of(sentences, "sentence")
        before = self.prompt_text(prompt_name, prompt)
        kept = self.max_active_dims if max_active_dims is None else max_active_dims
        if kept is not None and (isinstance(kept, bool) or not isinstance(kept, int) or kept < 1):
            raise InvalidInput(f"max_active_dims is a whole number from 1, or None; not {kept!r}.")
        ids = tokenize(self.model, self.tokenizer, [before + text for text in texts])
        rows: list[Tensor] = [torch.empty(0)] * len(texts)

        def run(_: list[int], given: Sequence[Sequence[int]], types: Any) -> Any:
            # One text's scores at a time: those of a batch would fill the memory.
            return self.model.run(given, types, at=())

        for numbers, result in forward_batches(
            self.model, ids, budget=token_budget, most=batch_size, show=show_progress_bar, run=run
        ):
            for number, weights in zip(numbers, self._weights(result.hidden, result.runs), strict=True):
                row = weights if kept is None else _greatest(weights, kept)
                row = row.to_sparse() if convert_to_sparse_tensor else row
                rows[number] = row.cpu() if save_to_cpu else row
        if single:
            return rows[0]
        return torch.stack(rows) if convert_to_tensor and rows else rows

    def encode_query(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """Run `encode` with the prompt named "query"."""
        return self.encode(sentences, self.name_of_prompt(["query"], prompt_name, options), **options)

    def encode_document(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """Run `encode` with the prompt named "document", "passage" or "corpus"."""
        names = ["document", "passage", "corpus"]
        return self.encode(sentences, self.name_of_prompt(names, prompt_name, options), **options)

    def decode(self, embeddings: Tensor, top_k: int | None = None) -> Any:
        """Return the words of weights (vocabulary,) or (texts, vocabulary) and their weights, the greatest first."""
        dense = embeddings.to_dense() if embeddings.is_sparse else embeddings
        lists = []
        for row in dense[None] if dense.ndim == 1 else dense:
            order = row.argsort(descending=True)[: int((row > 0).sum())][:top_k].tolist()
            words = self.tokenizer.convert_ids_to_tokens(order)
            lists.append([(word, float(row[number])) for word, number in zip(words, order, strict=True)])
        return lists[0] if dense.ndim == 1 else lists

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the similarity of each row of `a` to each row of `b`: (a, b)."""
        return similarity(self.similarity_fn_name).all_pairs(*to_vectors(_dense(a), _dense(b)))

    def similarity_pairwise(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the similarity of `a` and `b`, row by row: (rows,)."""
        return similarity(self.similarity_fn_name).pairwise(*to_vectors(_dense(a), _dense(b)))

    @staticmethod
    def sparsity(embeddings: Tensor) -> dict[str, float]:
        """Return the mean number of weights above 0 (`active_dims`) and the share of zeros (`sparsity_ratio`)."""
        dense = _dense(embeddings)
        rows = dense[None] if dense.ndim == 1 else dense
        active = float((rows != 0).sum(-1).float().mean())
        return {"active_dims": active, "sparsity_ratio": 1 - active / rows.shape[-1]}

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Save a folder that sentence-transformers reads. `options` are those of a model's `save_pretrained`."""
        root, upload = Path(folder), pop_upload(options, folder)
        self.model.save_pretrained(root, **options)
        self.tokenizer.save_pretrained(root)
        shape = {"text": {"method": "forward", "method_output_name": "logits"}}
        text_settings = {
            "transformer_task": "fill-mask",
            "max_seq_length": self.max_seq_length,
            "modality_config": shape,
            "module_output_name": "token_embeddings",
        }
        settings: dict[str, Any] = {
            "model_type": "SparseEncoder",
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
        }
        if self.max_active_dims is not None:
            settings["max_active_dims"] = self.max_active_dims
        write_folder(root, [self.pooling], text_settings, settings)
        if upload is not None:
            self.push_to_hub(**upload)

    def _weights(self, hidden: Tensor, runs: SequenceLayout) -> Sequence[Tensor]:
        """Return the weights (vocabulary,) of each text of a batch, zeros for a text without tokens."""
        return [
            self.pooling(self.model.score_states(rows)) if len(rows) else hidden.new_zeros(self.pooling.width)
            for rows in hidden.split(runs.lengths)
        ]


def _greatest(weights: Tensor, count: int) -> Tensor:
    """Return weights (vocabulary,) with all but the `count` greatest set to 0."""
    top = weights.abs().topk(min(count, len(weights))).indices
    return torch.zeros_like(weights).scatter(0, top, weights[top])


def _dense(x: Any) -> Any:
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], Tensor):
        return torch.stack([_dense(row) for row in x])
    return x.to_dense() if isinstance(x, Tensor) and x.is_sparse else x
