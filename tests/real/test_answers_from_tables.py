"""Questions about tables with the default encoder: columns that the question does not name by their words."""

from __future__ import annotations

import pytest

from multihead import pipeline
from multihead.pipelines.defaults import MINILM

from .test_real_weights import fetched

pytestmark = pytest.mark.real
TABLE = {
    "Name": ["Anna", "Bob", "Maria", "Ken", "Ola", "Eve"],
    "Age": ["34", "27", "61", "19", "45", "52"],
    "City": ["Berlin", "Leeds", "Porto", "Osaka", "Bergen", "Cork"],
    "Job": ["nurse", "baker", "teacher", "pilot", "painter", "lawyer"],
}


def test_the_row_that_a_question_names_is_answered_from():
    fetched(MINILM.name)
    pipe = pipeline("table-question-answering", MINILM.name)
    wanted = {
        question: answer
        for name, age, city, job in zip(*TABLE.values(), strict=True)
        for question, answer in (
            (f"How old is {name}?", age), (f"Where does {name} live?", city), (f"Who is the {job}?", name),
        )
    }  # fmt: skip
    answers = pipe({"table": TABLE, "query": list(wanted)})
    assert [answer["answer"] for answer in answers] == list(wanted.values())
    assert pipe(table=TABLE, query="Where does Peter Pan live?")["answer"] == ""
