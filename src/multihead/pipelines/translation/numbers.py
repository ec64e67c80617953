"""Numbers of a text that its translation lacks: small translators drop or change about one in a hundred."""

from __future__ import annotations

import re

NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)")
DIGITS = re.compile(r"\d+(?:[., \u00a0\u202f']\d{3})+(?!\d)|\d+(?:[.,]\d+)*")
SPELLED = 12  # numbers up to this may be written as words


def lost_numbers(source: str, translation: str) -> list[str]:
    """Return the numbers of a source that its translation has in no notation: "674,000", "674.000" or "674 mil"."""
    numbers = [match[0] for match in NUMBER.finditer(source)]
    if not numbers:
        return []
    found = {_digits(match[0]) for match in DIGITS.finditer(translation)}
    found |= {_digits(match) for match in re.findall(r"\d+(?:[.,]\d+)*", translation)}
    return [
        number
        for number in numbers
        if int(_digits(number)) > SPELLED and not {_digits(number), _digits(number).removesuffix("000")} & found
    ]


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number)
