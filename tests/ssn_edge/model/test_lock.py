"""One writer at a time, and who it is."""

import signal
import subprocess
import sys
import threading

import pytest
import tiny
from bundles import NEW, OLD, checkpoint_of, old, replace
from click.testing import CliRunner
from waiting import PATIENCE_S

from ssn_edge.errors import InputError
from ssn_edge.model import bundle, bundle_writer
from ssn_export.cli import main


@pytest.fixture
def path(tmp_path):
    return old(tmp_path)


HOLD = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from ssn_edge.model import bundle_writer
with bundle_writer.writing(Path({path!r}), print) as writer:
    print("holding", flush=True)
    sys.stdin.read()
"""


def holder(path):
    """Another process that writes the bundle, until its input ends."""
    code = HOLD.format(paths=sys.path, path=str(path))
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert other.stdout.readline() == "holding\n"
    return other


def test_one_writer_at_a_time(path):
    other = holder(path)
    try:
        for _ in range(2):
            with pytest.raises(InputError, match=f"m.ssn: process {other.pid} on .* is writing it; wait"):
                replace(path)
        assert checkpoint_of(path) == OLD  # readers do not wait
    finally:
        other.communicate("", timeout=PATIENCE_S)
    said = []
    replace(path, said.append)
    assert other.returncode == 0 and not said and checkpoint_of(path) == NEW


def test_a_dead_writers_lock_is_taken_over_and_said_so(path):
    other = holder(path)
    (path / ".new-half.onnx").write_bytes(b"half of it")
    other.send_signal(signal.SIGKILL)
    other.communicate(timeout=PATIENCE_S)
    said = []
    replace(path, said.append)
    assert said[0].startswith(f"{path}: taking over from process {other.pid} on ")
    assert said[0].endswith("which ended without finishing")
    assert "removed 1 files that nothing names" in said[1] and not (path / ".new-half.onnx").exists()
    assert checkpoint_of(path) == NEW
    said.clear()
    replace(path, said.append)
    assert not said


def test_threads_of_one_process_are_two_writers_too(path):
    inside, go_on, errors = threading.Event(), threading.Event(), []

    def first():
        with bundle_writer.writing(path, print):
            inside.set()
            go_on.wait(PATIENCE_S)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(PATIENCE_S)
    try:
        replace(path)
    except InputError as error:
        errors.append(str(error))
    go_on.set()
    thread.join(PATIENCE_S)
    assert "is writing it" in errors[0]


def test_commands_say_so_in_one_line(path, tmp_path):
    """The same by the command, which has nothing left over afterwards."""
    folder = tmp_path / "set"
    folder.mkdir()
    model = tiny.write_model(folder / "n.onnx")
    other = holder(path)
    (path / bundle.MANIFEST).rename(tmp_path / "manifest.json")

    def fails(*arguments):
        result = CliRunner().invoke(main, [str(word) for word in arguments])
        assert result.exit_code == 2 and result.output.count("error: ") == 1, result.output
        return result.output.splitlines()[-1]

    assert "is writing it; wait" in fails("--pack", model, "--out", path)
    other.communicate("", timeout=PATIENCE_S)
