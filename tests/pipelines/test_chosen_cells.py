"""TAPAS: tables as the reference's tokenizer reads them, and its pipeline's answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput, TextTooLong, UnsupportedOption
from multihead.tokenizers.table_numbers import values_of

WORDS = "how many movies did brad pitt make leonardo george total of the is who has more than first year march june"
PIECES = (
    "##s ##a ##e ##1 ##2 ##5 ##9 a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 . , - ? $ %"
)
TABLE = {
    "Actor": ["Brad Pitt", "Leonardo Di Caprio", "George Clooney", "n/a"],
    "Movies": ["87", "53", "69 films", "1,053"],
    "Born": ["18 December 1963", "11 November 1974", "May 1961", "2 june"],
    "Share": ["$5.5", "", "?", "-3 %"],
}
QUERIES = [
    "How many movies has Brad Pitt made?",
    "Who made more than 60 movies, or fewer than 1,053?",
    "Who was born before June 1961?",
    "first year with two movies ?",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tapas")
    words = list(
        dict.fromkeys(["[PAD]", "[EMPTY]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *PIECES.split()])
    )
    (path / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.TapasTokenizer(path / "vocab.txt").save_pretrained(path)
    labels = {0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"}
    config = transformers.TapasConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        num_aggregation_labels=4, aggregation_labels=labels, no_aggregation_label_index=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.TapasForQuestionAnswering(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.4)
    model.output_bias.data.fill_(2.0)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def readers(folder: Path) -> tuple[Any, Any]:
    return multihead.AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


def same(readers: tuple[Any, Any], table: dict[str, list[str]], queries: Any, **options: Any) -> None:
    ours, theirs = readers
    expected = theirs(pandas.DataFrame(table), queries, **options)
    got = ours(table, queries, **options)
    for name, value in expected.items():
        assert got[name] == value, (name, queries, options)


def test_tables_are_read_as_the_reference_reads_them(readers):
    for query in QUERIES:
        same(readers, TABLE, query)
        for length in (24, 30, 40, 60):
            same(readers, TABLE, query, truncation="drop_rows_to_fit", max_length=length)
    same(readers, TABLE, QUERIES, padding="longest")
    got = readers[0](pandas.DataFrame(TABLE), QUERIES, padding="max_length", max_length=128, return_tensors="pt")
    assert got["token_type_ids"].shape == (4, 128, 7)


def test_random_cells_are_read_as_the_reference_reads_them(readers):
    draw = random.Random(0)
    parts = "12 3.5 1,000 march 1999 2001-03-04 two third 3rd n/a ? a movies -4 +2 .5 12.03.1999 1990s".split()
    parts += ["June 5", "5 may 2001", " ", "", "Sep 2, 1999", "friday, may 3"]
    for _ in range(60):
        rows = draw.randint(1, 5)
        table = {
            f"c{n}": [" ".join(draw.choices(parts, k=draw.randint(1, 2))) for _ in range(rows)]
            for n in range(draw.randint(1, 3))
        }
        same(readers, table, " ".join(draw.choices(parts, k=draw.randint(1, 4))) or "a")


def test_what_is_saved_is_read_alike(readers, tmp_path):
    readers[0].save_pretrained(tmp_path)
    again = multihead.AutoTokenizer.from_pretrained(tmp_path)
    for query in QUERIES:
        same((again, transformers.AutoTokenizer.from_pretrained(tmp_path)), TABLE, query)


def test_values_are_the_longest_spans():
    assert values_of("5 May 2001 or 1,000.5 and two") == [(2001.0, 5.0, 5.0), 1000.5, 2.0]
    assert values_of("no numbers") == []


def test_a_question_reads_which_cells_answered_the_one_before_about_its_table(folder, monkeypatch):
    ours = multihead.pipeline("table-question-answering", model=str(folder), dtype="float32")
    seen: list[Any] = []
    run = ours.model.run
    monkeypatch.setattr(ours.model, "run", lambda texts, types: seen.extend(types) or run(texts, types))
    other = {name: cells[:2] for name, cells in TABLE.items()}
    items = [{"table": TABLE, "query": query} for query in QUERIES[:2]] + [{"table": other, "query": QUERIES[0]}]
    first, *_ = ours(items, sequential=True)
    marked = [{(t[2] - 1, t[1] - 1) for t in types if t[3]} for types in seen]
    assert marked == [set(), set(first["coordinates"]), set()]
    assert first["coordinates"]


@pytest.mark.parametrize("sequential", [False, True])
def test_answers_are_the_references(folder, sequential):
    """The reference's batches hold one question, so that none has an earlier one."""
    theirs = transformers.pipeline("table-question-answering", model=str(folder))
    ours = multihead.pipeline("table-question-answering", model=str(folder), dtype="float32")
    expected = theirs(table=pandas.DataFrame(TABLE), query=QUERIES, sequential=sequential)
    got = [ours(table=TABLE, query=query, sequential=sequential) for query in QUERIES]
    assert [dict(each) for each in got] == expected
    assert ours(TABLE, QUERIES[0])["answer"] == theirs(pandas.DataFrame(TABLE), QUERIES[0])["answer"]
    assert any(each["cells"] for each in got)


def test_what_is_no_table_is_refused(readers):
    ours = readers[0]
    with pytest.raises(InvalidInput, match="texts"):
        ours({"a": [1]}, "q")
    with pytest.raises(InvalidInput, match="one length"):
        ours({"a": ["1"], "b": []}, "q")
    with pytest.raises(UnsupportedOption, match="stride"):
        ours(TABLE, "q", stride=3)
    with pytest.raises(TextTooLong, match="max_length"):
        ours(TABLE, QUERIES[0], max_length=5)
