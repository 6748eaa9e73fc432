"""math-verify and sympy in processes of their own, so that no formula can hang or kill the caller.

**AlgebraWorkers**: worker processes that answer one question at a time over their pipes. A
question has a limit in seconds and a worker a cap on its memory. A worker that is stuck or out
of memory is killed and replaced, and its question is a time-out; one that was killed from
outside is replaced and its question asked once more. A worker ends when its pipe closes, so
none outlives its parent. Nothing here uses signals, so it works from any thread and any event
loop."""

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

SECONDS = 1.5
"""Limit of one question. Ordinary ones take 2 ms, and the slowest of 5,000 took 165 ms."""
MEMORY = 2 * 2**30
START_SECONDS = 120.0
_MARK = "q_{77}"
_COMMANDS = re.compile(r"\\[a-zA-Z]+")
_LETTERS = re.compile(r"[A-Za-z]")

AlgebraAnswer = Literal["equal", "different", "unreadable", "timeout", "memory", "died"]


@dataclass(slots=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    """The process, with its pipes."""
    ready: bool = False
    """Whether it has said that it is ready."""

    def wait_until_ready(self) -> None:
        """Waits for its first line. Raises OSError when none comes."""
        if not self.ready and self.read(START_SECONDS) is None:
            raise OSError("a worker did not start")

        self.ready = True

    def ask(self, line: bytes, seconds: float) -> bytes | None:
        """The reply, or None when the limit has passed.

        Raises:
            BrokenPipeError: The worker is gone.
            EOFError: It ended while it worked.
        """
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
    """A fixed number of workers, started when they are first needed (about 1.5 s each)."""

    def __init__(self, size: int, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.size, self.seconds, self.memory = size, seconds, memory
        # Last in, first out: the worker that is warm is asked again, and the others may never
        # start.
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._live: set[int] = set()
        self._lock = threading.Lock()

        for _ in range(size):
            self._idle.put(None)

    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        with self._lock:
            return sorted(self._live)

    def equal(self, claim: str, gold: str, seconds: float | None = None) -> AlgebraAnswer:
        """Whether math-verify reads two expressions completely and finds them equal.

        The start of a worker does not count against the limits: whether a machine is slow must not
        change a verdict. It is paid once, and again after a time-out, when a replacement is started
        at once and is usually ready when the next question comes.

        Args:
            claim: One expression, in LaTeX.
            gold: The other one.
            seconds: Limit on waiting for a worker and its answer; `self.seconds` limit the answer.
        """
        # Two tries: a worker that was killed from outside loses its question once.
        line = json.dumps([claim, gold]).encode() + b"\n"
        end = None if seconds is None else time.monotonic() + seconds

        for _ in range(2):
            try:
                worker = self._idle.get(timeout=_left(end))
            except queue.Empty:
                return "timeout"

            try:
                worker = worker or self._start()
                began = time.monotonic()
                worker.wait_until_ready()
                if end is not None:
                    end += time.monotonic() - began

                reply = worker.ask(line, min(self.seconds, _left(end) or self.seconds))
            except (OSError, EOFError):
                self._drop(worker)
                continue
            except BaseException:
                self._drop(worker)
                raise

            if reply is None:
                if worker is not None:
                    self._drop_process(worker)

                # Started at once and not on the next question, which would have to wait for it.
                self._idle.put(self._start())
                return "timeout"

            self._idle.put(worker)
            answer: AlgebraAnswer = json.loads(reply)
            return answer

        return "died"

    def close(self) -> None:
        """Ends every idle worker. The pool may be used again, and starts new ones."""
        idle = []

        with suppress(queue.Empty):
            # All of them first: a place that is given back is the next one that is taken.
            while True:
                idle.append(self._idle.get_nowait())

        for worker in idle:
            self._drop(worker)

    def _start(self) -> _Worker:
        """A new worker, which gets ready while others work."""
        command = [sys.executable, "-m", "omr_data.verifiers.isolated", str(self.memory)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

        with self._lock:
            # Kept for pids(): a worker that is busy is not in the queue.
            self._live.add(process.pid)

        return _Worker(process)

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
    """Seconds until then, never less than zero; None without a limit."""
    if end is None:
        return None

    return max(0.0, end - time.monotonic())


@functools.cache
def shared_algebra_workers() -> AlgebraWorkers:
    """This process's pool, with a worker for each core.

    They start when they are needed: a process that asks one question at a time has one. The pool
    ends with the process.
    """
    pool = AlgebraWorkers(os.cpu_count() or 1)
    atexit.register(pool.close)
    return pool


def _work(memory: int) -> None:
    """The worker: reads questions from standard input until it closes."""
    import resource

    # A cap on the address space turns a huge formula into a MemoryError in place of a dead machine.
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Printing a number of many digits takes quadratic time, so it is refused beyond this.
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
            answer: AlgebraAnswer = "equal" if equal else "different"
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
    # A bound variable (of an integral or a sum) is not a free symbol, but stands in the expression.
    written = str(plain)
    if any(name not in written and name not in ("e", "i", "d") for name in names):
        raise ValueError("a letter of it was ignored")

    return [plain]


if __name__ == "__main__":
    _work(int(sys.argv[1]))
