"""Clean-up of decoded text."""

from __future__ import annotations


def clean_up_spaces(text: str) -> str:
    """Remove the spaces before punctuation and inside contractions that joining tokens leaves."""
    pairs = [(" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
             (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")]  # fmt: skip
    for old, new in pairs:
        text = text.replace(old, new)
    return text
