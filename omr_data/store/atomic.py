"""A file is there whole or not at all: written under a temporary name, flushed to the disk, then renamed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omr_data.errors import StoreError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on a clean exit it is fsynced and renamed to `path`, else deleted.

    Costs two fsyncs (file and folder), about 2 ms on a local disk.

    Raises:
        StoreError: the disk is full, read-only or refuses the write. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _fsync(temporary, os.O_RDWR)
        temporary.rename(path)
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


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = (
        "Free some space or choose another folder with --work, then run the same command again"
        if full
        else "Check that the folder exists and may be written, then run the same command again"
    )
    return f"{path} cannot be written: {error.strerror or error}. Nothing half-written was left. {advice}: finished shards are kept."
