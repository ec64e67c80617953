"""The card of a model: front matter that the Hub reads, sections that a person reads, no secrets."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from multihead import __version__
from multihead.hub.front_matter import front_matter
from multihead.training.reporting.model_card import DataSummary, RunSummary, model_card

HISTORY = [
    *({"loss": 2.0 - step / 100, "learning_rate": 1e-5, "epoch": step / 50, "step": step} for step in range(1, 101)),
    {"eval_loss": 0.9, "eval_accuracy": 0.7, "eval_runtime": 3.0, "epoch": 1.0, "step": 50},
    {"eval_loss": 1.1, "eval_accuracy": 0.6, "eval_runtime": 3.0, "epoch": 2.0, "step": 100},
]
TRAINED = RunSummary(
    name="reviews", task="text-classification", base_model="google-bert/bert-base-uncased", method="LoRA of rank 8",
    license="apache-2.0", languages=["no", "en"], hardware="One H100",
    data=[DataSummary(name="stanfordnlp/sst2", rows=67349, cut=12),
          DataSummary(name="stanfordnlp/sst2", split="validation", rows=872)],
    settings={"learning_rate": 1e-4, "optim": "a|b", "hub_token": "unmarked-secret"}, log_history=HISTORY, best_step=50,
    seconds=125.0, tokens=1_234_567, command=["multihead", "train", "my data.csv", "--token", "hf_abcdefghijk"],
)  # fmt: skip


def parsed(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def changed(**changes: Any) -> RunSummary:
    return dataclasses.replace(TRAINED, **changes)


def test_the_front_matter_says_what_the_hub_asks():
    assert parsed(model_card(TRAINED)) == {
        "library_name": "multihead", "base_model": "google-bert/bert-base-uncased", "license": "apache-2.0",
        "language": ["no", "en"], "pipeline_tag": "text-classification", "datasets": ["stanfordnlp/sst2"],
        "metrics": ["accuracy"],
        "model-index": [{"name": "reviews", "results": [{
            "task": {"type": "text-classification"},
            "dataset": {"name": "stanfordnlp/sst2", "type": "stanfordnlp/sst2", "split": "validation"},
            "metrics": [{"type": "loss", "value": 0.9}, {"type": "accuracy", "value": 0.7}],
        }]}],
    }  # fmt: skip


def test_the_hubs_own_reader_finds_the_results():
    data = ModelCard(model_card(TRAINED)).data
    assert data.base_model == "google-bert/bert-base-uncased"
    assert {r.metric_type: r.metric_value for r in data.eval_results} == {"loss": 0.9, "accuracy": 0.7}


def test_a_reader_finds_data_results_settings_and_versions():
    card = model_card(TRAINED)
    assert "A model for text classification, trained from `google-bert/bert-base-uncased` (LoRA of rank 8)" in card
    assert "| stanfordnlp/sst2 | train | 67,349 | 12 |" in card
    assert "| **50** | **1.00** | **0.9** | **0.7** |" in card
    assert "| 100 | 2.00 | 1.1 | 0.6 |" in card
    assert "| `learning_rate` | `0.0001` |" in card
    assert f"multihead {__version__}, torch " in card
    assert f"Python {sys.version.split()[0]}" in card
    assert "One H100" in card
    assert "2 min 5 s, 1,234,567 tokens" in card
    assert "```sh\nmultihead train 'my data.csv'" in card


def test_the_curve_is_a_small_table_from_the_first_to_the_last_step():
    rows = model_card(TRAINED).split("## Training loss\n\n")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == 10
    assert rows[0].startswith("| 1 | 0.02 | 1.99 | 1e-05")
    assert rows[-1].startswith("| 100 | 2.00 | 1 | 1e-05")


def test_of_many_evaluations_the_best_is_kept():
    history = [{"eval_loss": 1.0 + step, "step": step, "epoch": 0.1} for step in range(1, 201)]
    card = model_card(changed(log_history=history, best_step=77))
    rows = card.split("## Results\n\n")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == 21
    assert "| **77** | **0.10** | **78** |" in rows
    assert parsed(card)["model-index"][0]["results"][0]["metrics"] == [{"type": "loss", "value": 78.0}]


def test_secrets_do_not_get_into_a_card():
    card = model_card(TRAINED)
    assert "abcdefghijk" not in card
    assert "unmarked-secret" not in card


def test_folders_of_this_machine_are_no_names_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    rows = tmp_path / "rows.csv"
    card = model_card(changed(base_model=str(tmp_path / "local"), data=[DataSummary(name=str(rows), rows=3)]))
    assert str(tmp_path) not in card
    assert "`local`" in card
    assert "| rows.csv | train | 3 | 0 |" in card
    assert not {"base_model", "datasets"} & set(parsed(card))
    assert "base_model" not in parsed(model_card(changed(base_model="local")))


def test_what_is_not_known_is_left_out():
    card = model_card(RunSummary(name="small"))
    assert parsed(card) == {"library_name": "multihead"}
    assert [line for line in card.splitlines() if line.startswith("#")] == ["# small", "## Made with"]
    assert "None" not in card


def test_results_without_a_history_are_a_table_and_what_is_no_number_is_no_result():
    card = model_card(changed(log_history=[], results={"eval_f1": 0.5, "eval_x": math.nan, "eval_runtime": 2.0}))
    assert "| f1 | 0.5 |" in card
    assert parsed(card)["metrics"] == ["f1"]


@pytest.mark.parametrize(("name", "shown"), [("a|b", r"a\|b"), ("two\nlines", "two lines")])
def test_cells_stay_cells(name, shown):
    assert f"| {shown} | train |" in model_card(changed(data=[DataSummary(name=name)]))


def test_a_command_with_fences_of_its_own_stays_whole():
    assert "````sh\necho '```'\n````" in model_card(changed(command="echo '```'"))


@pytest.mark.parametrize(
    "value",
    ["no", "yes", "null", "1e3", "~", "", " spaced ", "a: b # c", 'quo"te', "back\\slash", "line\nbreak\ttab", "é漢字",
     "😀", "\x00\x07\x7f\x85\u2028\ufeff", "- item", "{a}", "&a *b !c %d @e", True, False, None, 0, -3, 0.1, 1e-05,
     1e20, -1.5e-300, math.inf, -math.inf, [], {}, [[1, 2], ["a"]], [{"a": 1, "b": [2]}, {"c": {}}],
     {"true": {"y": "n"}}],
)  # fmt: skip
def test_any_value_comes_back_from_yaml_as_it_was(value):
    entries = {"value": value, "list": [value], "inner": {"on": value, "odd: key": 1}}
    found = yaml.safe_load(front_matter(entries).removeprefix("---\n").removesuffix("---"))
    assert found == entries
    assert type(found["value"]) is type(value)


EVIL = (
    "x\x1b]52;c;aGk=\x07<img src=x onerror=alert(1)> [free](javascript:alert(1)) ![](http://t/p.png) `a`<b>`c`\u202e|"
)


def test_what_others_named_is_neither_html_nor_a_link_nor_a_control_character():
    data = [DataSummary(name=EVIL, split=EVIL, source=EVIL, rows=1, notes=[EVIL])]
    history = [{"eval_loss": 1.0, f"eval_{EVIL}": 0.5, "step": 1, "epoch": 1.0}]
    card = model_card(
        changed(
            name=EVIL,
            task=EVIL,
            base_model=EVIL,
            method=EVIL,
            data=data,
            settings={EVIL: EVIL},
            log_history=history,
            hardware=EVIL,
            versions={EVIL: EVIL},
            command=["multihead", EVIL],
        )
    )
    body = card.split("---\n", 2)[2]
    assert not any(c in card for c in "\x1b\x07\u202e")
    parsed(card)
    for line in body.split("```")[0::2]:  # outside of code
        plain = re.sub(r"(`+)(?!`)[^`].*?(?<!`)\1(?!`)", "", line)
        assert "<img" not in plain
        assert not re.search(r"(?<!\\)\[free", plain)


def test_passwords_in_urls_are_left_out():
    data = [
        DataSummary(name="https://me:secret-word@host/data.csv", rows=1, notes=["https://me:secret-word@host/more"])
    ]
    command = ["multihead", "train", "--data", "https://me:secret-word@host/data.csv"]
    assert "secret-word" not in model_card(changed(data=data, command=command, settings={"x": "s3://a:secret-word@b"}))
