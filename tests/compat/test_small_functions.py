"""Small functions that libraries take from the reference give its results."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from multihead.data.metrics import squad_metrics as ours
from multihead.utils import copy_func, extract_commit_hash
from transformers.utils import hub

import multihead
from multihead.errors import UnsupportedOption
from multihead.pipelines import TASK_ALIASES, check_task


@pytest.mark.parametrize(
    ("gold", "found", "exact", "f1"),
    [("The cat, a dog", "cat  dog", 1, 1), ("Paris", "in Paris", 0, 2 / 3), ("", "", 1, 1), ("the", "", 1, 1),
     ("a b b", "b b c", 0, 0.8), ("one", "", 0, 0), ("one", "two", 0, 0)],
)  # fmt: skip
def test_answers_are_counted_as_squad_counts_them(gold, found, exact, f1):
    assert ours.compute_exact(gold, found) == exact
    assert ours.compute_f1(gold, found) == pytest.approx(f1)


def test_names_of_tasks():
    assert check_task("ner")[0] == "token-classification" == TASK_ALIASES["ner"]
    assert check_task("translation_en_to_fr")[::2] == ("translation_en_to_fr", ("en", "fr"))
    with pytest.raises(UnsupportedOption, match="nothing-like-it"):
        check_task("nothing-like-it")


def test_commits_and_copies():
    for path in (f"/x/snapshots/{'a' * 40}/config.json", "/x/config.json", None):
        assert extract_commit_hash(path, None) == hub.extract_commit_hash(path, None)

    def one(a, *, b=2):
        """Say one thing."""
        return a + b

    other = copy_func(one)
    other.__doc__ = "Say another."
    assert (other(1), one.__doc__) == (3, "Say one thing.")


def test_a_programs_own_dataclass_of_training_arguments_is_checked():
    @dataclass
    class Mine(multihead.TrainingArguments):
        more: int = 1

    made = Mine(output_dir="o", learning_rate=1e-3, more=2)
    assert (made.more, made.learning_rate, made.output_dir) == (2, 1e-3, "o")
    with pytest.raises(UnsupportedOption, match="exclude"):
        Mine(output_dir="o", bf16=True, fp16=True)
