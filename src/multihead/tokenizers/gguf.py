"""Tokenizers from the metadata of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from ..errors import CorruptFile, UnsupportedTokenizer
from . import recipes
from .special import added
from .tokenizer import Tokenizer as Ours

CONTROL, USER_DEFINED = 3, 4
IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # llama.cpp's own spelling
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}


def from_gguf(metadata: Mapping[str, Any], **changes: Any) -> Ours:
    """The tokenizer that a file's metadata describe.

    Args:
        changes: entries of tokenizer_config.json that go before the file's.

    Raises:
        UnsupportedTokenizer: a kind that is not built here. CorruptFile: metadata that contradict themselves.
    """

    def entry(name: str, default: Any = None) -> Any:
        return metadata.get(f"tokenizer.ggml.{name}", default)

    kind, tokens = entry("model"), entry("tokens")
    if kind is None or not tokens:
        raise UnsupportedTokenizer("The GGUF file holds no tokenizer (tokenizer.ggml.model and tokens).")
    settings = {
        "add_bos_token": entry("add_bos_token", kind == "llama"),
        "add_eos_token": entry("add_eos_token", kind == "t5"),
    }
    settings |= {
        "chat_template": metadata.get("tokenizer.chat_template"),
        "model_input_names": ["input_ids", "attention_mask"],
    }
    settings["add_prefix_space"] = entry("add_space_prefix")
    settings |= changes
    special = {}
    for role, name in IDS.items():
        number = entry(name)
        if number is not None:
            if not isinstance(number, int) or not 0 <= number < len(tokens):
                raise CorruptFile(f"tokenizer.ggml.{name} is {number!r}; there are {len(tokens)} tokens.")
            special[role] = tokens[number]
    backend, more = backend_of(kind, tokens, entry, settings, special)
    return Ours(backend, special, {k: v for k, v in settings.items() if v is not None}, more=more)


def backend_of(
    kind: str, tokens: list[str], entry: Any, settings: Mapping[str, Any], special: dict[str, str]
) -> tuple[Tokenizer, list[str]]:
    """The library's tokenizer, and the control tokens without a role."""
    vocab = {token: number for number, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise CorruptFile("tokenizer.ggml.tokens names a token twice.")
    types = entry("token_type") or [1] * len(tokens)
    control = [token for token, type_ in zip(tokens, types, strict=False) if type_ == CONTROL]
    whole = [token for token, type_ in zip(tokens, types, strict=False) if type_ == USER_DEFINED]
    try:
        if kind == "gpt2":
            merges = [tuple(merge.split(" ", 1)) for merge in entry("merges") or []]
            backend = recipes.byte_level(vocab, merges, False)
            recipes.split_as(backend, entry("pre", "default"))
        elif kind == "llama":
            scores = entry("scores")
            ranks = None if scores is None else dict(zip(tokens, scores, strict=True))
            backend = recipes.spm_bpe(vocab, recipes.merges_of(vocab, ranks), settings)
        elif kind == "bert":
            names = {
                token[1:] if token.startswith("▁") else f"##{token}" if n in plain(types) else token: n
                for n, token in enumerate(tokens)
            }
            return recipes.wordpiece(names, {**settings, **special}).backend, []
        elif kind == "t5":
            scores = entry("scores") or [0.0] * len(tokens)
            charsmap = bytes(number & 255 for number in entry("precompiled_charsmap") or [])
            backend = recipes.unigram(list(zip(tokens, scores, strict=True)), entry("unknown_token_id", 2), charsmap)
        else:
            raise UnsupportedTokenizer(f"The tokenizer model {kind!r} is not built here; known: gpt2, llama, bert, t5.")
    except (ValueError, TypeError) as error:
        if isinstance(error, UnsupportedTokenizer):
            raise
        raise CorruptFile(f"The GGUF file's vocabulary and merges do not fit each other: {error}.") from error
    except Exception as error:  # the library raises its own bare Exception for unknown merges
        raise CorruptFile(f"The GGUF file's vocabulary and merges do not fit each other: {error}.") from error
    backend.add_special_tokens([added(token, special=True) for token in dict.fromkeys([*control, *special.values()])])
    backend.add_tokens([added({"content": token, "normalized": False}, special=False) for token in whole])
    recipes.bound(backend, special, bool(settings["add_bos_token"]), bool(settings["add_eos_token"]))
    return backend, [token for token in control if token not in special.values()]


def plain(types: list[int]) -> set[int]:
    """Numbers of the tokens that are ordinary words."""
    return {number for number, type_ in enumerate(types) if type_ == 1}
