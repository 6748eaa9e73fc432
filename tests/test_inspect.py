"""`omr inspect` shows what data would become; `omr init` writes a recipe that builds as it is."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from omr_data.cli import app
from omr_data.engine.build import build
from omr_data.plan import make_plan
from omr_data.processes import mapper
from omr_data.progress import reporter
from omr_data.recipe import load, load_in_worker
from omr_data.sources.locator import LocalDatasets
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget
from tests.conftest import FIXTURES
from tests.test_layouts import LAYOUTS


def omr(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_inspect_shows_columns_records_drops_and_the_line_to_paste(tmp_path: Path) -> None:
    rows = [
        {"problem": f"What is {number} + 1?", "solution": solution, "topic": "sums"}
        for number, solution in (("1", "2"), ("2", 3), ("3", None))
    ]
    path = tmp_path / "my rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = omr("inspect", path)
    assert "  topic\n" in shown
    assert "user: What is 1 + 1?\n  answer: 2\n" in shown
    assert "2 of 3 rows become records." in shown
    assert "1 dropped: no text in column 'solution'" in shown
    assert f"files.Source('{path}', dataset='my-rows', license='unknown', columns=" in shown
    assert "{'question': 'problem', 'answer': 'solution'}" in shown


def test_inspect_says_what_it_cannot_know(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"x": 1, "y": "z"}) + "\n")
    assert "No column looks like a question" in omr("inspect", path)
    traces = {"question": "Why?", "answer": "<think>Because.</think>So."}
    path.write_text(json.dumps(traces) + "\n")
    shown = omr("inspect", path)
    assert "'answer' holds worked solutions" in shown
    assert "'response': 'answer'" in shown


def test_inspect_escapes_control_characters_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "\x1b[2Jwhat?", "answer": "\x07", "\x1bx": 1}) + "\n")
    shown = omr("inspect", path)
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_inspect_finds_a_dataset_of_the_hub_in_a_mirror() -> None:
    shown = omr("inspect", "demo/sums", "--split", "train", "--mirror", FIXTURES / "hub")
    assert "9 of 10 rows become records." in shown
    assert "hub.Source('demo/sums', dataset='sums', license='unknown', split='train'" in shown


@pytest.mark.build
@pytest.mark.parametrize(
    "data", [None, "mathvista/train.parquet", "traces/traces.jsonl.zst", "llava_chats/chats.json"]
)
def test_init_writes_a_recipe_that_builds_as_it_is(data: str | None, tmp_path: Path) -> None:
    given: tuple[object, ...] = ()
    if data is not None:
        given = ("--data", LAYOUTS / data)
    folder = tmp_path / "my set"
    written = omr("init", folder, *given)
    assert f"omr build {folder / 'recipe.py'}" in written
    assert (folder / "cards/my-set.md").read_text().startswith("# {{name}}")
    assert ".omr/" in (folder / ".gitignore").read_text()
    recipe = folder / "recipe.py"
    plan = make_plan(load(recipe), LocalDatasets())
    workspace = Workspace(tmp_path / "work")
    with workspace.lock(), mapper(1, load_in_worker, recipe) as processes:
        built = build(
            plan, workspace, LocalDatasets(), processes, 1, reporter(Console(quiet=True)), Budget()
        )
    assert built.counts()[0].rows_out > 0
    assert "exists already" in str(CliRunner().invoke(app, ["init", str(folder)]).exception)
