"""One writer of a folder at a time, and a warning where the file system may not keep that promise."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

from ssn_edge.errors import InputError
from ssn_edge.text import one_line

LOCK = ".lock"
"""Stays in the folder; the lock is the system's, on the open file, and ends with its process."""

NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "lustre",
    "beegfs", "gpfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "ncpfs", "vboxsf", "fuse.vmhgfs-fuse",
})

MOUNTS = Path("/proc/self/mountinfo")


@contextlib.contextmanager
def locked(folder: Path, log: Callable[[str], object]) -> Iterator[None]:
    """Hold the folder's lock. InputError, naming the process that has it, where another does.

    A writer that finishes, or fails, leaves the file empty; one that was killed leaves its name there, and
    who takes the lock after it says so.
    """
    kind = network_type(folder)
    if kind is not None:
        log(f"warning: {folder} is on {kind}, where renaming, syncing and locking are as good as the server "
            "makes them; write to a local disk and copy the finished bundle")
    handle = _taken(folder / LOCK, folder)
    try:
        left = _holder(handle)
        if left:
            log(f"{folder}: taking over from {left}, which ended without finishing")
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        name = f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})"
        os.write(handle, name.encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        os.close(handle)


def _taken(path: Path, folder: Path) -> int:
    """The open and locked file."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags, 0o666)
        try:
            _lock(handle)
            found = os.lstat(path) if os.path.lexists(path) else None
            if found is not None and found.st_ino == os.fstat(handle).st_ino:
                return handle
        except OSError as error:
            holder = _holder(handle) or "another process"
            os.close(handle)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise InputError(f"{folder}: {holder} is writing it; wait until that has finished") from None
            raise InputError(
                f"{folder}: its file system gives no locks ({error.strerror}); write to a local disk and copy"
            ) from None
        os.close(handle)  # its last owner removed it meanwhile


def _holder(handle: int) -> str:
    """Who wrote its name into the file; empty where nobody did, or where that cannot be read."""
    with contextlib.suppress(OSError):
        os.lseek(handle, 0, os.SEEK_SET)
        return one_line(os.read(handle, 200).decode(errors="replace"))
    return ""


def _lock(handle: int) -> None:
    """The whole file, or OSError at once."""
    try:
        import fcntl
    except ImportError:  # Windows; never tried there
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def network_type(folder: Path) -> Optional[str]:
    """The file system's type where it is a network's, by the longest mount point above the folder; None
    otherwise, and where the system does not tell."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    place, best, kind = str(folder.resolve()), "", None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        columns = fields.split()
        mount = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), columns[4]) if len(columns) > 4 else ""
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if mount and inside and len(mount) >= len(best):
            best, kind = mount, rest.split()[0] if rest.split() else None
    return kind if kind in NETWORK else None
