"""Translators: a language's tokens around texts, and files that both libraries read again alike."""

import pickle

import pytest
import transformers

from multihead import AutoTokenizer
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.tokenizers.languages import language_frame
from multihead.tokenizers.tokenizer import Tokenizer

from . import folders

KINDS = {"MBart": ("en_XX", "fr_XX"), "MBart50": ("en_XX", "fr_XX"), "Nllb": ("eng_Latn", "fra_Latn")}
ALL = pytest.mark.parametrize("kind", KINDS)
PAIRS = pytest.mark.parametrize("make", [folders.marian, folders.marian_apart])
TEXT = "hello the world"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """kind -> its folder, made once; its settings name no language."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = folders.translator(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return of


def loaded(folder, **options):
    return AutoTokenizer.from_pretrained(folder, **options), transformers.AutoTokenizer.from_pretrained(
        folder, **options
    )


@ALL
def test_the_source_language_frames_texts_and_pairs_as_the_reference_does(folder, kind):
    english, french = KINDS[kind]
    ours, theirs = loaded(folder(kind))
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]
    ours.src_lang = theirs.src_lang = french
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]
    assert ours(TEXT, "hello")["input_ids"] == theirs(TEXT, "hello")["input_ids"]
    said, expected = loaded(folder(kind), src_lang=french)
    assert said(TEXT)["input_ids"] == expected(TEXT)["input_ids"] == ours(TEXT)["input_ids"]
    assert (said.src_lang, said.tgt_lang) == (french, None)
    said.src_lang = "en"
    assert said.src_lang == english


@ALL
def test_the_target_language_frames_labels_alone(folder, kind):
    ours, theirs = loaded(folder(kind), src_lang=KINDS[kind][0], tgt_lang=KINDS[kind][1])
    for options in ({"text_target": TEXT}, {"text": TEXT, "text_target": [TEXT]}, {"text": TEXT, "text_target": TEXT}):
        got, expected = ours(**options), theirs(**options)
        assert {name: got[name] for name in expected} == dict(expected)
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]
    again = pickle.loads(pickle.dumps(ours))
    assert again(text_target=TEXT)["input_ids"] == ours(text_target=TEXT)["input_ids"]
    ours.tgt_lang = None
    assert ours(text_target=TEXT)["input_ids"] == ours(TEXT)["input_ids"]


def test_the_older_frame_of_nllb_has_the_language_last(folder):
    ours, theirs = loaded(folder("Nllb"), src_lang="fra_Latn", legacy_behaviour=True)
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]
    assert ours.convert_ids_to_tokens(ours(TEXT)["input_ids"])[-1] == "fra_Latn"


def test_a_language_that_a_tokenizer_does_not_know_is_an_error_with_the_nearest(folder, tmp_path):
    ours = AutoTokenizer.from_pretrained(folder("Nllb"))
    before = ours(TEXT)["input_ids"]
    with pytest.raises(InvalidInput, match=r"src_lang = 'fre_Latn'.*fra_Latn"):
        ours.src_lang = "fre_Latn"
    with pytest.raises(InvalidInput, match="src_lang = 'None'"):
        ours.src_lang = None
    assert ours(TEXT)["input_ids"] == before
    with pytest.raises(InvalidInput, match="tgt_lang = 'fre_Latn'"):
        AutoTokenizer.from_pretrained(folder("Nllb"), tgt_lang="fre_Latn")
    with pytest.raises(InvalidInput, match="knows no languages"):
        AutoTokenizer.from_pretrained(folders.wordpiece(tmp_path), src_lang="en")


def test_a_translator_that_is_told_in_the_text_says_so(tmp_path):
    with pytest.raises(InvalidInput, match=">>fr<< before the text"):
        AutoTokenizer.from_pretrained(folders.marian(tmp_path), tgt_lang="fr")


def test_codes_between_underscores_are_known_without_them(tmp_path):
    made = AutoTokenizer.from_pretrained(folders.pieces(tmp_path, "spiece.model", "T5"))
    made.add_special_tokens({"additional_special_tokens": ["__en__", "__fr__", "__java__"]})
    for language in ("fr", "java"):
        made.src_lang = language
        assert made.src_lang == language
        assert made.convert_ids_to_tokens(made("the fox")["input_ids"])[0] == f"__{language}__"


@ALL
def test_a_saved_translator_is_the_same_to_both_libraries(folder, kind, tmp_path):
    english, french = KINDS[kind]
    ours = AutoTokenizer.from_pretrained(folder(kind), src_lang=english, tgt_lang=french)
    ours.add_tokens(["newword"])
    text = f"{TEXT} newword <mask>"
    ours.save_pretrained(tmp_path)
    again, reference = loaded(tmp_path)
    assert language_frame(again, english, french) == language_frame(ours, english, french)
    for language in (english, french):
        ours.src_lang = again.src_lang = reference.src_lang = language
        assert again(text)["input_ids"] == reference(text)["input_ids"] == ours(text)["input_ids"]
    assert again(text_target=text)["input_ids"] == reference(text_target=text)["input_ids"]


def test_the_side_of_the_language_is_saved_where_the_reference_reads_no_such_file(folder, tmp_path):
    ours = AutoTokenizer.from_pretrained(folder("MBart"), tokenizer_class="PLBartTokenizer", src_lang="en_XX")
    ours.save_pretrained(tmp_path)
    again, reference = loaded(tmp_path)
    assert language_frame(again, "en", "fr") == language_frame(ours, "en", "fr")
    assert again(TEXT)["input_ids"] == reference(TEXT)["input_ids"] == ours(TEXT)["input_ids"]


@PAIRS
def test_a_saved_pair_keeps_both_sides_in_both_libraries(make, tmp_path):
    ours, theirs = loaded(make(tmp_path))
    saved = tmp_path / "saved"
    saved.mkdir()
    ours.backend.save(str(saved / "tokenizer.json"))  # of a save that knew one side alone
    ours.save_pretrained(saved)
    again, reference = loaded(saved)
    assert type(reference) is transformers.MarianTokenizer
    text = "The quick brown fox"
    ids = theirs(text_target=text)["input_ids"]
    for one in (ours, again, reference):
        assert list(one(text)["input_ids"]) == list(theirs(text)["input_ids"])
        assert list(one(text_target=text)["input_ids"]) == list(ids)
        assert one.decode(ids, skip_special_tokens=True) == text
    assert (again.pad_token_id, again.model_max_length) == (theirs.pad_token_id, 512)


def test_tokens_added_to_a_shared_vocabulary_are_saved_and_written(tmp_path):
    ours = AutoTokenizer.from_pretrained(folders.marian(tmp_path))
    assert ours.add_tokens(["newword"]) == 1
    ours.save_pretrained(tmp_path)
    again, reference = loaded(tmp_path)
    ids = ours("the newword")["input_ids"]
    assert list(reference("the newword")["input_ids"]) == again("the newword")["input_ids"] == ids
    assert "newword" in again.decode(ids)
    assert "newword" in ours.decode(ids)


def test_a_pair_that_no_files_hold_is_refused_before_anything_is_written(tmp_path):
    apart = AutoTokenizer.from_pretrained(folders.marian_apart(tmp_path))
    apart.add_tokens(["newword"])
    with pytest.raises(UnsupportedOption, match="newword"):
        apart.save_pretrained(tmp_path / "saved")
    made = Tokenizer(apart.backend, apart.special, apart.options, target=apart.target)
    with pytest.raises(UnsupportedOption, match=r"source\.spm"):
        made.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
