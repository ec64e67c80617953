"""Folders with vocab.txt, or vocab.json and merges.txt, and no tokenizer.json: each class by its own recipe."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import transformers

import tokenizers
from multihead import AutoTokenizer
from multihead.errors import UnsafeFile, UnsupportedTokenizer
from multihead.tokenizers.older import class_stem
from tokenizers import models, pre_tokenizers, trainers

from .folders import CORPUS, TEXTS, write

AMINO = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>".split()
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MPNET = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
FUNNEL = ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"]
DEBERTA = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
MOSES = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{number}>" for number in range(10))]
END = ["<|endoftext|>", "<|padding|>"]
PROTEINS = ["MKTVRQERLK", "MKT<mask>RQ", "mkt MKT", "M K\tT\n", "", " ", "MkT", "A.B-C", "<null_1>X1Z", "é MK"]


def lines(folder: Path, special: list[str], corpus: list[str] = CORPUS) -> None:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token=special[1]))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        corpus, trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False)
    )
    vocab = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    write(folder, "vocab.txt", "\n".join(token for token, _ in vocab) + "\n")


def pairs(folder: Path, special: list[str]) -> None:
    backend = tokenizers.ByteLevelBPETokenizer()
    backend.train_from_iterator(CORPUS, vocab_size=360, special_tokens=special, show_progress=False)
    backend.save_model(str(folder))


def words(folder: Path, special: list[str]) -> None:
    """Byte pairs of words, as GPT's first version and HerBERT have them."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token=special[0], end_of_word_suffix="</w>"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=260, special_tokens=special, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.model.save(str(folder))


def codes(folder: Path, special: list[str]) -> None:
    """Byte pairs with `@@`, as CTRL's and BlenderbotSmall's; some pieces are left out of the vocabulary."""
    backend = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", show_progress=False)
    backend.train_from_iterator([text.lower() for text in CORPUS], trainer)
    known = [t.removesuffix("</w>") if t.endswith("</w>") else f"{t}@@" for t in backend.get_vocab()]
    known = list(dict.fromkeys([*special, "__newln__", ".", ",", "!", *(t for t in known if t not in ("q@@", "th@@"))]))
    write(folder, "vocab.json", {token: number for number, token in enumerate(known)})
    merges = json.loads(backend.to_str())["model"]["merges"]
    write(folder, "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def moses(folder: Path, special: list[str]) -> None:
    """Byte pairs of words with `</w>`, as XLM's and FlauBERT's; merges may have counts."""
    backend = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", show_progress=False)
    backend.train_from_iterator([*CORPUS, *(text.lower() for text in CORPUS)], trainer)
    vocab = json.loads(backend.to_str())["model"]
    known = list(dict.fromkeys([*special, ".</w>", "&quot;</w>", "&apos;s</w>", *vocab["vocab"]]))
    write(folder, "vocab.json", {token: number for number, token in enumerate(known)})
    write(folder, "merges.txt", "".join(f"{a} {b} {99 - n % 9}\n" for n, (a, b) in enumerate(vocab["merges"])))


def prophetnet(folder: Path, special: list[str]) -> None:
    lines(folder, special)
    (folder / "vocab.txt").rename(folder / "prophetnet.tokenizer")


KINDS: dict[str, tuple[Any, list[str], dict[str, Any], dict[str, Any]]] = {
    # name -> what writes the vocabulary, its special tokens, config.json, tokenizer_config.json
    "bert": (lines, BERT, {"model_type": "bert"}, {}),
    "electra": (lines, BERT, {"model_type": "electra"}, {"do_lower_case": False}),
    "distilbert": (lines, BERT, {"model_type": "distilbert"}, {"tokenizer_class": "DistilBertTokenizer"}),
    "convbert": (lines, BERT, {"model_type": "convbert"}, {"tokenizer_class": "ConvBertTokenizer"}),
    "mpnet": (lines, MPNET, {"model_type": "mpnet"}, {}),
    "splinter": (lines, [*BERT, "[QUESTION]"], {"model_type": "splinter"}, {}),
    "splinter-left": (lines, [*BERT, "[QUESTION]"], {"model_type": "splinter"}, {"padding_side": "left"}),
    "gpt2": (pairs, END, {"model_type": "gpt2"}, {}),
    "opt": (pairs, ["<s>", "<pad>", "</s>"], {"model_type": "opt"},
            {"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>",
             "pad_token": "<pad>", "add_bos_token": True}),
    "gpt-neox": (pairs, END, {"model_type": "gpt_neox"}, {}),
    "qwen2": (pairs, [*END, "<|im_end|>"], {"model_type": "qwen3"},
              {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None}),
    "longformer": (pairs, ROBERTA, {"model_type": "longformer"}, {}),
    "led": (pairs, ROBERTA, {"model_type": "led"}, {}),
    "bart": (pairs, ROBERTA, {"model_type": "bart"}, {"tokenizer_class": "BartTokenizer"}),
    "deberta": (pairs, DEBERTA, {"model_type": "deberta"}, {"do_lower_case": False, "vocab_type": "gpt2"}),
    "gpt": (words, ["<unk>"], {"model_type": "openai-gpt"}, {}),
    "ctrl": (codes, ["<unk>"], {"model_type": "ctrl"}, {}),
    "xlm": (moses, MOSES, {"model_type": "xlm"}, {"do_lowercase_and_remove_accent": True}),
    "xlm-cased": (moses, MOSES, {"model_type": "xlm"}, {"do_lowercase_and_remove_accent": False}),
    "flaubert": (moses, MOSES, {"model_type": "flaubert"}, {"do_lowercase": True}),
    "prophetnet": (prophetnet, [*BERT, "[X_SEP]"], {"model_type": "prophetnet"}, {}),
    "blenderbot-small": (codes, ["__null__", "__start__", "__end__", "__unk__"], {"model_type": "blenderbot-small"},
                         {"tokenizer_class": "BlenderbotSmallTokenizer"}),
}  # fmt: skip
EACH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    done: dict[str, Any] = {}

    def make(kind: str) -> Any:
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            how, special, config, settings = KINDS[kind]
            how(folder, special)
            write(folder, "config.json", config)
            write(folder, "tokenizer_config.json", settings)
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
            done[kind] = AutoTokenizer.from_pretrained(folder), theirs, folder
        return done[kind]

    return make


@EACH
def test_ids_offsets_and_text_are_the_references(made, kind):
    ours, theirs, _ = made(kind)
    assert len(ours) == len(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    for text in [*TEXTS, "a\nb\n", "it's 'quoted', isn't it?! (yes)."]:
        got = ours(text, return_offsets_mapping=True)
        assert got["input_ids"] == theirs(text)["input_ids"], text
        if theirs.is_fast:
            assert list(got["offset_mapping"]) == list(theirs(text, return_offsets_mapping=True)["offset_mapping"])
        assert ours.convert_ids_to_tokens(got["input_ids"]) == theirs.convert_ids_to_tokens(got["input_ids"])
        for skip in (False, True):
            assert ours.decode(got["input_ids"], skip) == theirs.decode(got["input_ids"], skip_special_tokens=skip)


@EACH
def test_frames_roles_and_columns_are_the_references(made, kind):
    ours, theirs, _ = made(kind)
    for role in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        assert getattr(ours, role) == getattr(theirs, role), role
        assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_id"), role
    assert (ours.padding_side, list(ours("a"))) == (theirs.padding_side, list(theirs("a")))
    if kind != "deberta":  # whose pairs the reference frames as RoBERTa's
        got, expected = (t("the fox", "a dog", return_token_type_ids=True) for t in (ours, theirs))
        assert got["input_ids"] == expected["input_ids"]
        if theirs.is_fast:
            assert got["token_type_ids"] == expected["token_type_ids"]
    for token in ours.all_special_tokens:
        assert ours(f"the{token}fox {token} dog")["input_ids"] == theirs(f"the{token}fox {token} dog")["input_ids"]


@EACH
def test_what_is_saved_copied_and_pickled_reads_alike(made, kind, tmp_path):
    ours, _, _ = made(kind)
    ours = copy.deepcopy(ours)
    ours.add_tokens(["newword"])
    ours.add_special_tokens({"additional_special_tokens": ["<extra>"]})
    texts = [*TEXTS[3:9], "a newword<extra>b"]
    ids = ours(texts)["input_ids"]
    assert pickle.loads(pickle.dumps(ours))(texts)["input_ids"] == ids
    assert ours(texts)["input_ids"] == ids  # as before, once it was pickled
    ours.save_pretrained(tmp_path)
    again, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts)["input_ids"] == theirs(texts)["input_ids"] == ids
    assert [again.decode(row, True) for row in ids] == [ours.decode(row, True) for row in ids]
    assert [theirs.decode(row, skip_special_tokens=True) for row in ids] == [ours.decode(row, True) for row in ids]


def test_debertas_pairs_have_one_separator_between_texts(made):
    ours, _, _ = made("deberta")
    one, two = (ours(text, add_special_tokens=False)["input_ids"] for text in ("the fox", " a dog"))
    cls, sep = ours.cls_token_id, ours.sep_token_id
    found = ours("the fox", " a dog")
    assert found["input_ids"] == [cls, *one, sep, *two, sep]
    assert found["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(two) + 1)


def test_a_blenderbot_text_begins_with_a_space_and_ends_with_its_token(tmp_path):
    pairs(tmp_path, ROBERTA)
    write(tmp_path, "config.json", {"model_type": "blenderbot"})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours("the fox")["input_ids"] == [*theirs("the fox", add_special_tokens=False)["input_ids"], 2]


@pytest.mark.parametrize("settings", [{}, {"clean_up_tokenization_spaces": True}], ids=str)
def test_esm_reads_the_letters_of_a_protein(tmp_path, settings):
    write(tmp_path, "vocab.txt", "\n".join(AMINO))
    write(tmp_path, "config.json", {"model_type": "esm"})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "EsmTokenizer", **settings})
    roles = {"cls_token": "<cls>", "eos_token": "<eos>", "mask_token": "<mask>", "pad_token": "<pad>"}
    write(tmp_path, "special_tokens_map.json", {**roles, "unk_token": "<unk>"})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(ours) == len(theirs) == 33
    for text in PROTEINS:
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, True) == theirs.decode(ids, skip_special_tokens=True)
    assert ours("MK", "TV")["input_ids"] == theirs("MK", "TV")["input_ids"]
    assert ours("MKTV", return_offsets_mapping=True)["offset_mapping"][1:3] == [(0, 1), (1, 2)]
    ours.save_pretrained(tmp_path / "to")
    assert AutoTokenizer.from_pretrained(tmp_path / "to")(PROTEINS)["input_ids"] == ours(PROTEINS)["input_ids"]


def test_funnel_gives_its_first_token_a_type_of_its_own(tmp_path):
    lines(tmp_path, FUNNEL)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "FunnelTokenizer"})
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert ours("the fox", "a dog", return_token_type_ids=True)["token_type_ids"][0] == 2


JAPANESE = [
    "今日は良い天気です。",
    "Ｈｅｌｌｏ　世界 Hello",
    "東京都に 行く[MASK]。",
    "",
    " ",
    "ﾊﾝｶｸ１２３",
    "改行\nです",
]
MECAB = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab",
         "mecab_kwargs": {"mecab_dic": "ipadic"}}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {**MECAB, "do_lower_case": False, "subword_tokenizer_type": "wordpiece"},
        {**MECAB, "do_lower_case": True, "subword_tokenizer_type": "wordpiece"},
        {**MECAB, "do_lower_case": False, "subword_tokenizer_type": "character"},
        {**MECAB, "mecab_kwargs": {"mecab_dic": "ipadic", "normalize_text": False}},
        {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"},
    ],
    ids=["words", "lower", "characters", "as-written", "basic"],
)
def test_japanese_words_are_those_of_mecab(tmp_path, settings):
    pytest.importorskip("fugashi")
    pytest.importorskip("ipadic")
    known = "今日 は 今 日 良い ##日 天気 です 良 い 天 気 で す 。 東京 ##都 都 に 行く Hello hello 世界 ﾊ 123"
    write(tmp_path, "vocab.txt", "\n".join([*BERT, *known.split(), *"ハンカク123改行キロ"]))
    write(tmp_path, "config.json", {"model_type": "bert"})
    write(tmp_path, "tokenizer_config.json", settings)
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in JAPANESE:
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids, True) == theirs.decode(ids, skip_special_tokens=True)
    pair = ours("今日は", "天気です")
    assert pair["input_ids"] == theirs("今日は", "天気です")["input_ids"]
    assert set(pair["token_type_ids"]) == {0, 1}
    ours.add_tokens(["新語"])
    ours.save_pretrained(tmp_path / "to")
    texts = [*JAPANESE, "新語です"]
    ids = ours(texts)["input_ids"]
    assert pickle.loads(pickle.dumps(ours))(texts)["input_ids"] == ids
    again = AutoTokenizer.from_pretrained(tmp_path / "to")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert again(texts)["input_ids"] == theirs(texts)["input_ids"] == ids


def test_japanese_offsets_are_places_in_the_text(tmp_path):
    pytest.importorskip("fugashi")
    pytest.importorskip("ipadic")
    write(tmp_path, "vocab.txt", "\n".join([*BERT, *"今日 は 良い 天気 です".split()]))
    write(tmp_path, "tokenizer_config.json", MECAB)
    text = "今日は　良い 天気です"
    where = AutoTokenizer.from_pretrained(tmp_path)(text, return_offsets_mapping=True)["offset_mapping"][1:-1]
    assert [text[begin:end] for begin, end in where] == ["今日", "は", "良い", "天気", "です"]


@pytest.mark.parametrize(
    "settings",
    [
        {"word_tokenizer_type": "sudachi"},
        {"word_tokenizer_type": "mecab", "subword_tokenizer_type": "sentencepiece"},
        {"word_tokenizer_type": "mecab", "mecab_kwargs": {"mecab_dic": "neologd"}},
        {"word_tokenizer_type": "mecab", "mecab_kwargs": {"words": 1}},
    ],
    ids=str,
)
def test_other_ways_to_japanese_words_are_refused(tmp_path, settings):
    pytest.importorskip("fugashi")
    write(tmp_path, "vocab.txt", "\n".join(BERT))
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer", **settings})
    with pytest.raises(UnsupportedTokenizer):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("option", ["-o {}/written", "-r {}/rc", "-d {}", "-Owakati", ["-o", "{}/written"]])
def test_a_command_line_for_mecab_in_a_file_is_refused(tmp_path, option):
    write(tmp_path, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    filled = [part.format(tmp_path) for part in option] if isinstance(option, list) else option.format(tmp_path)
    write(tmp_path, "tokenizer_config.json", MECAB | {"mecab_kwargs": {"mecab_dic": "ipadic", "mecab_option": filled}})
    with pytest.raises(UnsafeFile, match="mecab_option"):
        AutoTokenizer.from_pretrained(tmp_path)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(("module", "extra"), [("fugashi", "japanese"), ("ipadic", "japanese"), ("rjieba", "chinese")])
def test_what_is_not_installed_is_named_with_how_to_install_it(tmp_path, monkeypatch, module, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    write(tmp_path, "vocab.txt", "\n".join(BERT))
    write(tmp_path, "tokenizer_config.json", MECAB if extra == "japanese" else {"tokenizer_class": "RoFormerTokenizer"})
    with pytest.raises(UnsupportedTokenizer, match=rf"multihead\[{extra}\]"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("saved", [False, True])
def test_roformers_words_are_those_of_jieba(tmp_path, saved):
    """A tokenizer.json cannot say that jieba cuts the words, and has BERT's rules in its place."""
    pytest.importorskip("rjieba")
    known = "今天 天气 天 气 非常 好 hello ##s 北京 大学 。".split()
    write(tmp_path, "vocab.txt", "\n".join([*BERT, *known]))
    write(tmp_path, "config.json", {"model_type": "roformer"})
    ours = AutoTokenizer.from_pretrained(tmp_path)
    if saved:
        ours.save_pretrained(tmp_path)
        (tmp_path / "vocab.txt").unlink()
        ours = AutoTokenizer.from_pretrained(tmp_path)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        for text in ("今天天气非常好。", "今天非常好", "Hellos 北京大学", "天下", ""):
            assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
    tokens = ours.convert_ids_to_tokens(ours("北京大学今天非常好。")["input_ids"])
    assert tokens == ["[CLS]", "[UNK]", "[UNK]", "[UNK]", "[UNK]", "今天", "非常", "好", "。", "[SEP]"]
    assert ours("今天", "非常")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert pickle.loads(pickle.dumps(ours))("今天天气")["input_ids"] == ours("今天天气")["input_ids"]


def test_cpmants_pieces_are_those_of_jiebas_words(tmp_path):
    pytest.importorskip("rjieba")
    words = "<pad> <unk> <s> </s> </_> </n> <d> </d> 今天 天气 天 气 非常 好 hello he llo 北京 大学 。 a , 1 12".split()
    write(tmp_path, "vocab.txt", "\n".join([*words, ""]))
    write(tmp_path, "config.json", {"model_type": "cpmant"})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.CpmAntTokenizer(tmp_path / "vocab.txt")
    texts = ["今天天气非常好。", "今天 天气\n好  x\r\n", "hello 北京大学12,1 3", "<d>今天</d>a <pad> 好", ""]
    for text in (*texts, "天下héllo 𝒳", "</_>好</n>今天天", "x" * 250 + "好"):
        ids = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == ids, text
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True), text
    pair = ["好", "今天 好"]
    assert dict(ours(pair, padding=True)) == dict(theirs(pair, padding=True))  # at the left
    assert ours(*pair)["input_ids"] == theirs(*pair)["input_ids"]
    ours.save_pretrained(tmp_path / "saved")
    for again in (AutoTokenizer.from_pretrained(tmp_path / "saved"), pickle.loads(pickle.dumps(ours)),
                  transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")):  # fmt: skip
        assert again("今天 好")["input_ids"] == ours("今天 好")["input_ids"]
    write(tmp_path, "vocab.txt", "\n".join(words[1:]))
    with pytest.raises(UnsupportedTokenizer, match="no line '<pad>'"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("files", "config", "settings"),
    [
        ("vocab.txt", {"model_type": "roberta"}, {"tokenizer_class": "BertweetTokenizer"}),
        ("vocab.txt", {"model_type": "roberta"}, {}),
        ("vocab.txt", {"model_type": "magic"}, {}),
        ("vocab.txt", {}, {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ("vocab.txt", {"model_type": "xlm-prophetnet"}, {"tokenizer_class": "XLMProphetNetTokenizer"}),
        ("vocab.json", {"model_type": "phobert"}, {"tokenizer_class": "PhobertTokenizer"}),
        ("vocab.json", {"model_type": "llama"}, {"tokenizer_class": "LlamaTokenizer"}),
        ("vocab.json", {"model_type": "bigbird_pegasus"}, {}),
        ("vocab.json", {}, {}),
    ],
    ids=str,
)
def test_files_without_a_recipe_for_their_class_are_refused(tmp_path, files, config, settings):
    write(tmp_path, files, '{"a": 0}' if files == "vocab.json" else "a\nb\n")
    write(tmp_path, "merges.txt", "#version: 0.2\n")
    write(tmp_path, "config.json", config)
    write(tmp_path, "tokenizer_config.json", settings)
    with pytest.raises(UnsupportedTokenizer, match=r"tokenizer_class=|is not built from"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_a_call_says_the_class_that_no_file_says(tmp_path):
    lines(tmp_path, BERT)
    ours = AutoTokenizer.from_pretrained(tmp_path, tokenizer_class="BertTokenizer")
    assert ours("the fox")["input_ids"][0] == ours.cls_token_id


def test_a_plain_class_leaves_the_choice_to_the_model(tmp_path):
    lines(tmp_path, MPNET)
    write(tmp_path, "config.json", {"model_type": "mpnet"})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    assert AutoTokenizer.from_pretrained(tmp_path).cls_token == "<s>"
    assert class_stem(tmp_path, {}) == "MPNet"


def test_the_map_of_special_tokens_describes_them_unless_the_settings_list_added_tokens(tmp_path):
    pairs(tmp_path, ROBERTA)
    write(tmp_path, "config.json", {"model_type": "roberta"})
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "mask_token": "<mask>"})
    write(tmp_path, "special_tokens_map.json", {"mask_token": mask})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "the <mask> fox"
    expected = ours.convert_tokens_to_ids(["<s>", "the", "<mask>", "Ġfox", "</s>"])
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert [n for n in ours(text)["input_ids"] if n == 4] == [n for n in expected if n == 4]
    listed = {"4": {**mask, "special": True}}
    write(tmp_path, "special_tokens_map.json", {"mask_token": "<mask>"})
    settings = {"tokenizer_class": "RobertaTokenizer", "mask_token": "<mask>", "added_tokens_decoder": listed}
    write(tmp_path, "tokenizer_config.json", settings)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == ours(text)["input_ids"]


def test_added_tokens_have_their_own_ids_whatever_the_order_of_roles(tmp_path):
    lines(tmp_path, ["[UNK]", "[UNK]", "[CLS]", "[SEP]"])
    write(tmp_path, "config.json", {"model_type": "bert"})
    size = len((tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines())
    write(tmp_path, "added_tokens.json", {"[MASK]": size, "<new>": size + 1, "[PAD]": size + 2})
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert [ours.mask_token_id, ours.pad_token_id] == [size, size + 2]
    assert ours.convert_ids_to_tokens(ours("the <new>[MASK]")["input_ids"])[-3:] == ["<new>", "[MASK]", "[SEP]"]
    assert ours.decode([size, size + 1, size + 2], True) == "<new>"


@pytest.mark.parametrize("listed", [False, True])
def test_byt5_reads_bytes(tmp_path, listed):
    settings: dict[str, Any] = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0 if listed else 125}
    settings |= {"additional_special_tokens": [f"<extra_id_{n}>" for n in range(125)]} if listed else {}
    write(tmp_path, "tokenizer_config.json", settings)
    write(tmp_path, "config.json", {"model_type": "t5"})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(ours) == 384
    for text in [*TEXTS, "a<extra_id_0> b <extra_id_124>"]:
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids, True) == theirs.decode(ids, skip_special_tokens=True)
    assert ours("a", "b")["input_ids"] == theirs("a", "b")["input_ids"]
    ours.save_pretrained(tmp_path / "to")
    assert AutoTokenizer.from_pretrained(tmp_path / "to")(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]


def test_qwen3_5_is_read_by_its_rules_where_the_reference_reads_no_vocabulary(tmp_path):
    """The reference's class finds no vocab.json in a folder; given its numbers, it cuts the same pieces."""
    pairs(tmp_path, END)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "Qwen3_5Tokenizer"})
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    merges = [tuple(line.split(" ")) for line in (tmp_path / "merges.txt").read_text().splitlines()[1:]]
    theirs = transformers.Qwen3_5Tokenizer(vocab=vocab, merges=merges)
    ours = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "नमस्ते दुनिया", "ก็ dé 123"]:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
