"""Sentence embeddings (Sentence-BERT, Reimers and Gurevych, 2019, arXiv:1908.10084)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption
from ..hub import Want
from ..hub.options import DownloadOptions
from ..hub.push import pop_upload
from ..kernels.ragged import SequenceLayout
from ..modeling.auto import AutoModelForTextEncoding
from ..modeling.pretrained import PreTrainedModel
from ..modeling.seq2seq import SequenceToSequence
from ..models.common.both_ways import sees_later_words
from ..nn.modes import in_evaluation
from ..token_batches import TOKENS, check_room, texts_of
from ..tokenizers.encodings import Encodings
from ..tokenizers.tokenizer import Tokenizer
from .base import TextEncoder, TokenizedTexts, convert_rows, forward_batches, load_transformer, tokenize
from .folder import Folder, read_module, write_folder
from .modules import Pooling, SentenceModule, unit_length
from .prompts import Prompts
from .similarity import similarity, to_vectors

OUTPUTS = ("sentence_embedding", "token_embeddings")


class SentenceEncoder(TextEncoder, Prompts):
    """Computes one embedding a text.

    Args:
        model: the transformer. tokenizer: texts are cut to its `model_max_length`.
        steps: a `Pooling` and the modules after it. Default: the mean of all hidden states.
        prompts: name -> text before every sentence. default_prompt_name: used when a call names no prompt.
        similarity_fn_name: cosine, dot, euclidean or manhattan. truncate_dim: dimensions of an embedding to keep.

    Raises:
        UnsupportedConfig: steps do not begin with a pooling, or the similarity or default prompt does not exist.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        steps: Sequence[SentenceModule] | None = None,
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
                f"After the transformer come one Pooling and then other modules; not {', '.join(kinds) or 'none'}."
            )
        self.steps, self.width = nn.ModuleList(steps), steps[-1].width
        self.steps.to(model.device, model.dtype)
        self.set_prompts(prompts, default_prompt_name)
        self.truncate_dim = truncate_dim
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
        """Load the encoder of a folder with modules.json.

        Without modules.json the embedding is the mean of the hidden states, or the last token's of a causal language
        model.

        Args:
            name: as for every `from_pretrained`, and so are `options` (dtype, device, precision, revision, ...).
            prompts: added to the folder's own. All other arguments replace the folder's.

        A model with weights for several tasks (Jina embeddings v3) takes `task="retrieval.query"`, whose prompt is then
        the default.

        Raises:
            UnsupportedConfig: modules, or entries of their configs, that are not supported.
            ModelNotFound, CorruptFile, UnsafeFile, CheckpointMismatch: the files. Others as `load_model` does.
        """
        root = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS, Want.MODULES)
        folder = Folder.read(root)
        saved = folder.settings
        if saved.model_type not in (None, "SentenceTransformer"):
            raise UnsupportedConfig(f"{name} is saved as a {saved.model_type}, which computes no sentence embeddings.")
        model, tokenizer = load_transformer(folder, str(name), encoder_class, **options)
        width, task = model.config.hidden_size, getattr(model.config, "merged_task", None)
        if default_prompt_name is None and task in saved.prompts:
            default_prompt_name = task  # its instruction belongs to the task's weights
        steps: list[SentenceModule] = (
            [] if folder.steps is not None else [Pooling(width, _default_pooling(model.config))]
        )
        for kind, path in folder.steps or ():
            steps.append(read_module(kind, path, steps[-1].width if steps else width))
        encoder = cls(
            model,
            tokenizer,
            steps,
            **saved.chosen(prompts, default_prompt_name, similarity_fn_name),
            truncate_dim=truncate_dim if truncate_dim is not None else saved.truncate_dim,
        )
        encoder.lowercases = bool(folder.text_settings.get("do_lower_case"))
        return encoder

    def get_sentence_embedding_dimension(self) -> int:
        """Return the number of dimensions of an embedding."""
        return self.width if self.truncate_dim is None else min(self.width, self.truncate_dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def tokenize(self, texts: str | Iterable[str]) -> Encodings:
        """Return padded tensors (texts, tokens) of texts, without a prompt."""
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
        """Return one embedding a sentence, in their order. Batches have no padding, so they do not change a result.

        Args:
            sentences: one returns (width,), several return (sentences, width).
            prompt_name: of the prompt before each sentence. prompt: the prompt itself.
            batch_size: sentences of a batch at most. token_budget: tokens of a batch at most.
            output_value: "token_embeddings" returns a list of hidden states, (tokens, width) each.
            convert_to_numpy, convert_to_tensor: return an array, or one tensor on the model's device; with neither, a
                list of tensors. normalize_embeddings: to L2 norm 1, after truncate_dim.
            truncation: False refuses texts longer than max_seq_length instead of cutting them.

        Raises:
            InvalidInput: no strings, or an unknown prompt name. UnsupportedOption: outputs that are not supported.
            TextTooLong: with truncation=False.
        """
        if output_value not in OUTPUTS:
            raise UnsupportedOption(f"output_value {output_value!r} is none of {', '.join(OUTPUTS)}.")
        if precision != "float32":
            raise UnsupportedOption(f"precision {precision!r}: embeddings have the dtype that the model computes in.")
        texts, single = texts_of(sentences, "sentence")
        before = self.prompt_text(prompt_name, prompt)
        ids = tokenize(self.model, self.tokenizer, [before + text for text in texts], truncation=truncation)
        check_room(ids.lengths, self.max_seq_length)
        batches: dict[str, Any] = {"batch_size": batch_size, "token_budget": token_budget, "show": show_progress_bar}
        if output_value == "token_embeddings":
            states = self._token_states(ids, **batches)
            return states[0] if single else states
        device = self.device if convert_to_tensor or not convert_to_numpy else torch.device("cpu")
        rows = self.embed_tokens(
            ids, before, normalize=normalize_embeddings, truncate_dim=truncate_dim, device=device, **batches
        )
        answers = convert_rows(rows, numpy=convert_to_numpy, tensor=convert_to_tensor)
        return answers[0] if single else answers

    @in_evaluation
    @torch.inference_mode()
    def embed_tokens(
        self,
        ids: TokenizedTexts,
        prompt: str = "",
        *,
        normalize: bool = False,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
        token_budget: int = TOKENS,
        show: bool = False,
        device: torch.device | None = None,
    ) -> Tensor:
        """Return the embeddings (texts, width) of tokenized texts, which begin with `prompt`, on `device`."""
        length = self.prompt_length(prompt) if prompt and not self.steps[0].include_prompt else 0
        width = truncate_dim if truncate_dim is not None else self.truncate_dim
        if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < 1):
            raise InvalidInput(f"truncate_dim is a whole number from 1, or None; not {width!r}.")
        device = device or self.device
        rows = torch.zeros(len(ids.ids), self.width, dtype=self.dtype, device=device)[:, :width]
        for numbers, result in forward_batches(self.model, ids, budget=token_budget, most=batch_size, show=show):
            vectors = self.vectors(result.hidden, result.runs, length)[:, :width]
            rows[numbers] = (unit_length(vectors) if normalize else vectors).to(device)
        return rows.contiguous()

    def _token_states(self, ids: TokenizedTexts, *, batch_size: int | None, token_budget: int, show: bool) -> Any:
        """Return the hidden states (tokens, width) of each text."""
        states: list[Tensor] = [torch.empty(0)] * len(ids.ids)
        for numbers, result in forward_batches(self.model, ids, budget=token_budget, most=batch_size, show=show):
            for number, rows in zip(numbers, result.hidden.split(result.runs.lengths), strict=True):
                states[number] = rows
        return states

    def vectors(self, hidden: Tensor, runs: SequenceLayout, prompt: int = 0) -> Tensor:
        """Return the embeddings (texts, width) of hidden states (tokens, width).

        Args:
            prompt: number of prompt tokens at the start of each text.
        """
        pooled = self.steps[0](hidden, runs, prompt)
        for step in self.steps[1:]:
            pooled = step(pooled)
        return pooled

    def encode_query(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """Run `encode` with the prompt named "query"."""
        return self.encode(sentences, self.name_of_prompt(["query"], prompt_name, options), **options)

    def encode_document(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """Run `encode` with the prompt named "document", "passage" or "corpus"."""
        names = ["document", "passage", "corpus"]
        return self.encode(sentences, self.name_of_prompt(names, prompt_name, options), **options)

    def similarity(self, a: Any, b: Any) -> Tensor:
        """Return the similarity of each row of `a` to each row of `b`: (a, b). Distances are negative."""
        return similarity(self.similarity_fn_name).all_pairs(*to_vectors(a, b))

    def similarity_pairwise(self, a: Any, b: Any) -> Tensor:
        """Return the similarity of `a` and `b`, row by row: (rows,)."""
        return similarity(self.similarity_fn_name).pairwise(*to_vectors(a, b))

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Save a folder that sentence-transformers reads. `options` are those of a model's `save_pretrained`."""
        root, upload = Path(folder), pop_upload(options, folder)
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
        text_settings = {"max_seq_length": self.max_seq_length, "do_lower_case": self.lowercases}
        write_folder(root, self.steps, text_settings, settings)  # type: ignore[arg-type]
        if upload is not None:
            self.push_to_hub(**upload)

    def prompt_length(self, prompt: str) -> int:
        """Return the number of tokens of a prompt at the start of a text, without a final special token."""
        ids = tokenize(self.model, self.tokenizer, [prompt]).ids[0]
        return len(ids) - (bool(ids) and ids[-1] in self.tokenizer.all_special_ids)


def encoder_class(config: Config) -> type[PreTrainedModel]:
    """Return the class that computes hidden states. Raises UnsupportedConfig for an encoder-decoder."""
    found = AutoModelForTextEncoding.class_for(config)
    if issubclass(found, SequenceToSequence):
        raise UnsupportedConfig(f"{found.__name__} is an encoder-decoder; embeddings of its encoder are not supported.")
    return found


def _default_pooling(config: Config) -> tuple[str]:
    """Return the pooling mode of a checkpoint without modules.json."""
    is_decoder = str((config.architectures or [""])[0]).endswith("ForCausalLM")
    return ("lasttoken" if is_decoder and not sees_later_words(config) else "mean",)
