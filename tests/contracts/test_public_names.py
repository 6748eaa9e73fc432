"""The public API and the help of commands change only on purpose; one name means one thing."""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

import click
import pytest

import omr_data
from omr_data.step import Step
from tests.contracts.steps import step_classes
from tests.omr import ROOT
from tests.snapshots import API, HELP, api_text, commands, help_texts

PACKAGE = ROOT / "omr_data"
COMMAND = (
    "If this is intended, run `python -m tests.snapshots` and note the change in CHANGELOG.md."
)
HELP_TEXTS = help_texts()

PLUGIN_NAMES = {"Source", "Teacher", "Verifier", "Embedder"}
"""Each plugin module calls its class by the name of what it is: gsm8k.Source, echo.Teacher."""

TWICE_LEFT: set[str] = set()
"""Names that still mean two things. Rename one of each, and make this list empty."""


def test_the_public_api_is_as_it_was() -> None:
    assert api_text() == API.read_text(encoding="utf-8"), f"The public API has changed. {COMMAND}"


@pytest.mark.parametrize("name", sorted(HELP_TEXTS))
def test_the_help_of_a_command_is_as_it_was_and_fits_its_width(name: str) -> None:
    path = HELP / f"{name}.txt"
    assert path.is_file(), f"The help of {name.replace('-', ' ')} is new. {COMMAND}"
    assert HELP_TEXTS[name] == path.read_text(encoding="utf-8"), f"The help has changed. {COMMAND}"
    too_long = [line for line in HELP_TEXTS[name].splitlines() if len(line) > 80]
    assert not too_long, f"lines over 80 columns: {too_long}"


def test_the_version_of_the_package_is_that_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert omr_data.__version__ == project["version"]


def test_no_help_is_left_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in HELP.glob("*.txt")} == set(HELP_TEXTS), COMMAND


def test_every_command_and_every_option_is_explained() -> None:
    bare = []
    for path, command in commands():
        bare += [path] if not command.help else []
        for one in command.params:
            # An argument is named in the usage line; an option is only what its help says.
            if isinstance(one, click.Option) and not one.help:
                bare.append(f"{path} {one.opts[0]}")
    assert not bare, f"These have no help: {bare}"


def public_names() -> dict[str, set[str]]:
    """Where each public class or alias of the package is defined, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    variants = {(step.__module__, step.__name__) for step in step_classes()}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in _defined(node):
                # A step is read with its noun, as select.PassRate is.
                if (module, name) not in variants:
                    found[name].add(module)
    return found


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        # CONSTANTS are private to the one who reads the module; an alias is a word of its own.
        names = [name for name in names if not name.isupper() and name[0].isupper()]
    else:
        names = []
    return [name for name in names if not name.startswith("_") and len(name) > 1]


def test_one_public_name_means_one_thing() -> None:
    twice = {
        name: sorted(modules)
        for name, modules in public_names().items()
        if len(modules) > 1 and name not in PLUGIN_NAMES | TWICE_LEFT
    }
    assert not twice, f"These names mean two things. Rename all but one of each: {twice}"


def test_a_step_that_is_not_read_with_its_noun_counts_as_a_name() -> None:
    """The shapes themselves are words, so no other class may be called Map or Filter."""
    names = public_names()
    assert {"Map", "Filter", "Expand", "Record", "Verdict", "Plan", "Stage"} <= names.keys()
    assert names["Map"] == {Step.__module__}


def test_two_meanings_of_one_name_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / f"{name}.py").write_text("class Journal:\n    pass\nLine = str\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert {name for name, modules in public_names().items() if len(modules) > 1} == {
        "Journal",
        "Line",
    }
