"""Published layouts, each read by configuration alone: shapes and rows are made by us.

Each folder in tests/layouts/ holds data in the shape of a well-known dataset or toolkit, the
arguments of files.Source() that read it, and the records that must come out.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from omr_data.records import Record, chat
from omr_data.sources import files
from omr_data.sources.guess import guess_columns, source_line
from omr_data.sources.locator import LocalDatasets
from omr_data.sources.tables import table_rows
from tests.contracts.test_sources import outcomes

LAYOUTS = Path(__file__).parent / "layouts"
NAMES = sorted(path.name for path in LAYOUTS.iterdir())
LOCATOR = LocalDatasets()


def source(name: str) -> files.Source:
    arguments = json.loads((LAYOUTS / name / "arguments.json").read_text())
    return files.Source(**arguments | {"path": LAYOUTS / name / arguments["path"]})


def shown(one: Record | str) -> Any:
    """What a person checks: the chat as it is asked, the answers, and which images stand in it."""
    if isinstance(one, str):
        return one
    return {
        "id": one.id,
        "chat": [f"{message.role}: {message.text}" for message in chat(one)],
        "answers": [*(one.answers or (one.answer,)), f"accept {one.accept}"],
        "images": [image.sha256[:8] for image in one.images],
        "responses": [response.text for response in one.responses],
        "meta": dict(one.meta),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_published_layout_is_read_by_configuration_alone(name: str, tmp_path: Path) -> None:
    found = [shown(one) for one in outcomes(source(name), LOCATOR, tmp_path)]
    expected = LAYOUTS / name / "expected.json"
    if not expected.exists():
        expected.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        pytest.fail(f"{expected} was missing and is written now: check every line, and commit it")
    assert found == json.loads(expected.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_guess_of_the_columns_converts_every_row(name: str, tmp_path: Path) -> None:
    given = source(name)
    found = given.download(LOCATOR)
    rows = list(table_rows(found, given.parts(found)[0]))
    raw = [
        {key: row[key] for key in row if key not in ("_line", "_file", "_folder")} for row in rows
    ]
    guess = guess_columns(raw)
    assert guess.columns is not None
    line = source_line(
        {"class": "files.Source", "first": str(given.path), "dataset": "d", "license": "l"},
        guess.columns,
    )
    guessed = eval(line, {"files": files})
    assert all(isinstance(one, Record) for one in outcomes(guessed, LOCATOR, tmp_path))
    declared = {
        field: getattr(given.columns, field)
        for field in ("question", "answer", "messages", "images", "options", "history", "response")
    }
    assert {field: getattr(guess.columns, field) for field in declared} == declared
