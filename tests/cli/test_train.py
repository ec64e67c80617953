"""`multihead train`: tasks from a file to a folder that is used, YAML, plans, stops, cards and what is refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from multihead import AutoModelForMaskedLM
from multihead.cli.main import cli
from multihead.cli.train.config_file import TrainConfig
from multihead.errors import InvalidInput, ModelNotFound, MultiheadError, UnsupportedOption

WORDS = "the quick brown fox jumps over the lazy dog".split()
SMALL = ("--batch-size", 4, "--epochs", 2, "--lr", 1e-2, "--precision", "float32", "--set", "use_cpu=true")


def train(*words):
    return done("train", *words)


def done(*words):
    result = CliRunner().invoke(cli, [*map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text(number):
    return f"{WORDS[number % 9]} {WORDS[(number + 1) % 9]} {WORDS[number * 2 % 9]}"


@pytest.fixture
def rows(tmp_path):
    """Reviews with a label that can be learned."""
    return lines(tmp_path / "rows.jsonl", [{"text": text(n), "label": ("bad", "good")[n % 2]} for n in range(24)])


CASES = {
    "text-classification": ("bert", lambda n: {"text": text(n), "label": ("bad", "good")[n % 2]}, ["accuracy", "f1"]),
    "token-classification": (
        "bert", lambda n: {"tokens": text(n).split(), "ner_tags": ["O", "B-X", "O"]}, ["precision", "recall"],
    ),
    "question-answering": (
        "bert", lambda n: {"question": "the fox", "context": text(n),
                           "answers": {"text": [text(n).split()[1]], "answer_start": [text(n).index(" ") + 1]}},
        ["exact_match", "f1"],
    ),
    "fill-mask": ("bert", lambda n: {"text": text(n)}, ["perplexity"]),
    "text-generation": ("llama", lambda n: {"text": text(n)}, ["perplexity"]),
    "translation": ("marian", lambda n: {"source": text(n), "target": text(n + 1)}, ["perplexity"]),
    "sentence-similarity": ("bert", lambda n: {"sentence1": text(n), "sentence2": text(n + 1), "score": n % 5 / 4},
                            ["spearman"]),
    "preference": ("llama", lambda n: {"prompt": "the", "chosen": text(n), "rejected": text(n + 1)}, ["rewards"]),
}  # fmt: skip


@pytest.mark.parametrize("task", CASES)
def test_a_file_of_rows_becomes_a_model_that_the_command_shown_uses(task, request, tmp_path):
    model, row, metrics = CASES[task]
    path, out = lines(tmp_path / "rows.jsonl", map(row, range(12))), tmp_path / "out"
    said = train(task, "-m", request.getfixturevalue(model), "--data", path, "--holdout", 0.25, "--output", out, *SMALL)
    assert "9 rows" in said.output
    assert "3 rows" in said.output
    for metric in ("loss", *metrics):
        assert metric in said.output
    assert (out / "README.md").is_file()
    assert json.loads((out / "trainer_state.json").read_text())["global_step"] == 6
    command = shlex.split(said.output[said.output.index("multihead run ") :])
    assert done(*command[1:], *(["--set", "max_new_tokens=2"] if "generation" in command[2] else [])).stdout.strip()


def test_a_file_says_what_a_command_line_says_and_the_command_line_goes_before(bert, rows, tmp_path):
    written = tmp_path / "run.yaml"
    written.write_text(f"""
task: text-classification
model: {bert}
data: {rows}
holdout: 0.25
output: {tmp_path / "out"}
options:
  labels: [good, bad]
lora: 4
settings:
  learning_rate: 1e-3   # no string
  epochs: 1
  save_strategy: no
  use_cpu: true
  precision: float32
""")
    said = train(written)
    assert "2 labels: good, bad" in said.output
    assert "learning rate 0.001" in said.output
    assert "LoRA of rank 4" in said.output
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    again = train(written, "--lr", "2e-3", "--steps", 2, "--lora", 2, "--output", tmp_path / "o", "--eval-data", rows)
    for part in ("learning rate 0.002", "2 in 0.667 epochs", "LoRA of rank 2", "24 rows"):
        assert part in again.output


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("modle: x", "Did you mean 'model'"),
        ("settings: 3", "settings must hold entries"),
        ("just words\n#", "must hold entries"),
        ("a: [", "is no YAML"),
        ("settings: {learning_rat: 1}", "Did you mean 'learning_rate'"),
        ("settings: {epochs: 1, max_steps: 4}", "both set the same"),
        ("options: {text_colum: a}", "Did you mean 'text_column'"),
        ("lora: {rr: 1}", "LoraConfig has no 'rr'"),
        ("task: text-clasification", "Did you mean 'text-classification'"),
        ("holdout: 1.5", "cannot be held out"),
    ],
)
def test_a_file_with_a_mistake_is_told_what_is_wrong(entries, message, bert, rows, tmp_path):
    path = tmp_path / "run.yml"
    known = {"task": "text-classification", "model": bert, "data": rows, "output": tmp_path / "out"}
    rest = {} if "words" in entries else known
    path.write_text(entries + "\n" + "".join(f"{k}: {v}\n" for k, v in rest.items() if f"{k}:" not in entries))
    with pytest.raises(MultiheadError, match=message):
        train(path)


def test_a_plan_is_shown_and_nothing_is_written(bert, rows, tmp_path):
    said = train("ner", "-m", bert, "--data", lines(tmp_path / "t.jsonl", [{"tokens": WORDS, "tags": ["O"] * 9}] * 9),
                 "--output", tmp_path / "out", "--dry-run", "--max-length", 6, *SMALL).output  # fmt: skip
    said = " ".join(said.split())  # lines break where names are long
    count = AutoModelForMaskedLM.from_pretrained(bert).num_parameters()
    assert "parameters, all trained" in said
    assert f"{count // 1000}," in said or f"{count // 1000 - 1}," in said
    for part in ("9 rows", "longest 6", "9 of 9", "3 steps an epoch, 6 in 2 epochs", "learning rate 0.01", "float32"):
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_never_was(bert, rows, tmp_path):
    words = ["text-classification", "-m", bert, "--data", rows, "--save-every", 2, *SMALL]
    train(*words, "--output", tmp_path / "whole", "--keep", 10)
    (tmp_path / "half").mkdir()
    (tmp_path / "whole" / "checkpoint-6").rename(tmp_path / "half" / "checkpoint-6")
    with pytest.raises(UnsupportedOption, match="--resume"):
        train(*words, "--output", tmp_path / "half")
    said = train(*words, "--output", tmp_path / "half", "--resume").output
    assert "checkpoint-6" in said
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "half")]
    assert same[0] == same[1]
    assert "starting at step 0" in train(*words, "--output", tmp_path / "none", "--resume").output
    train(*words[:5], "--output", tmp_path / "half", "--overwrite", "--steps", 2, "--set", "use_cpu=true")
    assert [path.name for path in (tmp_path / "half").glob("checkpoint-*")] == ["checkpoint-2"]


def test_ctrl_c_says_how_to_go_on(bert, rows, tmp_path):
    words = ["text-classification", "-m", str(bert), "--data", str(rows), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "multihead", "train", *words, "--epochs", "100000", "--save-every", "50"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    end = time.time() + 60
    while not list((tmp_path / "out").glob("checkpoint-*")) and time.time() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert f"multihead train {shlex.join(words)} --epochs 100000 --save-every 50 --resume" in error


def test_the_card_tells_data_settings_results_and_the_command(bert, rows, tmp_path):
    words = ("text-classification", "-m", bert, "--data", rows, "--eval-data", rows, "--output", tmp_path / "mine",
             "--best", "accuracy", "--max-length", 4, *SMALL)  # fmt: skip
    train(*words)
    card = (tmp_path / "mine" / "README.md").read_text()
    steps = json.loads((tmp_path / "mine" / "trainer_state.json").read_text())
    assert card.startswith("---\nlibrary_name")
    for part in (
        "# mine", "| rows.jsonl | train | 24 |", "| rows.jsonl | evaluation | 24 |", "24 of 24 texts are longer than 4",
        "| `learning_rate` | `0.01` |", "max_length", "type: \"accuracy\"", f"step {steps['best_global_step']}",
        f"multihead train {shlex.join(map(str, words))}",
    ):  # fmt: skip
        assert part in card, part
    assert "datasets:" not in card


def test_short_words_and_long_names_are_one_setting():
    made = TrainConfig.of(
        "fill-mask", {"model": "m", "data": "d", "output": "o", "eval_data": "e"},
        {"lr": 1.0, "best": "f1", "eval_every": "50", "keep": None, "epochs": None},
        {"set": ["learning_rate=2", "save_total_limit=7"], "option": [], "lora": []},
    ).settings  # fmt: skip
    assert made["learning_rate"] == 2
    assert made["save_total_limit"] == 7
    assert (made["eval_strategy"], made["eval_steps"]) == ("steps", 50)
    assert (made["save_strategy"], made["save_steps"]) == ("steps", 50)
    assert made["load_best_model_at_end"] is True
    assert made["metric_for_best_model"] == "f1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "learning_rat=1"], "Did you mean 'learning_rate'"),
        (["--option", "colum=1"], "has no option 'colum'"),
        (["--option", "text_column=txt"], "Did you mean 'text'"),
        (["--epochs", 1, "--steps", 1], "both set the same"),
        (["--best", "f1"], "--holdout"),
        (["--eval-every", "often", "--holdout", 0.5], "number of steps"),
        (["--set", "seed"], "NAME=VALUE"),
        (["--load-in", "4bit"], "--lora"),
        (["--holdout", 0.5, "--eval-data", "x.csv"], "give one"),
        (["--schedule", "linnear"], "Did you mean 'linear'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(words, message, bert, rows, tmp_path):
    with pytest.raises(MultiheadError, match=message):
        train("text-classification", "-m", bert, "--data", rows, "--output", tmp_path / "out", *words)


def test_parts_that_lack_are_named_and_a_wrong_flag_is_told_the_nearest(bert, llama, rows, tmp_path):
    with pytest.raises(InvalidInput, match=r"--model, --output is not given"):
        train("fill-mask", "--data", rows)
    with pytest.raises(ModelNotFound, match=r"none\.csv"):
        train("fill-mask", "-m", bert, "--data", tmp_path / "none.csv", "--output", tmp_path / "out")
    result = CliRunner().invoke(cli, ["train", "--epoch", "3"])
    assert result.exit_code == 2
    assert "--epochs" in result.stderr
    with pytest.raises(UnsupportedOption, match="choose another"):
        train("text-classification", "-m", bert, "--data", rows, "--output", bert)
    with pytest.raises(UnsupportedOption, match="an adapter cannot be saved"):
        train("text-classification", "-m", bert, "--data", rows, "--output", llama, "--lora", 2)


def test_a_bad_row_is_named_with_its_line(bert, rows, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("text,label\n" + "".join(f"{text(n)},good\n" for n in range(5)) + "fox\n")
    with pytest.raises(InvalidInput, match=r"[Ll]ine 7 of bad\.csv"):
        train("text-classification", "-m", bert, "--data", path, "--output", tmp_path / "out")
    lines(tmp_path / "b.jsonl", [{"text": text(n), "label": "good"} for n in range(8)] + [{"text": 3, "label": "bad"}])
    with pytest.raises(InvalidInput, match=r"[Ll]ine 9 of b\.jsonl"):  # held out or not
        train("text-classification", "-m", bert, "--data", tmp_path / "b.jsonl", "--holdout", 0.3, "--output", "o")


def test_files_whose_lines_belong_together_are_named_by_column(marian, tmp_path):
    for name in ("en", "pt"):
        (tmp_path / f"train.{name}").write_text("".join(f"{text(n)}\n" for n in range(8)))
    said = train("translation", "-m", marian, "--data", f"source={tmp_path / 'train.en'}", "--data",
                 f"target={tmp_path / 'train.pt'}", "--output", tmp_path / "out", "--dry-run", *SMALL)  # fmt: skip
    assert "train.en and train.pt: 8 rows" in said.output
    files = f"{{source: {tmp_path / 'train.en'}, target: {tmp_path / 'train.pt'}}}"
    (tmp_path / "run.yaml").write_text(f"task: translation\nmodel: {marian}\ndata: {files}\neval_data: {files}\n")
    flags = [word for side in ("source=train.en", "target=train.pt") for word in (
        "--eval-data", side.replace("=", f"={tmp_path}/"))]  # fmt: skip
    for words in ([], flags):
        said = train(tmp_path / "run.yaml", *words, "--output", tmp_path / "out", "--overwrite", *SMALL)
        assert "Evaluation  train.en and train.pt: 8 rows" in said.output
        assert "perplexity" in said.output


def test_adapters_learn_beside_a_model_in_four_bits(llama, tmp_path):
    path = lines(tmp_path / "rows.jsonl", [{"text": text(n)} for n in range(8)])
    said = train("text-generation", "-m", llama, "--data", path, "--output", tmp_path / "out", "--lora", 4,
                 "--load-in", "4bit", "--lora-set", "target_modules=all-linear", *SMALL)  # fmt: skip
    assert "LoRA of rank 4 over a 4-bit model" in said.output
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    assert done("run", "text-generation", "-m", tmp_path / "out", "the fox", "--set", "max_new_tokens=2").stdout


def test_only_the_first_process_speaks(bert, rows, tmp_path, monkeypatch):
    words = ("text-classification", "-m", bert, "--data", rows, "--output", tmp_path / "out", "--dry-run")
    assert "24 rows" in train(*words).output
    monkeypatch.setenv("RANK", "1")
    assert train(*words).output == ""


def test_a_package_that_scores_is_missed_before_training(bert, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UnsupportedOption, match=r"scikit-learn.*multihead\[train\]"):
        train("text-classification", "-m", bert, "--data", rows, "--holdout", 0.2, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
