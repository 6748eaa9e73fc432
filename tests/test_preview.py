"""`omr build --limit` shows a few rows, releases nothing, and shares the paid answers."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from omr_data import Recipe, mix
from omr_data.cli import app
from omr_data.engine.preview import FirstRows, preview
from omr_data.errors import RecipeError
from omr_data.operators import select
from omr_data.plan import make_plan
from omr_data.sources import synthetic
from omr_data.sources.locator import LocalDatasets
from tests.omr import ROOT


def test_a_preview_reads_the_first_rows_and_promises_nothing() -> None:
    data = mix({synthetic.Source(count=900): 500, synthetic.Source(count=800, seed=1): 400})
    whole = Recipe("mixed", "1.0.0", data, rows=range(900, 901))
    short = preview(whole, 7)
    specs = [node.spec for node in make_plan(short, LocalDatasets()).nodes]
    assert [spec.rows_at_most for spec in specs if isinstance(spec, FirstRows)] == [7, 7]
    assert [spec.rows for spec in specs if isinstance(spec, select.AtMost)] == [500, 400]
    assert short.rows is None
    with pytest.raises(RecipeError, match="at least 1"):
        preview(whole, 0)


@pytest.mark.build
def test_a_preview_releases_nothing_and_its_answers_are_not_asked_for_again(tmp_path: Path) -> None:
    def build(*more: object) -> str:
        places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases")
        given = ("--workers", 1, "--set", "questions=30", "--set", "rollouts=2")
        recipe = ROOT / "recipes/omr_sft_tiny.py"
        arguments = map(str, ("build", recipe, *given, *places, *more))
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    shown = build("--limit", 10)
    assert "not released" in shown
    assert not (tmp_path / "releases").exists()
    # 10 of the 30 questions are paid for, so 20 requests are enough for the rest.
    build("--max-requests", 20)
    assert (tmp_path / "releases/omr-sft-tiny/1.0.0").is_dir()
