"""Writing a bundle: one writer, whole or not at all, whatever the disk does."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tiny
from click.testing import CliRunner
from waiting import PATIENCE_S, until

from ssn_edge import Detector, ModelError, bundle
from ssn_edge.errors import InputError, VersionError
from ssn_export import bundle_writer, write_lock
from ssn_export.cli import main

OLD, NEW = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info()], checkpoint_sha256=OLD)


def replace(path, say=lambda line: None, checkpoint=NEW):
    with bundle_writer.writing(path, say) as writer:
        entries = [writer.add(content) for content in tiny.contents(checkpoint_sha256=checkpoint)]
        return writer.commit(tiny.info(checkpoint_sha256=checkpoint), entries)


def checkpoint_of(path):
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.detect(tiny.reference(1).images[0]).map_max > 0
        return detector.info.checkpoint_sha256


def names(path):
    return {one.name for one in path.iterdir()} - {bundle.CHECKED}


def age(path, seconds):
    for one in path.iterdir():
        os.utime(one, (time.time() - seconds,) * 2)


def test_a_replaced_bundle_is_the_new_one(path):
    before = names(path)
    found = replace(path)
    assert checkpoint_of(path) == NEW and not found.of_role("engine")
    assert found == bundle.read(path)
    assert before <= names(path), "a reader may be about to open the old files"


def test_files_that_nothing_names_go_after_a_while(path):
    """Counted from when they lost their name: not from when they were made."""
    old = {one.name for one in bundle.read(path).entries}
    (path / "notes.txt").write_text("the user's")
    age(path, 1e6)
    new = {one.name for one in replace(path).entries}
    said = []
    replace(path, said.append, checkpoint=NEW)
    assert old <= names(path) and not said
    age(path, bundle_writer.GRACE_S - 60)
    replace(path, said.append)
    assert old <= names(path) and not said
    age(path, bundle_writer.GRACE_S + 60)
    replace(path, said.append)
    gone = old - new
    assert not gone & names(path) and new <= names(path) and (path / "notes.txt").exists()
    assert said == [f"{path}: removed {len(gone)} files that nothing names (0.0 MB)"]


def test_an_equal_file_stays_as_it_is(path):
    """Under a reader nothing is written, also where the content is the same; a damaged one is mended."""
    before = {one.role: os.stat(path / one.name).st_ino for one in bundle.read(path).entries}
    found = replace(path, checkpoint=OLD)
    after = {one.role: os.stat(path / one.name).st_ino for one in found.entries}
    assert after == {role: before[role] for role in after}
    place = found.place(found.of_role("half")[0])
    data = place.read_bytes()
    place.write_bytes(data[:-1] + b"\0")
    replace(path, checkpoint=OLD)
    assert place.read_bytes() == data


def test_names_that_begin_alike(path):
    """Eight digits of a digest are short: a file in use is not replaced by another of that beginning."""
    with bundle_writer.writing(path, print) as writer:
        (entry,) = writer.current.of_role("float32")
        digest = entry.sha256[:8] + "0" * 56
        assert writer._name("float32", digest, ".onnx") == f"float32-{digest}.onnx"
        assert writer._name("float32", entry.sha256, ".onnx") == entry.name
    assert bundle.NAME.fullmatch(f"float32-{digest}.onnx")


def test_what_is_not_committed_goes(path, tmp_path):
    before = names(path)
    with pytest.raises(KeyError), bundle_writer.writing(path, print) as writer:
        for content in tiny.contents(checkpoint_sha256=NEW):
            writer.add(content)
        assert len(names(path)) > len(before)
        raise KeyError
    assert names(path) == before and checkpoint_of(path) == OLD
    with pytest.raises(KeyError), bundle_writer.writing(tmp_path / "new" / "n.ssn", print) as writer:
        writer.add(tiny.contents()[0])
        raise KeyError
    assert not (tmp_path / "new" / "n.ssn").exists()


def test_a_manifest_that_no_reader_takes_is_not_written(path):
    with pytest.raises(ModelError, match="expected 1 to 64"), bundle_writer.writing(path, print) as writer:
        writer.commit(tiny.info(checkpoint_sha256=NEW), [])
    assert checkpoint_of(path) == OLD


def test_fields_of_later_versions_stay_when_an_entry_is_added(path):
    document = json.loads((path / bundle.MANIFEST).read_text())
    document["minor"], document["promise"] = 9, {"parts": 40}
    document["files"][0]["note"] = "kept"
    (path / bundle.MANIFEST).write_text(json.dumps(document))
    with bundle_writer.writing(path, print) as writer:
        (content,) = tiny.contents([tiny.engine_info(batch=1)], roles=())
        writer.commit_more([writer.add(content)], writer.current.of_role("engine"))
    after = json.loads((path / bundle.MANIFEST).read_text())
    assert (after["minor"], after["promise"], after["files"][0]) == (9, {"parts": 40}, document["files"][0])
    assert [one.engine.batch for one in bundle.read(path).of_role("engine")] == [1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
def test_a_damaged_bundle_may_be_replaced(path, content):
    (path / bundle.MANIFEST).write_text(content)
    with bundle_writer.writing(path, print) as writer:
        assert writer.current is None and "manifest.json" in str(writer.problem)
    replace(path)
    assert checkpoint_of(path) == NEW


def test_one_of_a_later_version_may_not(path):
    document = json.loads((path / bundle.MANIFEST).read_text())
    (path / bundle.MANIFEST).write_text(json.dumps({**document, "schema": 2}))
    with pytest.raises(VersionError, match="install the one that made it"):
        replace(path)


def test_places_that_are_no_place_for_a_bundle(tmp_path):
    (tmp_path / "photos.ssn").mkdir()
    (tmp_path / "photos.ssn" / "a.png").write_text("")
    with pytest.raises(InputError, match=r"photos.ssn: is a folder with other files .a.png.; choose another"):
        replace(tmp_path / "photos.ssn")
    (tmp_path / "file.ssn").write_text("")
    with pytest.raises(InputError, match="file.ssn: is a file"):
        replace(tmp_path / "file.ssn")
    with pytest.raises(InputError, match="cannot be written .File exists"):
        replace(tmp_path / "file.ssn" / "m.ssn")
    with pytest.raises(InputError, match="a name that ends in .ssn"):
        replace(tmp_path / "m")
    (tmp_path / "empty.ssn").mkdir()
    replace(tmp_path / "empty.ssn")
    (tmp_path / "link.ssn").symlink_to("empty.ssn")
    replace(tmp_path / "link.ssn", checkpoint=OLD)
    assert checkpoint_of(tmp_path / "empty.ssn") == OLD and (tmp_path / "link.ssn").is_symlink()


HOLD = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from ssn_export import bundle_writer
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
            with pytest.raises(InputError, match=f"m.ssn: process {other.pid} on .*, is writing it; wait"):
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


FULL = OSError(errno.ENOSPC, "No space left on device")
IO = OSError(errno.EIO, "Input/output error")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


class FailsAt:
    """A call that fails from its nth on."""

    def __init__(self, real, number, error):
        self.real, self.left, self.error = real, number, error

    def __call__(self, *words, **more):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.real(*words, **more)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("call, error", [
    ("replace", IO), ("replace", READ_ONLY), ("fsync", IO), ("fsync", FULL),
])
def test_every_renaming_and_syncing_may_fail(path, monkeypatch, call, error, number):
    """Three content files and a manifest are synced, and the folder twice; renamed are the manifest and two
    files, since the frames are those that the old one has."""
    before = names(path)
    calls = {"replace": 3, "fsync": 6}[call]
    failing = FailsAt(getattr(os, call), number, error)
    with monkeypatch.context() as patch:
        patch.setattr(bundle_writer.os, call, failing)
        if number >= calls:
            replace(path)
            assert failing.left == number - calls
        else:
            with pytest.raises(InputError) as caught:
                replace(path)
            line = str(caught.value)
            assert error.strerror in line and str(path) in line and "\n" not in line
            written = call == "fsync" and number == calls - 1
            state = "written, but the disk does not promise" if written else "the bundle is as it was"
            assert state in line
    committed = number >= calls or call == "fsync" and number == calls - 1
    assert checkpoint_of(path) == (NEW if committed else OLD)
    if not committed:
        assert names(path) == before
    replace(path)
    assert checkpoint_of(path) == NEW


@pytest.mark.parametrize("number", range(3))
def test_no_space_for_one_of_the_files(path, tmp_path, number):
    before = names(path)

    def contents():
        found = tiny.contents(checkpoint_sha256=NEW)

        def full(place):
            place.write_bytes(b"the first part")
            raise FULL

        found[number] = bundle_writer.Content(found[number].role, full)
        return found

    for place, said in ((path, "is as it was"), (tmp_path / "new.ssn", "was not made")):
        with pytest.raises(InputError, match=f"not written .No space left on device.; the bundle {said}"):
            with bundle_writer.writing(place, print) as writer:
                for content in contents():
                    writer.add(content)
    assert names(path) == before and checkpoint_of(path) == OLD
    assert not (tmp_path / "new.ssn").exists()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.path[:0] = {paths!r}
from ssn_export.cli import main
main({words!r})
"""


def test_a_real_limit_in_the_real_command(path, tmp_path):
    """The kernel refuses the second file, which is larger than the first."""
    folder = tmp_path / "set"
    folder.mkdir()
    tiny.write_model(folder / "n.onnx", tiny.info(checkpoint_sha256=NEW).to_json())
    from ssn_export import parity

    parity.write_reference(folder / "n.reference.npz", tiny.reference(8))
    sizes = [(folder / name).stat().st_size for name in ("n.onnx", "n.reference.npz")]
    assert sizes[0] < 4096 < sizes[1]
    words = ["--pack", str(folder / "n.onnx"), "--out", str(tmp_path / "n.ssn")]
    code = LIMITED.format(limit=4096, paths=sys.path, words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr and "the bundle was not made" in done.stderr
    assert not (tmp_path / "n.ssn").exists()


def test_a_folder_that_cannot_be_written(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path / write_lock.LOCK))

    monkeypatch.setattr(write_lock, "_taken", refuse)
    with pytest.raises(InputError, match=r".lock: not written .Permission denied.; the bundle is as it was"):
        replace(path)


MOUNTINFO = """\
22 1 0:20 / / rw,relatime - overlay overlay rw
31 22 0:31 / {place} rw - {kind} server:/export rw
40 22 0:40 / {place}-not rw - nfs4 server:/other rw
broken line
"""


@pytest.mark.parametrize(
    "kind, warns", [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False)]
)
def test_network_file_systems_are_warned_of(path, tmp_path, monkeypatch, kind, warns):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTINFO.format(place=path.parent.resolve(), kind=kind))
    monkeypatch.setattr(write_lock, "MOUNTS", mounts)
    said = []
    replace(path, said.append)
    assert checkpoint_of(path) == NEW and bool(said) is warns
    if warns:
        assert said == [said[0]] and said[0].startswith(f"warning: {path} is on {kind}, where renaming")


def test_a_file_system_without_locks_or_folder_syncs(path, monkeypatch):
    real = os.fsync

    def sync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(bundle_writer.os, "fsync", sync)
        replace(path)
    assert checkpoint_of(path) == NEW

    def no_locks(handle):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(write_lock, "_lock", no_locks)
    with pytest.raises(InputError, match="gives no locks .Operation not supported.; write to a local"):
        replace(path)


def test_commands_say_so_in_one_line(path, tmp_path):
    """The same by the command, which has nothing left over afterwards."""
    folder = tmp_path / "set"
    folder.mkdir()
    model = tiny.write_model(folder / "n.onnx")
    other = holder(path)
    (path / bundle.MANIFEST).rename(tmp_path / "manifest.json")

    def fails(*words):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 2 and result.output.count("error: ") == 1, result.output
        return result.output.splitlines()[-1]

    assert "is writing it; wait" in fails("--pack", model, "--out", path)
    other.communicate("", timeout=PATIENCE_S)
    until(lambda: other.poll() is not None, "the other writer to end")
    assert "no n.reference.npz" in CliRunner().invoke(
        main, ["--pack", str(model), "--out", str(tmp_path / "n.ssn")]
    ).output
