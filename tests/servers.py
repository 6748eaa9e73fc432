"""Starts servers of tests in processes of their own, which end with the test."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.omr import ROOT


class Server:
    """A running server of a test."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def told(self) -> dict[str, Any]:
        """What it has seen and answered."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log") as answer:
            told: dict[str, Any] = json.load(answer)
        return told


class FaultServer(Server):
    """A running fault server."""

    def samples(self) -> list[tuple[str, int]]:
        """Each sample that was given, as (question, seed)."""
        return _samples(self.told()["log"])

    def mode(self, status: str) -> None:
        """Makes every request fail with a status from now on; "" ends that."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/mode", status.encode()):
            pass


class BatchServer(Server):
    """A running provider of batches."""

    def samples(self) -> list[tuple[str, int]]:
        """Each sample that was bought, as (question, seed)."""
        return _samples(self.told()["bought"])

    def go(self, what: str = "") -> None:
        """Lets go of what is held; "complete" ends batches well from now on."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/go", what.encode()):
            pass


def _samples(log: list[tuple[str, int, int]]) -> list[tuple[str, int]]:
    return [(question, seed + number) for question, seed, given in log for number in range(given)]


@contextmanager
def fault_server(**options: object) -> Iterator[FaultServer]:
    """A fault server with options like latency=0.02."""
    with _started("tests.fault_server", options) as process:
        yield FaultServer(process)


@contextmanager
def batch_server(**options: object) -> Iterator[BatchServer]:
    """A provider of batches with options like seconds=1."""
    with _started("tests.batch_server", options) as process:
        yield BatchServer(process)


@contextmanager
def _started(module: str, options: dict[str, object]) -> Iterator["subprocess.Popen[str]"]:
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
