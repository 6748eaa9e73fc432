"""Two parts of a mix that hold the same rows are refused, wherever ids meet first."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from omr_data.cli import app
from omr_data.errors import OmrError, ReleaseError, StepError

RECIPE = """
from omr_data import ALL, Recipe, mix
from omr_data.operators import dedup, limits
from omr_data.sources import synthetic

NUMBERS = synthetic.Source(count=4)


def recipe(compared: bool) -> Recipe:
    both = mix({NUMBERS: ALL, NUMBERS.then(limits.ImageSide(at_least=1)): 3})
    data = both.then(dedup.Exact()) if compared else both
    return Recipe(name="twins", version="1.0.0", data=data)
"""


@pytest.mark.parametrize(
    ("compared", "error"), [("false", ReleaseError), ("true", StepError)], ids=["release", "step"]
)
def test_rows_that_come_twice_are_refused_by_id(
    compared: str, error: type[OmrError], tmp_path: Path
) -> None:
    recipe = tmp_path / "twins.py"
    recipe.write_text(RECIPE)
    places = ["--work", f"{tmp_path}/work", "--releases", f"{tmp_path}/releases", "--workers", "1"]
    arguments = ["build", str(recipe), "--set", f"compared={compared}", *places]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, error), result.output
    assert "synthetic" in str(result.exception)
    assert "Ids must be unique" in str(result.exception)
    assert not (tmp_path / "releases" / "twins" / "1.0.0").exists()
