"""Runs tests in a forked process: once with the code as it is, then once for each mutant.

A fork shares what its parent has imported, so a trial pays for importing the package and the tests,
and not for torch, polars or sympy: 1 s instead of 6.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

OURS = ("omr_data", "tests")
CRASHED = 99
"""Exit code of a trial that pytest did not survive."""
NOT_SHARED = ("datasets", "_pytest", "pytest", "huggingface_hub")
"""Not imported ahead: `datasets` reads an environment variable that tests/conftest.py sets."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a run of the unchanged code tells."""

    seconds: dict[str, float]
    """How long each test takes, by its id."""
    covered: dict[str, dict[int, list[str]]]
    """For each file and line, the tests that run it in their own process."""
    modules: list[str]
    """Third-party modules that the tests import, in order."""


def baseline(copy: Path, tests: Sequence[str], files: Sequence[str]) -> Baseline:
    """Runs the tests on unchanged code and records which lines each one runs.

    Args:
        copy: A copy of the repository.
        tests: Paths of tests, relative to it.
        files: Files whose lines are recorded, relative to it.

    Raises:
        SystemExit: A test fails without any mutant, so that nothing can be measured.
    """
    report = copy / ".baseline.json"
    recorder = _Recorder({str(copy / file): file for file in files})
    child = os.fork()
    if not child:
        try:
            code = _run(copy, tests, [recorder], quiet=False)
            modules = [name for name in sys.modules if name.partition(".")[0] not in OURS]
            covered = {file: dict(lines) for file, lines in recorder.covered.items()}
            report.write_text(json.dumps([code, recorder.seconds, covered, modules]))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    code, seconds, covered, modules = json.loads(report.read_text())
    if code:
        raise SystemExit("Tests fail on the unchanged code; nothing can be measured.")
    by_line = {
        file: {int(line): ids for line, ids in lines.items()} for file, lines in covered.items()
    }
    return Baseline(seconds, by_line, modules)


def share_imports(modules: Sequence[str]) -> None:
    """Imports third-party modules, so that every trial finds them loaded."""
    for name in modules:
        if name.partition(".")[0] not in (*NOT_SHARED, *OURS, "__main__"):
            # What cannot be imported on its own is imported by the trial, as it would be anyway.
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def start(copy: Path, tests: Sequence[str]) -> int:
    """Starts one trial in a process group of its own and returns its process id."""
    child = os.fork()
    if not child:
        code = CRASHED
        try:
            os.setsid()
            code = _run(copy, tests, [], quiet=True)
        except BaseException:
            # Written by hand, because the interpreter does not end in the usual way here.
            (copy / "trial.log").write_text(traceback.format_exc())
        finally:
            # Whatever happens, the child must not return into the parent's code. And a mutant may
            # leave a thread that never ends, so nothing is cleaned up.
            os._exit(code)
    return child


def stop(child: int) -> None:
    """Kills a trial together with the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _run(copy: Path, tests: Sequence[str], plugins: list[Any], quiet: bool) -> int:
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]
    os.chdir(copy)
    sys.path[0] = str(copy)
    os.environ["PYTHONPATH"] = str(copy)
    if quiet:
        log = os.open(copy / "trial.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # The mutant's file changes within a second, which Python's cache of bytecode cannot see.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    arguments = ["-o", "addopts=", "-x", "-q", "-m", "not slow and not build", "--tb=short"]
    # A plugin that starts threads or processes would not survive the fork.
    arguments += ["-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    # Plugins of pytest are among the modules that the parent imported ahead.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*arguments, *tests], plugins=plugins))


class _Recorder:
    """A pytest plugin: which lines of some files each test runs, and how long each test takes."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.covered: dict[str, dict[int, list[str]]] = {
            file: defaultdict(list) for file in files.values()
        }
        self.seconds: dict[str, float] = {}
        self._test = ""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._test = item.nodeid
        started = time.perf_counter()
        sys.settrace(self._call)
        threading.settrace(self._call)
        yield
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self.seconds[item.nodeid] = time.perf_counter() - started

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        file = self.files.get(frame.f_code.co_filename)
        if file is None:
            return None
        lines = self.covered[file]

        def line(frame: FrameType, event: str, argument: object) -> Any:
            tests = lines[frame.f_lineno]
            if not tests or tests[-1] != self._test:
                tests.append(self._test)
            return line

        return line(frame, event, argument)
