"""Files and folders that are there whole or not at all.

Each is written under a temporary name beside its place, flushed to the disk, and renamed. A reader
therefore never sees half of one, and a process that is killed leaves at most a temporary name
behind.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omr_data.errors import StoreError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames it to `path` on a clean exit.

    Costs two fsyncs (file and folder), about 2 ms on a local disk.

    Raises:
        StoreError: The disk is full, read-only or refuses the write. Nothing is left behind.
    """
    # The process id keeps two workers that write the same shard apart; both write equal bytes.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _fsync(temporary, os.O_RDWR)
        temporary.rename(path)
        # Without this, a power failure may keep the file's bytes and lose its name.
        _fsync(path.parent, os.O_RDONLY)
    except OSError as error:
        raise StoreError(_explain(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes one whole file atomically. Raises StoreError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes one whole UTF-8 file atomically. Raises StoreError."""
    write_bytes(path, text.encode())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, and renames it to `path` on a clean exit.

    Several processes may do this for one path at once: each has a temporary folder of its own, and
    the first one to finish wins.

    Raises:
        FileExistsError: There is a folder at `path` by now.
        OSError: The disk refuses a write. Nothing is left behind.
    """
    with _scratch(path) as temporary:
        yield temporary
        publish_folder(temporary, path)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Like `new_folder`, but what was at `path` is replaced.

    Raises:
        OSError: The disk refuses a write. What was at `path` before is still there.
    """
    with _scratch(path) as temporary:
        yield temporary
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        if path.exists():
            # Two renames are as close as POSIX comes to exchanging folders: between them there is
            # no folder at `path` for some microseconds, and never half of one.
            path.rename(aside)
        publish_folder(temporary, path)
        shutil.rmtree(aside)


def publish_folder(temporary: Path, path: Path) -> None:
    """Flushes a folder with everything in it, and renames it.

    Args:
        temporary: The folder that was written, on the same file system as `path`.
        path: Its final place.

    Raises:
        FileExistsError: There is a folder at `path` that is not empty.
    """
    # One fsync per file, where os.sync() would wait for every writer of the machine.
    for folder, _, names in os.walk(temporary):
        for name in names:
            _fsync(Path(folder, name), os.O_RDONLY)
        _fsync(Path(folder), os.O_RDONLY)
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(errno.EEXIST, "exists already", str(path)) from error
        raise
    _fsync(path.parent, os.O_RDONLY)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which is locked for as long as this process writes it.

    The lock tells a folder in use from one whose process was killed: only the latter are deleted.
    The system releases a lock when its holder ends, so a process id that was used again does no
    harm.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        if stale.is_dir() and _lock(stale) is not None:
            shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    # mkdtemp makes folders that only their owner may open, which is too strict for a release.
    temporary.chmod(0o755)
    # Nobody can have locked it before: its name did not exist until now.
    descriptor = _lock(temporary)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """An open descriptor that holds the folder's lock, or None while another process holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, error: OSError) -> str:
    # What to do depends on the cause, and the system's own words rarely say it.
    # EFBIG too: a limit on file size is met where a full disk is.
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "Check that the folder exists and may be written"
    if full:
        advice = "Free some space or choose another folder with --work"
    return (
        f"{path} cannot be written: {error.strerror or error}. Nothing half-written was left. "
        f"{advice}, then run the same command again: finished shards are kept."
    )
