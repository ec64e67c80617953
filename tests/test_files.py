"""Files are there whole or not at all, and nothing that a command reads is written by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from multihead.errors import InvalidInput
from multihead.files import check_target, replace_file, same_file, staging_path, write_text


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "first")
    with pytest.raises(OSError, match="half"), replace_file(path) as new:
        raise OSError(new.write_text("half") and "half")
    assert path.read_text() == "first"
    write_text(path, "half \ud83d")
    assert path.read_text() == "half \\ud83d"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("kept")
    link.symlink_to(other)
    write_text(link, "new")
    assert (other.read_text(), link.read_text(), link.is_symlink()) == ("kept", "new", False)


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path):
    program = (
        "import sys, time, pathlib\nfrom multihead.files import staging_path\n"
        "with staging_path(pathlib.Path(sys.argv[1]), 'a') as new:\n"
        "    new.write_text('half')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    with staging_path(tmp_path, "a") as new:
        new.write_text("mine")
    (left,) = os.listdir(tmp_path)
    assert (tmp_path / left / "new").read_text() == "half"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with staging_path(tmp_path, "b"):
        assert left in os.listdir(tmp_path)
    with staging_path(tmp_path, "a"):
        assert left not in os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []


def test_many_processes_write_one_file_whole(tmp_path):
    program = (
        "import sys, pathlib\nfrom multihead.files import write_text\n"
        "for n in range(40): write_text(pathlib.Path(sys.argv[1]), sys.argv[2] * 5000)\n"
    )
    path = tmp_path / "a"
    processes = [subprocess.Popen([sys.executable, "-c", program, str(path), sign]) for sign in "xyz"]
    end = time.time() + 60
    while any(process.poll() is None for process in processes) and time.time() < end:
        if path.exists():
            text = path.read_text()
            assert text in ("x" * 5000, "y" * 5000, "z" * 5000)
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["a"]


def test_a_target_that_is_read_by_any_name_is_refused(tmp_path):
    source, hard, soft = tmp_path / "in.csv", tmp_path / "hard.csv", tmp_path / "soft.csv"
    source.write_text("text\n")
    hard.hardlink_to(source)
    soft.symlink_to(source)
    with source.open() as file:
        for target, message in ((source, "reads"), (hard, "reads"), (soft, "symbolic link")):
            with pytest.raises(InvalidInput, match=message):
                check_target(target, "--output", [source])
            assert same_file(target, file.fileno())
        with pytest.raises(InvalidInput, match="reads"):
            check_target(hard, "--output", [None, file.fileno()])
    for target, message in (
        (tmp_path, "folder"),
        ("/dev/null", "no regular file"),
        (tmp_path / "x" / "y", "no folder"),
    ):
        with pytest.raises(InvalidInput, match=message):
            check_target(type(tmp_path)(target), "--output", [source])
    check_target(tmp_path / "new.csv", "--output", [source])
    assert sorted(os.listdir(tmp_path)) == ["hard.csv", "in.csv", "soft.csv"]
