"""Folders as they lie on the hub: what each file says counts as it does in the reference."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import transformers

from multihead import AutoTokenizer
from multihead.errors import InvalidInput, MultiheadError, UnsupportedOption
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from .folders import CORPUS, TEXTS, write

END = "<|endoftext|>"


def bytes_bpe(*special: str) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[END, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def llama(normalized: bool = False, special: bool = True) -> Tokenizer:
    """As Llama 2's tokenizer.json: a rule that puts a mark before every stretch of text."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "h": 4, "e": 5, "l": 6, "o": 7, "▁h": 8, "▁he": 9, "ll": 10}
    vocab |= {"llo": 11, "▁hello": 12}
    merges = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("ll", "o"), ("▁he", "llo")]
    backend = Tokenizer(models.BPE(vocab, merges, fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
    ])  # fmt: skip
    backend.add_tokens([AddedToken(t, normalized=normalized, special=special) for t in ("<unk>", "<s>", "</s>")])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    data = json.loads(backend.to_str())
    for token in data["added_tokens"]:
        token |= {"special": special, "normalized": normalized}
    return Tokenizer.from_str(json.dumps(data))


def embedder() -> Tokenizer:
    """As Qwen3-Embedding's: an end token that is not `eos_token`, after a step for offsets."""
    backend = bytes_bpe("<|im_end|>")
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, backend.token_to_id(END))]
            ),
        ]
    )
    return backend


def trimmed() -> Tokenizer:
    backend = bytes_bpe()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return backend


def roberta() -> Tokenizer:
    backend = bytes_bpe("<s>", "</s>")
    ends = [(token, backend.token_to_id(token)) for token in ("</s>", "<s>")]
    backend.post_processor = processors.RobertaProcessing(ends[0], ends[1])
    return backend


LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": END}
FRAMED = {
    "qwen3-embedding": (embedder, {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": END}),
    "fast": (embedder, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}),
    "llama": (llama, LLAMA),
    "llama-fast": (llama, LLAMA | {"tokenizer_class": "LlamaTokenizerFast"}),
    "gpt2": (trimmed, {"tokenizer_class": "GPT2Tokenizer", "bos_token": END, "eos_token": END, "unk_token": END}),
    "roberta": (roberta, {"tokenizer_class": "RobertaTokenizer", **ROBERTA}),
}
ASKED = ({}, {"add_bos_token": False}, {"add_eos_token": False}, {"add_eos_token": True},
         {"add_bos_token": True, "add_eos_token": True}, {"add_bos_token": False, "add_eos_token": False})  # fmt: skip


def folder(path: Path, backend: Tokenizer, **settings: Any) -> Path:
    path.mkdir(exist_ok=True)
    backend.save(str(path / "tokenizer.json"))
    write(path, "tokenizer_config.json", settings)
    return path


def loaded(path: Path, **changes: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoTokenizer.from_pretrained(path, **changes)


@pytest.mark.parametrize("kind", FRAMED)
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_tokenizer_json_frames_texts_whatever_the_settings_say(tmp_path, kind, asked):
    backend, settings = FRAMED[kind]
    path = folder(tmp_path, backend(), **settings, **asked)
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    for given in (("hello",), ("hello", "hello hello"), ("",)):
        got, expected = (t(*given, return_offsets_mapping=True) for t in (ours, theirs))
        assert got["input_ids"] == expected["input_ids"], given
        assert list(got["offset_mapping"]) == list(expected["offset_mapping"]), given


def test_settings_that_ask_for_a_token_which_the_frame_lacks_are_named(tmp_path):
    path = folder(tmp_path, llama(), **LLAMA, add_bos_token=True, add_eos_token=True)
    with pytest.warns(UserWarning, match=r"add_eos_token: true.*tokenizer\.add_eos_token = True") as told:
        AutoTokenizer.from_pretrained(path)
    assert len(told) == 1
    path = folder(tmp_path, llama(), **LLAMA, add_bos_token=True, add_eos_token=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(
    ("kind", "bos", "eos"),
    [("qwen3-embedding", False, False), ("llama", True, False), ("gpt2", False, False), ("roberta", True, True)],
)
def test_the_properties_say_what_stands_around_texts(tmp_path, kind, bos, eos):
    backend, settings = FRAMED[kind]
    tokenizer = loaded(folder(tmp_path, backend(), **settings))
    assert (tokenizer.add_bos_token, tokenizer.add_eos_token) == (bos, eos)


@pytest.mark.parametrize("how", ["set", "asked"])
def test_an_end_token_that_is_asked_for_is_there_and_saved(tmp_path, how):
    path = folder(tmp_path / "from", llama(), **LLAMA)
    tokenizer = loaded(path) if how == "set" else loaded(path, add_eos_token=True)
    if how == "set":
        tokenizer.add_eos_token = True
    assert tokenizer("hello")["input_ids"] == [1, 12, 2]
    assert tokenizer("hello", "hello")["input_ids"] == [1, 12, 2, 1, 12, 2]
    assert tokenizer("hello", "hello", return_token_type_ids=True)["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    tokenizer.save_pretrained(tmp_path / "to")
    again, theirs = loaded(tmp_path / "to"), transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert again("hello")["input_ids"] == theirs("hello")["input_ids"] == [1, 12, 2]
    assert again.add_eos_token is True
    again.add_eos_token = again.add_bos_token = False
    assert again("hello")["input_ids"] == [12]


def test_what_stays_of_a_frame_when_one_token_changes(tmp_path):
    backend, settings = FRAMED["gpt2"]
    tokenizer = loaded(folder(tmp_path, backend(), **settings))
    tokenizer.add_bos_token = True
    found = tokenizer("hello world", return_offsets_mapping=True)
    assert found["input_ids"][0] == tokenizer.bos_token_id
    assert 5 not in [begin for begin, _ in found["offset_mapping"]]  # no token begins with the space, as before
    tokenizer = loaded(folder(tmp_path, roberta(), **FRAMED["roberta"][1]))
    before = tokenizer("hello", "world")["input_ids"]
    tokenizer.add_bos_token = tokenizer.add_eos_token = True  # both are there: nothing changes
    assert tokenizer("hello", "world")["input_ids"] == before


def test_a_frame_of_a_token_that_is_not_there_is_refused(tmp_path):
    backend, settings = FRAMED["fast"]
    tokenizer = loaded(folder(tmp_path, backend(), **settings))
    with pytest.raises(InvalidInput, match=r"add_bos_token = True needs the token: set tokenizer\.bos_token"):
        tokenizer.add_bos_token = True
    with pytest.raises(InvalidInput, match="True or False"):
        tokenizer.add_eos_token = "yes"


@pytest.mark.parametrize("name", ["add_bos", "padding_sde", "verbose", "vocab_size", "all_special_ids", "is_fst"])
def test_setting_what_changes_nothing_is_refused_by_name(tmp_path, name):
    tokenizer = loaded(folder(tmp_path, llama(), **LLAMA))
    with pytest.raises(AttributeError, match=name) as told:
        setattr(tokenizer, name, 1)
    assert isinstance(told.value, MultiheadError)


def test_what_may_be_set_is_set(tmp_path):
    tokenizer = loaded(folder(tmp_path, llama(), **LLAMA))
    for name, value in {
        "padding_side": "right", "truncation_side": "left", "model_max_length": 3, "chat_template": "{{ 1 }}",
        "pad_token": "</s>", "model_input_names": ["input_ids"], "clean_up_tokenization_spaces": True,
        "split_special_tokens": True, "pad_token_type_id": 3, "name_or_path": "x", "add_eos_token": True,
    }.items():  # fmt: skip
        setattr(tokenizer, name, value)
        assert getattr(tokenizer, name) == value
    assert tokenizer.pad_token_id == 2


@pytest.mark.parametrize("flags", [(True, True), (True, False), (False, False)], ids=str)
@pytest.mark.parametrize("told", ["settings", "map", "added"])
def test_special_tokens_are_skipped_and_matched_whatever_their_flags(tmp_path, flags, told):
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    flag = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True}
    settings: dict[str, Any] = {"tokenizer_class": "LlamaTokenizer"}
    if told == "settings":
        settings |= roles
    elif told == "map":
        write(tmp_path, "special_tokens_map.json", {k: {"content": v, **flag} for k, v in roles.items()})
    else:
        listed = {str(n): {"content": t, "special": True, **flag} for n, t in enumerate(("<unk>", "<s>", "</s>"))}
        settings |= {"added_tokens_decoder": listed, **{k: {"content": v, **flag} for k, v in roles.items()}}
    path = folder(tmp_path, llama(*flags), **settings)
    ours = loaded(path)
    assert ours.decode([1, 12, 2, 12], skip_special_tokens=True) == "hello hello"
    assert ours.decode([1, 12, 2, 12]) == "<s> hello</s> hello"
    assert ours("hello<s> hello</s>")["input_ids"][2] == 1
    if flags[0] and told == "settings":
        theirs = transformers.AutoTokenizer.from_pretrained(path)
        assert theirs.decode([1, 12, 2, 12], skip_special_tokens=True) == "hello hello"


def test_spaces_before_punctuation_are_the_texts_own_in_byte_pairs(tmp_path):
    text = "if x != y , z . it 's a 'word' !"
    settings = {"eos_token": END, "clean_up_tokenization_spaces": True}
    path = folder(tmp_path, bytes_bpe(), tokenizer_class="PreTrainedTokenizerFast", **settings)
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    ids = ours(text)["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids) == text
    assert ours.decode(ids, clean_up_tokenization_spaces=True) == text
    assert ours.clean_up_tokenization_spaces is True


def test_a_stream_of_word_pieces_loses_no_letter(tmp_path):
    from multihead.generation.streaming import Detokenizer

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] do n ##' ##t it ' s x . , !".split()
    backend = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True}
    tokenizer = loaded(folder(tmp_path, backend, **settings))
    ids = tokenizer.convert_tokens_to_ids(["do", "n", "##'", "##t", "it", "'", "s", "x", ".", ",", "!"])
    stream = Detokenizer(tokenizer)
    said = "".join([stream.add(number) for number in ids] + [stream.finish()])
    assert said == tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "do n't it ' s x . , !"
    assert tokenizer.decode(ids) == "don't it's x.,!"


def test_padding_and_truncation_of_tokenizer_json_count(tmp_path):
    backend = bytes_bpe("<pad>")
    backend.enable_padding(direction="left", pad_id=1, pad_type_id=2, pad_token="<pad>", length=30)
    backend.enable_truncation(7, direction="left")
    path = folder(tmp_path, backend, tokenizer_class="PreTrainedTokenizerFast")
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    for name in ("pad_token", "pad_token_id", "padding_side", "truncation_side"):
        assert getattr(ours, name) == getattr(theirs, name), name
    texts = ["hello", "the quick brown fox jumps over it"]
    for options in ({"padding": True}, {"truncation": True, "max_length": 5}, {}):
        assert ours(texts, **options)["input_ids"] == theirs(texts, **options)["input_ids"], options
    path = folder(tmp_path, backend, tokenizer_class="PreTrainedTokenizerFast", pad_token=END, padding_side="right")
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    assert (ours.pad_token, ours.padding_side) == (theirs.pad_token, theirs.padding_side) == (END, "right")


@pytest.mark.parametrize("listed", [False, True])
def test_special_tokens_with_names_of_their_own(tmp_path, listed):
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    settings |= {"extra_special_tokens": {"image_token": "<image>", "boi_token": "<boi>"}}
    if listed:
        settings |= {"additional_special_tokens": ["<more>"]}
    path = folder(tmp_path / "from", bytes_bpe("<image>"), **settings)
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    text = "a <image> b<boi>" + ("<more>" if listed else "")
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert (ours.image_token, ours.image_token_id) == (theirs.image_token, theirs.image_token_id) == ("<image>", 1)
    assert ours.boi_token_id == theirs.boi_token_id
    assert set(ours.all_special_tokens) == set(theirs.all_special_tokens)
    assert ours.decode(ours(text)["input_ids"], skip_special_tokens=True) == "a  b"
    ours.save_pretrained(tmp_path / "to")
    again, theirs = loaded(tmp_path / "to"), transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert again.image_token == theirs.image_token == "<image>"
    assert again(text)["input_ids"] == theirs(text)["input_ids"] == ours(text)["input_ids"]
    assert again.all_special_tokens == ours.all_special_tokens


def test_special_tokens_are_given_names_by_a_call(tmp_path):
    tokenizer = loaded(folder(tmp_path, bytes_bpe(), eos_token=END))
    assert tokenizer.add_special_tokens({"extra_special_tokens": {"image_token": "<image>"}}) == 1
    assert tokenizer.image_token_id == len(tokenizer) - 1
    assert "<image>" in tokenizer.additional_special_tokens


@pytest.mark.parametrize("kind", ["llama", "roberta"])
def test_special_tokens_in_texts_are_split_where_asked(tmp_path, kind):
    backend, settings = FRAMED[kind]
    path = folder(tmp_path / "from", backend(), **settings)
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    texts = ["hello </s>", "a<s>b"]
    whole = ours(texts)["input_ids"]
    split = ours(texts, split_special_tokens=True)["input_ids"]
    assert split != whole
    assert ours(texts)["input_ids"] == whole
    if kind == "roberta":  # the reference builds Llama's anew
        assert split == theirs(texts, split_special_tokens=True)["input_ids"]
    path = folder(tmp_path / "from", backend(), **settings, split_special_tokens=True)
    ours = loaded(path)
    assert ours(texts)["input_ids"] == split == ours.encode_ids(texts)
    assert ours(texts, split_special_tokens=False)["input_ids"] == whole
    ours.save_pretrained(tmp_path / "to")
    assert loaded(tmp_path / "to")(texts)["input_ids"] == split
    assert ours(TEXTS)["input_ids"]


def pieced(*special: str) -> Tokenizer:
    vocab = [*((token, 0.0) for token in special), ("▁the", -1.0), ("▁", -2.0), ("fox", -2.5), ("▁dog", -3.0)]
    backend = Tokenizer(models.Unigram(vocab, unk_id=special.index("<unk>")))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


SENTINELS = [f"<extra_id_{number}>" for number in range(99, -1, -1)]
SILENT = {  # model type -> a backend whose folder names no special token
    "bert": lambda: pairs_of_words("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "distilbert": lambda: pairs_of_words("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "roberta": lambda: bytes_bpe("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "longformer": lambda: bytes_bpe("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "gpt2": bytes_bpe,
    "gpt_neox": lambda: bytes_bpe("<|padding|>"),
    "xlm-roberta": lambda: pieced("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "t5": lambda: pieced("<pad>", "</s>", "<unk>", *SENTINELS),
    "albert": lambda: pieced("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    "cohere": lambda: bytes_bpe("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>",
                                "<|END_OF_TURN_TOKEN|>"),
}  # fmt: skip


def pairs_of_words(*special: str) -> Tokenizer:
    backend = Tokenizer(
        models.WordPiece({word: n for n, word in enumerate([*special, "the", "fox"])}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("settings", [None, {"model_max_length": 512}], ids=["none", "length"])
def test_roles_that_no_file_names_are_the_classes_own(tmp_path, kind, settings):
    """As bert-base-uncased and gpt2 lie on the hub: tokenizer.json, and a limit at most."""
    SILENT[kind]().save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "config.json", {"model_type": kind})
    if settings is not None:
        write(tmp_path, "tokenizer_config.json", settings)
    ours, theirs = loaded(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for role in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        assert getattr(ours, role) == getattr(theirs, role), role
        assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_id"), role
    assert set(ours.all_special_ids) == set(theirs.all_special_ids)
    assert len(ours) == len(theirs)
    if theirs.pad_token is not None:
        texts, options = ["the fox", "the fox the fox"], {"padding": True, "add_special_tokens": False}
        assert ours(texts, **options)["input_ids"] == theirs(texts, **options)["input_ids"]


def test_a_role_of_a_class_whose_token_is_not_there_adds_none(tmp_path):
    backend = bytes_bpe()
    backend.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "config.json", {"model_type": "roberta"})
    tokenizer = loaded(tmp_path)
    assert (tokenizer.mask_token, len(tokenizer)) == (None, backend.get_vocab_size())
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "unk_token": None})
    tokenizer = loaded(tmp_path)
    assert (tokenizer.unk_token, tokenizer.eos_token) == (None, END)


FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}


@pytest.mark.parametrize(
    "told", [{"rstrip": True}, {"lstrip": True}, {"special": True}, {"single_word": True}], ids=str
)
def test_what_the_settings_say_of_added_tokens_counts(tmp_path, told):
    """Phi-3's folder: tokenizer_config.json describes tokens in another way than tokenizer.json."""
    backend = bytes_bpe()
    backend.add_tokens([AddedToken("<|end|>", normalized=False), AddedToken("<tool>", normalized=False)])
    number = backend.token_to_id("<|end|>")
    listed = {str(number): {"content": "<|end|>", "special": False, **FLAGS, **told}}
    path = folder(
        tmp_path, backend, eos_token=END, tokenizer_class="PreTrainedTokenizerFast", added_tokens_decoder=listed
    )
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    for text in ("a <|end|> b", "a<|end|>b <tool> c", "<|end|>\n the"):
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids, True) == theirs.decode(ids, skip_special_tokens=True)
    assert len(ours) == len(theirs)


def test_objects_of_special_tokens_that_tokenizer_json_lacks_keep_their_flags(tmp_path):
    mask = {"content": "<mask>", **FLAGS, "lstrip": True}
    more = {"content": "<sep>", **FLAGS, "rstrip": True}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": {"__type": "AddedToken", **mask}}
    path = folder(tmp_path, bytes_bpe(), **settings, additional_special_tokens=[{"__type": "AddedToken", **more}])
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    for text in ("a <mask> b", "a <sep> b"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
    assert ours.all_special_tokens == theirs.all_special_tokens


@pytest.mark.parametrize("how", ["asked", "settings"])
@pytest.mark.parametrize("space", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "roberta", "qwen3-embedding"])
def test_a_space_before_texts_is_put_there_or_left_out(tmp_path, kind, space, how):
    """Token classifiers ask RoBERTa's tokenizer for it, whose file says otherwise."""
    backend, settings = FRAMED[kind]
    made = backend()
    if not space:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    said, asked = ({}, {"add_prefix_space": space})[:: 1 if how == "asked" else -1]
    path = folder(tmp_path / "from", made, **settings, **said)
    ours, theirs = loaded(path, **asked), transformers.AutoTokenizer.from_pretrained(path, **asked)
    for text in ("the fox", " the fox", "thé"):
        got, expected = (t(text, return_offsets_mapping=True) for t in (ours, theirs))
        if kind != "qwen3-embedding":  # whose rules for words the reference builds anew
            assert got["input_ids"] == expected["input_ids"], text
            assert list(got["offset_mapping"]) == list(expected["offset_mapping"]), text
    assert (ours("the")["input_ids"] == ours(" the")["input_ids"]) is space
    ours.save_pretrained(tmp_path / "to")
    assert loaded(tmp_path / "to")("the fox")["input_ids"] == ours("the fox")["input_ids"]


def test_a_space_before_llamas_texts_is_left_out_where_asked(tmp_path):
    path = folder(tmp_path, llama(), **LLAMA)
    ours, theirs = (lib(path, add_prefix_space=False) for lib in (loaded, transformers.AutoTokenizer.from_pretrained))
    assert ours("hello")["input_ids"] == theirs("hello")["input_ids"] != loaded(path)("hello")["input_ids"]
    assert ours.decode(ours("hello hello")["input_ids"], True) == "hello hello"
    assert loaded(path, add_prefix_space=True)("hello")["input_ids"] == loaded(path)("hello")["input_ids"]


def test_a_space_that_no_step_puts_there_is_refused(tmp_path):
    path = folder(tmp_path, pairs_of_words("[PAD]", "[UNK]"), tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(UnsupportedOption, match="add_prefix_space"):
        loaded(path, add_prefix_space=True)


def test_the_limit_counts_by_its_older_name(tmp_path):
    path = folder(tmp_path, bytes_bpe(), tokenizer_class="PreTrainedTokenizerFast", max_len=5)
    ours, theirs = loaded(path), transformers.AutoTokenizer.from_pretrained(path)
    assert ours.model_max_length == theirs.model_max_length == 5
    text = "the quick brown fox jumps"
    assert ours(text, truncation=True)["input_ids"] == theirs(text, truncation=True)["input_ids"]
    path = folder(tmp_path, bytes_bpe(), tokenizer_class="PreTrainedTokenizerFast", max_len=5, model_max_length=9)
    assert loaded(path).model_max_length == 9
