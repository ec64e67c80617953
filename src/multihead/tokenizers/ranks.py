"""Byte-level BPE in files that rank tokens instead of listing merges: Mistral's `tekken.json` and tiktoken.

A token's rank is its id, less what special tokens stand before it, and merges join the pair that makes the token of the
least rank: they follow from the ranks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..config import read_json
from ..errors import CorruptFile
from .frames import set_special_tokens
from .parts import BuiltTokenizer, register_special_tokens, role_tokens
from .pretokenizers import KIMI, LLAMA3, QWEN2, SplitRule
from .special import MORE, listed_tokens, to_added_token, token_text

PRINTED = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # bytes that stand for themselves
OTHERS = [byte for byte in range(256) if byte not in PRINTED]
LETTERS = {byte: chr(byte) for byte in PRINTED} | {byte: chr(256 + n) for n, byte in enumerate(OTHERS)}
TEKKEN = "tekken.json"
OLDER = (  # special tokens of files that do not list them
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip


@dataclass(frozen=True)
class RankedClass:
    """How a class reads its tiktoken file.

    Args:
        cut: what no token crosses. special: tokens after the ranked ones. reserved: how many ids these have at least.
        roles: role -> token. begin: tokens before each text. composed: texts are brought to Unicode's form NFC.
    """

    cut: SplitRule
    special: tuple[str, ...] = ()
    reserved: int = 0
    roles: Mapping[str, str] = field(default_factory=dict)
    begin: tuple[str, ...] = ()
    composed: bool = False


QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))
GLM_SPECIAL = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>",
)  # fmt: skip
ENDOFTEXT = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
TIKTOKEN: Mapping[str, RankedClass] = {  # by the stem of a class that comes as code beside its checkpoints
    "ChatGLM4": RankedClass(LLAMA3, GLM_SPECIAL, roles=ENDOFTEXT, begin=("[gMASK]", "<sop>")),
    "QWen": RankedClass(QWEN2, QWEN_SPECIAL, roles=ENDOFTEXT, composed=True),
    "TikToken": RankedClass(KIMI, reserved=256, roles={"bos_token": "[BOS]", "eos_token": "[EOS]"}),  # Kimi
}


def tekken(path: Path, settings: Mapping[str, Any]) -> BuiltTokenizer:
    """Build Mistral's tokenizer. Raises CorruptFile for missing or wrong entries."""
    data = read_json(path)
    try:
        config, rows = data["config"], data["vocab"]
        listed = data.get("special_tokens")
        special = list(OLDER) if listed is None else special_by_id(listed, path)
        count = config.get("default_num_special_tokens", len(special))
        special += [f"<SPECIAL_{number}>" for number in range(len(special), count)]
        size = config.get("default_vocab_size")
        used = rows if size is None else rows[: size - count]
        tokens = [base64.b64decode(row["token_bytes"], validate=True) for row in used]
        pattern = config["pattern"]
    except (KeyError, TypeError, AttributeError, binascii.Error, ValueError) as error:
        raise CorruptFile(f"{path} is no tekken.json: {type(error).__name__}: {error}.") from error
    vocab = {token: number for number, token in enumerate(special)}
    roles = role_tokens(settings, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    backend = build_backend(tokens, pattern, vocab, path)
    return register_special_tokens(
        backend, roles, settings, [token for token in special if token not in roles.values()]
    )


def special_by_id(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Return special tokens in the order of their ids. Raises CorruptFile where these are not 0, 1, 2, ..."""
    ordered = sorted((row["rank"], str(row["token_str"])) for row in rows)
    if [rank for rank, _ in ordered] != list(range(len(ordered))):
        raise CorruptFile(f"{path} has gaps between the ranks of its special tokens.")
    return [token for _, token in ordered]


def tiktoken(path: Path, settings: Mapping[str, Any], stem: str = "") -> BuiltTokenizer:
    """Build the tokenizer of a tiktoken file; tokenizer_config.json has the special tokens.

    Args:
        stem: of the class, whose rules are in `TIKTOKEN`; the others have Llama 3's.

    Raises:
        CorruptFile: a line that is no token and its rank, or ranks with gaps.
    """
    rules = TIKTOKEN.get(stem, RankedClass(LLAMA3))
    tokens = ranked_tokens(path)
    backend = build_backend(tokens, rules.cut.patterns[0], {}, path)
    if rules.composed:
        backend.normalizer = normalizers.NFC()
    more: dict[int, str | None] = dict(enumerate(rules.special, len(tokens)))
    more |= {int(number): token_text(token) for number, token in (settings.get("added_tokens_decoder") or {}).items()}
    last = max(*more, len(tokens) + rules.reserved - 1) if more or rules.reserved else -1
    filled = [more.get(number) or f"<|reserved_token_{number}|>" for number in range(len(tokens), last + 1)]
    extra = [token_text(token) or "" for name in MORE for token in listed_tokens(settings.get(name))[0]]
    special = list(dict.fromkeys([*filled, *extra]))
    backend.add_special_tokens(
        [to_added_token(token, special=True) for token in special]
    )  # before the roles', for their ids
    built = register_special_tokens(backend, role_tokens(settings, **rules.roles), settings, special)
    if rules.begin:
        begin = " ".join(rules.begin)
        eos = built.special["eos_token"]
        set_special_tokens(backend, f"{begin} $A", f"{begin} $A $B {eos}", [*rules.begin, eos])
    return built


def ranked_tokens(path: Path) -> list[bytes]:
    """Return the tokens of a tiktoken file by their ranks. Raises CorruptFile."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        token, _, rank = line.partition(b" ")
        try:
            rows.append((int(rank), base64.b64decode(token, validate=True)))
        except (binascii.Error, ValueError) as error:
            raise CorruptFile(f"{path} is no file of tiktoken's: its line {number} is no token and rank.") from error
    rows.sort(key=lambda row: row[0])
    if [rank for rank, _ in rows] != list(range(len(rows))):
        raise CorruptFile(f"{path} has gaps between its ranks.")
    return [token for _, token in rows]


def is_tiktoken(path: Path) -> bool:
    """Return True if a file begins as tiktoken files do: a token in base64, a space and its rank."""
    with open(path, "rb") as file:
        token, _, rank = file.readline(10_000).rstrip(b"\r\n").partition(b" ")
    try:
        return bool(token) and rank.isdigit() and bool(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        return False


def build_backend(tokens: Sequence[bytes], pattern: str, first: Mapping[str, int], path: Path) -> Tokenizer:
    """Build the library's tokenizer; ranked tokens get the ids after `first`. Raises CorruptFile."""
    ranks = {token: number for number, token in enumerate(tokens)}
    if len(ranks) != len(tokens) or b"" in ranks:
        raise CorruptFile(f"{path} has a token twice, or one without a byte.")
    letters = {token: "".join(map(LETTERS.__getitem__, token)) for token in tokens}
    vocab = {**first, **{letters[token]: number + len(first) for token, number in ranks.items()}}
    merges = [(letters[a], letters[b]) for token in tokens for a, b in merge_pairs(token, ranks)]
    try:
        backend = Tokenizer(models.BPE(vocab, merges, fuse_unk=False, ignore_merges=True))
        cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    except Exception as error:  # the library raises its own bare Exception
        raise CorruptFile(f"{path} makes no tokenizer: {error}.") from error
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def merge_pairs(token: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the pairs of tokens that form a token, ordered by rank."""
    parts = [(token[:place], token[place:]) for place in range(1, len(token))]
    found = [(a, b) for a, b in parts if a in ranks and b in ranks]
    return sorted(found, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
