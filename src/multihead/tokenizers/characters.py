"""CANINE's tokenizer: one token a character, whose id is its code point (Clark et al., 2021, arXiv:2103.06874)."""

from __future__ import annotations

from tokenizers.models import WordLevel

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

from .defaults import ROLES
from .frames import set_special_tokens
from .parts import BuiltTokenizer, Settings, register_special_tokens, role_tokens

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)  # halves of characters, which no text has


def canine(settings: Settings) -> BuiltTokenizer:
    """Build the tokenizer of all characters; it needs no file."""
    special = role_tokens(settings, **ROLES["Canine"])
    vocab = {chr(point): point for point in range(CODE_POINTS) if point not in SURROGATES}
    backend = Tokenizer(WordLevel(vocab, unk_token=special["pad_token"]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    built = register_special_tokens(backend, special, settings, wide=("mask_token",))
    cls, sep = special["cls_token"], special["sep_token"]
    set_special_tokens(backend, f"{cls} $A {sep}", f"{cls} $A {sep} $B:0 {sep}:0", [cls, sep])
    return built
