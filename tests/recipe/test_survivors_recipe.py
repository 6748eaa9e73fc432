"""Loading recipe files. Each test was written for a mutant that survived."""

import os
import pickle
import sys
from pathlib import Path

import pytest

from omr_data import recipe as recipes
from omr_data.errors import RecipeError
from omr_data.recipe import load, load_in_worker, load_module
from omr_data.syntax import module_source

GOOD = """
from dataclasses import dataclass

from omr_data import Filter, Recipe
from omr_data.sources import synthetic


@dataclass(frozen=True)
class Anything(Filter):
    def reason(self, record):
        return None


def recipe(rows: int = 4) -> Recipe:
    return Recipe("mine", "1.0.0", synthetic.Source(count=rows).then(Anything()))
"""


def write(folder: Path, body: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(body)
    return path


def test_a_file_with_spaces_and_signs_has_a_module_that_pickle_finds(tmp_path: Path) -> None:
    made = load(write(tmp_path, GOOD, "my set-2.0.py"), {"rows": "5"})
    step = made.data.spec  # type: ignore[union-attr]
    module = type(step).__module__
    assert module.startswith("omr_recipe_my_set_2_0")
    assert sys.modules[module].Anything is type(step)
    assert pickle.loads(pickle.dumps(step)) == step


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    made = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        made.append(load_module(write(tmp_path / folder, GOOD)))
    assert made[0].__name__ != made[1].__name__


def test_a_folder_whose_name_is_not_utf_8_can_hold_a_recipe(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    # Taken off again: a path that cannot be encoded stops other tests that start processes.
    before = list(sys.path)
    try:
        assert load_module(write(folder, GOOD)).recipe().name == "mine"
    finally:
        sys.path[:] = before


def test_the_text_that_ran_is_kept_and_tracebacks_name_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    module = load_module(path)
    path.write_text("an edit while a build runs")
    assert module_source(module) == GOOD
    assert module.recipe.__code__.co_filename == str(path)


def test_what_is_not_a_python_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.yaml .*Python file.*function `recipe`"):
        load_module(write(tmp_path, "name: mine", "mine.yaml"))
    with pytest.raises(RecipeError, match=r"the recipe file .*absent\.py does not exist"):
        load_module(tmp_path / "absent.py")
    with pytest.raises(RecipeError, match="does not exist"):
        load_module(tmp_path)


def test_an_error_of_the_file_or_of_its_function_is_named_with_its_kind(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"mine\.py cannot be loaded: ZeroDivisionError: div"
    ) as no:
        load(write(tmp_path, "1 / 0"))
    assert isinstance(no.value.__cause__, ZeroDivisionError)
    body = "def recipe():\n    return {}['teacher']\n"
    with pytest.raises(RecipeError, match=r"recipe\(\) failed with KeyError: 'teacher'") as no:
        load(write(tmp_path, body))
    assert isinstance(no.value.__cause__, KeyError)


def test_an_error_of_this_package_passes_as_it_is(tmp_path: Path) -> None:
    body = "from omr_data.errors import TeacherError\n"
    fails = "raise TeacherError('no such model')\n"
    for text in (body + fails, body + "def recipe():\n    " + fails):
        with pytest.raises(Exception, match="^no such model$") as refused:
            load(write(tmp_path, text))
        assert type(refused.value).__name__ == "TeacherError"


def test_an_argument_that_cannot_be_read_is_named_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.py: recipe\(\).*rows"):
        load(write(tmp_path, GOOD), {"rows": "many"})


def test_a_worker_loads_the_file_and_the_main_process_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, GOOD, "for_workers.py")
    load_in_worker(path)
    assert not _modules("omr_recipe_for_workers")
    monkeypatch.setattr(recipes.multiprocessing, "parent_process", object)
    load_in_worker(path)
    (name,) = _modules("omr_recipe_for_workers")
    assert sys.modules.pop(name).Anything


def _modules(start: str) -> list[str]:
    return [name for name in sys.modules if name.startswith(start)]


@pytest.mark.parametrize("name", ["", "My-set", "-set", ".set", "my set", "set/../x", "sét", "a\n"])
def test_a_name_that_cannot_be_a_folder_or_a_tag_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="is not usable"):
        recipes.Recipe(name, "1.0.0", _source())


@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.0 ", "1.0.0/x", "1.0.0-A"])
def test_a_version_that_is_not_three_numbers_is_refused(version: str) -> None:
    with pytest.raises(RecipeError, match="write three numbers, like '1.0.0'"):
        recipes.Recipe("mine", version, _source())
    assert recipes.Recipe("0-my_set.v2", "10.0.12-rc1", _source()).version == "10.0.12-rc1"


def _source() -> recipes.Source:
    from omr_data.sources import synthetic

    return synthetic.Source(count=3)
