"""A real chat model: turns read their new tokens alone, and greedy answers do not loop."""

from __future__ import annotations

import pytest

from multihead import pipeline
from multihead.pipelines.defaults import SMOLLM2
from multihead.pipelines.generation_base import REPETITION_GUARD

from .test_real_weights import fetched

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pipe():
    fetched(SMOLLM2.name)
    return pipeline("text-generation", SMOLLM2.name, dtype="float32")


def test_a_turn_reads_the_question_and_the_end_of_the_last_answer(pipe):
    chat = pipe.conversation(system="You are a helpful assistant.", max_new_tokens=24)
    for turn, text in enumerate(("What is the capital of France?", "And of Italy?", "Thank you.")):
        before = [*chat.messages, {"role": "user", "content": text}]
        known = len(pipe.chat_ids(chat.messages, continues=True)) if turn else 0
        reply = chat.send(text)
        assert chat.messages == pipe(before, max_new_tokens=24, **REPETITION_GUARD)[0]["generated_text"]
        read = reply.prompt_tokens - reply.cached_tokens
        assert read <= reply.prompt_tokens - known + 1
        assert read < 24 or not turn
    assert chat.retry().cached_tokens == reply.prompt_tokens - 1


def test_the_guard_ends_the_loop_of_a_greedy_answer(pipe):
    question = [{"role": "user", "content": "Write a speech of one minute for a wedding."}]

    def repeated(**options):
        words = pipe(question, max_new_tokens=128, **options)[0]["generated_text"][-1]["content"].split()
        runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
        return 1 - len(set(runs)) / len(runs)

    assert repeated(**REPETITION_GUARD) < 0.2 < 0.4 < repeated()
