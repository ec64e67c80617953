"""Tokenizers of GGUF files: every way to cut text that they name, flags, types of tokens, and wrong entries."""

from __future__ import annotations

import json
import warnings

import pytest

import tokenizers
from multihead import AutoTokenizer
from multihead.errors import CorruptFile, UnsupportedTokenizer
from multihead.tokenizers.gguf import from_gguf
from multihead.tokenizers.gguf_writing import tokenizer_metadata
from multihead.tokenizers.pretokenizers import CUTS
from tokenizers import models, pre_tokenizers

from . import folders
from .folders import TEXTS

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
PIECES = {  # name -> text -> the pieces that it is cut into, spaces written as _
    "llama-bpe": {"it'S 12345 a!\n\n b": "it|'S|_|123|45|_a|!\n\n|_b"},
    "qwen2": {"it'S 123  a": "it|'S|_|1|2|3|_|_a"},
    "qwen35": {"a\u0301b 12": "a\u0301b|_|1|2"},
    "gpt-2": {"it's 12345  a": "it|'s|_12345|_|_a"},
    "smollm": {"it's 12½": "it|'s|_|1|2|½"},
    "falcon": {"a, 12345": "a|,|_|123|45", "$$x": "$$|x"},
    "default": {"a, 12345": "a|,|_|123|45"},
    "tekken": {"aB CD/\n12": "a|B|_CD|/\n|1|2"},
    "gpt-4o": {"isn't HelloWorld 1234": "isn't|_Hello|World|_|123|4"},
    "tiny_aya": {"1234567 a": "1|234|567|_a"},
    "afmoe": {"1234567 a": "1|234|567|_a"},
    "superbpe": {"a 1234567": "a_|1|234|567"},
    "deepseek-v3": {"东京 ab #x 1234": "东京|_ab|_#|x|_|123|4"},
    "deepseek-llm": {"a 12\n东京!": "a|_|1|2|\n|东京|!"},
    "bloom": {"a, b.": "a|,|_b|."},
    "viking": {"a1, b": "a|1|,|_b"},
    "seed-coder": {"a!\n": "a|!|\n"},
    "kimi-k2": {"东京abc'S 1234": "东京|abc'S|_|123|4"},
    "bailingmoe": {"A'LL b": "A|'LL|_b"},
    "jais-2": {"a" + " " * 6 + "b": "a|____|_|_b"},
    "laguna": {"a\n\nb": "a|\n\n|b"},
    "minicpm5": {"a1234": "a|123|4"},
    "gemma4": {"a b\n\nc": "a▁b|\n\n|c"},
}


def entries(kind: str = "gpt2", **more: object) -> dict[str, object]:
    """A byte-level vocabulary with a begin, an end and a padding token, as a file's metadata."""
    tokens = ["<s>", "</s>", "<pad>", *ALPHABET, "he", "hel"]
    found = {
        "model": kind, "tokens": tokens, "token_type": [3, 3, 3] + [1] * (len(tokens) - 3), "merges": ["h e", "he l"],
        "bos_token_id": 0, "eos_token_id": 1, "padding_token_id": 2, **more,
    }  # fmt: skip
    return {f"tokenizer.ggml.{name}": value for name, value in found.items() if value is not None}


def spm(**more: object) -> dict[str, object]:
    """A SentencePiece vocabulary with bytes."""
    words = ["▁", "a", "b", "▁▁", "▁a", "ab", "▁ab", "<mine>", "<|im_end|>"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *words]
    types = [2, 3, 3] + [6] * 256 + [1] * 7 + [4, 1]
    found = {"model": "llama", "tokens": tokens, "token_type": types,
             "scores": [0.0] * 259 + [-9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, 0.0, 0.0], **more}  # fmt: skip
    return {f"tokenizer.ggml.{name}": value for name, value in found.items() if value is not None}


def words(tokenizer, text: str, **options: bool) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, **options).input_ids)


@pytest.mark.parametrize("name", [name for name in CUTS if not CUTS[name].raw])
def test_every_name_of_a_pre_tokenizer_is_read_and_loses_nothing(name):
    tokenizer = from_gguf(entries(pre=name))
    for text in [*TEXTS, "  a\n\n\t12345 東京 it's  "]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize("name", PIECES)
def test_text_is_cut_as_the_name_says(name):
    backend = tokenizers.Tokenizer(models.BPE())
    CUTS[name].set(backend)
    steps = json.loads(backend.to_str())["pre_tokenizer"]
    for text, pieces in PIECES[name].items():
        given = backend.normalizer.normalize_str(text) if backend.normalizer else text
        found = [given[slice(*place)] for _, place in backend.pre_tokenizer.pre_tokenize_str(given)]
        assert "|".join(found).replace(" ", "_") == pieces, steps


def test_a_name_that_is_not_known_is_refused_by_name():
    with pytest.raises(UnsupportedTokenizer, match=r"'llama-bpee'.*llama-bpe"):
        from_gguf(entries(pre="llama-bpee"))


@pytest.mark.parametrize("kind", ["rwkv", "plamo2", "hybriddna", "whitespace", "none"])
def test_a_kind_that_is_not_built_here_is_refused(kind):
    with pytest.raises(UnsupportedTokenizer):
        from_gguf(entries(kind))


def test_an_older_file_is_cut_as_its_architectures_models_are():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = from_gguf({**entries(), "general.architecture": "qwen2"})
    one = from_gguf(entries(pre="qwen2"))
    assert tokenizer.backend.pre_tokenizer.__getstate__() == one.backend.pre_tokenizer.__getstate__()
    with pytest.warns(UserWarning, match=r"tokenizer\.ggml\.pre"):
        other = from_gguf({**entries(), "general.architecture": "llama"})
    assert other.backend.pre_tokenizer.__getstate__() == (
        from_gguf(entries(pre="default")).backend.pre_tokenizer.__getstate__()
    )


def test_a_piece_that_is_a_token_stays_one_where_the_name_says_so():
    more = {"tokens": [*entries()["tokenizer.ggml.tokens"], "help"], "token_type": None}
    assert words(from_gguf(entries(pre="llama-bpe", **more)), "help") == ["<s>", "help"]
    assert words(from_gguf(entries(pre="qwen2", **more)), "help") == ["hel", "p"]


@pytest.mark.parametrize(
    ("more", "frame"),
    [
        ({"pre": "gpt-2"}, "he"),
        ({"pre": "llama-bpe"}, "<s> he"),
        ({"pre": "llama-bpe", "add_bos_token": False}, "he"),
        ({"pre": "gpt-2", "add_bos_token": True, "add_eos_token": True}, "<s> he </s>"),
    ],
)
def test_texts_are_framed_as_the_name_and_the_flags_say(more, frame):
    assert words(from_gguf(entries(**more)), "he") == frame.split()


@pytest.mark.parametrize(
    ("more", "pair"),
    [
        ({}, "<s> h </s> <s> l </s>"),
        ({"add_sep_token": True}, "<s> h </s> </s> l </s>"),
        ({"pre": "roberta-bpe"}, "<s> h </s> </s> l </s>"),
    ],
)
def test_pairs_have_a_separator_where_a_file_says_so(more, pair):
    given = {"pre": "gpt-2", "seperator_token_id": 1, "add_bos_token": True, "add_eos_token": True, **more}
    tokenizer = from_gguf(entries(**given))
    assert tokenizer.convert_ids_to_tokens(tokenizer("h", "l").input_ids) == pair.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab", "▁ab"),
        (" ab", "▁ ▁ab"),
        ("  ab", "▁▁ ▁ab"),
        ("", ""),
        (" ", "▁▁"),
        ("é", "▁ <0xC3> <0xA9>"),
        ("a<mine>b", "▁a <mine> ▁ b"),
        ("a</s> b", "▁a </s> ▁▁ b"),
        ("a<|im_end|>", "▁a <|im_end|>"),
    ],
)
def test_a_space_stands_before_whatever_begins_or_follows_a_token(text, expected):
    tokenizer = from_gguf(spm())
    assert words(tokenizer, text) == ["<s>", *expected.split()]
    if "<" not in text:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_a_file_without_the_space_before_texts():
    tokenizer = from_gguf(spm(add_space_prefix=False))
    assert words(tokenizer, "ab") == ["<s>", "ab"]
    assert words(tokenizer, " ab") == ["<s>", "▁ab"]
    assert tokenizer.decode(tokenizer(" ab").input_ids, skip_special_tokens=True) == " ab"


def test_tokens_are_special_by_type_and_the_ends_of_turns_by_name():
    tokenizer = from_gguf(spm())
    assert tokenizer.special == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    ids = tokenizer("a<mine>b<|im_end|></s>").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<mine> b"
    assert "<|im_end|>" in tokenizer.all_special_tokens


def test_the_end_of_a_turn_has_a_name(tmp_path):
    tokenizer = from_gguf(entries(pre="gpt-2", eot_token_id=2, eom_token_id=10))
    assert (tokenizer.eot_token, tokenizer.eot_token_id, tokenizer.eom_token_id) == ("<pad>", 2, 10)
    assert tokenizer.eom_token in tokenizer.all_special_tokens
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).eot_token_id == 2
    with pytest.raises(CorruptFile, match="eot_token_id"):
        from_gguf(entries(pre="gpt-2", eot_token_id=9999))


def test_the_tokens_of_phi_3_take_the_spaces_behind_them_and_an_own_token_takes_none():
    given = {**spm(), "general.name": "Phi-3 mini"}
    assert words(from_gguf(given), "<|im_end|>\n ab")[1:] == ["<|im_end|>", "▁ab"]
    assert words(from_gguf(spm()), "<|im_end|> ab")[1:] == ["<|im_end|>", "▁", "▁ab"]


def test_several_chat_templates_have_names():
    more = {"tokenizer.chat_template": "a", "tokenizer.chat_templates": ["tool_use"]}
    tokenizer = from_gguf({**entries(pre="gpt-2"), **more, "tokenizer.chat_template.tool_use": "b"})
    assert tokenizer.chat_template == {"default": "a", "tool_use": "b"}
    assert from_gguf({**entries(pre="gpt-2"), "tokenizer.chat_template": "a"}).chat_template == "a"


def test_bert_reads_capitals_and_accents_as_the_file_says_and_types_the_second_text():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁cafe", "▁Café", "s"]
    given = {"model": "bert", "tokens": tokens, "token_type": [3, 3, 3, 3, 1, 1, 1], "cls_token_id": 2,
             "seperator_token_id": 3, "unknown_token_id": 1, "padding_token_id": 0}  # fmt: skip
    metadata = {f"tokenizer.ggml.{name}": value for name, value in given.items()}
    found = from_gguf(metadata)("Cafés", "Café")
    assert (found.input_ids, found.token_type_ids) == ([2, 4, 6, 3, 4, 3], [0, 0, 0, 0, 1, 1])
    plain = from_gguf({**metadata, "tokenizer.ggml.normalizer.lowercase": False})
    assert plain("Cafés").input_ids == [2, 5, 6, 3]


def unigram(**more: object):
    tokens = ["<pad>", "</s>", "<unk>", "▁", "a", "▁a", "b", "▁▁"]
    given = {"model": "t5", "tokens": tokens, "token_type": [3, 3, 2, 1, 1, 1, 1, 1],
             "scores": [0.0, 0.0, 0.0, -3.0, -4.0, -2.0, -4.0, -2.5], **more}  # fmt: skip
    return from_gguf({f"tokenizer.ggml.{name}": value for name, value in given.items()})


def test_unigram_files_say_what_becomes_of_spaces():
    assert words(unigram(), " a  a ") == ["▁a", "▁a", "</s>"]
    assert words(unigram(add_space_prefix=False), "a  a") == ["a", "▁a", "</s>"]
    assert words(unigram(remove_extra_whitespaces=False), "a  a") == ["▁a", "▁", "▁a", "</s>"]
    assert words(unigram(remove_extra_whitespaces=False), " ") == ["▁▁", "</s>"]
    assert words(unigram(), "aé") == ["▁a", "<unk>", "</s>"]


def test_the_sentinels_of_t5_have_their_names_back():
    tokens = ["<pad>", "</s>", "<unk>", "▁a", *(f"[PAD{n}]" for n in range(4, 112))]
    more = {"tokens": tokens, "token_type": [3, 3, 2, 1] + [5] * 108, "scores": [0.0] * 112}
    given = {f"tokenizer.ggml.{name}": value for name, value in ({"model": "t5"} | more).items()}
    tokenizer = from_gguf({**given, "general.architecture": "t5"})
    assert tokenizer("a<extra_id_0>a<extra_id_99>").input_ids == [3, 103, 3, 4, 1]
    assert tokenizer.decode([3, 103, 4, 3], skip_special_tokens=True) == "a a"
    assert "<extra_id_0>" not in from_gguf({**given, "general.architecture": "bert"}).get_vocab()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", "abc"),
        ("tokens", ["a", 1]),
        ("tokens", ["a", "a"]),
        ("token_type", [1]),
        ("token_type", ["x"] * 300),
        ("merges", None),
        ("merges", ["h e", "q"]),
        ("merges", ["no such"]),
        ("bos_token_id", 9999),
        ("bos_token_id", -1),
        ("bos_token_id", True),
        ("eos_token_id", "x"),
        ("add_bos_token", "yes"),
        ("pre", 3),
    ],
)
def test_entries_that_are_wrong_are_one_clear_error(name, value):
    with pytest.raises(CorruptFile, match=r"GGUF|tokenizer\.ggml"):
        from_gguf(entries(**{"pre": "gpt-2", name: value}))


@pytest.mark.parametrize(
    "more",
    [{"chat_template": 3}, {"chat_templates": 3}, {"chat_templates": ["x"]}, {"chat_templates": [[]]}],
    ids=str,
)
def test_chat_templates_that_are_no_texts_are_one_clear_error(more):
    with pytest.raises(CorruptFile, match="chat_template"):
        from_gguf({**entries(pre="gpt-2"), **{f"tokenizer.{name}": value for name, value in more.items()}})


def test_a_normalization_that_is_damaged_is_one_clear_error():
    with pytest.raises(CorruptFile):
        unigram(precompiled_charsmap=[255] * 9)
    with pytest.raises(CorruptFile, match="scores"):
        unigram(scores=[0.0])


def written_again(tokenizer, **more: object):
    """The tokenizer of the metadata that is written of another."""
    return from_gguf({**tokenizer_metadata(tokenizer, 0), **more})


@pytest.mark.parametrize("cased", [True, False], ids=["cased", "uncased"])
def test_berts_words_are_written(cased, tmp_path):
    whole = AutoTokenizer.from_pretrained(folders.wordpiece(tmp_path, do_lower_case=not cased))
    again = written_again(whole)
    for text in [*TEXTS, "Grüße, NAÏVE [MASK] 東京!"]:
        assert again.encode_ids([text]) == whole.encode_ids([text])
        assert again.decode(again(text).input_ids) == whole.decode(whole(text).input_ids)
    assert again.get_vocab() == whole.get_vocab()
    assert again.special == whole.special


@pytest.mark.parametrize("kind", ["T5", "XLMRoberta"])
def test_unigram_models_are_written(kind, tmp_path):
    whole = AutoTokenizer.from_pretrained(
        folders.pieces(tmp_path, "spiece.model" if kind == "T5" else "sentencepiece.bpe.model", kind)
    )
    again = written_again(whole, **{"general.architecture": "t5"})
    for text in [*TEXTS, "  a  b ", "ﬁnds ½ </s> x"]:
        assert again.encode_ids([text]) == whole.encode_ids([text]), text


def test_types_of_tokens_are_those_that_llama_cpp_asks_for(tmp_path):
    again = tokenizer_metadata(from_gguf(spm()), 0)
    types = dict(zip(again["tokenizer.ggml.tokens"], again["tokenizer.ggml.token_type"], strict=True))
    assert [types[t] for t in ("<unk>", "<s>", "<0x0A>", "▁a", "<mine>")] == [2, 3, 6, 1, 4]
