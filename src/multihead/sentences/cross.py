"""Scores of pairs of texts, by a transformer that reads both at once (rerankers; arXiv:1901.04085)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, UnsupportedConfig
from ..hub import Want
from ..hub.options import DownloadOptions
from ..hub.push import pop_upload
from ..modeling.auto import AutoModelForSequenceClassification
from ..modeling.pretrained import PreTrainedModel
from ..nn.modes import in_evaluation
from ..token_batches import TOKENS, texts_of
from ..tokenizers.tokenizer import Tokenizer
from .base import TextEncoder, convert_rows, forward_batches, load_transformer, tokenize
from .folder import Folder, write_folder
from .modules import activation, dotted_name

Activation = Callable[[Tensor], Tensor]


class CrossEncoder(TextEncoder):
    """Scores pairs of texts.

    Args:
        model: a sequence classifier. tokenizer: pairs are cut to its `model_max_length`.
        activation_fn: of the scores (pairs, labels). Default: a sigmoid for one label, else none.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Tokenizer, *, activation_fn: Activation | None = None
    ) -> None:
        super().__init__(model, tokenizer)
        self.activation_fn: Activation = activation_fn or (nn.Sigmoid() if self.num_labels == 1 else nn.Identity())
        self.eval()

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, activation_fn: Activation | None = None, **options: Any
    ) -> CrossEncoder:
        """Load the cross-encoder of a checkpoint with a sequence classifier.

        Args:
            name: as for every `from_pretrained`, and so are `options` (dtype, device, precision, num_labels, ...).
            activation_fn: replaces the checkpoint's.

        Raises:
            UnsupportedConfig: modules or activations that are not supported. Others as `load_model` does.
        """
        root = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS, Want.MODULES)
        folder = Folder.read(root, "sequence-classification")
        saved = folder.settings
        if folder.steps or saved.model_type not in (None, "CrossEncoder"):
            raise UnsupportedConfig(
                f"{name} computes sentence embeddings, not scores of pairs: load it with SentenceEncoder."
            )
        if saved.default_prompt_name is not None:
            raise UnsupportedConfig(f"{name}: prompts before pairs (default_prompt_name) are not supported.")
        model, tokenizer = load_transformer(folder, str(name), AutoModelForSequenceClassification.class_for, **options)
        if str((model.config.architectures or [""])[0]).endswith("ForCausalLM"):
            raise UnsupportedConfig(
                f"{name} is a language model; scores by the words that it generates are not supported."
            )
        path = saved.activation_fn or _config_activation(model.config)
        if activation_fn is None and path is not None:
            activation_fn = activation(path, str(name))
        return cls(model, tokenizer, activation_fn=activation_fn)

    @property
    def num_labels(self) -> int:
        labels: int = self.model.config.num_labels
        return labels

    @in_evaluation
    @torch.inference_mode()
    def predict(
        self,
        pairs: Sequence[str] | Iterable[Sequence[str]],
        *,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        activation_fn: Activation | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        token_budget: int = TOKENS,
    ) -> Any:
        """Return scores in the order of the pairs: (pairs,) for one label, else (pairs, labels); one row for one pair.

        Args:
            pairs: two texts, or many such pairs.
            batch_size: pairs of a batch at most. token_budget: tokens of a batch at most.
            activation_fn: replaces the encoder's. apply_softmax: turns the scores of several labels into probabilities.

        Raises:
            InvalidInput: anything but pairs of strings.
        """
        found, single = _pairs(pairs)
        act = activation_fn or self.activation_fn
        rows = torch.zeros(len(found), self.num_labels, device=self.device)
        ids = tokenize(self.model, self.tokenizer, found)
        for numbers, result in forward_batches(
            self.model, ids, budget=token_budget, most=batch_size, show=show_progress_bar
        ):
            rows[numbers] = act(result.scores.float())
        rows = rows[:, 0] if self.num_labels == 1 else rows.softmax(-1) if apply_softmax else rows
        answers = convert_rows(rows, numpy=convert_to_numpy, tensor=convert_to_tensor)
        return answers[0] if single else answers

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return `[{"corpus_id": ..., "score": ...}]`, best first. `options` are those of `predict`.

        Args:
            return_documents: add the "text" of each document.

        Raises:
            InvalidInput: a model with several labels, or inputs that are no strings.
        """
        if self.num_labels != 1:
            raise InvalidInput(f"rank needs a model that gives one score; this has {self.num_labels}. Use predict.")
        texts, _ = texts_of(documents, "document")
        scores = self.predict([(query, text) for text in texts], **{**options, "convert_to_tensor": True}).tolist()
        order = sorted(range(len(texts)), key=lambda number: -scores[number])[:top_k]
        more = [{"text": texts[number]} if return_documents else {} for number in order]
        return [{"corpus_id": n, "score": scores[n], **text} for n, text in zip(order, more, strict=True)]

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Save a folder that sentence-transformers reads. `options` are those of a model's `save_pretrained`.

        Raises:
            UnsupportedConfig: an activation that the format has no name for.
        """
        root, upload = Path(folder), pop_upload(options, folder)
        name = dotted_name(self.activation_fn)
        activation(name, "activation_fn")
        self.model.save_pretrained(root, **options)
        self.tokenizer.save_pretrained(root)
        shape = {"text": {"method": "forward", "method_output_name": "logits"}}
        write_folder(
            root,
            (),
            {
                "transformer_task": "sequence-classification",
                "max_seq_length": self.max_seq_length,
                "modality_config": shape,
                "module_output_name": "scores",
            },
            {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None, "activation_fn": name},
        )
        if upload is not None:
            self.push_to_hub(**upload)


def _config_activation(config: Any) -> str | None:
    """Return the activation in config.json, where older versions write it."""
    entries = config.extra.get("sentence_transformers")
    path = entries.get("activation_fn") if isinstance(entries, dict) else None
    return path or config.extra.get("sbert_ce_default_activation_function")


def _pairs(given: Any) -> tuple[list[tuple[str, str]], bool]:
    """Return pairs, and whether the input was a single pair. Raises InvalidInput."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput(f"Pairs of texts are needed, not {type(given).__name__}.")
    rows = list(given)
    single = len(rows) == 2 and all(isinstance(text, str) for text in rows)
    pairs: list[Any] = [rows] if single else rows
    for number, pair in enumerate(pairs):
        texts = list(pair) if isinstance(pair, (list, tuple)) else []
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise InvalidInput(f"Input {number} must be a pair of texts (two strings), not {pair!r}.")
    return [(pair[0], pair[1]) for pair in pairs], single
