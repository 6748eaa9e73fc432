"""math-verify and sympy in processes of their own, so that no formula can hang or kill the one that asks.

**AlgebraWorkers**: worker processes that answer one question at a time over their pipes. A question has a hard limit in seconds and
a worker a cap on its memory. A worker that is stuck or out of memory is killed and replaced, and its question is
UNDECIDED; one that was killed from outside is replaced and its question asked once more. A worker ends when its pipe
closes, so none outlives its parent. Nothing here uses signals, so it works from any thread and any event loop.
"""

import atexit
import functools
import json
import os
import queue
import re
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

SECONDS = 3.0
MEMORY = 2 * 2**30
START_SECONDS = 120.0
_MARK = "q_{77}"
_COMMANDS = re.compile(r"\\[a-zA-Z]+")
_LETTERS = re.compile(r"[A-Za-z]")

Answer = Literal["equal", "different", "unreadable", "timeout", "memory", "died"]


@dataclass(slots=True)
class _Worker:
    process: "subprocess.Popen[bytes]"

    def ask(self, line: bytes, seconds: float) -> bytes | None:
        """The reply, or None after so many seconds. Raises BrokenPipeError or EOFError when the worker is gone."""
        assert self.process.stdin is not None and self.process.stdout is not None  # both are pipes
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return self.read(seconds)

    def read(self, seconds: float) -> bytes | None:
        assert self.process.stdout is not None  # a pipe
        descriptor = self.process.stdout.fileno()
        reply, end = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not reply.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                chunk = os.read(descriptor, 65_536)
                if not chunk:
                    raise EOFError
                reply += chunk
        return reply

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                # A reply that was never read, or a pipe that broke: nothing is lost by closing it.
                with _quiet():
                    pipe.close()


class _quiet:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


class AlgebraWorkers:
    """So many workers, started when they are first needed (about 1.5 s each)."""

    def __init__(self, size: int, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.size, self.seconds, self.memory = size, seconds, memory
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._live: set[int] = set()
        self._lock = threading.Lock()
        for _ in range(size):
            self._idle.put(None)

    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        with self._lock:
            return sorted(self._live)

    def equal(self, claim: str, gold: str, seconds: float | None = None) -> Answer:
        """Whether math-verify reads two expressions completely and finds them equal.

        Args:
            claim: One expression, in LaTeX.
            gold: The other one.
            seconds: Limit on everything: waiting for a worker, its start and its answer. Without
                it, `self.seconds` limit the answer alone.
        """
        line = json.dumps([claim, gold]).encode() + b"\n"
        end = None if seconds is None else time.monotonic() + seconds
        for _ in range(2):
            try:
                worker = self._idle.get(timeout=_left(end))
            except queue.Empty:
                return "timeout"
            try:
                worker = worker or self._start(_left(end))
                if worker is None:
                    self._idle.put(None)
                    return "timeout"
                reply = worker.ask(line, min(self.seconds, _left(end) or self.seconds))
            except (OSError, EOFError):
                self._drop(worker)
                continue
            except BaseException:
                self._drop(worker)
                raise
            if reply is None:
                self._drop(worker)
                return "timeout"
            self._idle.put(worker)
            answer: Answer = json.loads(reply)
            return answer
        return "died"

    def close(self) -> None:
        """Ends every idle worker. The pool may be used again, and starts new ones."""
        idle = []
        with suppress(queue.Empty):
            while (
                True
            ):  # all of them first: a place that is given back is the next one that is taken
                idle.append(self._idle.get_nowait())
        for worker in idle:
            self._drop(worker)

    def _start(self, seconds: float | None = None) -> _Worker | None:
        """A new worker, or None when it is not ready in time."""
        command = [sys.executable, "-m", "omr_data.verifiers.isolated", str(self.memory)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        with self._lock:
            self._live.add(process.pid)
        worker = _Worker(process)
        if worker.read(START_SECONDS if seconds is None else seconds) is None:
            self._drop_process(worker)
            if seconds is not None:
                return None
            raise OSError("a worker did not start")
        return worker

    def _drop(self, worker: _Worker | None) -> None:
        """Ends a worker and leaves its place to a new one, so that the pool keeps its size."""
        if worker is not None:
            self._drop_process(worker)
        self._idle.put(None)

    def _drop_process(self, worker: _Worker) -> None:
        worker.stop()
        with self._lock:
            self._live.discard(worker.process.pid)


def _left(end: float | None) -> float | None:
    """Seconds until then, never less than none; None where there is no limit."""
    return None if end is None else max(0.0, end - time.monotonic())


@functools.cache
def shared_algebra_workers() -> AlgebraWorkers:
    """This process's pool, with a worker for each core. They start when they are needed: a process that asks one question at
    a time has one. Ends with the process."""
    pool = AlgebraWorkers(os.cpu_count() or 1)
    atexit.register(pool.close)
    return pool


def _work(memory: int) -> None:
    """The worker: reads questions from standard input until it closes."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    sys.set_int_max_str_digits(10_000)
    from math_verify import verify

    sys.stdout.write('"ready"\n')
    sys.stdout.flush()
    for line in sys.stdin:
        claim, gold = json.loads(line)
        try:
            sides = [_parse_whole(text) for text in (gold, claim)]
            # Its own time-outs are signals and stay off.
            equal = verify(*sides, timeout_seconds=None, raise_on_error=False)
            answer: Answer = "equal" if equal else "different"
        except (MemoryError, RecursionError):
            answer = "memory"
        except Exception:
            # Whatever a formula does to the algebra system, it is a formula that could not be read.
            answer = "unreadable"
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _parse_whole(text: str) -> list[Any]:
    """The expression that a text is. Raises ValueError unless the parser read all of it.

    The parser of math-verify may stop early and say nothing. A symbol after the closing bracket
    proves that it came to the end: it is in the expression only then.
    """
    from latex2sympy2_extended import latex2sympy

    names = _LETTERS.findall(_COMMANDS.sub(" ", text))
    marked = latex2sympy(f"({text})+{_MARK}")
    symbols = {str(symbol) for symbol in marked.free_symbols}
    if _MARK not in symbols:
        raise ValueError("it was not read to its end")
    plain = latex2sympy(text)
    # A bound variable (of an integral or a sum) is no free symbol, but stands in the expression.
    written = str(plain)
    if any(name not in written and name not in ("e", "i", "d") for name in names):
        raise ValueError("a letter of it was ignored")
    return [plain]


if __name__ == "__main__":
    _work(int(sys.argv[1]))
