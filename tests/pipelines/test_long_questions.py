"""Question answering with long questions: there is room for a context as long as the model reads one."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the a cat dog sat on mat where who ? .".split()
CONTEXT = "the cat sat on the mat . " * 60


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=len(WORDS),
        max_position_embeddings=512,
    )  # fmt: skip
    transformers.BertForQuestionAnswering(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    return multihead.pipeline("question-answering", model=str(folder))


@pytest.mark.parametrize("count", [50, 250, 253, 254, 300, 380, 382, 500, 508])
def test_a_long_question_is_answered_from_all_of_the_context(pipe, count, capfd):
    answer = pipe(question="where " * count, context=CONTEXT)
    assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]]
    assert capfd.readouterr().err == ""  # the tokenizers library says nothing of its own


def test_windows_cover_the_whole_context_and_a_long_question_gets_a_longer_one(pipe):
    options = pipe.Options()
    for count, longest in ((10, 384), (253, 384), (300, 431), (480, 512)):
        (windows,) = pipe.preprocess([("where " * count, CONTEXT)], options)
        assert max(len(window.ids) for window in windows) == longest
        notes = [window.note for window in windows]
        ends = [end for n in notes for (_, end), side in zip(n.offsets, n.type_ids, strict=True) if side]
        assert max(ends) == len(CONTEXT.rstrip())


def test_questions_of_all_lengths_go_together(pipe):
    items = [{"question": "where " * count, "context": CONTEXT} for count in (3, 300, 254, 3)]
    assert pipe(items) == [pipe(**item) for item in items]


def test_what_leaves_no_room_says_so_in_numbers(pipe):
    with pytest.raises(InvalidInput, match="question of 509 tokens, which leaves no room"):
        pipe(question="where " * 509, context=CONTEXT)
    with pytest.raises(InvalidInput, match=r"question of 300 tokens, which leaves 81 .*doc_stride = 100"):
        pipe(question="where " * 300, context=CONTEXT, max_seq_len=384, doc_stride=100)
    with pytest.raises(InvalidInput, match=r"doc_stride = 9 must be smaller than max_seq_len = 8"):
        pipe(question="where", context=CONTEXT, max_seq_len=8, doc_stride=9)
    assert pipe(question="where " * 300, context=CONTEXT, max_seq_len=384)["answer"]
    assert pipe(question="where " * 600, context=CONTEXT, max_question_len=64)["answer"]
