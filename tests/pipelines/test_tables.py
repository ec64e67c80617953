"""Questions about tables: typed cells, queries and their results, and what the table does not answer."""

from __future__ import annotations

import random

import pytest
import torch

from multihead.errors import InvalidInput
from multihead.pipelines.tables.cells import parse_date, parse_number, read_column
from multihead.pipelines.tables.pipeline import read_table
from multihead.pipelines.tables.query import Condition, Query, execute
from multihead.pipelines.tables.question import TableQuestion

from .conftest import exact

STAFF = {
    "Name": ["Anna Berg", "Bob Lee", "Maria Silva", "Ken Sato"],
    "Age": ["34", "27", "61", "19"],
    "City": ["Berlin", "Leeds", "Porto", "Berlin"],
    "Salary": ["$52,000", "$38,500", "", "$29,000"],
    "Hired": ["2015-03-01", "2019-07-15", "1998-01-10", "2023-09-01"],
}


def ask(query, table=None):
    """The answer by words alone, without an encoder."""
    return TableQuestion(query, *read_table(STAFF if table is None else table)).answer(None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,234.5", 1234.5), ("1.234,5", 1234.5), ("1 234", 1234), ("1,234", 1234), ("1.5", 1.5), ("1,5", 1.5),
     ("$29,000", 29000), ("78%", 78), ("(5)", -5), ("-5", -5), ("€1.20", 1.2), ("118 min", 118), ("US$ 5", 5),
     ("LH101", None), ("A1", None),
     ("12 Jan 2023", None), ("", None), ("n/a", None), ("1-2", None), ("1234567", 1234567)],
)  # fmt: skip
def test_numbers_are_read_with_their_signs_and_codes_are_none(text, value):
    found = parse_number(text)
    assert (None if found is None else found.value) == value


def test_dates_are_read_and_a_column_says_whether_the_day_is_first():
    texts = ("2024-02-03", "3 Feb 2024", "February 3, 2024", "3rd February 2024")
    assert {parse_date(text).isoformat() for text in texts} == {"2024-02-03"}
    assert parse_date("3/2/2024") is None
    assert read_column("Day", ["25/12/2023", "3/2/2024"]).kind == "date"
    assert read_column("Day", ["3/2/2024", "4/2/2024"]).kind == "text"
    assert read_column("At", ["07:15", "8:40 pm"]).values == [435.0, 1240.0]


@pytest.mark.parametrize(
    ("query", "answer", "cells", "aggregator"),
    [("How old is Bob Lee?", "27", ["27"], "NONE"), ("What is the age of anna berg?", "34", ["34"], "NONE"),
     ("Which city does Maria Silva live in?", "Porto", ["Porto"], "NONE"),
     ("Which name has the age 19?", "Ken Sato", ["Ken Sato"], "NONE"),
     ("How many people live in Berlin?", "2", ["Anna Berg", "Ken Sato"], "COUNT"),
     ("How many people are older than 30?", "2", ["Anna Berg", "Maria Silva"], "COUNT"),
     ("What is the total age?", "141", ["34", "27", "61", "19"], "SUM"),
     ("What is the average age in Berlin?", "26.5", ["34", "19"], "AVERAGE"),
     ("Who is the oldest?", "Maria Silva", ["Maria Silva"], "NONE"),
     ("Who is the youngest?", "Ken Sato", ["Ken Sato"], "NONE"),
     ("Who was hired first?", "Maria Silva", ["Maria Silva"], "NONE"),
     ("Who was hired after 2018?", "Bob Lee, Ken Sato", ["Bob Lee", "Ken Sato"], "NONE"),
     ("Who is older, Anna Berg or Bob Lee?", "Anna Berg", ["Anna Berg"], "NONE"),
     ("Is Bob Lee older than Anna Berg?", "no", ["27", "34"], "NONE"),
     ("How much older is Maria Silva than Bob Lee?", "34", ["61", "27"], "DIFFERENCE"),
     ("Which name has the highest salary?", "Anna Berg", ["Anna Berg"], "NONE")],
)  # fmt: skip
def test_a_question_is_answered_from_the_cells_it_means(query, answer, cells, aggregator):
    found = ask(query)
    assert (found.result.answer, found.result.cells, found.result.aggregator) == (answer, cells, aggregator)
    rows = list(zip(*STAFF.values(), strict=True))
    assert [rows[row][column] for row, column in found.result.coordinates] == cells


@pytest.mark.parametrize(
    ("query", "notice"),
    [("How old is Peter Pan?", "'Peter Pan'"), ("What is the phone of Bob Lee?", "'phone'"),
     ("Where is Madrid?", "'Madrid'"), ("What is the salary of Maria Silva?", "empty"),
     ("Who was hired after 2030?", "No row"),
     ("Why?", "names nothing"),
     ("Which name comes after Bob Lee?", "'comes after'"), ("?", "names nothing"), ("Is Bob Lee nice?", "yes or no")],
)  # fmt: skip
def test_what_the_table_does_not_answer_has_no_answer_and_a_notice(query, notice):
    found = ask(query)
    assert (found.result.answer, found.result.cells) == ("", [])
    assert any(notice in each for each in found.notices)


def test_rows_without_a_number_are_left_out_and_counted():
    found = ask("What is the total salary?")
    assert found.result.answer == "$119,500"
    assert found.notices == ("1 of 4 rows have no number in 'Salary'; they are left out.",)


def test_cells_of_a_column_are_counted_without_empty_ones():
    table = {"City": ["Oslo", "Rome", "Bern"], "Mayor": ["Ann", None, float("nan")]}
    assert ask("How many mayors are there?", table).result.answer == "1"
    assert ask("How many cities are there?", table).result.answer == "3"


def test_ties_are_all_named():
    table = {"Club": ["Reds", "Blues", "Rovers"], "Points": [65, 65, 40]}
    assert ask("Which club has the most points?", table).result.answer == "Reds, Blues"


def test_units_and_scales_are_compared():
    films = {"Title": ["Iron", "Sea", "Moon"], "Runtime": ["131 min", "89 min", "118 min"]}
    assert ask("How many films are longer than two hours?", films).result.answer == "1"
    lands = {"Country": ["Kenya", "Norway"], "Population (millions)": ["54.0", "5.5"]}
    assert ask("Which country has a population over 50 million?", lands).result.answer == "Kenya"
    opened = {"Branch": ["Central", "Hilltop"], "Opened": ["1904", "1988"]}
    assert ask("Which branch is the oldest?", opened).result.answer == "Central"


def test_a_query_compares_a_column_and_ignores_empty_cells():
    columns = [read_column(name, cells) for name, cells in STAFF.items()]
    where = (Condition(3, "<", value=40_000),)
    assert execute(Query(0, where), columns).cells == ["Bob Lee", "Ken Sato"]
    assert execute(Query(2, aggregate="distinct"), columns).answer == "3"
    assert execute(Query(3, where, "average"), columns).answer == "$33,750"


def test_no_text_breaks_the_reading_and_every_empty_answer_has_a_notice():
    draw = random.Random(0)
    words = """how many what is the who total average of largest oldest than more less 5 2012 no first Anna June
    May 2010 and or x ? € 1,000 50% $ , . — İ ß 漢字 difference between top 3 same in at least an hour
    minutes does""".split()
    cells = [
        "",
        "Anna",
        "5",
        "1,000",
        "50%",
        "$3",
        "2012",
        "2024-01-01",
        "—",
        "12:30",
        "yes",
        "no",
        "漢字",
        "3 min",
        "31/2/2020",
    ]
    names = ["Name", "Age", "", "#", "Date", "漢字", "Time (min)", "()", "Rank", "To"]
    for _ in range(500):
        own = draw.sample(names, draw.randint(1, 5))
        rows = [draw.choices(cells, k=len(own)) for _ in range(draw.randint(1, 5))]
        found = TableQuestion(" ".join(draw.choices(words, k=draw.randint(1, 12))), own, rows).answer(None)
        assert [rows[row][column] for row, column in found.result.coordinates] == found.result.cells
        assert found.result.answer or found.notices


def test_an_encoder_and_a_language_model_compute_the_same_answer(bert, llama):
    encoded = exact("table-question-answering", bert)
    prompted = exact("table-question-answering", llama, retriever=None)
    item = {"table": STAFF, "query": "How old is Bob Lee?"}
    expected = {"answer": "27", "coordinates": [(1, 1)], "cells": ["27"], "aggregator": "NONE"}
    assert encoded(item) == prompted(item) == expected
    assert prompted(item, return_query=True)["query"] == "Age where Name is Bob Lee"
    answers = prompted([item, {**item, "query": "How old is Peter Pan?"}])
    assert [answer["answer"] for answer in answers] == ["27", ""]
    assert [(n.number, "'Peter Pan'" in n.text) for n in answers.metadata.notices] == [(1, True)]
    for option in ({"answer_by": "guess"}, {"answer_by": "query", "prompt": "{table}"}, {"retriever": 7}):
        with pytest.raises(InvalidInput):
            prompted(item, **option)


def test_a_language_model_that_is_asked_reads_the_named_rows_alone(llama):
    pipe = exact("table-question-answering", llama, answer_by="model", max_new_tokens=3)
    o = pipe.resolve_options()
    text = pipe.tokenizer.decode(
        pipe.preprocess([pipe.validate({"table": STAFF, "query": "How old is Bob Lee?"}, o)], o)[0][0].ids
    )
    assert "Leeds" in text
    assert "Porto" not in text
    answer = pipe(table=STAFF, query="How old is Bob Lee?")
    assert list(answer) == ["answer"]
    assert "no cell" in answer.metadata.notices[0].text


def test_none_and_nan_are_empty_cells():
    assert read_table({"a": [None, 1], "b": [float("nan"), "x"]})[1] == [["", ""], ["1", "x"]]


class NamesOfColumns:
    """Stands for an encoder: the likeness of a phrase and a column's name is given, that of other texts is 0."""

    def __init__(self, likeness):
        self.likeness = likeness

    def answer(self, query, table):
        question = TableQuestion(query, *read_table(table))
        vectors = torch.eye(len(question.texts))
        count = len(question.phrases)
        for (phrase, name), value in self.likeness.items():
            if phrase in question.phrases:
                row, column = question.phrases.index(phrase), count + question.names.index(name)
                vectors[row] = value * vectors[column] + (1 - value**2) ** 0.5 * vectors[row]
        return question.answer(list(vectors))


TICKETS = {"Ticket": ["T-1", "T-2"], "Priority": ["High", "Low"], "Opened": ["2024-03-01", "2024-03-05"]}


@pytest.mark.parametrize(
    ("query", "likeness", "answer", "notice"),
    [("What is the deadline of T-2?", {("deadline", "Priority"): 0.55}, "Low", "'Priority', the nearest to 'deadline'"),
     ("Which customer opened T-2?", {}, "2024-03-05", "'Opened', the nearest to 'customer opened'"),
     ("When was T-2 closed?", {("closed", "Opened"): 0.7}, "2024-03-05", "'Opened', the nearest to 'closed'"),
     ("What is the priority of T-2?", {}, "Low", ""), ("When was T-2 opened?", {}, "2024-03-05", "")],
)  # fmt: skip
def test_a_column_that_the_question_does_not_name_has_a_notice(query, likeness, answer, notice):
    found = NamesOfColumns(likeness).answer(query, TICKETS)
    assert found.result.answer == answer
    assert bool(found.notices) == bool(notice)
    assert notice in " ".join(found.notices)


@pytest.mark.parametrize(
    "query",
    ["Wie viele Leute wohnen nicht in Berlin?", "¿Cuántas personas viven en Berlin?", "Quanti anni ha Bob Lee?",
     "Welche City hat Bob Lee?", "Quel est l'âge de Bob Lee ?"],
)  # fmt: skip
def test_a_question_in_another_language_is_declined(query):
    found = ask(query)
    assert found.result.answer == ""
    assert "must be in English" in found.notices[0]


def test_a_comparison_of_equal_cells_says_that_they_are_equal():
    found = ask("Is Ann older than Bob?", {"Name": ["Ann", "Bob"], "Age": ["30", "30"]})
    assert (found.result.answer, found.notices) == ("no", ("Both have the same 'Age'.",))


@pytest.mark.parametrize(
    ("cells", "values"),
    [(["1.299,00", "49,90", "1.200"], [1299, 49.9, 1200]), (["12,500", "3,5"], [12.5, 3.5]),
     (["1,234", "2.5"], [1234, 2.5]), (["1.234.567", "2.500"], [1234567, 2500]), (["0.125", "1.250"], [0.125, 1.25]),
     (["$12.5 million", "$3,400,000", "$48M", "n/a"], [12.5e6, 3.4e6, 48e6, None]), (["12k", "300"], [12000, 300]),
     (["1,5 Mio. €", "200.000 €"], [1.5e6, 2e5]), (["98 min", "2 h", "1.5 hours", "100"], [98, 120, 90, 100]),
     (["5 m", "3 km", "2 kg"], [5, 3000, None])],
)  # fmt: skip
def test_numbers_of_a_column_have_one_convention_scale_and_unit(cells, values):
    assert read_column("x", cells).values == values


def test_numbers_of_other_columns_show_how_numbers_are_written():
    table = {"Product": ["Kettle", "Lamp"], "Price": ["1.299,00", "49,90"], "Sold": ["1.200", "350"]}
    assert ask("What is the total sold?", table).result.answer == "1550"
    found = ask("What is the total sold?", {name: table[name] for name in ("Product", "Sold")})
    assert found.result.answer == "351.2"
    assert "'1.200' in 'Sold' is read as 1.2" in found.notices[0]


def test_the_largest_of_numbers_with_magnitudes_is_found_and_their_sum_is_whole():
    films = {"Film": ["Tide", "Orchard", "Hour"], "Gross": ["$12.5 million", "$3,400,000", "$48M"]}
    assert ask("Which film has the largest gross?", films).result.answer == "Hour"
    assert ask("What is the total gross?", films).result.answer == "$63,900,000"
    assert ask("Which films have a gross of more than 10 million?", films).result.cells == ["Tide", "Hour"]
    assert (
        "different currencies (€, $)"
        in ask("What is the total fee?", {"A": ["x", "y"], "Fee": ["€5", "$4"]}).notices[0]
    )


def test_rows_may_have_different_columns_and_two_columns_of_one_name_are_an_error():
    assert read_table([{"A": 1}, {"A": 2, "B": 3}]) == (["A", "B"], [["1", ""], ["2", "3"]])
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InvalidInput, match="two columns of one name"):
        read_table(pandas.DataFrame([[1, 2]], columns=["A", "A"]))
