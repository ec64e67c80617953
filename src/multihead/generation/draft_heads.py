"""Draft heads: small models that read the hidden states of the model that they draft for, as the engine runs them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import open_checkpoint
from ..config import CONFIG_FILE, GENERATION_FILE, read_json
from ..errors import InvalidInput, ModelNotFound, UnsupportedOption
from ..hub import Want
from ..hub.options import DownloadOptions
from ..kernels.ragged import SequenceLayout
from ..models import eagle, gemma4_assistant
from ..models.common.token_prediction import load_predictors
from ..models.gemma4 import Gemma4TextConfig
from ..nn.cache.layer_cache import LayerCache
from ..nn.cache.store import BatchCache, LengthDependent
from ..nn.forward_context import ForwardContext, OutputCapture
from ..nn.token_predictor import FusedStatePredictor


class DraftHead(nn.Module):
    """A predictor of further tokens with the embeddings and the scores of its model.

    `DraftHead.from_pretrained` loads heads of checkpoints of their own, for `generate(..., assistant_model=head)`.

    Args:
        owner: the model, which the head does not keep alive. predictor: the head's own layers.
        drafts: tokens that it drafts one after another, where a call names no number.
    """

    decode_runner = "eager"  # other runners know stacks alone
    max_positions = None
    layers: tuple[int, ...] = ()  # of the model, whose inputs the first head reads; empty for its last hidden states
    drafts = 1

    def __init__(self, owner: Any, predictor: Any) -> None:
        super().__init__()
        self.predictor = predictor
        self._owner = None if owner is None else weakref.ref(owner)

    @staticmethod
    def from_pretrained(name: str | os.PathLike[str], **options: Any) -> DraftHead:
        """Return the head of a folder or repository; the options are those of `DownloadOptions`.

        Raises:
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile: the files. InvalidInput: another model's.
            UnsupportedConfig: its entries. CheckpointMismatch: weights that do not fit.
        """
        path = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG, Want.WEIGHTS)
        if options:
            raise UnsupportedOption(f"{', '.join(options)}: a draft head takes the dtype and device of its model.")
        if not is_draft_head(path):
            raise InvalidInput(f"{name} is no draft head: its config.json names neither EAGLE nor an assistant.")
        entries, checkpoint = read_json(path / CONFIG_FILE), open_checkpoint(path)
        if entries.get("model_type") in gemma4_assistant.KINDS:
            reader = gemma4_assistant.load(entries, checkpoint.tensors, checkpoint.source)
            usual = read_json(path / GENERATION_FILE) if (path / GENERATION_FILE).is_file() else {}
            return GemmaAssistant(reader, usual.get("num_assistant_tokens")).eval()
        return EagleHead(eagle.load(entries, checkpoint.tensors, checkpoint.source)).eval()

    def bind(self, model: Any) -> DraftHead:
        """Draft for a model from now on. Raises InvalidInput where the head was made for another one."""
        self._owner = weakref.ref(model)
        return self.to(model.device, model.dtype)

    def __getstate__(self) -> dict[str, Any]:
        # a copy drafts for a copy of the model, which binds it; weak references cannot be saved
        return {**self.__dict__, "_owner": None}

    @property
    def owner(self) -> Any:
        """The model that the head drafts for."""
        return None if self._owner is None else self._owner()

    @property
    def weight(self) -> Tensor:
        return next(self.parameters())

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def by_length(self) -> Sequence[LengthDependent]:
        """Rotary positions whose frequencies depend on the length of the sequence."""
        return self.predictor.by_length

    def memories(self) -> list[LayerCache]:
        """Return an empty cache for each layer."""
        return self.predictor.memories()

    def project(self, states: Tensor) -> Tensor:
        """Map the model's states to those that `read` takes."""
        return states

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings (tokens, width) of ids (tokens,)."""
        return self.owner.backbone.embed.look_up(ids)

    def read(
        self,
        ids: Tensor,
        runs: SequenceLayout,
        memory: BatchCache,
        capture: OutputCapture | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Read ids (tokens,) and features (tokens, width) into a cache; return states (tokens, width)."""
        words = self.embed(ids).to(self.weight.dtype)  # (tokens, width)
        given = torch.zeros_like(words) if features is None else features.to(words.dtype)  # none to measure a cache
        context = ForwardContext(memory.places(runs, ids.device), runs, ids=ids, cache=memory, attend=self.owner.attend)
        return self.predictor(words, given, context).to(words.dtype if features is None else features.dtype)

    def score_states(self, states: Tensor) -> Tensor:
        """Return logits (rows, vocabulary) of states (rows, width)."""
        return self.owner.score_states(states)


class EagleHead(DraftHead):
    """Head of EAGLE or EAGLE-3."""

    drafts = 5

    def __init__(self, found: eagle.Eagle) -> None:
        super().__init__(None, found.predictor)
        self.config, self.words, self._layers = found.config, found.words, found.layers

    def bind(self, model: Any) -> DraftHead:
        count, wide = len(model.backbone.layers), model.config.hidden_size
        usual = tuple(max(0, layer) for layer in (2, count // 2, count - 3))
        self.layers = usual if self._layers is None else self._layers
        if max(self.layers, default=0) > count:
            raise InvalidInput(f"The draft head reads the layers {self.layers}, and the model has {count}.")
        fuse = getattr(self.predictor, "fuse", None)
        needed = getattr(fuse, "in_features", self.config.hidden_size)
        if needed != wide * max(len(self.layers), 1) or self.config.vocab_size > model.vocabulary:
            raise InvalidInput(
                f"The draft head reads {needed} numbers and knows {self.config.vocab_size} tokens; the model has "
                f"{max(len(self.layers), 1)} states of {wide} for it, and {model.vocabulary} tokens."
            )
        return super().bind(model)

    @property
    def vocabulary(self) -> int:
        return self.config.vocab_size

    def project(self, states: Tensor) -> Tensor:
        if not self.layers:
            return states
        with torch.inference_mode():
            return self.predictor.fuse(states.to(self.weight.dtype)).to(states.dtype)  # (tokens, width)

    def embed(self, ids: Tensor) -> Tensor:
        return super().embed(ids) if self.words is None else self.words(ids)

    def score_states(self, states: Tensor) -> Tensor:
        if not isinstance(self.predictor, FusedStatePredictor):
            return self.owner.score_states(states)
        return self.predictor.score(states.to(self.weight.dtype), self.owner.vocabulary)


class GemmaAssistant(DraftHead):
    """Assistant of Gemma 4, which reads the model's cached keys.

    Args:
        drafts: tokens that it drafts where a call names no number; None for 5.
    """

    def __init__(self, reader: gemma4_assistant.KeyReader, drafts: int | None = None) -> None:
        super().__init__(None, reader)
        self.drafts, self.sources = drafts or 5, dict[str, int]()

    def bind(self, model: Any) -> DraftHead:
        config, wide = model.config, self.predictor.after.out_features
        if not isinstance(config, Gemma4TextConfig) or config.hidden_size != wide:
            raise InvalidInput(f"The assistant was made for a Gemma 4 of width {wide}, not for this model.")
        words = self.predictor.stack.embed.token.num_embeddings
        if words != model.vocabulary:
            raise InvalidInput(f"The assistant has {words} tokens and the model {model.vocabulary}.")
        # the last layers of each type with keys of their own
        self.sources = {kind: number for number, kind in enumerate(config.kinds[: config.first_shared])}
        return super().bind(model)

    def step(self, token: int, state: Tensor, place: int, keys: gemma4_assistant.SharedKeys) -> tuple[Tensor, Tensor]:
        """Return logits (1, vocabulary) and the next state (1, width) after a token, given the state before it.

        Args:
            place: of the token, at which all tokens of a draft are taken to be.
        """
        word = self.embed(torch.tensor([token], device=self.device)).to(self.weight.dtype)  # (1, width)
        places = torch.tensor([place], device=self.device)
        return self.predictor(word, state.to(word.dtype), places, keys)


def is_draft_head(path: Path) -> bool:
    """Return whether a folder holds a draft head."""
    try:
        entries = read_json(path / CONFIG_FILE)
        return entries.get("model_type") in gemma4_assistant.KINDS or eagle.is_eagle(entries)
    except ModelNotFound:
        return False


def own_heads(model: Any) -> list[DraftHead]:
    """Return the heads that a model's own checkpoint holds, the first for the token after next; loaded once.

    Raises:
        UnsupportedOption: a model that was loaded from no file, or whose files have none.
    """
    heads = getattr(model, "draft_heads", None)
    if heads is None:
        folder = getattr(model, "checkpoint_folder", None)
        if folder is None:
            raise UnsupportedOption("use_mtp reads further layers of the model's checkpoint, and it comes from none.")
        checkpoint = open_checkpoint(folder)
        if checkpoint.layout != "huggingface":
            raise UnsupportedOption(f"use_mtp is not read from a {checkpoint.layout} file.")
        found = load_predictors(
            model.config, checkpoint.tensors, checkpoint.source, dtype=model.dtype, device=model.device
        )
        heads = model.draft_heads = [DraftHead(model, predictor).eval() for predictor in found]
    for head in heads:
        if head.owner is not model:  # the model is a copy
            head._owner = weakref.ref(model)
        head.to(model.device)
    return heads
