"""The command line: rows from end to end, bad input with clear errors, and what it prints."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import omr_data
from omr_data.cli import main
from omr_data.cli.app import STOPPED
from omr_data.cli.plan import ranges
from omr_data.cli.show import printable
from omr_data.flow import union
from omr_data.operators import explode, mix, verify
from omr_data.plan import make_plan
from omr_data.recipe import Recipe
from omr_data.sources import synthetic
from omr_data.sources.locator import LocalDatasets
from omr_data.store.ledger import read_json
from tests.builders import png
from tests.mirrors import small_mirror
from tests.omr import ROOT, command, environment, omr
from tests.servers import fault_server

PUZZLES = ROOT / "recipes" / "omr_sft_puzzles.py"
TINY = ROOT / "recipes" / "omr_sft_tiny.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Here:
    """Runs `omr` in this process: importing the package again for each call would take a second."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        monkeypatch.delenv("OMR_HUB_MIRROR", raising=False)
        monkeypatch.chdir(ROOT)

    def __call__(self, *arguments: object, code: int | None = 0) -> tuple[str, str]:
        """Returns what was printed on standard output and on standard error.

        Args:
            arguments: The command line, without "omr".
            code: The exit code that is expected. None takes any.
        """
        self._monkeypatch.setattr(sys, "argv", ["omr", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = self._capsys.readouterr()
        assert code is None or (end.value.code or 0) == code, out + err
        return out, err


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(capsys, monkeypatch)


@pytest.mark.build
def test_the_real_puzzles_are_asked_verified_and_released_and_every_row_is_counted(
    hub_fixtures: Path, tmp_path: Path
) -> None:
    rows = small_mirror(hub_fixtures, tmp_path / "mirror")
    places = (
        "--mirror",
        tmp_path / "mirror",
        "--work",
        tmp_path / "work",
        "--workers",
        1,
        "--set",
        "rollouts=2",
    )
    done = omr("build", PUZZLES, *places, "--releases", tmp_path / "releases")
    manifest = read_json(tmp_path / "releases/omr-sft-puzzles/1.0.0/manifest.json")
    counts = {line["step"]: line for line in manifest["counts"]}
    assert counts["rollout.Sample"]["rows_out"] == rows
    assert counts["rollout.Sample"]["tally"]["answers"] == 2 * rows
    right = counts["verify.Answers"]["tally"]["RIGHT"]
    assert manifest["rows"] == right == sum(line["rows"] for line in manifest["by_source"]) > 0
    last = counts["explode.Right"]
    assert last["rows_kept"] + sum(last["dropped"].values()) == rows
    assert {source["digest"] is not None for source in manifest["sources"]} == {True}
    assert f"{manifest['rows']:,} rows in" in done.stdout
    assert "MIT" in done.stdout


def test_a_source_without_a_pin_is_shown_and_refused_with_the_command_that_mends_it(
    here: Here, tmp_path: Path
) -> None:
    shown, problems = here("plan", PUZZLES, code=1)
    assert shown.count("UNPINNED") == 3
    assert problems.count("omr pin") == 1
    built = here("build", PUZZLES, "--work", tmp_path / "work", code=1)
    assert built[1] == problems
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", PUZZLES, "--mirror", "nowhere"), "the mirror folder nowhere does not exist"),
        (
            ("build", TINY, "--set", "rolouts=4"),
            "recipe() has no argument 'rolouts'. Did you mean rollouts?",
        ),
        (("build", TINY, "--set", "rollouts"), "--set takes NAME=VALUE"),
        (("build", TINY, "--set", "rollouts=many"), "rollouts='many' cannot be read as int"),
        (("build", "recipes/missing.py"), "the recipe file recipes/missing.py does not exist"),
        (("release", TINY), "omr-sft-tiny is not built yet"),
        (("show", TINY), "Built are: none; run `omr build` first"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    here: Here, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    _, problems = here(*arguments, "--work", tmp_path / "work", code=1)
    assert message in " ".join(problems.split())
    assert "Traceback" not in problems
    assert not (tmp_path / "work" / "stages").exists()


ROWS_RECIPE = """
from omr_data import Recipe
from omr_data.operators import explode, rollout, verify
from omr_data.sources import files
from omr_data.teachers import echo

def recipe() -> Recipe:
    columns = {{"question": "question", "answer": "answer", "images": "image"}}
    rows = files.Source({folder!r}, dataset="mine", license="MIT", columns=columns)
    answered = rows.then(rollout.Sample(echo.Teacher(answers=("5",)), n=2), verify.Answers())
    return Recipe("mine", "1.0.0", answered.then(explode.Right()))
"""


@pytest.mark.build
def test_hostile_rows_are_dropped_counted_and_can_be_looked_up(tmp_path: Path) -> None:
    """A broken image, a path out of the folder, a line that is not JSON, and a good row."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "good.png").write_bytes(png(size=(64, 64)))
    (folder / "cut.png").write_bytes(png(size=(64, 64))[:60])
    images = ("good.png", "cut.png", "../secret.png", "missing.png")
    lines = [
        json.dumps({"question": "How many?", "answer": "5", "image": image}) for image in images
    ]
    (folder / "rows.jsonl").write_text("\n".join([*lines, "{not json"]) + "\n")
    recipe = tmp_path / "mine.py"
    recipe.write_text(ROWS_RECIPE.format(folder=str(folder)))

    places = ("--work", tmp_path / "work")
    omr("build", recipe, *places, "--releases", tmp_path / "releases", "--workers", 1)
    manifest = read_json(tmp_path / "releases/mine/1.0.0/manifest.json")
    read = manifest["counts"][0]
    assert (read["rows_in"], read["rows_kept"], sum(read["dropped"].values())) == (5, 1, 4)
    assert manifest["rows"] == 2
    shown = omr("show", recipe, *places, "--dropped", "--rows", 9).stdout
    for reason in read["dropped"]:
        assert reason in shown
    assert "../secret.png" in shown
    assert len(list((tmp_path / "work" / "images").rglob("*.*"))) <= 1


class Hub(BaseHTTPRequestHandler):
    """Answers one question of the Hub's API: which commit a dataset's main branch is."""

    def do_GET(self) -> None:
        body = json.dumps({"id": self.path.removeprefix("/api/datasets/"), "sha": COMMIT}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.build
def test_pin_looks_up_each_commit_and_the_plan_is_then_ready(hub: str, tmp_path: Path) -> None:
    recipe = tmp_path / "puzzles.py"
    shutil.copy(PUZZLES, recipe)
    assert omr("pin", recipe, HF_ENDPOINT=hub).stdout.count(f"{COMMIT}  new") == 3
    assert set(read_json(tmp_path / "pins.json").values()) == {COMMIT}
    planned = omr("plan", recipe, "--work", tmp_path / "work")
    assert "UNPINNED" not in planned.stdout
    assert planned.stdout.count(f"@{COMMIT[:12]}") == 3


@pytest.mark.build
def test_pinning_without_the_hub_is_a_clear_error(tmp_path: Path) -> None:
    recipe = tmp_path / "puzzles.py"
    shutil.copy(PUZZLES, recipe)
    done = omr("pin", recipe, HF_ENDPOINT="http://127.0.0.1:9", code=1)
    assert "SourceError: the Hub does not say which commit" in done.stderr
    assert not (tmp_path / "pins.json").exists()


def test_verify_prints_the_verdict_and_explain_the_path(here: Here) -> None:
    verdict, _ = here("verify", "<answer>7.0</answer>", "--gold", "7")
    assert verdict == "RIGHT by typed.Verifier/1: the same number\n"
    options = ("--option", "red", "--option", "blue")
    explained, _ = here("verify", "(B)", "--gold", "blue", *options, "--explain")
    asked = [line.split()[0] for line in explained.splitlines()]
    assert asked == ["extract", "choice.Verifier", "verdict"]


UNREADY_RECIPE = """
from dataclasses import dataclass
from typing import ClassVar

from omr_data import Recipe, union
from omr_data.errors import RecipeError
from omr_data.sources import files, gsm8k


@dataclass(frozen=True)
class First(gsm8k.Source):
    name: ClassVar[str] = "first.Source"
    repo: ClassVar[str] = "an-organization-with-a-long-name/a-dataset-with-a-long-name"

    def problem(self):
        return RecipeError(f"{self.name} ({self.repo}) has no converter yet.")


@dataclass(frozen=True)
class Second(First):
    name: ClassVar[str] = "second.Source"
    repo: ClassVar[str] = "another-organization/another-dataset"


def recipe(rows: int = 1) -> Recipe:
    lost = files.Source("lost/*.jsonl", dataset="lost", license="MIT")
    sources = (gsm8k.Source(), gsm8k.Source(split="test"), First(), Second(), lost)
    return Recipe("unready", "1.0.0", union(*sources))
"""


def test_a_plan_groups_its_problems_by_kind_with_one_command_each(
    here: Here, tmp_path: Path
) -> None:
    recipe = tmp_path / "my recipe.py"
    recipe.write_text(UNREADY_RECIPE)
    _, problems = here("plan", recipe, "--set", "rows=2", code=1)
    first, unpinned, unwritten, missing = problems.split("\n\n")
    assert first == "UnpinnedError: unready cannot be built yet."
    pin = " ".join(unpinned.split())
    assert pin.count(f"`omr pin '{recipe}' --set rows=2`") == problems.count("omr pin") == 1
    assert "3 datasets: openai/gsm8k, an-organization-with-a-long-name/" in pin
    assert unwritten.startswith("- DATASET has no converter yet.\n  2 datasets: an-organ")
    assert missing.startswith("- the folder lost does not exist.")


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.py")), ids=lambda it: it.stem)
def test_the_plan_of_each_recipe_fits_80_columns_and_names_whatever_it_lacks(
    here: Here, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plan = make_plan(omr_data.recipe.load(recipe), LocalDatasets())
    shown, problems = here("plan", recipe, code=int(bool(plan.problems())))
    assert max(map(len, f"{shown}\n{problems}".splitlines())) <= 80
    assert "omr plan" not in problems
    for node in plan.nodes:
        assert node.name in shown
        if node.problems:
            assert node.spec.repo in problems  # type: ignore[union-attr]
    assert problems.count("omr pin") == ("UNPINNED" in shown)


def test_steps_of_one_name_are_told_apart_by_their_datasets() -> None:
    one, two = synthetic.Source(count=3), synthetic.Source(count=4)
    both = union(one.then(verify.Gold()), two.then(verify.Gold())).then(mix.Take(rows=5, seed=0))
    plan = make_plan(Recipe("twice", "1.0.0", both.then(explode.Right())), LocalDatasets())
    assert [node.label for node in plan.nodes] == [
        "synthetic.Source #1",
        "verify.Gold (synthetic) #1",
        "synthetic.Source #2",
        "verify.Gold (synthetic) #2",
        "union",
        "mix.Take",
        "explode.Right",
    ]
    full = make_plan(omr_data.recipe.load(ROOT / "recipes/omr_sft_874k.py"), LocalDatasets())
    assert len({node.label for node in full.nodes}) == len(full.nodes)
    assert {"mix.Take (mmr1)", "mix.Take (miromind_m1)"} <= {node.label for node in full.nodes}


@pytest.mark.parametrize(
    ("numbers", "shown"), [((), ""), ((4,), "4"), ((7, 8, 9, 12), "7-9 12"), ((1, 3), "1 3")]
)
def test_parents_are_written_as_ranges(numbers: tuple[int, ...], shown: str) -> None:
    assert ranges(numbers) == shown


HOSTILE = "\x1b]0;owned\x07 \x1b[2J \x9b31m caf\u00e9 \u202ecod\u202c \u2028 \ud800 \x00 [red]"


def test_control_characters_are_escaped_and_other_text_is_left_alone() -> None:
    assert (
        printable("caf\u00e9 \u4e16\u754c \U0001f600\n\tx")
        == "caf\u00e9 \u4e16\u754c \U0001f600\n\tx"
    )
    shown = printable(HOSTILE)
    assert shown == (
        r"\x1b]0;owned\x07 \x1b[2J \x9b31m caf"
        "\u00e9"
        r" \u202ecod\u202c \u2028 \ud800 \x00 [red]"
    )


HOSTILE_RECIPE = """
from omr_data import Recipe
from omr_data.operators import explode, rollout, verify
from omr_data.sources import files
from omr_data.teachers import echo

TEXT = {text!r}


def recipe() -> Recipe:
    columns = {{"question": "question", "answer": "answer", "options": "options"}}
    rows = files.Source({folder!r}, dataset="mine", license="CC0-1.0", columns=columns)
    answered = rows.then(
        rollout.Sample(echo.Teacher(answers=("7", TEXT)), n=2), verify.Answers(), explode.Right()
    )
    return Recipe("mine", "1.0.0", answered)
"""


def hostile_recipe(folder: Path, text: str) -> Path:
    """A recipe whose rows hold a text in every field: one right, one dropped, one unreadable."""
    (folder / "rows").mkdir()
    rows = [
        {"question": f"{text} {answer}", "answer": answer, "options": [answer, text]}
        for answer in ("7", f"x {text}")
    ]
    lines = [json.dumps(row) for row in [*rows, {"question": text}]]
    (folder / "rows" / "rows.jsonl").write_text("\n".join(lines))
    recipe = folder / "hostile.py"
    source = HOSTILE_RECIPE.format(text=text, folder=str(folder / "rows"))
    recipe.write_text(source, encoding="utf-8")
    return recipe


@pytest.mark.build
def test_no_control_character_of_a_row_reaches_the_terminal(here: Here, tmp_path: Path) -> None:
    text = HOSTILE.replace("\ud800 ", "")
    recipe = hostile_recipe(tmp_path, text)
    places = ("--work", tmp_path / "work")
    printed = here("build", recipe, *places, "--releases", tmp_path / "r", "--workers", 1)
    for options in ((), ("--step", "verify.Answers"), ("--dropped",)):
        printed += here("show", recipe, *places, "--rows", 9, *options)
    printed += here("rollouts", "stats", *places)
    printed += here("verify", f"<answer>{text}</answer>", "--gold", text, "--explain", code=None)
    everything = "".join(printed)
    assert r"\x1b]0;owned\x07" in everything
    assert "[red]" in everything
    assert not {*everything} & {*"\x1b\x07\x9b\u202e\u2028\x00"}


@pytest.mark.build
def test_a_locale_without_utf_8_breaks_neither_output_nor_files(tmp_path: Path) -> None:
    text = "\u4e16\u754c caf\u00e9"
    recipe = hostile_recipe(tmp_path, text)
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "mine.md").write_text(f"# {{{{name}}}} {text}\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    places = ("--work", tmp_path / "work")
    omr("build", recipe, *places, "--releases", tmp_path / "r", "--workers", 1, **ascii_only)
    assert text in (tmp_path / "r/mine/1.0.0/README.md").read_text(encoding="utf-8")
    assert r"\u4e16\u754c caf\xe9 7" in omr("show", recipe, *places, **ascii_only).stdout
    planned = subprocess.run(
        command("plan", recipe, "--json", *places),
        env=environment(**ascii_only),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert text in planned.stdout.decode("utf-8")


SLOW_RECIPE = """
import time
from dataclasses import dataclass
from pathlib import Path

from omr_data import Map, Recipe, Record
from omr_data.sources import synthetic


@dataclass(frozen=True)
class Sleep(Map):
    mark: str

    def apply(self, record: Record) -> Record:
        Path(self.mark).touch()
        time.sleep(60)
        return record


def recipe() -> Recipe:
    return Recipe("slow", "1.0.0", synthetic.Source(count=40).then(Sleep({mark!r})))
"""


@pytest.mark.build
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_prints_one_line_and_leaves_no_process(workers: int, tmp_path: Path) -> None:
    mark = tmp_path / "running"
    recipe = tmp_path / "slow.py"
    recipe.write_text(SLOW_RECIPE.format(mark=str(mark)))
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "r", "--workers", workers)
    # A group of its own, as a shell makes one: the terminal signals every process of the group.
    process = subprocess.Popen(
        command("build", recipe, *places),
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.05)
    # The parent is held for a moment: it would end its workers before they can print anything.
    os.kill(process.pid, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGCONT)
    # Workers hold the pipes open: this returns early only when all of them are gone.
    printed = process.communicate(timeout=20)
    assert printed == ("", f"{STOPPED}\n")
    assert process.returncode == 130


@pytest.mark.build
def test_ctrl_c_while_a_server_is_asked_prints_one_line_and_sends_nothing_more(
    tmp_path: Path,
) -> None:
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "r", "--workers", 2)
    with fault_server(latency=60) as server:
        process = subprocess.Popen(
            command("build", ROOT / "tests/recipes/served.py", *places),
            env=environment(OMR_TEACHER_URL=server.url),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        end = time.monotonic() + 60
        while not (sent := server.told()["seen"]) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.3)
        sent = server.told()["seen"]
        os.killpg(process.pid, signal.SIGINT)
        _, printed = process.communicate(timeout=20)
        assert server.told()["seen"] == sent
    source, stopped = printed.splitlines()
    assert "synthetic.Source" in source
    assert stopped == STOPPED


def test_the_version_is_printed(here: Here) -> None:
    assert here("--version") == (f"omr-data {omr_data.__version__}\n", "")


@pytest.mark.parametrize("group", [(), ("plan",), ("train",), ("train", "sft"), ("rollouts",)])
def test_h_is_short_for_help(here: Here, group: tuple[str, ...]) -> None:
    assert here(*group, "-h") == here(*group, "--help")


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("sources", {"gsm8k.Source", "synthetic.Source", "files.Source"}),
        ("verifiers", {"typed.Verifier", "choice.Verifier"}),
        ("operators", {"dedup.Exact", "explode.Right", "mix.Take"}),
        ("teachers", {"openai_api.Teacher", "openai_batch.Teacher", "tiny.Teacher"}),
        ("embedders", {"model2vec.Embedder"}),
    ],
)
def test_list_finds_the_plugins_in_their_folders_with_a_line_about_each(
    here: Here, kind: str, some: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lines = here("list", kind)[0].splitlines()
    named = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert some <= named.keys()
    assert len(named) == len(lines)
    assert "files.ColumnsSource" not in named
    assert not [name for name in named if name.startswith(("base.", "_")) or "._" in name]
    assert all(summary.strip() for summary in named.values())


def test_list_names_the_kinds_where_a_kind_is_unknown(here: Here) -> None:
    _, problem = here("list", "recipes", code=2)
    assert "sources" in problem
    assert "Traceback" not in problem


def test_check_and_verify_release_name_every_file_that_was_changed(
    here: Here, tmp_path: Path
) -> None:
    from tests.engine.tiny import Numbers
    from tests.release.test_package import released

    folder = released(Numbers(5), tmp_path)
    work = tmp_path / "work"
    assert "is whole: 1 stages" in here("check", "--work", work)[0]
    assert "tiny 1.0.0 is whole: 5 rows in 3 files." in here("verify-release", folder)[0]
    changed = [next((work / "stages").rglob("shard-00001.parquet")), folder / "README.md"]
    for path in changed:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    shown, problems = here("check", "--work", work, code=1)
    assert shown == ""
    assert "shard-00001.parquet is missing or was changed" in problems
    shown, problems = here("verify-release", folder, code=1)
    assert problems.startswith("README.md was changed")
    assert "none does not exist" in here("check", "--work", tmp_path / "none", code=1)[1]
