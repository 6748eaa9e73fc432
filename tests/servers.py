"""Starts servers of tests in processes of their own, which end with the test."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.omr import ROOT


class FaultServer:
    """A running fault server."""

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

    def samples(self) -> list[tuple[str, int]]:
        """Each sample that was given, as (question, seed)."""
        return [(question, seed + number) for question, seed, given in self.told()["log"] for number in range(given)]


@contextmanager
def fault_server(**options: object) -> Iterator[FaultServer]:
    """A fault server with options like latency=0.02."""
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fault_server", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield FaultServer(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
