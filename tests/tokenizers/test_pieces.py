"""SentencePiece models in folders without tokenizer.json: SentencePiece's own ids, in the reference's frames."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import sentencepiece
import transformers

from multihead import AutoTokenizer
from multihead.errors import UnsupportedTokenizer

from .folders import TEXTS, train, write

MORE = ["trailing space ", "trailing line\n", "a  b   c", " （全角）カナ，。ｶﾅ", "①② ﬃ Å"]
PLAIN = ["Hello world!", "the quick brown fox", "In 1969, 21.5 kilograms", "x" * 60, "path/to/file.txt a@b.co #tag"]
ALL = [*TEXTS, *MORE]
BERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
BYTES = {"byte_fallback": True, "vocab_size": 640}
EVERY_SPACE = {**BYTES, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"}


@dataclass(frozen=True)
class Kind:
    """How a family's folder looks.

    Args:
        first: the id of SentencePiece's piece 3. same: the reference reads it right, on plain texts at least.
        rules: the family has rules of its own before the model's.
    """

    stem: str
    model_type: str
    file: str = "spiece.model"
    model: str = "unigram"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    first: int = 3
    same: bool = True
    rules: bool = False


BPE = "sentencepiece.bpe.model"
DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
           "eos_piece": "[SEP]", "unk_piece": "[UNK]"}  # fmt: skip
GEMMA = {**EVERY_SPACE, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "add_dummy_prefix": False,
         "user_defined_symbols": ["<mask>", "<start_of_turn>"], "pad_piece": "<pad>", "bos_piece": "<bos>",
         "eos_piece": "<eos>"}  # fmt: skip
KINDS = {
    "deberta-v3": Kind("DebertaV2", "deberta-v2", "spm.model", options=DEBERTA),
    "big-bird": Kind("BigBird", "big_bird", options={**BERT, "eos_id": 1, "bos_id": 2, "unk_id": 100}),
    "rembert": Kind("RemBert", "rembert", "sentencepiece.model", options=BERT, rules=True, same=False),
    "fnet": Kind("FNet", "fnet", options=BERT, rules=True, same=False),
    "bert-generation": Kind("BertGeneration", "bert-generation", options={"pad_id": 0, "unk_id": 3}),
    "camembert": Kind("Camembert", "camembert", BPE, first=7),
    "xlm-roberta": Kind("XLMRoberta", "xlm-roberta", BPE, first=4),
    "xlm-roberta-bpe": Kind("XLMRoberta", "xlm-roberta", BPE, "bpe", first=4, same=False),
    "mbart": Kind("MBart", "mbart", BPE, first=4),
    "mbart-50": Kind("MBart50", "mbart", BPE, first=4),
    "nllb": Kind("Nllb", "m2m_100", BPE, "bpe", first=4, same=False),
    "plbart": Kind("PLBart", "plbart", BPE, "bpe", first=4),
    "plbart-multi": Kind("PLBart", "plbart", BPE, settings={"language_codes": "multi"}, first=4, same=False),
    "pegasus": Kind("Pegasus", "pegasus", options=T5, first=106),
    "mt5": Kind("T5", "mt5", options=T5, settings={"extra_ids": 0}),
    "t5-bytes": Kind("T5", "t5", options=T5 | BYTES, same=False),
    "t5-no-prefix": Kind("T5", "t5", options=T5 | {"add_dummy_prefix": False}, same=False),
    "t5-identity": Kind("T5", "t5", options=T5 | {"normalization_rule_name": "identity"}, rules=True),
    "gemma": Kind("Gemma", "gemma", "tokenizer.model", "bpe", GEMMA, {"add_bos_token": True, "add_eos_token": False}),
    "llama-unigram": Kind("Llama", "llama", "tokenizer.model", "unigram", EVERY_SPACE, {"add_bos_token": True},
                          same=False, rules=True),
}  # fmt: skip
EACH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """kind -> (our tokenizer, SentencePiece, the folder), made once."""
    done: dict[str, Any] = {}

    def make(name: str) -> Any:
        if name not in done:
            kind, folder = KINDS[name], tmp_path_factory.mktemp(name)
            train(folder / kind.file, kind.model, **kind.options)
            write(folder, "config.json", {"model_type": kind.model_type})
            write(folder, "tokenizer_config.json", {"tokenizer_class": f"{kind.stem}Tokenizer", **kind.settings})
            pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / kind.file))
            done[name] = AutoTokenizer.from_pretrained(folder), pieces, folder
        return done[name]

    return make


@EACH
def test_ids_are_those_of_sentencepiece(made, kind):
    ours, pieces, _ = made(kind)
    shift = KINDS[kind].first - 3
    texts = PLAIN if KINDS[kind].rules else ALL
    if "byte_fallback" in KINDS[kind].options:  # the library looks its map of characters up by graphemes
        texts = [text for text in texts if "\u0323" not in text]
    for text in texts:
        got = ours(text, add_special_tokens=False)["input_ids"]
        expected = pieces.encode(text)
        assert got == [n + shift if n != pieces.unk_id() else ours.unk_token_id for n in expected], text


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.same])
def test_plain_texts_are_read_as_the_reference_reads_them(made, kind):
    ours, _, folder = made(kind)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(ours) == len(theirs)
    for text in PLAIN:
        got, expected = ours(text), theirs(text)
        assert got["input_ids"] == expected["input_ids"], text
        if theirs.is_fast:
            where = [t(text, return_offsets_mapping=True)["offset_mapping"] for t in (ours, theirs)]
            assert list(where[0]) == list(where[1]), text
        for skip in (False, True):
            assert ours.decode(got["input_ids"], skip) == theirs.decode(got["input_ids"], skip_special_tokens=skip)
    assert ours("the dog", "the fox")["input_ids"] == theirs("the dog", "the fox")["input_ids"]
    assert ours.convert_ids_to_tokens(list(range(len(ours)))) == theirs.convert_ids_to_tokens(list(range(len(ours))))
    for role in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        assert getattr(ours, role) == getattr(theirs, role), role
        assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_id"), role
    text = " ".join(f"fox{token}dog" for token in theirs.all_special_tokens[:12])
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]


@EACH
def test_what_is_saved_is_read_alike(made, kind, tmp_path):
    ours, _, _ = made(kind)
    ours.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    ids = ours(ALL)["input_ids"]
    assert again(ALL)["input_ids"] == ids
    assert again("a", "b")["input_ids"] == ours("a", "b")["input_ids"]
    assert [again.decode(i, True) for i in ids] == [ours.decode(i, True) for i in ids]
    assert again.special_tokens_map == ours.special_tokens_map
    if kind not in ("mbart", "mbart-50", "nllb"):  # whose classes build the file's tokenizer anew, without its rules
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs(ALL)["input_ids"] == ids
        assert [theirs.decode(i, skip_special_tokens=True) for i in ids] == [ours.decode(i, True) for i in ids]


@pytest.mark.parametrize("kind", ["rembert", "fnet"])
def test_classes_that_the_reference_reads_without_a_frame_have_theirs(made, kind):
    """Published in tokenizer.json, and in version 4's converters: [CLS] text [SEP], types by text."""
    ours, pieces, _ = made(kind)
    cls, sep = ours.cls_token_id, ours.sep_token_id
    one, two = (pieces.encode(text) for text in ("the fox", "dog"))
    found = ours("the fox", "dog")
    assert found["input_ids"] == [cls, *one, sep, *two, sep]
    assert found["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    assert ours("Fox É", add_special_tokens=False)["input_ids"] == pieces.encode("Fox É")


def test_llamas_byte_pairs_without_bytes_have_a_token_for_unknown_characters(tmp_path):
    train(tmp_path / "tokenizer.model", "bpe")
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"})
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert ours("a 😀 b", add_special_tokens=False)["input_ids"].count(ours.unk_token_id) == 1


def test_pegasus_keeps_both_masks_when_a_map_names_one(tmp_path):
    train(tmp_path / "spiece.model", **T5)
    write(tmp_path, "config.json", {"model_type": "pegasus"})
    write(tmp_path, "special_tokens_map.json", {"eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask_2>"})
    ours = AutoTokenizer.from_pretrained(tmp_path)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    assert ours.convert_ids_to_tokens([0, 1, 2, 3, 4, 104, 105]) == [
        "<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>", "<unk>"
    ]  # fmt: skip
    assert ours("the fox")["input_ids"] == [*(n + 103 for n in pieces.encode("the fox")), 1]


def test_a_model_that_is_none_of_pegasus_is_refused(tmp_path):
    train(tmp_path / "spiece.model")  # <unk>, <s> and </s> come first
    write(tmp_path, "config.json", {"model_type": "pegasus"})
    with pytest.raises(UnsupportedTokenizer, match="after its first two pieces"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_a_mask_and_added_tokens_come_after_the_pieces(tmp_path):
    """DeBERTa-v3's own folder: the mask is no piece of the model, and lies in added_tokens.json."""
    train(tmp_path / "spm.model", **DEBERTA)
    size = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model")).get_piece_size()
    write(tmp_path, "config.json", {"model_type": "deberta-v2"})
    write(tmp_path, "tokenizer_config.json", {"do_lower_case": False, "vocab_type": "spm"})
    write(tmp_path, "added_tokens.json", {"[MASK]": size})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.mask_token_id == theirs.mask_token_id == size
    assert ours("the[MASK]fox", "dog")["input_ids"] == theirs("the[MASK]fox", "dog")["input_ids"]
    assert ours("the [MASK] fox")["input_ids"] == ours("the[MASK]fox")["input_ids"]
    assert ours("the fox", "dog")["token_type_ids"] == theirs("the fox", "dog")["token_type_ids"]
    write(tmp_path, "added_tokens.json", {"[MASK]": size + 3})
    with pytest.raises(UnsupportedTokenizer, match=rf"'\[MASK\]' the id {size + 3}"):
        AutoTokenizer.from_pretrained(tmp_path)


def m2m100(folder: Any, model: str) -> Any:
    train(folder / BPE, model)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / BPE))
    words = [pieces.id_to_piece(n) for n in range(3, pieces.get_piece_size())]
    words = ["<s>", "<pad>", "</s>", "<unk>", *reversed(words)]
    write(folder, "vocab.json", {word: number for number, word in enumerate(words)})
    write(folder, "config.json", {"model_type": "m2m_100"})
    write(folder, "tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer"})
    return words


@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_m2m100_numbers_its_pieces_by_vocab_json(tmp_path, model):
    words = m2m100(tmp_path, model)
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(ours) == len(words) + 100
    for text in ALL:
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids, True).strip() == theirs.decode(ids[1:-1], skip_special_tokens=True)
    ours.src_lang = theirs.src_lang = "fr"
    assert ours("the fox")["input_ids"] == theirs("the fox")["input_ids"]
    assert ours("the", "fox")["input_ids"] == theirs("the", "fox")["input_ids"]
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    del vocab[words[-1]]
    write(tmp_path, "vocab.json", vocab)
    with pytest.raises(UnsupportedTokenizer, match="lacks 1 pieces"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["mbart", "mbart-50", "nllb", "plbart"])
def test_translators_of_pieces_are_told_their_languages(made, kind):
    ours, _, _ = made(kind)
    code, known = ("python", "__python__") if kind == "plbart" else ("fr", "fra_Latn" if kind == "nllb" else "fr_XX")
    ours.src_lang = code
    ids = ours("the fox")["input_ids"]
    first = 0 if kind in ("mbart-50", "nllb") else -1
    assert ours.convert_ids_to_tokens(ids)[first] == known
    assert ours.decode(ids, True) == "the fox"


def test_a_model_that_marks_spaces_after_words_is_refused(tmp_path):
    train(tmp_path / "spiece.model", treat_whitespace_as_suffix=True, **T5)
    write(tmp_path, "config.json", {"model_type": "t5"})
    with pytest.raises(UnsupportedTokenizer, match="after a word"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_a_users_pieces_stay_whole_in_byte_pairs_and_in_unigrams(tmp_path):
    for model in ("bpe", "unigram"):
        folder = tmp_path / model
        folder.mkdir()
        train(folder / "spiece.model", model, user_defined_symbols=["<n>", "(c)"], **T5)
        write(folder, "config.json", {"model_type": "t5"})
        ours = AutoTokenizer.from_pretrained(folder)
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
        for text in ("the<n>fox", "a(c)b the(c)"):
            got = ours.convert_ids_to_tokens(ours(text, add_special_tokens=False)["input_ids"])
            assert got == pieces.encode(text, out_type=str), (model, text)
        assert ours.decode(ours("the<n>fox")["input_ids"], True) == "the<n>fox"
