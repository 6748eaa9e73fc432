"""Progress fits the terminal and says what is done, at what pace and for how much."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from omr_data.progress import Work, reporter
from tests.omr import ROOT, command, environment
from tests.servers import fault_server

NOTE = "1,204 failed, 256 in flight, 12,045 tokens/s, $123.43 of about $1,980.12"


@pytest.mark.parametrize("width", [80, 120])
def test_each_line_fits_and_only_the_label_gives_way(width: int) -> None:
    work = Work("asking Qwen/Qwen3-VL-235B-A22B-Instruct", 1_865_400, "answers")
    work.advance(1_200_000, NOTE)
    console = Console(width=width, file=(out := StringIO()), force_terminal=True, color_system=None)
    console.print(work)
    first, second = out.getvalue().splitlines()
    assert max(len(first), len(second)) <= width
    assert second.strip() == NOTE
    assert re.search(r"1,200,000 of 1,865,400 answers, [\d,]+/s, 0:\d\d left", first)
    assert first.startswith("asking Qwen")
    assert ("…" in first) == (width == 80)


def test_work_that_does_not_move_has_no_time_left_to_show() -> None:
    assert Work("waiting", 10, "answers").status() == "0 of 10 answers, 0/s, -:-- left"


def test_where_there_is_no_terminal_nothing_is_drawn() -> None:
    console = Console(file=(out := StringIO()))
    with reporter(console).bar("asking", 10, "answers") as bar:
        bar.advance(10, NOTE)
    assert out.getvalue() == ""


@pytest.mark.build
def test_a_build_on_a_terminal_shows_what_is_in_flight_and_what_it_will_have_cost(
    tmp_path: Path,
) -> None:
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1)
    with fault_server(latency=0.3, most=16) as server:
        build = command("build", ROOT / "tests/recipes/served.py", "--set", "questions=90", *places)
        process = subprocess.Popen(
            build,
            cwd=ROOT,
            env=environment(OMR_TEACHER_URL=server.url, TERM="xterm"),
            stdin=far,
            stdout=far,
            stderr=far,
        )
        os.close(far)
        seen = b""
        try:
            while piece := os.read(near, 2**16):
                seen += piece
        except OSError:
            pass  # the other side is closed: the build has ended
        os.close(near)
        assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert re.search(r"asking tiny \S+ [1-9]\d* of 360 answers, [\d.]+/s, 0:\d\d left", text)
    assert re.search(r"\d+ in flight, [\d,]+ tokens/s, \$0\.00 of about \$0\.00", text)
