"""Reads a document of docs/ as a newcomer does: writes its files and runs its commands, in order.

What a block is for stands after the language of its fence, where GitHub does not show it:

    ```python title=my_set.py     the block is written to this file, in a copy of the repository
    ```python                     the block is run
    ```console                    each line after "$ " is run, and must print the lines below it
    ```console exit=1             ... and must end with this exit code
    ```console background         ... and goes on while the rest of the document is run
    ```console skip               the block is not run

"..." in an expected line stands for anything.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.omr import ROOT, environment

_FENCE = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("omr_data", "tests", "recipes", "cards", "pyproject.toml")
"""What a clone has that documents use."""
START_SECONDS = 30.0
"""A server that a document starts must listen after this long."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a document."""

    language: str
    """The word after the fence, such as "python"."""
    text: str
    """The lines of the block."""
    options: dict[str, str]
    """What stands after the language: name=value, or a name alone with an empty value."""


def blocks(text: str) -> Iterator[Block]:
    """Yields the fenced blocks of a document, in order."""
    for language, info, body in _FENCE.findall(text):
        words = (word.partition("=") for word in info.split())
        yield Block(language, body, {name: value for name, _, value in words})


@dataclass(slots=True)
class Reader:
    """Follows one document in a copy of the repository."""

    folder: Path
    """The copy, which is also the current folder of every command."""
    variables: dict[str, str] = field(default_factory=dict)
    """The environment of the commands. `export` adds to it."""
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    """Commands that run in the background."""

    def follow(self, path: Path) -> int:
        """Follows a document from its first block to its last; returns how many blocks it ran."""
        port = free_port()
        text = path.read_text(encoding="utf-8").replace("8000", str(port))
        followed = 0
        for block in blocks(text):
            if "skip" in block.options:
                continue
            followed += 1
            if "title" in block.options:
                file = self.folder / block.options["title"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                self._run([sys.executable, "-c", block.text])
            elif block.language == "console":
                self._commands(block, port)
        return followed

    def _commands(self, block: Block, port: int) -> None:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                self.variables[name] = value
            elif "background" in block.options:
                self._start(line, port)
            else:
                printed = self._run(["bash", "-c", line], int(block.options.get("exit", 0)))
                check(line, expected, printed)

    def _run(self, command: list[str], code: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, f"{command[-1]}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def _start(self, line: str, port: int) -> None:
        # A session of its own, so that the shell and what it started can be stopped together.
        process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{line} does not listen on port {port}")


def check(line: str, expected: str, printed: str) -> None:
    """Compares what a command printed with the lines that a document shows.

    Args:
        line: The command.
        expected: The lines below it. Each must occur; "..." in one stands for anything.
        printed: What it printed.
    """
    flat = " ".join(printed.split())
    for shown in filter(None, expected.splitlines()):
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in shown.split("..."))
        assert re.search(pattern, flat), f"$ {line}\nshould print: {shown}\nprinted: {printed}"


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """A reader with a fresh copy of the repository; what it started is stopped at the end."""
    clone, programs = folder / "omr-data", folder / "bin"
    clone.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            # Without compiled files: a newcomer has none, and they save little time.
            shutil.copytree(source, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, clone / name)
    programs.mkdir()
    for name, target in (("omr", "-m omr_data.cli"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {target} "$@"\n')
        program.chmod(0o755)
    # Wide, so that no expected line is broken.
    variables = environment(PYTHONPATH=clone, COLUMNS=200)
    # Plugins of pytest that the contracts do not use take half a second of each run.
    variables["PYTEST_ADDOPTS"] = "-p no:jaxtyping -p no:anyio -p no:hypothesispytest"
    variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
    made = Reader(clone, variables)
    try:
        yield made
    finally:
        for process in made.started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
