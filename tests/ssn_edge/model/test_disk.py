"""What the disk refuses while a bundle is written: one line each, and the old bundle still opens."""

import errno
import os
import subprocess
import sys

import pytest
import tiny
from bundles import NEW, OLD, checkpoint_of, names, old, replace

from ssn_edge.errors import InputError
from ssn_edge.model import bundle_writer, lock


@pytest.fixture
def path(tmp_path):
    return old(tmp_path)


FULL = OSError(errno.ENOSPC, "No space left on device")
IO = OSError(errno.EIO, "Input/output error")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


class FailsAt:
    """A call that fails from its nth on."""

    def __init__(self, real, number, error):
        self.real, self.left, self.error = real, number, error

    def __call__(self, *arguments, **more):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.real(*arguments, **more)


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
main({arguments!r})
"""


def test_a_real_limit_in_the_real_command(path, tmp_path):
    """The kernel refuses the second file, which is larger than the first."""
    folder = tmp_path / "set"
    folder.mkdir()
    tiny.write_model(folder / "n.onnx", tiny.info(checkpoint_sha256=NEW).to_json())
    from ssn_export.gates import parity

    parity.write_reference(folder / "n.reference.npz", tiny.reference(8))
    sizes = [(folder / name).stat().st_size for name in ("n.onnx", "n.reference.npz")]
    assert sizes[0] < 4096 < sizes[1]
    arguments = ["--pack", str(folder / "n.onnx"), "--out", str(tmp_path / "n.ssn")]
    code = LIMITED.format(limit=4096, paths=sys.path, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr and "the bundle was not made" in done.stderr
    assert not (tmp_path / "n.ssn").exists()


def test_a_folder_that_cannot_be_written(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path / lock.LOCK))

    monkeypatch.setattr(lock, "_taken", refuse)
    with pytest.raises(InputError, match=r"m.ssn: not written .Permission denied.; the bundle is as it was"):
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
    monkeypatch.setattr(lock, "MOUNTS", mounts)
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

    monkeypatch.setattr(lock, "_lock", no_locks)
    with pytest.raises(InputError, match="gives no locks .Operation not supported.; write to a local"):
        replace(path)
    with open(path / lock.LOCK, "rb") as file:  # never removed: it may be the lock of another
        assert os.fstat(file.fileno()).st_nlink == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), IO])
def test_what_comes_just_after_the_manifest_is_in_place(path, monkeypatch, error):
    """Ctrl-C, or a file system that renamed and lost the answer: the new bundle is there, and stays whole."""
    real = os.replace

    def strikes(source, target):
        real(source, target)
        if str(target).endswith("manifest.json"):
            raise error

    monkeypatch.setattr(bundle_writer.os, "replace", strikes)
    with pytest.raises((KeyboardInterrupt, InputError)) as caught:
        replace(path)
    assert error is not IO or "the bundle is the new one" in str(caught.value)
    monkeypatch.undo()
    assert checkpoint_of(path) == NEW
    fresh = path.with_name("fresh.ssn")
    monkeypatch.setattr(bundle_writer.os, "replace", strikes)
    with pytest.raises((KeyboardInterrupt, InputError)):
        replace(fresh)
    monkeypatch.undo()
    assert checkpoint_of(fresh) == NEW
