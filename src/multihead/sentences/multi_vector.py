"""Late interaction: a vector for each token, and queries scored by their best matches (ColBERT, arXiv:2004.12832)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, UnsupportedConfig, nearest
from ..hub import Want
from ..hub.options import DownloadOptions
from ..hub.push import pop_upload
from ..modeling.pretrained import PreTrainedModel
from ..nn.modes import in_evaluation
from ..token_batches import TOKENS, texts_of
from ..tokenizers.tokenizer import Tokenizer
from .base import TextEncoder, TokenizedTexts, forward_batches, load_transformer, tokenize
from .encoder import encoder_class
from .expansion import QueryExpansion, run_expanded
from .folder import Folder, read_module, write_folder
from .late_folder import TOKEN_LEVEL, TOKEN_MODULES, LateSettings, MultiVectorMask, read_settings, register_markers
from .modules import SentenceModule, unit_length
from .prompts import Prompts

SCORES = ("maxsim", "meanmaxsim")
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class MultiVectorEncoder(TextEncoder, Prompts):
    """Computes vectors of the tokens of a text.

    Args:
        steps: modules from token states to vectors, and a `MultiVectorMask`.
        settings: lengths of queries and documents, and the expansion of queries.
        similarity_fn_name: `maxsim`, or `meanmaxsim` for its mean over the query's tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        steps: Sequence[SentenceModule],
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        settings: LateSettings | None = None,
    ) -> None:
        super().__init__(model, tokenizer)
        self.steps = nn.ModuleList(steps)
        self.steps.to(model.device, model.dtype)
        self.set_prompts(prompts, default_prompt_name)
        self.settings = settings or LateSettings()
        self.similarity_fn_name = similarity_fn_name or "maxsim"
        if self.similarity_fn_name not in SCORES:
            raise UnsupportedConfig(f"The score {similarity_fn_name!r}: {nearest(str(similarity_fn_name), SCORES)}")
        self.width = next((step.width for step in reversed(steps) if step.maps_vectors), model.config.hidden_size)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        **options: Any,
    ) -> MultiVectorEncoder:
        """Load a folder of sentence-transformers' MultiVectorEncoder, of PyLate, or of Stanford's ColBERT.

        Args:
            name: as for every `from_pretrained`, and so are `options`. All other arguments replace the folder's.

        Raises:
            UnsupportedConfig: modules, or entries of their configs, that are not supported. Others as `load_model`.
        """
        root = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS, Want.MODULES)
        folder = Folder.read(root, known=TOKEN_MODULES)
        settings = read_settings(folder)
        ignore = r"^linear\.weight$" if folder.steps is None else None
        model, tokenizer = load_transformer(folder, str(name), encoder_class, **{"ignore": ignore, **options})
        register_markers(tokenizer, settings.markers)
        steps: list[SentenceModule] = []
        for kind, path in folder.steps or ():
            width = steps[-1].width if steps else model.config.hidden_size
            steps.append(read_module(kind, path, width, TOKEN_MODULES, TOKEN_LEVEL))
        steps = settings.complete(steps, root, model.config.hidden_size)
        return cls(
            model,
            tokenizer,
            steps,
            prompts={**settings.prompts, **(prompts or {})},
            default_prompt_name=default_prompt_name or folder.settings.default_prompt_name,
            similarity_fn_name=similarity_fn_name or settings.score,
            settings=settings.lengths,
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
        convert_to_numpy: bool = False,
        *,
        task: str | None = None,
        normalize_embeddings: bool = False,
        token_budget: int = TOKENS,
    ) -> Any:
        """Return vectors (tokens, width) of each text, in their order; those of one text alone for one text.

        Args:
            task: "query" or "document": how long a text may be, whether it is expanded, and which tokens are left out.
            convert_to_numpy: return arrays. normalize_embeddings: to length 1.

        Raises:
            InvalidInput: no strings, or an unknown prompt or task.
        """
        if task not in (None, "query", "document"):
            raise InvalidInput(f"task is 'query', 'document' or None, not {task!r}.")
        texts, single = texts_of(sentences, "sentence")
        before = self.prompt_text(prompt_name, prompt)
        most, expansion = self.settings.limit(task), self.settings.expansion if task == "query" else None
        ids = tokenize(self.model, self.tokenizer, [before + text for text in texts], most=most)
        lengths = ids.lengths
        if expansion is not None:
            ids = self._expand(ids, expansion)
        rows: list[Any] = [None] * len(texts)

        def run(numbers: list[int], given: Sequence[Sequence[int]], types: Any) -> Any:
            if expansion is None or expansion.attend:
                return self.model.run(given, types)
            return run_expanded(self.model, given, [lengths[n] for n in numbers], types)

        for numbers, result in forward_batches(
            self.model, ids, budget=token_budget, most=batch_size, show=show_progress_bar, run=run
        ):
            for number, states in zip(numbers, result.hidden.split(result.runs.lengths), strict=True):
                vectors = self._vectors(states, ids.ids[number], task)
                rows[number] = unit_length(vectors) if normalize_embeddings else vectors
        if convert_to_numpy:
            rows = [row.float().cpu().numpy() for row in rows]
        return rows[0] if single else rows

    def encode_query(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """Run `encode` for queries, with the prompt named "query"."""
        name = self.name_of_prompt(["query"], prompt_name, options)
        return self.encode(sentences, name, **{"task": "query", **options})

    def encode_document(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """Run `encode` for documents, with the prompt named "document", "passage" or "corpus"."""
        name = self.name_of_prompt(DOCUMENT_PROMPTS, prompt_name, options)
        return self.encode(sentences, name, **{"task": "document", **options})

    def similarity(self, queries: Any, documents: Any) -> Tensor:
        """Return the score of each document for each query, (queries, documents), in float32."""
        first, second = _lists(queries), _lists(documents)
        rows = [torch.stack([self._score(query, document) for document in second]) for query in first]
        return torch.stack(rows) if rows else torch.zeros(0, len(second))

    def similarity_pairwise(self, queries: Any, documents: Any) -> Tensor:
        """Return the score of each document for the query beside it, (pairs,), in float32."""
        pairs = zip(_lists(queries), _lists(documents), strict=True)
        return torch.stack([self._score(query, document) for query, document in pairs])

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[dict[str, Any]]:
        """Return `[{"corpus_id": ..., "score": ...}]`, best first."""
        scores = self.similarity([self.encode_query(query)], self.encode_document(list(documents)))[0].tolist()
        order = sorted(range(len(scores)), key=lambda number: -scores[number])[:top_k]
        return [{"corpus_id": number, "score": scores[number]} for number in order]

    def get_embedding_dimension(self) -> int:
        """Return the number of dimensions of a vector."""
        return self.width

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Save a folder that sentence-transformers reads. `options` are those of a model's `save_pretrained`."""
        root, upload = Path(folder), pop_upload(options, folder)
        self.model.save_pretrained(root, **options)
        self.tokenizer.save_pretrained(root)
        text_settings = {"max_seq_length": self.max_seq_length, "do_lower_case": False, **self.settings.entries()}
        settings = {
            "model_type": "MultiVectorEncoder",
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
        }
        write_folder(root, self.steps, text_settings, settings, TOKEN_LEVEL)  # type: ignore[arg-type]
        if upload is not None:
            self.push_to_hub(**upload)

    def _expand(self, texts: TokenizedTexts, expansion: QueryExpansion) -> TokenizedTexts:
        """Return texts that are filled up to the length of an expansion."""
        tokenizer = self.tokenizer
        token = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.eos_token_id
        if expansion.token is not None:
            token = tokenizer.convert_tokens_to_ids(expansion.token)
        if token is None:
            raise UnsupportedConfig("The tokenizer has neither a mask token nor an end token to expand queries with.")

        def fill(rows: list[list[int]], with_: int) -> list[list[int]]:
            return [row + [with_] * (expansion.length - len(row)) for row in rows]

        types = texts.token_types
        return TokenizedTexts(fill(texts.ids, token), None if types is None else fill(types, 0))

    def _vectors(self, states: Tensor, ids: Sequence[int], task: str | None) -> Tensor:
        """Return the vectors (tokens, width) of one text's states."""
        kept = torch.ones(len(ids), dtype=torch.bool, device=states.device)
        for step in self.steps:
            if isinstance(step, MultiVectorMask):
                kept = kept & step.kept(ids, task, self.tokenizer).to(kept.device)
            else:
                states = step(states)
        return states[kept]

    def _score(self, query: Tensor, document: Tensor) -> Tensor:
        """Return the sum, or the mean, over a query's vectors of the best product with a document's."""
        if not len(query) or not len(document):
            return torch.zeros(())
        best = (query.float() @ document.float().T).amax(1)  # (query tokens,)
        return best.sum() if self.similarity_fn_name == "maxsim" else best.mean()


def _lists(x: Any) -> list[Tensor]:
    """Return several texts' vectors as a list of tensors (tokens, width)."""
    rows = [x] if getattr(x, "ndim", 0) == 2 else list(x)
    return [torch.as_tensor(row) for row in rows]
