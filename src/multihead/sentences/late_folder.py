"""Folders of late-interaction encoders: sentence-transformers', PyLate's, and Stanford's ColBERT."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import open_checkpoint
from ..config import CONFIG_FILE, Size, read_json
from ..errors import UnsupportedConfig
from ..tokenizers.tokenizer import Tokenizer
from .expansion import QueryExpansion
from .folder import Folder
from .modules import Dense, Entries, LayerNorm, Normalize, SentenceModule, check_entries, read_entry

TOKEN_LEVEL = "token_embeddings"
STANFORD, METADATA = "HF_ColBERT", "artifact.metadata"
PYLATE_ENTRIES = ("query_length", "document_length", "attend_to_expansion_tokens", "skiplist_words",
                  "do_query_expansion", "query_prefix", "document_prefix")  # fmt: skip


class MultiVectorMask(SentenceModule):
    """Leaves out vectors of some tokens.

    Args:
        skiplist: words that are left out. tasks: whose texts lose them. keep: the only ids of documents; None for all.
    """

    package = "multi_vector_encoder.modules.multi_vector_mask"
    maps_vectors = False

    def __init__(self, width: int, skiplist: Sequence[str], tasks: Sequence[str], keep: list[int] | None) -> None:
        super().__init__()
        self.width, self.skiplist, self.tasks, self.keep = width, list(skiplist), list(tasks), keep

    def kept(self, ids: Sequence[int], task: str | None, tokenizer: Tokenizer) -> Tensor:
        """Return which tokens of a text have vectors, (tokens,)."""
        given = torch.tensor(ids)
        out = torch.ones(len(ids), dtype=torch.bool)
        if self.skiplist and (task or "document") in self.tasks:
            numbers = {tokenizer.convert_tokens_to_ids(word): word for word in self.skiplist}
            unknown = tokenizer.unk_token_id
            left_out = [n for n, word in numbers.items() if n != unknown or word == tokenizer.unk_token]
            out &= ~torch.isin(given, torch.tensor(left_out, dtype=torch.long))
        if task != "query" and self.keep:
            out &= torch.isin(given, torch.tensor(self.keep))
        return out

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> MultiVectorMask:
        check_entries(entries, where, "skiplist_words", "skiplist_tasks", "keep_only_token_ids")
        words = read_entry(entries, "skiplist_words", list[str] | None, None, where) or []
        tasks = entries.get("skiplist_tasks") or ["document"]
        keep = read_entry(entries, "keep_only_token_ids", list[int] | None, None, where)
        return cls(width, words, [tasks] if isinstance(tasks, str) else tasks, keep)

    def entries(self) -> dict[str, Any]:
        return {"skiplist_words": self.skiplist, "skiplist_tasks": self.tasks, "keep_only_token_ids": self.keep}


TOKEN_MODULES: Mapping[str, type[SentenceModule]] = {
    cls.__name__: cls for cls in (Dense, LayerNorm, Normalize, MultiVectorMask)
}


@dataclass(frozen=True)
class LateSettings:
    """Lengths of queries and documents in tokens, None for the model's, and the expansion of queries."""

    query_length: int | None = None
    document_length: int | None = None
    expansion: QueryExpansion | None = None

    def limit(self, task: str | None) -> int | None:
        """Return the tokens of a text of a task at most, None for the model's limit."""
        if task == "query" and self.expansion is not None:
            if self.expansion.strategy == "fixed":
                return self.expansion.length
            return None if self.query_length is None else max(self.query_length, self.expansion.length)
        return {"query": self.query_length, "document": self.document_length}.get(task or "")

    def entries(self) -> dict[str, Any]:
        """Return the entries of sentence_bert_config.json."""
        known = {"query_length": self.query_length, "document_length": self.document_length}
        known["query_expansion"] = None if self.expansion is None else self.expansion.entries()  # type: ignore[assignment]
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class LateFolder:
    """Settings of a folder besides its modules.

    Args:
        markers: texts before queries and documents that are tokens of their own. score: name of the similarity.
        skiplist: words that documents lose, where the folder has no module for it; None for none.
        stanford: the projection is among the transformer's weights.
    """

    lengths: LateSettings
    prompts: Mapping[str, str] = field(default_factory=dict)
    markers: tuple[str, ...] = ()
    score: str | None = None
    skiplist: Sequence[str] | None = None
    stanford: bool = False

    def complete(self, steps: Sequence[SentenceModule], root: Path, width: int) -> list[SentenceModule]:
        """Return the steps with those that older folders do not list. Raises UnsupportedConfig without a projection."""
        out = list(steps)
        if self.stanford:
            weight = open_checkpoint(root).tensors["linear.weight"]
            dense = Dense(width, weight.shape[0], nn.Identity(), bias=False)
            dense.linear.weight = nn.Parameter(weight.float())
            out = [dense]
        elif not out:
            raise UnsupportedConfig(f"{root} is no late-interaction encoder: it has no modules after its transformer.")
        if self.skiplist is not None:
            last = out[-1].width
            out += [MultiVectorMask(last, self.skiplist, ["document"], None), Normalize(last)]
        return out


def read_settings(folder: Folder) -> LateFolder:
    """Read the settings of a folder. Raises UnsupportedConfig."""
    entries, where = dict(folder.settings.entries), str(folder.root)
    if folder.steps is None:
        return read_stanford(folder)
    kind = folder.settings.model_type
    if kind not in (None, "MultiVectorEncoder", "ColBERT"):
        raise UnsupportedConfig(f"{where} is saved as a {kind}, which computes no vectors of tokens.")
    prompts = {name: text or "" for name, text in folder.settings.prompts.items()}
    score = folder.settings.similarity_fn_name
    score = score if score in ("maxsim", "meanmaxsim") else None
    own = folder.text_settings
    if kind == "MultiVectorEncoder" or not any(name in entries for name in PYLATE_ENTRIES):
        lengths = LateSettings(
            read_entry(own, "query_length", Size | None, None, where),
            read_entry(own, "document_length", Size | None, None, where),
            QueryExpansion.read(own.get("query_expansion"), where),
        )
        return LateFolder(lengths, prompts, score=score)
    markers = {role: str(entries.get(f"{role}_prefix") or "") for role in ("query", "document")}
    for role, marker in markers.items():
        prompts[role] = marker + prompts.get(role, "").removeprefix(marker)
    length = read_entry(entries, "query_length", Size | None, None, where)
    expansion = None
    if entries.get("do_query_expansion") is not False:
        expansion = QueryExpansion(length or 32, attend=bool(entries.get("attend_to_expansion_tokens")))
        length = None
    document = read_entry(entries, "document_length", Size | None, None, where)
    skiplist = read_entry(entries, "skiplist_words", list[str] | None, None, where)
    skiplist = list(string.punctuation) if skiplist is None else skiplist
    lengths = LateSettings(length, document, expansion)
    own_mask = any(kind == "MultiVectorMask" for kind, _ in folder.steps)
    return LateFolder(lengths, prompts, tuple(markers.values()), score, None if own_mask else skiplist)


def read_stanford(folder: Folder) -> LateFolder:
    """Read the settings of Stanford's ColBERT: `artifact.metadata`, or the standard ones. Raises UnsupportedConfig."""
    if STANFORD not in (read_json(folder.root / CONFIG_FILE).get("architectures") or ()):
        raise UnsupportedConfig(
            f"{folder.root} has no modules.json, and is no ColBERT of Stanford's: it computes no vectors of tokens."
        )
    path = folder.root / METADATA
    known = read_json(path) if path.is_file() else {}
    markers = {
        "query": f"{known.get('query_token_id') or '[unused0]'} ",
        "document": f"{known.get('doc_token_id') or '[unused1]'} ",
    }
    expansion = QueryExpansion(known.get("query_maxlen") or 32, attend=bool(known.get("attend_to_mask_tokens")))
    lengths = LateSettings(None, read_entry(known, "doc_maxlen", Size | None, None, str(path)), expansion)
    skiplist = list(string.punctuation) if known.get("mask_punctuation", True) else []
    return LateFolder(lengths, markers, tuple(markers.values()), None, skiplist, stanford=True)


def register_markers(tokenizer: Tokenizer, markers: Sequence[str]) -> None:
    """Let markers that are words of the vocabulary be one token in texts, as they were in training."""
    for marker in markers:
        known = tokenizer.get_vocab()
        found = next((text for text in (marker, *marker.split(None, 1)[:1]) if text and text in known), None)
        if found is not None and tokenizer.tokenize(found) != [found]:
            tokenizer.add_special_tokens(
                {"additional_special_tokens": [found]}, replace_additional_special_tokens=False
            )
