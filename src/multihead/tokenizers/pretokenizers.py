"""Pretokenizers that GGUF files name in `tokenizer.ggml.pre`.

The names are those of llama-vocab.cpp in github.com/ggml-org/llama.cpp; the patterns are those of the models' own
tokenizer.json files where llama.cpp's only come near them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from ..errors import UnsupportedTokenizer, nearest


@dataclass(frozen=True)
class SplitRule:
    """Rule that splits text into pieces that no token crosses.

    Args:
        patterns: one after the other, each isolates its matches in what the ones before it left.
        digits: numerals are isolated first. words: at last, text is cut as GPT-2 does.
        ignore_merges: a piece that is a token stays one, whatever merges would make of it.
        begin: a begin token stands before texts, unless the file says otherwise. separator: one more stands in pairs.
        raw: tokens are characters with ▁ for spaces, and bytes as <0x0A>, not GPT-2's letters for bytes.
    """

    patterns: tuple[str, ...] = ()
    digits: bool = False
    words: bool = False
    ignore_merges: bool = False
    begin: bool = False
    separator: bool = False
    raw: bool = False

    def set(self, backend: Tokenizer) -> None:
        """Set the pretokenizer of a library tokenizer."""
        steps: list[Any] = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in self.patterns]
        if self.digits:
            steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
        if self.raw:
            backend.normalizer = normalizers.Replace(" ", "▁")
        else:
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.words))
        backend.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def either(*patterns: str) -> str:
    return "|".join(patterns)


def cased(numerals: str, after: str = "", without: str = "", marks: str = r"[\r\n/]*") -> str:
    """Return the pattern of o200k and its relatives, which split where a capital follows a small letter.

    Args:
        numerals: their pattern. after: what belongs to the end of a word. without: letters that make no words.
        marks: what belongs to the end of punctuation.
    """
    capitals, small = (rf"[{kinds}\p{{Lm}}\p{{Lo}}\p{{M}}{without}]" for kinds in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
    lead = r"[^\r\n\p{L}\p{N}]?"
    words = (f"{lead}{capitals}*{small}+{after}", f"{lead}{capitals}+{small}*{after}")
    return either(*words, numerals, rf" ?[^\s\p{{L}}\p{{N}}]+{marks}", SPACES)


ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
TRIPLES = r"\p{N}{1,3}"
LINES = r"[^\n]+|[\n]+"
GPT2 = SplitRule(words=True)
DIGITS = SplitRule(digits=True, words=True)
LLAMA3 = SplitRule((either(ENGLISH, WORD, TRIPLES, MARKS, SPACES),))
LLAMA3_WHOLE = replace(LLAMA3, ignore_merges=True)
LLAMA3_BEGUN = replace(LLAMA3_WHOLE, begin=True)
QWEN2 = SplitRule((either(ENGLISH, WORD, r"\p{N}", MARKS, SPACES),))
QWEN35 = SplitRule(
    (either(ENGLISH, r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", r"\p{N}", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*", SPACES),)
)
GPT4O = SplitRule((cased(TRIPLES, f"{ENGLISH}?"),))
TEKKEN = SplitRule((cased(r"\p{N}"),), ignore_merges=True, begin=True)
WIDE = r" ?[^(\s|.,!?…。，、।۔،)]+"
CJK = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"  # Chinese and Japanese
ASCII_WORD = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
DEEPSEEK3 = SplitRule((TRIPLES, CJK, either(ASCII_WORD, r" ?[\p{P}\p{S}]+[\r\n]*", SPACES)))
SPARK = SplitRule((TRIPLES, CJK, either(ASCII_WORD, r" ?[\p{P}\p{S}]+", r"[\r\n]", r"\s+(?!\S)|\s+"), r"\p{N}"))
HANGUL = r"[\uac00-\ud7a3\u3131-\u318e]+"
FULL_WIDTH = r"[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
YOUTU = SplitRule(
    (either(HANGUL, FULL_WIDTH, r"[\u3105-\u312f]+", CJK), cased(r"\p{N}", f"{ENGLISH}?")), ignore_merges=True
)
ASIAN = (
    r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    r"\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
AFMOE = SplitRule(
    (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", ASIAN, either(ASCII_WORD, r" ?[\p{P}\p{S}]+[\r\n]*", SPACES)),
)
LETTERS = (  # of alphabets with two cases, as DeepSeek LLM lists them
    "\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d"
    "\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
)
CHINESE = r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_MARKS = r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
DEEPSEEK = SplitRule((r"[\r\n]", rf"\s?[A-Za-z{LETTERS}]+", DEEPSEEK_MARKS, r"\s+$", CHINESE, r"\p{N}"))
DEEPSEEK_CODER = SplitRule((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE, r"\p{N}"))
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
FALCON = SplitRule((r"[\p{P}$+<=>^~|`]+", GPT2_WORDS, "[0-9][0-9][0-9]"))
DEFAULT = SplitRule((r"[\p{P}$+<=>^~|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]"))
CASCADE = r"|".join(rf"\s{{{width}}}(?!\S)" for width in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
JAIS2 = SplitRule((either(ENGLISH, WORD, TRIPLES, MARKS, r"\s*[\r\n]+", CASCADE, r"\s{1}"),))
BAILING = SplitRule(
    (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",)
)
SEED = SplitRule((either(ENGLISH, WORD, r"\p{N}{1}", r" ?[^\s\p{L}\p{N}\r\n]+", SPACES),))
EXAONE_MOE = SplitRule(
    (
        either(
            ENGLISH,
            r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
            r"\p{N}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]?",
            r"\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    )
)
KIMI = SplitRule((either(r"[\p{Han}]+", cased(TRIPLES, f"{ENGLISH}?", r"&&[^\p{Han}]", r"[\r\n]*")),))
CHAMELEON = SplitRule(
    (
        "<sentinel:[0-9]+>",
        "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
        "([\\t\\n]|    |  )",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        GPT2_WORDS,
    ),
    begin=True,
)
GEMMA4 = SplitRule((LINES,), begin=True, raw=True)

CUTS: Mapping[str, SplitRule] = {
    "llama-bpe": LLAMA3_BEGUN,
    **dict.fromkeys("llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano".split(), LLAMA3_BEGUN),
    "glm4": LLAMA3_WHOLE,
    "glm5": LLAMA3_WHOLE,
    **dict.fromkeys("dbrx smaug-bpe chatglm-bpe".split(), LLAMA3),
    **dict.fromkeys("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2".split(), QWEN2),
    **dict.fromkeys(
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4 mpt olmo jais "
        "trillion granite-docling".split(),
        GPT2,
    ),
    **dict.fromkeys("jina-v1-en jina-v2-code roberta-bpe".split(), replace(GPT2, separator=True)),
    **dict.fromkeys("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2".split(), DIGITS),
    **dict.fromkeys("gpt-4o llama4 kanana2 talkie minimax-m2".split(), GPT4O),
    "granite-embed-multi-97m": replace(GPT4O, ignore_merges=True),
    **dict.fromkeys(
        "tiny_aya cohere2moe".split(), replace(GPT4O, patterns=(r"\d{1,3}(?=(?:\d{3})*\b)", *GPT4O.patterns))
    ),
    "tekken": TEKKEN,
    "youtu": YOUTU,
    "kimi-k2": KIMI,
    "qwen35": QWEN35,
    **dict.fromkeys("deepseek-v3 hunyuan-dense hy_v4 joyai-llm".split(), DEEPSEEK3),
    "deepseek-llm": DEEPSEEK,
    "deepseek-coder": DEEPSEEK_CODER,
    "spark2_5": SPARK,
    "falcon": FALCON,
    **dict.fromkeys("bloom poro-chat gpt3-finnish".split(), SplitRule((WIDE,))),
    "viking": SplitRule((WIDE, r"\p{N}")),
    "jais-2": JAIS2,
    **dict.fromkeys("bailingmoe bailingmoe2 llada-moe".split(), BAILING),
    "seed-coder": SEED,
    "ufakzeka": SplitRule((either(WORD, r"\p{N}", MARKS, SPACES),)),
    "afmoe": AFMOE,
    "laguna": SplitRule((LINES, *QWEN2.patterns)),
    "exaone-moe": EXAONE_MOE,
    "minicpm5": SplitRule((TRIPLES, either(ENGLISH, WORD, r"\p{N}+", MARKS, SPACES)), ignore_merges=True),
    "superbpe": SplitRule((r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
    "chameleon": CHAMELEON,
    "gemma4": GEMMA4,
    "granite-embed-multi-311m": GEMMA4,
    "sarvam-moe": replace(GEMMA4, begin=False),
    "default": DEFAULT,
}
OLD = {  # architecture -> the name, for files that are older than `tokenizer.ggml.pre`
    "gpt2": "gpt-2", "gptneox": "gpt-2", "gptj": "gpt-2", "phi2": "phi-2", "mpt": "mpt", "olmo": "olmo",
    "falcon": "falcon", "bloom": "bloom", "starcoder": "starcoder", "starcoder2": "starcoder", "refact": "refact",
    "codeshell": "codeshell", "command-r": "command-r", "qwen": "qwen2", "qwen2": "qwen2", "qwen2moe": "qwen2",
    "stablelm": "gpt-2", "dbrx": "dbrx", "jais": "jais",
}  # fmt: skip


def split_rule(name: str) -> SplitRule:
    """Return the rule of a name. Raises UnsupportedTokenizer for an unknown name."""
    if name not in CUTS:
        raise UnsupportedTokenizer(f"The pre-tokenizer {name!r} is not built here. {nearest(name, CUTS)}")
    return CUTS[name]
