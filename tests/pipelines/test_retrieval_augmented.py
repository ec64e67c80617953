"""Answers from documents: passages, quotations that stand in their source, files, and questions without an answer."""

from __future__ import annotations

import json

import pytest
import transformers

from multihead import SentenceEncoder
from multihead.errors import InvalidInput
from multihead.pipelines.question_answering.documents import DocumentStore, read_documents
from tests.conftest import written

from .conftest import exact

DOCUMENTS = [
    {"id": "foxes", "text": "The quick brown fox jumps over the lazy dog. It was in 1969.\n\nThe dog sleeps."},
    {"title": "dogs", "content": "A dog is lazy. A fox is quick."},
    "In 1969 the fox was here.",
]


@pytest.fixture
def reader(bert, tmp_path):
    folder = written(tmp_path, transformers.BertForQuestionAnswering)
    return exact("rag", folder, retriever=SentenceEncoder.from_pretrained(bert), documents=DOCUMENTS)


def check_sources(answer, documents):
    texts = {document.name: document.text for document in read_documents(documents)}
    for source in answer["sources"]:
        assert texts[source["document"]][source["start"] : source["end"]] == source["text"]
    if answer["sources"]:
        assert answer["answer"] in answer["sources"][0]["text"]


def test_an_answer_quotes_its_source_verbatim(reader):
    answer = reader("What does the fox do?", min_score=0)
    assert list(answer) == ["answer", "score", "sources"]
    assert answer["answer"]
    check_sources(answer, DOCUMENTS)
    answers = reader(["What does the fox do?", "When was it?"], min_score=0)
    assert answers[0] == answer
    assert reader({"question": "When?", "documents": ["It was in 1969."]}, min_score=0)["sources"][0]["document"] == 0


def test_without_a_likely_answer_there_is_none_and_a_notice_says_so(reader):
    answer = reader("What does the fox do?", min_score=1)
    assert (answer["answer"], answer["sources"]) == ("", [])
    assert "no answer" in answer.metadata.notices[0].text


def test_a_language_model_answers_from_the_passages_and_names_what_none_says(bert, llama):
    pipe = exact("rag", llama, retriever=SentenceEncoder.from_pretrained(bert), documents=DOCUMENTS, max_new_tokens=3)
    answer = pipe("What does the fox do?", min_score=0)
    check_sources(answer, DOCUMENTS)
    assert answer["sources"] or "without a source" in answer.metadata.notices[0].text
    assert pipe("What does the fox do?", min_score=1)["answer"] == ""


def test_documents_are_texts_mappings_files_and_folders(bert, tmp_path):
    (tmp_path / "a.txt").write_text("The fox jumps.")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS[:2]))
    assert [document.name for document in read_documents(DOCUMENTS)] == ["foxes", "dogs", 2]
    assert [document.name for document in read_documents(tmp_path / "rows.jsonl")] == ["foxes", "dogs"]
    assert read_documents(tmp_path) == read_documents([tmp_path / "a.txt"])
    store = DocumentStore(DOCUMENTS, SentenceEncoder.from_pretrained(bert), most=40)
    assert all(passage.text == passage.text.strip() != "" for passage in store.passages)
    for wrong in (7, [7], [{"id": 1}], [], ["  "], {"text": "x"}):
        with pytest.raises(InvalidInput):
            DocumentStore(wrong, SentenceEncoder.from_pretrained(bert))


def test_inputs_that_are_no_question_are_named(reader):
    for wrong in ("", None, {"documents": []}, 7):
        with pytest.raises(InvalidInput):
            reader(wrong)
    with pytest.raises(InvalidInput, match="documents"):
        reader({"question": "Who?", "documents": None})
    for option in ({"passages": 0}, {"min_score": 2}, {"retriever": None}):
        with pytest.raises(InvalidInput):
            reader("Who?", **option)


def test_documents_that_change_are_read_again(reader, tmp_path):
    documents = [{"id": "a", "text": "The fox is red."}]
    assert reader("Which?", documents=documents, min_score=0)["sources"][0]["text"] == "The fox is red."
    documents[0]["text"] = "The dog is brown."
    assert reader("Which?", documents=documents, min_score=0)["sources"][0]["text"] == "The dog is brown."
    folder = tmp_path / "facts"
    folder.mkdir()
    file = folder / "facts.txt"
    for text in ("The fox is red.", "The dog is brown."):
        file.write_text(text, encoding="utf-8")
        for path in (file, folder):
            assert reader("Which?", documents=str(path), min_score=0)["sources"][0]["text"] == text


def test_other_documents_and_encoders_do_not_share_an_index(reader, bert):
    class Frame:  # pandas' comparison is no truth value
        columns = ("text",)

        def __eq__(self, other):
            raise ValueError("ambiguous")

        def to_dict(self, kind):
            return [{"text": "The fox is red."}]

    for documents, text in ((Frame(), "The fox is red."), (["The dog is brown."], "The dog is brown.")):
        assert reader("Which?", documents=documents, min_score=0)["sources"][0]["text"] == text
    before = len(reader.stores)
    reader("Which?", documents=["The dog is brown."], retriever=SentenceEncoder.from_pretrained(bert))
    assert len(reader.stores) == before + 1
    with pytest.raises(InvalidInput, match="min_score is a number"):
        reader("Which?", min_score="0")


def test_text_files_keep_their_line_ends_and_must_be_utf_8(tmp_path):
    file = tmp_path / "facts.txt"
    file.write_bytes("\ufeffOne.\r\nTwo.".encode())
    assert read_documents(file)[0].text == "One.\r\nTwo."
    file.write_bytes("Zoë".encode("latin-1"))
    with pytest.raises(InvalidInput, match="no UTF-8 text"):
        read_documents(file)
