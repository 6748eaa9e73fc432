"""A recipe that cannot work is refused before anything runs, in words that say what to do."""

import json
from pathlib import Path

import pytest

from omr_data import ALL, Filter, Recipe, mix, union
from omr_data.errors import IdentityError, RecipeError, SourceError, UnpinnedError
from omr_data.operators import limits
from omr_data.plan import differences, make_plan
from omr_data.recipe import load
from omr_data.sources import gsm8k, puzzlevqa
from omr_data.sources.locator import LocalDatasets
from tests.omr import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
GOLDEN = Path(__file__).parent / "golden"


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("from omr_data import *\nfrom omr_data.sources import gsm8k\n" + body)
    return path


def test_arguments_are_read_by_their_type(tmp_path: Path) -> None:
    body = (
        "def recipe(n: int = 1, name: str = 'a') -> Recipe:\n"
        "    return Recipe(name, '1.0.0', gsm8k.Source().then(), range(n))\n"
    )
    made = load(write(tmp_path, body), {"n": "1_000", "name": "mine"})
    assert (made.name, made.rows) == ("mine", range(1_000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rolouts": "12"}, "no argument 'rolouts'. Did you mean rollouts?"),
        ({"zzz": "12"}, "no argument 'zzz'. It has rollouts"),
        ({"rollouts": "twelve"}, "rollouts='twelve' cannot be read as int"),
    ],
)
def test_a_mistyped_argument_is_refused_with_the_nearest_name(
    tmp_path: Path, arguments: dict[str, str], message: str
) -> None:
    path = write(
        tmp_path,
        "def recipe(rollouts: int = 8) -> Recipe:\n"
        "    return Recipe('mine', '1.0.0', gsm8k.Source())\n",
    )
    with pytest.raises(RecipeError, match=message):
        load(path, arguments)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "defines no function `recipe`"),
        ("def recipe() -> Recipe:\n    return 3\n", "must return a Recipe, and returned int"),
        (
            "def recipe() -> Recipe:\n    return Recipe('My Set', '1.0.0', gsm8k.Source())\n",
            "'My Set' is not usable",
        ),
        (
            "def recipe() -> Recipe:\n    return Recipe('mine', 'v1', gsm8k.Source())\n",
            "write three numbers",
        ),
        (
            "def recipe() -> Recipe:\n"
            "    return Recipe('mine', '1.0.0', gsm8k.Source(splitt='test'))\n",
            "unexpected keyword argument 'splitt'",
        ),
        ("1 / 0\n", "cannot be loaded: ZeroDivisionError"),
    ],
)
def test_a_broken_recipe_file_says_what_is_wrong(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(write(tmp_path, body))


def test_a_recipe_may_postpone_its_annotations_and_import_the_file_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "beside_the_recipe.py").write_text("NAME = 'from-beside'\n")
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from beside_the_recipe import NAME\n"
        "from omr_data import Recipe\n"
        "from omr_data.sources import synthetic\n"
        "def recipe(rows: int = 3) -> Recipe:\n"
        "    return Recipe(NAME, '1.0.0', synthetic.Source(count=rows))\n"
    )
    made = load(path, {"rows": "5"})
    assert made.name == "from-beside"
    assert made.data.spec.count == 5  # type: ignore[union-attr]


def test_a_missing_recipe_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipe file .* does not exist"):
        load(tmp_path / "none.py")


def test_a_lambda_in_a_step_is_refused_when_the_step_is_made() -> None:
    from dataclasses import dataclass
    from typing import Any

    @dataclass(frozen=True)
    class Keep(Filter):
        test: Any

        def reason(self, record: object) -> str | None:
            return None

    with pytest.raises(
        IdentityError, match="no stable identity. Write it as a method of a Map, Filter or Expand"
    ):
        Keep(lambda record: True)


def test_an_unpinned_commit_is_shown_in_the_plan_and_refused_with_the_command_that_mends_it() -> (
    None
):
    recipe = Recipe("mine", "1.0.0", union(gsm8k.Source(), puzzlevqa.Source()))
    plan = make_plan(recipe, LocalDatasets(recipe="recipes/mine.py"))
    assert len(plan.problems()) == 2
    with pytest.raises(UnpinnedError, match="omr pin recipes/mine.py"):
        plan.require_ready()


def test_a_missing_mirror_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    plan = make_plan(
        Recipe("mine", "1.0.0", gsm8k.Source()), LocalDatasets(mirror=tmp_path / "nowhere")
    )
    with pytest.raises(SourceError, match="nowhere does not exist"):
        plan.require_ready()


def test_a_node_that_is_used_twice_is_planned_once() -> None:
    source = gsm8k.Source(commit=COMMIT)
    plan = make_plan(
        Recipe("mine", "1.0.0", mix({source.then(limits.ImageSide()): ALL, source: 10})),
        LocalDatasets(),
    )
    assert [node.name for node in plan.nodes] == [
        "gsm8k.Source",
        "limits.ImageSide",
        "mix.Take",
        "union",
    ]
    assert [node.parents for node in plan.nodes] == [(), (0,), (0,), (1, 2)]


def test_a_change_anywhere_above_changes_the_plan_and_is_named() -> None:
    one, other = (
        make_plan(
            Recipe("mine", "1.0.0", gsm8k.Source(commit=COMMIT).then(limits.ImageSide(side))),
            LocalDatasets(),
        )
        for side in (28, 56)
    )
    assert one.fingerprint != other.fingerprint
    assert differences(one.to_json(), other.to_json()) == ["limits.ImageSide.at_least: 28 -> 56"]


def test_the_version_is_a_label_and_no_part_of_the_identity() -> None:
    one, other = (
        make_plan(Recipe("mine", version, gsm8k.Source(commit=COMMIT)), LocalDatasets())
        for version in ("1.0.0", "2.0.0")
    )
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_plans_to_its_golden_file(path: Path) -> None:
    """A plan that changes without reason loses every cache.

    To accept a change, delete the golden file and run this test twice.
    """
    from omr_data.sources.hub import HubSource

    repos = {
        node.spec.repo
        for node in make_plan(load(path), LocalDatasets()).nodes
        if isinstance(node.spec, HubSource)
    }
    plan = make_plan(load(path), LocalDatasets(pins=dict.fromkeys(repos, COMMIT))).to_json()
    golden = GOLDEN / f"{path.stem}.json"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(plan, indent=1) + "\n")
        pytest.fail(f"{golden} was missing and is written now: read it, and commit it")
    assert plan == json.loads(golden.read_text())
