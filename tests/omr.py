"""Runs the command line in a process of its own, as a user does."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOGGED = ROOT / "tests" / "recipes" / "logged.py"


def command(*arguments: object) -> list[str]:
    """The command line of one call."""
    return [sys.executable, "-m", "omr_data.cli", *map(str, arguments)]


def environment(**extra: object) -> dict[str, str]:
    """This process's environment without a mirror, and with what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMR_")}
    return kept | {name: str(value) for name, value in extra.items()}


def omr(*arguments: object, code: int = 0, **extra: object) -> "subprocess.CompletedProcess[str]":
    """Runs `omr` to its end and checks its exit code; what it printed is in the result."""
    done = subprocess.run(
        command(*arguments),
        env=environment(**extra),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == code, (
        f"exit code {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    )
    return done


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
