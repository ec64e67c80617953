"""FSMT's pair of vocabularies over Moses' words."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

from multihead import AutoTokenizer
from multihead.errors import UnsupportedOption, UnsupportedTokenizer

from .folders import TEXTS, write
from .test_older import moses

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
MORE = [
    'Mr. Smith\'s "quoted" e-mail costs $3.50 & is <b>bold</b>; see [1] | 50 % off...',
    "Машинное обучение — это здорово, не так ли? Да, т.е. 5 км.",
    "Herr Müller sagt: „Das kostet 1 000 Euro“ z. B. am 3. Mai.",
    "全角（かっこ）！０１２３、そして。 次",
    "it's the fox's dog , isn't it ?</s> And <pad> <unk> more",
    "dash-split--here - and -- there…",
]


def fsmt(folder: Path, langs: tuple[str, str] = ("en", "ru"), **settings: Any) -> Path:
    """vocab-src.json, vocab-tgt.json and merges.txt; the target has other ids."""
    folder.mkdir(exist_ok=True)
    moses(folder, SPECIAL)
    words = list(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    (folder / "vocab.json").unlink()
    turned = [*SPECIAL, *reversed(words[len(SPECIAL) :])]
    for side, listed in (("src", words), ("tgt", turned)):
        write(folder, f"vocab-{side}.json", {word: number for number, word in enumerate(listed)})
    write(folder, "config.json", {"model_type": "fsmt"})
    write(folder, "tokenizer_config.json", {"langs": list(langs), "model_max_length": 1024, **settings})
    return folder


@pytest.mark.parametrize(("langs", "lower"), [(("en", "ru"), False), (("de", "en"), True), (("ru", "de"), False)])
def test_ids_and_texts_are_the_references(tmp_path, langs, lower):
    folder = fsmt(tmp_path, langs, do_lower_case=lower)
    ours, theirs = (kind.from_pretrained(folder) for kind in (AutoTokenizer, transformers.AutoTokenizer))
    for role in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token"):
        assert getattr(ours, role) == getattr(theirs, role), role
    for text in [*TEXTS, *MORE]:
        expected = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == expected, text
        for skip in (False, True):
            assert ours.decode(expected, skip) == theirs.decode(expected, skip_special_tokens=skip), text
    assert ours(TEXTS[3], MORE[0])["input_ids"] == theirs(TEXTS[3], MORE[0])["input_ids"]
    assert list(ours("a")) == list(theirs("a")) == ["input_ids", "attention_mask"]


def test_targets_are_of_the_target_language_and_decode_to_themselves(tmp_path):
    ours = AutoTokenizer.from_pretrained(fsmt(tmp_path, ("ru", "en")))
    text = "the lazy dog jumps over people, and 3 mind."
    labels = ours(text, text_target=text)
    known = json.loads((tmp_path / "vocab-tgt.json").read_text(encoding="utf-8"))
    assert labels["labels"][-2:] == [known[".</w>"], known["</s>"]]
    assert labels["labels"] != labels["input_ids"]
    assert ours.decode(labels["labels"], skip_special_tokens=True) == text


def test_offsets_are_places_in_the_text(tmp_path):
    ours = AutoTokenizer.from_pretrained(fsmt(tmp_path))
    text = "The quick-brown fox & the dog."
    found = ours(text, return_offsets_mapping=True, add_special_tokens=False)
    spans = [text[begin:end] for begin, end in found["offset_mapping"]]
    said = "".join(span for number, span in enumerate(spans) if span not in "&-" or span != spans[number - 1])
    assert said == "Thequick-brownfox&thedog."


def test_what_is_saved_copied_and_pickled_reads_alike(tmp_path):
    ours = AutoTokenizer.from_pretrained(fsmt(tmp_path / "a"))
    ids = ours(MORE)["input_ids"]
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other(MORE)["input_ids"] == ids
        assert other.batch_decode(ids) == ours.batch_decode(ids)
    ours.save_pretrained(tmp_path / "b")
    for kind in (AutoTokenizer, transformers.AutoTokenizer):
        again = kind.from_pretrained(tmp_path / "b")
        assert [again(text)["input_ids"] for text in MORE] == ids
        assert again.batch_decode(ids) == ours.batch_decode(ids)
    ours.add_tokens(["newword"])
    with pytest.raises(UnsupportedOption, match="two ids"):
        ours.save_pretrained(tmp_path / "c")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(UnsupportedTokenizer, match="langs"):
        AutoTokenizer.from_pretrained(fsmt(tmp_path), langs=None)
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UnsupportedTokenizer, match=r"multihead\[moses\]"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_biogpt_gives_the_references_ids_and_texts(tmp_path):
    moses(tmp_path, SPECIAL)
    write(tmp_path, "config.json", {"model_type": "biogpt"})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "BioGptTokenizer"})
    ours, theirs = (kind.from_pretrained(tmp_path) for kind in (AutoTokenizer, transformers.AutoTokenizer))
    assert ours.special == theirs.special_tokens_map
    for text in [*TEXTS, *MORE]:
        expected = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == expected, text
        for skip in (False, True):
            assert ours.decode(expected, skip) == theirs.decode(expected, skip_special_tokens=skip), text
    assert ours(TEXTS[3], MORE[0])["input_ids"] == theirs(TEXTS[3], MORE[0])["input_ids"]
