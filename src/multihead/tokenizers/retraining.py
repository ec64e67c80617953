"""Training of a new vocabulary for a tokenizer of the same kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import tokenizers
from tokenizers import AddedToken, pre_tokenizers, trainers

from ..errors import InvalidInput, UnsupportedTokenizer
from .core import TokenizerCore
from .special import token_text

Kind = TypeVar("Kind", bound=TokenizerCore)
TRAINERS = {
    "BPE": trainers.BpeTrainer,
    "Unigram": trainers.UnigramTrainer,
    "WordLevel": trainers.WordLevelTrainer,
    "WordPiece": trainers.WordPieceTrainer,
}


def train_new(
    tokenizer: Kind,
    texts: Iterable[Any],
    size: int,
    *,
    length: int | None,
    new: Sequence[Any],
    renamed: Mapping[str, str],
    options: Mapping[str, Any],
) -> Kind:
    """Train the tokenizer's kind of model on texts; normalization, special tokens and decoding stay the same.

    Args:
        texts: strings, or lists of them. size: of the vocabulary. length: number of texts, for the progress bar.
        new: special tokens to add. renamed: special token -> its new text. options: of the library's trainer.

    Raises:
        InvalidInput: texts or options that the trainer does not take.
        UnsupportedTokenizer: a pair of vocabularies, or a frame with a token that the new vocabulary lacks.
    """
    if tokenizer.target is not None:
        raise UnsupportedTokenizer(
            "A tokenizer with a target of its own cannot be retrained: train one tokenizer for each side."
        )
    description = json.loads(tokenizer.backend.to_str())
    frame, tokens = description["post_processor"], description["added_tokens"]
    unknown = clear_vocabulary(description["model"], renamed)
    backend = tokenizers.Tokenizer.from_str(json.dumps({**description, "post_processor": None, "added_tokens": []}))
    kind = description["model"]["type"]
    special = [renamed_token(token, renamed) for token in tokens if token["special"] or kind == "Unigram"]
    try:
        trainer = TRAINERS[kind](
            vocab_size=size,
            special_tokens=[*special, *new],
            **{**trainer_options(description, unknown, options), **options},
        )
        backend.train_from_iterator(texts, trainer=trainer, length=length)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The tokenizer cannot be trained: {error}.") from error
    except Exception as error:  # the library raises its own bare Exception
        raise InvalidInput(f"The tokenizer cannot be trained on these texts: {error}.") from error
    if frame is not None:
        whole = {**json.loads(backend.to_str()), "post_processor": update_processor(frame, backend, renamed)}
        backend = tokenizers.Tokenizer.from_str(json.dumps(whole))
    more = [renamed.get(token, token) for token in tokenizer.more] + [content_of(token) for token in new]
    return type(tokenizer)(
        backend,
        {role: renamed.get(token, token) for role, token in tokenizer.special.items()},
        {name: value for name, value in tokenizer.options.items() if name != "added_tokens_decoder"},
        more=list(dict.fromkeys(more)),
        named={name: renamed.get(token, token) for name, token in tokenizer.named.items()},
        name_or_path=tokenizer.name_or_path,
    )


def clear_vocabulary(model: dict[str, Any], renamed: Mapping[str, str]) -> str | None:
    """Remove the vocabulary from a model's description; return the unknown token of a unigram model."""
    if model["type"] not in TRAINERS:
        raise UnsupportedTokenizer(f"A model of type {model['type']} is not trained here; {', '.join(TRAINERS)} are.")
    unknown = None
    if model["type"] == "Unigram":
        if model["unk_id"] is not None:
            text = model["vocab"][model["unk_id"]][0]
            unknown = renamed.get(text, text)
            model |= {"unk_id": 0, "vocab": [[unknown, 0.0]]}
    else:
        model["vocab"] = {}
    if model["type"] == "BPE":
        model["merges"] = []
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    return unknown


def trainer_options(description: Mapping[str, Any], unknown: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer options that follow from the tokenizer."""
    model, cuts = description["model"], description["pre_tokenizer"] or {}
    found: dict[str, Any] = {}
    if model["type"] == "BPE":
        names = ("continuing_subword_prefix", "end_of_word_suffix")
        found |= {name: model[name] for name in names if model[name] is not None}
    if unknown is not None:
        found["unk_token"] = unknown
    if "ByteLevel" in [cuts.get("type"), *(step["type"] for step in cuts.get("pretokenizers", ()))]:
        found["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    return found


def renamed_token(token: Mapping[str, Any], renamed: Mapping[str, str]) -> AddedToken:
    """Convert a token of the old vocabulary for the new one."""
    flags = {name: token[name] for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(renamed.get(token["content"], token["content"]), special=token["special"], **flags)


def content_of(token: Any) -> str:
    return token.content if isinstance(token, AddedToken) else token_text(token) or ""


def update_processor(frame: Any, backend: tokenizers.Tokenizer, renamed: Mapping[str, str]) -> Any:
    """Return a post-processor's description with the tokens' new texts and ids."""
    if isinstance(frame, list):
        return [update_processor(part, backend, renamed) for part in frame]
    if not isinstance(frame, dict):
        return frame
    out = dict(frame)
    for name in ("cls", "sep"):
        if isinstance(frame.get(name), list):
            out[name] = [text := renamed.get(frame[name][0], frame[name][0]), new_token_id(backend, text)]
    if "special_tokens" in frame:
        out["special_tokens"] = {}
        for key, entry in frame["special_tokens"].items():
            texts = [renamed.get(text, text) for text in entry["tokens"]]
            ids = [new_token_id(backend, text) for text in texts]
            out["special_tokens"][key] = {**entry, "ids": ids, "tokens": texts}
    if "processors" in frame:
        out["processors"] = update_processor(frame["processors"], backend, renamed)
    return out


def new_token_id(backend: tokenizers.Tokenizer, token: str) -> int:
    number = backend.token_to_id(token)
    if number is None:
        raise UnsupportedTokenizer(f"The new vocabulary has no {token!r}, which frames every text.")
    return number
