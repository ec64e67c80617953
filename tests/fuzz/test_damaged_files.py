"""Whatever is done to a file, reading it gives one clear error of this library, or numbers that the file says.

A few mutations of each format each time; `benchmarks/fuzz.py` tries many more, in processes of their own.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multihead import AutoTokenizer
from multihead.errors import InvalidInput, MultiheadError

from .formats import FORMATS, Format
from .trials import DIFFERENT, RAW, Good

NAMES = {form.name: form for form in FORMATS}
TRIALS = 15
DEEP = b"[" * 2000 + b"]" * 2000


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Good]:
    made: dict[str, Good] = {}

    def of(name: str) -> Good:
        if name not in made:
            made[name] = Good(NAMES[name], tmp_path_factory.mktemp("fuzz"))
        return made[name]

    return of


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_damaged_files_give_clear_errors_or_what_they_say(form: Format, good: Callable[[str], Good]) -> None:
    begin = zlib.crc32(form.name.encode())  # every format draws others
    outcomes = [(number, *good(form.name).trial(number)) for number in range(begin, begin + TRIALS)]
    wrong = [(number, outcome, told) for number, outcome, told in outcomes if outcome in (RAW, DIFFERENT)]
    assert not wrong


def entry(**changes: Any) -> Callable[[bytes], bytes]:
    """Other entries of a JSON object; names may be dotted."""

    def change(data: bytes) -> bytes:
        tree = json.loads(data)
        for name, value in changes.items():
            *path, last = name.split(".")
            owner = tree
            for part in path:
                owner = owner[part]
            owner[last] = value
        return json.dumps(tree).encode()

    return change


def bytes_of(value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: value


def deep(data: bytes) -> bytes:
    return data.replace(b"{", b'{"x": ' + DEEP + b", ", 1)


FOUND: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("classifier's config.json", "config.json", deep),
    ("classifier's config.json", "config.json", lambda data: data.replace(b"{", b'{"x": ' + b"9" * 5000 + b", ", 1)),
    ("classifier's config.json", "config.json", entry(layer_norm_eps={"__float__": "x"})),
    ("classifier's config.json", "config.json", entry(layer_norm_eps=float("nan"))),
    ("classifier's config.json", "config.json", entry(id2label=None, num_labels=2**31 - 1)),
    ("classifier's config.json", "config.json", entry(**{"id2label.0": [[]]})),
    ("classifier's config.json", "config.json", entry(pad_token_id=10**30)),
    ("classifier's config.json", "config.json", entry(hidden_size=0)),
    ("classifier's config.json", "config.json", entry(num_hidden_layers=10**9)),
    ("classifier's config.json", "config.json", entry(intermediate_size=2**31 - 1)),
    ("classifier's config.json", "config.json", bytes_of(b"[]")),
    ("classifier's config.json", "config.json", bytes_of(b"\xff\xfe")),
    ("config.json", "albert/config.json", entry(inner_group_num=65_536)),  # built modules for minutes
    ("config.json", "mixtral/config.json", entry(num_local_experts=2**31 - 1)),
    ("tokenizer_config.json", "tokenizer_config.json", entry(model_max_length="x")),
    ("tokenizer_config.json", "tokenizer_config.json", entry(model_max_length=float("nan"))),
    ("tokenizer_config.json", "tokenizer_config.json", entry(added_tokens_decoder=[1])),
    ("tokenizer_config.json", "tokenizer_config.json", entry(added_tokens_decoder={"x": "y"})),
    ("tokenizer_config.json", "tokenizer_config.json", entry(added_tokens_decoder={"1": None})),
    ("tokenizer_config.json", "tokenizer_config.json", entry(additional_special_tokens=5)),
    ("tokenizer_config.json", "tokenizer_config.json", entry(extra_special_tokens={"a": [1]})),
    ("tokenizer_config.json", "tokenizer_config.json", entry(chat_template=[1])),
    ("tokenizer_config.json", "tokenizer_config.json", entry(chat_template=[{"name": 1, "template": "x"}])),
    ("tokenizer_config.json", "tokenizer_config.json", entry(padding_side="both")),
    ("tokenizer_config.json", "tokenizer_config.json", entry(bos_token={"content": 1})),
    ("tokenizer_config.json", "tokenizer_config.json", entry(model_input_names="x")),
    ("tokenizer.json", "tokenizer.json", deep),
    ("tokenizer.json", "tokenizer.json", bytes_of(b"{}")),
    ("tokenizer.json", "tokenizer.json", entry(**{"model.continuing_subword_prefix": "\0"})),  # ended the process
    ("vocab.json and merges.txt", "merges.txt", bytes_of(b"\xff\xfe")),
    ("vocab.json and merges.txt", "vocab.json", entry(a=-1)),
    ("vocab.json and merges.txt", "vocab.json", entry(a=True)),
    ("vocab.txt and its files", "vocab.txt", bytes_of(b"\xff\xfe")),
    ("vocab.txt and its files", "added_tokens.json", entry(a=[])),
    ("chat template", "chat_template.jinja", bytes_of(b"\xff")),
    ("sentence-transformers", "modules.json", bytes_of(DEEP)),
    ("sentence-transformers", "modules.json", bytes_of(b"[null]")),
    ("sentence-transformers", "2_Dense/config.json", entry(out_features=2**31 - 1)),  # took 137 GB
    ("shards' index", "model.safetensors.index.json", entry(weight_map=[1])),
    ("adapter_config.json", "adapter_config.json", entry(use_rslora="false")),
    ("adapter_config.json", "adapter_config.json", entry(rank_pattern=7)),
    ("adapter_config.json", "adapter_config.json", entry(task_type=["x"])),
    ("adapter_config.json", "adapter_config.json", entry(r=2**40)),
    ("adapter_config.json", "adapter_config.json", entry(rank_pattern={"query": 2**40})),
    ("adapter_config.json", "adapter_config.json", entry(target_modules="(" * 2000 + "x" + ")" * 2000)),
    ("training checkpoint, sealed", "checkpoint-2/trainer_state.json", entry(global_step=10**30)),
    ("training checkpoint, sealed", "checkpoint-2/trainer_state.json", entry(best_model_checkpoint=[1])),
    ("training checkpoint, sealed", "checkpoint-2/run.json", entry(batch=None)),
    ("JSON schema", "schema.json", bytes_of(DEEP)),
    ("JSON schema", "schema.json", bytes_of(b'{"type": "\\ud800"}')),
    ("rows of JSON", "rows.json", bytes_of(DEEP)),
]


@pytest.mark.parametrize(("name", "file", "change"), FOUND, ids=range(len(FOUND)))
def test_what_the_fuzzers_found_is_one_clear_error(name: str, file: str, change: Any, good: Any) -> None:
    known = good(name)
    folder = known.copied(file, change(known.contents[file]))
    known.form.after(folder)
    with pytest.raises(MultiheadError):
        known.form.read(folder)


def test_odd_values_of_generation_are_kept_and_refused_when_used(good: Callable[[str], Good]) -> None:
    known = good("generation_config.json")
    for changes in ({"num_beams": 2**31}, {"num_beams": 10**6}, {"bad_words_ids": 5}):
        data = known.contents["generation_config.json"]
        folder = known.copied("generation_config.json", entry(**changes)(data))
        with pytest.raises(MultiheadError, match=next(iter(changes))):
            known.form.read(folder)


def test_a_field_of_another_type_in_a_sentencepiece_model_asks_for_no_memory(tmp_path: Path) -> None:
    from multihead.errors import CorruptFile
    from multihead.tokenizers import spm

    from .mutations import _field

    piece = _field((1, b"".join(map(_field, [(1, b"<unk>"), (3, 2)]))))
    for trainer, normalizer in (([], [(2, 2**33)]), ([(43, b"x" * 9)], []), ([(3, 1.5)], []), ([(41, b"")], [])):
        data = piece + b"".join(_field((n, b"".join(map(_field, rows)))) for n, rows in ((2, trainer), (3, normalizer)))
        (tmp_path / "spiece.model").write_bytes(data)
        with pytest.raises(CorruptFile):
            spm.read(tmp_path / "spiece.model")


def test_a_sentencepiece_model_without_its_settings_is_refused(good: Callable[[str], Good]) -> None:
    from multihead.tokenizers import spm

    from .mutations import _field

    known = good("SentencePiece, Llama")
    rows = list(spm.fields(known.contents["tokenizer.model"]))
    for number, name in ((2, "trainer_spec"), (3, "normalizer_spec")):  # BPE would be read as unigram
        data = b"".join(_field(row) for row in rows if row[0] != number)
        with pytest.raises(MultiheadError, match=name):
            known.form.read(known.copied("tokenizer.model", data))


def test_attention_types_for_more_layers_than_there_are_take_no_memory() -> None:
    from multihead import AutoConfig

    for count in (2**40, 3, "x"):
        with pytest.raises(MultiheadError, match="attention_types"):
            AutoConfig.for_model("gpt_neo", num_layers=2, attention_types=[[["global", "local"], count]])


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer", "decoder"])
def test_regular_expressions_of_a_tokenizer_that_never_end_are_stopped(part: str, good: Callable[[str], Good]) -> None:
    endless = {"pattern": {"Regex": "(x+x+)+$"}}
    step = {
        "pre_tokenizer": {"type": "Split", **endless, "behavior": "Isolated", "invert": False},
        "normalizer": {"type": "Replace", **endless, "content": "y"},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", **endless, "content": "y"}]},
    }[part]
    known = good("tokenizer.json")
    folder = known.copied("tokenizer.json", entry(**{part: step})(known.contents["tokenizer.json"]))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.convert_tokens_to_ids(["x"] * 40 + ["!"])
    reads: list[Callable[[], Any]] = [lambda: tokenizer("x" * 40 + "!")]
    if part == "decoder":
        reads = [lambda: tokenizer.decode(ids), lambda: tokenizer.convert_tokens_to_string(["x"] * 40 + ["!"])]
    for read in reads:
        with pytest.raises(InvalidInput, match="regular expression of this tokenizer"):
            read()
    assert tokenizer.decode(tokenizer("The fox")["input_ids"])  # as before


def test_the_trials_tell_clear_errors_from_others(good: Callable[[str], Good], monkeypatch: Any) -> None:
    known = good("rows of JSON lines")

    def read(folder: Path) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(known, "form", Format(**{**vars(known.form), "read": read}))
    known.found[""] = "x"
    assert known.trial(1)[0] == RAW
