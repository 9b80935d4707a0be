"""A writer that is killed at any moment leaves the old bundle or the new one.

``strace`` counts the real command's system calls that write, then kills it at each of them in turn, before
the call is made. A file that is created has nothing in it until the next of these calls, so creating needs
no point of its own.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter

import pytest
import tiny
from click.testing import CliRunner
from waiting import PATIENCE_S, until

from ssn_edge import Detector
from ssn_edge.model import bundle
from ssn_export.cli import main
from ssn_export.gates import parity

WRITING = [
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "fallocate",
    "ftruncate", "truncate", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "utimensat", "fsync",
    "fdatasync", "msync",
]
FULL = {"a" * 64: 255.0, "b" * 64: 510.0}
"""Of two models: what their scores are relative to, by which an answer tells whose graph gave it."""

OLD, NEW = FULL


def can_trace():
    try:
        done = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True)
        return done.returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace")


@pytest.fixture
def sets(tmp_path):
    """Plain files of both models."""
    found = {}
    for checkpoint, full in FULL.items():
        folder = tmp_path / checkpoint[0]
        folder.mkdir()
        for name, precision in (("m.onnx", "float32"), ("m.fp16.onnx", "float16")):
            about = tiny.info(checkpoint_sha256=checkpoint, precision=precision)
            tiny.write_model(folder / name, about.to_json(), full=full)
        parity.write_reference(folder / "m.reference.npz", tiny.reference(2, full))
        found[checkpoint] = folder / "m.onnx"
    return found


def arguments(source, path):
    code = f"import sys; sys.path[:0] = {sys.path!r}; from ssn_export.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-B", "-c", code, "--pack", str(source), "--out", str(path)]


def traced(log, options, command):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    start = ["strace", "-f", "-qq", "-o", str(log), *options]
    return subprocess.run(
        [*start, *command], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )


def counted(tmp_path, command):
    """How often the command makes each of the calls; one thread makes them all."""
    log = tmp_path / "strace.log"
    done = traced(log, [f"-etrace={','.join('?' + name for name in WRITING)}"], command)
    assert done.returncode == 0, done.stderr
    lines = [re.match(r"(\d+) +(\w+)\(", line) for line in log.read_text().splitlines()]
    calls = [match.groups() for match in lines if match]
    assert len({process for process, _ in calls}) == 1
    return Counter(name for _, name in calls)


def killed_at(tmp_path, name, number, command):
    """Whether the command was killed before its ``number``-th call of that name."""
    inject = [f"-etrace={name}", f"-einject={name}:signal=KILL:when={number}"]
    done = traced(tmp_path / "strace.log", inject, command)
    assert done.returncode in (0, -9, 137), done.stderr
    return done.returncode != 0


def pack(source, path):
    result = CliRunner().invoke(main, ["--pack", str(source), "--out", str(path)])
    assert result.exit_code == 0, result.output


def model_of(path):
    """Whose bundle it is; all of it, and its answers. While nobody writes it."""
    found = bundle.read(path)
    for entry in found.entries:
        bundle.check(found, entry, force=True)
    for precision in ("float32", "float16"):
        assert opened_and_run(path, precision) == found.model.checkpoint_sha256
    return found.model.checkpoint_sha256


def opened_and_run(path, precision):
    """Whose graph it is, by what it says and by what it answers."""
    with Detector.open(path, "onnxruntime", precision=precision) as detector:
        checkpoint = detector.info.checkpoint_sha256
        truth = tiny.reference(1, FULL[checkpoint])
        assert abs(detector.infer_batch(truth.images)[1][0] - truth.scores[0]) < 1e-6
    return checkpoint


def test_killed_at_every_call(sets, tmp_path):
    old, path = tmp_path / "old.ssn", tmp_path / "m.ssn"
    pack(sets[OLD], old)
    shutil.copytree(old, path)
    calls = counted(tmp_path, arguments(sets[NEW], path))
    assert model_of(path) == NEW
    assert {"write", "fsync", "rename"} <= set(calls)
    outcomes = Counter()
    for name, count in calls.items():
        for number in range(1, count + 2):
            shutil.rmtree(path)
            shutil.copytree(old, path)
            killed = killed_at(tmp_path, name, number, arguments(sets[NEW], path))
            assert killed is (number <= count), f"{name} {number} of {count}"
            outcomes[killed, model_of(path)] += 1
            pack(sets[NEW], path)  # and whoever comes next can write
            assert model_of(path) == NEW
            assert not [one for one in path.iterdir() if one.name.startswith(".new-")]
    print(f"{sum(calls.values())} points: {dict(calls)}; {dict(outcomes)}")
    assert outcomes[True, OLD] + outcomes[True, NEW] == sum(calls.values())
    assert outcomes[False, NEW] == len(calls) and not outcomes[False, OLD]
    assert outcomes[True, OLD] > 10 and outcomes[True, NEW] >= 2


def test_killed_in_its_first_export(sets, tmp_path):
    """Where there was none, there is none, or the new one."""
    path = tmp_path / "m.ssn"
    calls = counted(tmp_path, arguments(sets[NEW], path))
    for name, count in calls.items():
        for number in range(1, count + 1, 3):
            shutil.rmtree(path, ignore_errors=True)
            assert killed_at(tmp_path, name, number, arguments(sets[NEW], path))
            assert not (path / bundle.MANIFEST).exists() or model_of(path) == NEW
            pack(sets[NEW], path)
            assert model_of(path) == NEW


def test_a_reader_never_fails_meanwhile(sets, tmp_path):
    """It opens the bundle and judges a frame in a loop, while one writer after the other is killed."""
    path = tmp_path / "m.ssn"
    pack(sets[OLD], path)
    calls = counted(tmp_path, arguments(sets[NEW], path))
    seen, failures, end = Counter(), [], threading.Event()

    def read():
        while not end.is_set():
            try:
                seen[opened_and_run(path, "float16" if sum(seen.values()) % 2 else "float32")] += 1
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for name, count in calls.items():
            for number in range(1, count + 1):
                other = OLD if model_of(path) == NEW else NEW
                killed_at(tmp_path, name, number, arguments(sets[other], path))
                assert model_of(path) in FULL
        last = seen.copy()
        pack(sets[OLD], path)
        until(lambda: seen[OLD] > last[OLD] + 1, PATIENCE_S)
    finally:
        end.set()
        reader.join(PATIENCE_S)
    print(f"{sum(seen.values())} times opened and run, {len(failures)} failures")
    assert not failures and not reader.is_alive()
    assert seen[OLD] and seen[NEW] and sum(seen.values()) > sum(calls.values())
