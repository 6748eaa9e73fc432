"""The command line: real rows from end to end, bad input with clear errors, and what it prints."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from omr_data.store.ledger import read_json
from tests.builders import png
from tests.mirrors import small_mirror
from tests.omr import ROOT, omr

PUZZLES = ROOT / "recipes" / "omr_sft_puzzles.py"
TINY = ROOT / "recipes" / "omr_sft_tiny.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
    tmp_path: Path,
) -> None:
    planned = omr("plan", PUZZLES, code=1)
    assert planned.stdout.count("UNPINNED") == 3
    assert "omr pin" in planned.stderr
    built = omr("build", PUZZLES, "--work", tmp_path / "work", code=1)
    assert built.stderr == planned.stderr
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
        (("build", TINY, "--set", "rollouts=many"), "rollouts='many' is no int"),
        (("build", "recipes/missing.py"), "there is no recipe file recipes/missing.py"),
        (("release", TINY), "omr-sft-tiny is not built yet"),
        (("show", TINY), "Built are: none; run `omr build` first"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    done = omr(*arguments, "--work", tmp_path / "work", code=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "work" / "stages").exists()


ROWS_RECIPE = """
from omr_data import Recipe
from omr_data.operators import explode, rollout, verify
from omr_data.sources import files
from omr_data.teachers import echo

def recipe() -> Recipe:
    rows = files.Source({folder!r}, dataset="mine", license="MIT", columns={{"question": "question", "answer": "answer", "images": "image"}})
    return Recipe("mine", "1.0.0", rows.then(rollout.Sample(echo.Teacher(answers=("5",)), n=2), verify.Answers(), explode.Right()))
"""


def test_hostile_rows_are_dropped_counted_and_can_be_looked_up(tmp_path: Path) -> None:
    """A broken image, a path that climbs out of the folder, a line that is no JSON, and a good row among them."""
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


def test_pin_looks_up_each_commit_and_the_plan_is_then_ready(hub: str, tmp_path: Path) -> None:
    recipe = tmp_path / "puzzles.py"
    shutil.copy(PUZZLES, recipe)
    assert omr("pin", recipe, HF_ENDPOINT=hub).stdout.count(f"{COMMIT}  new") == 3
    assert set(read_json(tmp_path / "pins.json").values()) == {COMMIT}
    planned = omr("plan", recipe, "--work", tmp_path / "work")
    assert "UNPINNED" not in planned.stdout
    assert planned.stdout.count(f"@{COMMIT[:12]}") == 3


def test_pinning_without_the_hub_is_a_clear_error(tmp_path: Path) -> None:
    recipe = tmp_path / "puzzles.py"
    shutil.copy(PUZZLES, recipe)
    done = omr("pin", recipe, HF_ENDPOINT="http://127.0.0.1:9", code=1)
    assert "SourceError: the Hub does not say which commit" in done.stderr
    assert not (tmp_path / "pins.json").exists()


def test_verify_prints_the_verdict_and_explain_the_path() -> None:
    assert (
        omr("verify", "<answer>7.0</answer>", "--gold", "7").stdout
        == "RIGHT by numeric.Verifier/1: 7.0 equals 7\n"
    )
    explained = omr(
        "verify", "(B)", "--gold", "blue", "--option", "red", "--option", "blue", "--explain"
    ).stdout
    assert [line.split()[0] for line in explained.splitlines()] == [
        "extract",
        "choice.Verifier",
        "verdict",
    ]


def test_the_plan_of_the_full_set_shows_what_is_missing_and_why() -> None:
    done = omr("plan", ROOT / "recipes" / "omr_sft_874k.py", code=1)
    assert (
        done.stdout.count("NO CONVERTER") == 5 + 11
    )  # the sources, and the benchmarks but for GSM8K
    assert "mix.Take" in done.stdout
    assert "cannot be built yet, for 33 reasons" in done.stderr
