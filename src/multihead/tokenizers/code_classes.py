"""Recipes of tokenizer classes that come as code beside their checkpoints: SentencePiece models by their rules.

InternLM2 (arXiv:2403.17297), Baichuan (arXiv:2309.10305), ChatGLM2 and 3 (arXiv:2406.12793).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .frames import set_begin_end, set_special_tokens
from .parts import BuiltTokenizer, Settings, exact_segmenter, register_special_tokens, role_tokens, scored_pieces
from .parts import special_pieces as pieces_of_its_own
from .special import token_text
from .spm import SentencePiece

UNSEEN = -1e4  # the score of a token that no text has
CHATGLM = (  # after the pieces; words of ordinary texts among them, which are no special tokens there
    "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
)  # fmt: skip


def framed(model: SentencePiece, settings: Settings, **roles: str) -> BuiltTokenizer:
    """Build a tokenizer with a begin token, after the model's own rules.

    Reserved pieces have the names that the settings' `added_tokens_decoder` gives them.
    """
    special = role_tokens(settings, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **roles)
    listed = {int(number): token_text(token) for number, token in (settings.get("added_tokens_decoder") or {}).items()}
    vocab = [(listed.get(number) or text, score) for number, (text, score) in enumerate(scored_pieces(model))]
    known = {text for text, _ in vocab}
    backend = exact_segmenter(model, vocab, model.unknown)
    own = [token for token in pieces_of_its_own(model) if token.content in known]
    built = register_special_tokens(backend, special, settings, own=own)
    set_begin_end(backend, special, settings.get("add_bos_token", True), settings.get("add_eos_token", False))
    return built


def internlm2(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    return framed(model, settings, pad_token="</s>")


def chatglm(model: SentencePiece, settings: Settings) -> BuiltTokenizer:
    """ChatGLM2 and 3: a text begins with [gMASK] and sop, and a pair ends with </s>."""
    special = role_tokens(settings, eos_token="</s>", unk_token="<unk>", pad_token="<unk>")
    pieces = scored_pieces(model)
    known = dict(pieces)
    names = {token: f"<{token}>" if token in known else token for token in CHATGLM}  # a piece keeps its own id
    vocab = [*pieces, *((token, UNSEEN) for token in names.values())]
    backend = exact_segmenter(model, vocab, model.unknown)
    built = register_special_tokens(backend, special, settings, own=pieces_of_its_own(model))
    eos = special["eos_token"]
    mask, start = names["[gMASK]"], names["sop"]
    set_special_tokens(backend, f"{mask} {start} $A", f"{mask} {start} $A $B {eos}", [mask, start, eos])
    return built


RECIPES: Mapping[str, Callable[[SentencePiece, Settings], BuiltTokenizer]] = {
    "BaiChuan": framed,
    "Baichuan": framed,
    "ChatGLM": chatglm,
    "InternLM": internlm2,
    "InternLM2": internlm2,
}
